"""Runs a program and says what it took: measure.py LOG PROGRAM [ARGUMENT...]

Prints one JSON object. Its CPU time and memory are those that the kernel counted for the program
and all children that it waited for; memory is that of the largest of them. The kernel counts from
the fork on, so that no program measures below this script's own size (about 10 MiB).
"""

import json
import os
import subprocess
import sys
import time


def main():
    log, command = sys.argv[1], sys.argv[2:]
    with open(log, "wb") as said:
        start = time.monotonic()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        _, status, usage = os.wait4(child.pid, 0)
        wall_s = time.monotonic() - start
    json.dump(
        {
            "exit": os.waitstatus_to_exitcode(status),
            "wall_s": wall_s,
            "user_s": usage.ru_utime,
            "sys_s": usage.ru_stime,
            "rss_max_mib": usage.ru_maxrss / 1024,
        },
        sys.stdout,
    )


main()
