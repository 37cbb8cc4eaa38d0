#!/opt/bin/bash
# The layer's R in place of R's own start script, which needs sed, uname and a fixed R_HOME.
. /opt/R/etc/environment.sh
case "${1:-}" in
  RHOME | --print-home) echo "$R_HOME"; exit 0 ;;
  CMD) echo "R CMD is not in this layer: build packages before they are packed" >&2; exit 2 ;;
esac
exec "${loader[@]}" /opt/R/bin/exec/R "$@"
