#!/opt/bin/bash
# One Python process for all events: AWS's runtime interface client polls the Runtime API.
. /opt/cpython/environment.sh
exec /opt/cpython/shared/@LOADER@ --library-path /opt/cpython/shared /opt/cpython/bin/@PYTHON@ -m awslambdaric "$_HANDLER"
