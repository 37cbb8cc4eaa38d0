# Variables by which R finds its own files and no others. Sourced by bash.
export R_HOME=/opt/R R_SHARE_DIR=/opt/R/share R_INCLUDE_DIR=/opt/R/include R_DOC_DIR=/opt/R/doc RHOME=/opt/R
export R_LIBS_SITE="${R_LIBS_SITE:-/opt/R/site-library}" R_LIBS_USER="${R_LIBS_USER:-NULL}"
# Without these a local time silently becomes UTC, and an accented letter two other characters.
export TZDIR=/opt/R/zoneinfo LOCPATH=/opt/R/locale GCONV_PATH=/opt/R/gconv LANG=C.UTF-8
# Without errors in the log: the shell searches the host's locales, which may not have this one.
{ export LC_ALL=C.UTF-8; } 2> /dev/null
# R does not know AWS Lambda's name ":UTC".
export TZ="${TZ:-UTC}"
TZ="${TZ#:}"
if [ -f /opt/R/etc/ca-certificates.crt ]; then
  export CURL_CA_BUNDLE="${CURL_CA_BUNDLE:-/opt/R/etc/ca-certificates.crt}"
  export SSL_CERT_FILE="${SSL_CERT_FILE:-/opt/R/etc/ca-certificates.crt}"
fi
# Through the layer's own loader and not LD_LIBRARY_PATH, with which programs of the host that R starts would load the
# layer's libraries.
loader=(/opt/R/lib/@LOADER@ --library-path /opt/R/lib)
