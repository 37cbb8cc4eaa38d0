#!/opt/bin/bash
. /opt/R/etc/environment.sh
exec "${loader[@]}" /opt/R/bin/exec/Rscript "$@"
