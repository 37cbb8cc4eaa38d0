#!/opt/bin/bash
# Starts the layer's R. Replaces R's own start script, which needs sed, uname and a fixed R_HOME.
. /opt/R/etc/environment.sh
case "${1:-}" in
  RHOME | --print-home) echo "$R_HOME"; exit 0 ;;
  CMD) echo "R CMD is not in this layer: build packages on the machine that packs the layer" >&2; exit 2 ;;
esac
exec "${loader[@]}" /opt/R/bin/exec/R "$@"
