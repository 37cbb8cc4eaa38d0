#!/opt/bin/bash
# A new R process for each event: each event waits for R's start, and no state remains from one event to the next.
set -euo pipefail
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
work=$(mktemp -d)
while true; do
  curl -sS --fail -D "$work/headers" -o "$work/event" "$api/invocation/next"
  request_id=$(grep -Fi 'Lambda-Runtime-Aws-Request-Id:' "$work/headers" | tr -d '[:space:]' | cut -d: -f2)
  # The kernel takes no argument of more than 128 KB.
  if (($(wc -c < "$work/event") > 100000)); then event="@$work/event"; else event=$(< "$work/event"); fi
  status=0
  /opt/R/bin/Rscript --no-init-file /opt/runtime.R "$event" "$request_id" "$_HANDLER" || status=$?
  if ((status != 0)); then
    error='{"errorMessage":"R exited with status '$status'","errorType":"Runtime.ExitError","stackTrace":[]}'
    # The Runtime API refuses this where R has answered before it failed.
    curl -sS -o /dev/null -X POST -H 'Lambda-Runtime-Function-Error-Type: Runtime.ExitError' -d "$error" \
      "$api/invocation/$request_id/error"
  fi
done
