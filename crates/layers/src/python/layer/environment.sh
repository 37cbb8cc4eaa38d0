# The variables with which the layer's Python runs; for scripts that start it.
export PYTHONHOME=/opt/cpython PYTHONNOUSERSITE=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUTF8=1 PYTHONUNBUFFERED=1
# In AWS Lambda's order: the layers' packages, then the runtime's own.
export PYTHONPATH="/opt/python/lib/@PYTHON@/site-packages:/opt/python${PYTHONPATH:+:$PYTHONPATH}:/opt/cpython/site-packages"
# Without these a local time is an error, and an accented letter becomes two other characters.
export PYTHONTZPATH=/opt/cpython/zoneinfo TZDIR=/opt/cpython/zoneinfo LOCPATH=/opt/cpython/locale
export GCONV_PATH=/opt/cpython/gconv LANG=C.UTF-8
# Without errors in the log: the shell searches the host's locales, which may not have this one.
{ export LC_ALL=C.UTF-8; } 2> /dev/null
if [ -f /opt/cpython/etc/ca-certificates.crt ]; then
  export SSL_CERT_FILE="${SSL_CERT_FILE:-/opt/cpython/etc/ca-certificates.crt}"
fi
