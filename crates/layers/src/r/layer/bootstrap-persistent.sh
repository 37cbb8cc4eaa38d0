#!/opt/bin/bash
# One R process for all events, which polls the Runtime API itself.
. /opt/R/etc/environment.sh
exec "${loader[@]}" /opt/R/bin/exec/R --no-echo --no-restore --no-save --no-init-file --file=/opt/runtime.R
