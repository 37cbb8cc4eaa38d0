# The watcher and leader of a process group. Its standard input is a pipe of which only the supervising process has the
# other end: the kernel closes it when that process ends, also by SIGKILL.
# $1: the signal that is sent first; $2: tenths of a second until SIGKILL.
signal=$1
tenths=$2
program=
# Signals to the group are sent to the watcher too.
trap '' HUP INT QUIT TERM
while read -r word rest; do
    case $word in
        program) program=$rest ;;
        kill) kill -s KILL 0 ;;
        release) exit 0 ;;
    esac
done
# The supervising process has ended. The group is killed at the end, also where the shell fails, for instance to fork.
trap 'kill -s KILL 0' EXIT
kill -s "$signal" 0
while [ "$tenths" -gt 0 ] && kill -s 0 "$program" 2>/dev/null; do
    sleep 0.1
    tenths=$((tenths - 1))
done
exit 0
