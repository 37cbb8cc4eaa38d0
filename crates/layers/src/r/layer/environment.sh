# What R needs to find its own parts and nobody else's: to be sourced by bash.
export R_HOME=/opt/R R_SHARE_DIR=/opt/R/share R_INCLUDE_DIR=/opt/R/include R_DOC_DIR=/opt/R/doc RHOME=/opt/R
export R_LIBS_SITE="${R_LIBS_SITE:-/opt/R/site-library}" R_LIBS_USER="${R_LIBS_USER:-NULL}"
# Without these a local time silently becomes UTC, and an accent two other characters.
export TZDIR=/opt/R/zoneinfo LOCPATH=/opt/R/locale GCONV_PATH=/opt/R/gconv LANG=C.UTF-8
# This shell looks for it in the host's locales, which may lack it, and would say so in the log.
{ export LC_ALL=C.UTF-8; } 2> /dev/null
# AWS Lambda's ":UTC" is a name that R doesn't know.
export TZ="${TZ:-UTC}"
TZ="${TZ#:}"
if [ -f /opt/R/etc/ca-certificates.crt ]; then
  export CURL_CA_BUNDLE="${CURL_CA_BUNDLE:-/opt/R/etc/ca-certificates.crt}"
  export SSL_CERT_FILE="${SSL_CERT_FILE:-/opt/R/etc/ca-certificates.crt}"
fi
# By the layer's own loader, never by LD_LIBRARY_PATH: programs of the host that R starts would
# take the layer's libraries for theirs.
loader=(/opt/R/lib/@LOADER@ --library-path /opt/R/lib)
