# The watcher of a process group, and the group's leader. Its standard input is a pipe whose other
# end only the supervising process has: the kernel closes it when that process ends, even by SIGKILL.
# $1: the signal that is sent first; $2: tenths of a second until SIGKILL.
signal=$1
tenths=$2
program=
# The signals for the group reach the watcher too.
trap '' HUP INT QUIT TERM
while read -r word rest; do
    case $word in
        program) program=$rest ;;
        kill) kill -s KILL 0 ;;
        release) exit 0 ;;
    esac
done
# From here on the group ends, also where the shell fails, for instance because it can't fork.
trap 'kill -s KILL 0' EXIT
kill -s "$signal" 0
while [ "$tenths" -gt 0 ] && kill -s 0 "$program" 2>/dev/null; do
    sleep 0.1
    tenths=$((tenths - 1))
done
exit 0
