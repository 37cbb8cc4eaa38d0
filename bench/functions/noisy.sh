#!/bin/bash
# A function that takes all that it can: the event says how. It answers no event.
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
event=$(curl -sS -D /tmp/head "$api/invocation/next")
id=$(tr -d '\r' < /tmp/head | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //p')
case "$event" in
  *busy*) for _ in $(seq 40); do (while :; do :; done) & done; wait ;;
  *forks*) spread() { spread | spread & }; spread; wait; sleep 60 ;;
  *halves*)
    for n in $(seq 120); do
      exec {socket}<> "/dev/tcp/${AWS_LAMBDA_RUNTIME_API/://}" || break
      printf 'POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: x\r\nContent-Length: 6000000\r\n\r\n' "$id" >&$socket
      head -c 3000000 /dev/zero >&$socket 2> /dev/null &
    done
    sleep 60 ;;
  *logs*) head -c 1000000000 /dev/zero | base64; sleep 60 ;;
esac
