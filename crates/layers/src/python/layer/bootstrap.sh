#!/opt/bin/bash
# One Python for all events: AWS's own client asks the Runtime API.
export PYTHONHOME=/opt/cpython PYTHONNOUSERSITE=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUTF8=1 PYTHONUNBUFFERED=1
# As on AWS Lambda: a layer's packages, then the runtime's own.
export PYTHONPATH="/opt/python/lib/@PYTHON@/site-packages:/opt/python${PYTHONPATH:+:$PYTHONPATH}:/opt/cpython/site-packages"
# Without these a local time is an error, and an accent two other characters.
export PYTHONTZPATH=/opt/cpython/zoneinfo TZDIR=/opt/cpython/zoneinfo LOCPATH=/opt/cpython/locale
export GCONV_PATH=/opt/cpython/gconv LANG=C.UTF-8
# They would come before LANG; a shell that sets one looks for it in the host's locales, and complains.
unset LC_ALL LC_COLLATE LC_CTYPE LC_MESSAGES LC_MONETARY LC_NUMERIC LC_TIME LANGUAGE
if [ -f /opt/cpython/etc/ca-certificates.crt ]; then
  export SSL_CERT_FILE="${SSL_CERT_FILE:-/opt/cpython/etc/ca-certificates.crt}"
fi
exec /opt/cpython/shared/@LOADER@ --library-path /opt/cpython/shared /opt/cpython/bin/@PYTHON@ -m awslambdaric "$_HANDLER"
