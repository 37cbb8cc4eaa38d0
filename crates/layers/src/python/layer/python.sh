#!/opt/bin/bash
# The layer's Python, for scripts that name it in their first line: /usr/bin/env python3.
. /opt/cpython/environment.sh
exec /opt/cpython/shared/@LOADER@ --library-path /opt/cpython/shared /opt/cpython/bin/@PYTHON@ "$@"
