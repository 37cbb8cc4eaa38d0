"""The log of a PostgreSQL into the lake, directly and through JetStream, with one and with two workers.

    through.py WATTLAKE SOURCE_URL PSQL NATS WORK CHANGES RATE SECONDS OUT.json

Each step is a process by itself whose time and CPU are measured: first the log is read by the direct way, then it is
published, then it is read from the stream. At the end, publisher and reader run at the same time while changes are made.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

PROGRAM, SOURCE, PSQL, NATS = sys.argv[1:5]
WORK, CHANGES, RATE, SECONDS, OUT = Path(sys.argv[5]), int(sys.argv[6]), int(sys.argv[7]), int(sys.argv[8]), Path(sys.argv[9])
TICKS = os.sysconf("SC_CLK_TCK")

TABLE = """CREATE TABLE measures (id bigint PRIMARY KEY, site int NOT NULL, at timestamptz NOT NULL,
    value float8, quality smallint, note text);
CREATE SEQUENCE ids;
CREATE PROCEDURE write_bulk(n bigint) LANGUAGE plpgsql AS $$ DECLARE first bigint := nextval('ids'); BEGIN
  FOR i IN 0..n / 2000 - 1 LOOP
    INSERT INTO measures SELECT first + i * 1000 + g, g % 500, clock_timestamp(), g / 7.0, 1, 'one of many' FROM generate_series(1, 1000) g;
    COMMIT;
  END LOOP;
  FOR i IN 0..n / 2000 - 1 LOOP
    UPDATE measures SET value = value + 1, at = clock_timestamp() WHERE id BETWEEN first + i * 1000 + 1 AND first + i * 1000 + 1000;
    COMMIT;
  END LOOP;
  PERFORM setval('ids', first + n + 1); END $$;
CREATE PROCEDURE write_at_rate(rate bigint, seconds bigint) LANGUAGE plpgsql AS $$ DECLARE
  start timestamptz := clock_timestamp(); done bigint := 0; due bigint; BEGIN
  WHILE clock_timestamp() < start + seconds * interval '1 second' LOOP
    due := extract(epoch FROM clock_timestamp() - start) * rate;
    WHILE done < due LOOP
      INSERT INTO measures SELECT nextval('ids'), g, clock_timestamp(), g / 7.0, 1, 'one of many' FROM generate_series(1, 20) g;
      COMMIT;
      done := done + 20;
    END LOOP;
    PERFORM pg_sleep(0.002);
    COMMIT;
  END LOOP; END $$;"""


def sql(text):
    done = subprocess.run([PSQL, SOURCE, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", text], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def command(*arguments):
    return [PROGRAM, "-C", str(WORK / "warehouse"), *arguments]


def cpu(process):
    """The CPU of a process so far, in seconds."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak(process):
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def run(*all_arguments):
    """Runs commands at the same time: their wall time, CPU and largest memory."""
    began, processes = time.monotonic(), []
    for arguments in all_arguments:
        processes.append(subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
    used, memory = 0.0, 0.0
    for process in processes:
        error = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"{process.args}: exit {status}\n{error}")
        used, memory = used + usage.ru_utime + usage.ru_stime, max(memory, usage.ru_maxrss / 1024)
    return {"wall_s": time.monotonic() - began, "cpu_s": used, "memory_mib": memory}


def rows(schema):
    text = "SELECT count(*) || '|' || sum(round(value * 7))::bigint || '|' || max(id) AS v FROM %smeasures" % schema
    done = subprocess.run(command("sql", "--format", "csv", text), check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()[1]


def compare(*schemas):
    expected = sql("SELECT count(*) || '|' || sum(round(value * 7))::bigint || '|' || max(id) FROM measures")
    for schema in schemas:
        found = rows(schema)
        if found != expected:
            sys.exit(f"the rows differ: {expected} at the source, {found} in {schema or 'public.'}")


def commits(folder, after):
    """The commits of changes: when, and the oldest instants of their files with the number of rows."""
    lags = []
    for path in sorted(folder.glob("*.json")):
        if int(path.stem) <= after:
            continue
        actions = [json.loads(line) for line in path.read_text().splitlines()]
        at = next((action["commitInfo"]["timestamp"] for action in actions if "commitInfo" in action), None)
        for action in actions:
            if "add" in action and action["add"].get("dataChange", True):
                stats = json.loads(action["add"]["stats"])
                oldest = datetime.fromisoformat(stats["minValues"]["at"].replace("Z", "+00:00"))
                lags.append((at / 1000 - oldest.timestamp(), stats["numRecords"]))
    return sorted(lags)


def quantile(lags, share):
    left = sum(count for _, count in lags) * share
    for lag, count in lags:
        if left < count:
            return lag
        left -= count
    return lags[-1][0]


def lag(name, folder, *services):
    """The lag while changes are made at a rate, and the CPU of each process."""
    newest = max(int(path.stem) for path in folder.glob("*.json"))
    running = [subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for arguments in services]
    time.sleep(4)
    before = [cpu(process) for process in running]
    sql(f"CALL write_at_rate({RATE}, {SECONDS})")
    time.sleep(5)
    used = [cpu(process) - start for process, start in zip(running, before)]
    memory = [peak(process) for process in running]
    for process in running:
        process.send_signal(signal.SIGTERM)
    for process in running:
        process.wait()
    lags = commits(folder, newest)
    return {"way": name, "rate": RATE, "seconds": SECONDS, "changes": sum(count for _, count in lags),
            "p50_s": quantile(lags, 0.5), "p99_s": quantile(lags, 0.99), "max_s": lags[-1][0], "cpu_s": used, "memory_mib": memory}


def follow(schema, *services):
    """Services until a schema of the lake has the source's rows: their wall time, CPU and largest memory."""
    expected = sql("SELECT count(*) || '|' || sum(round(value * 7))::bigint || '|' || max(id) FROM measures")
    began = time.monotonic()
    running = [subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for arguments in services]
    while rows(schema) != expected:
        time.sleep(0.3)
    wall, used = time.monotonic() - began, [cpu(process) for process in running]
    memory = max(peak(process) for process in running)
    for process in running:
        process.send_signal(signal.SIGTERM)
    for process in running:
        process.wait()
    return {"wall_s": wall, "cpu_s": sum(used), "cpu_of_each_s": used, "memory_mib": memory}


def start_nats():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([NATS, "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", str(WORK / "nats")],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process, port
        except OSError:
            time.sleep(0.05)


def step(name, changes, measured, nats=None, before=0.0):
    result = {"step": name, "changes": changes, "per_s": changes / measured["wall_s"], **measured}
    if nats:
        result["nats_cpu_s"] = cpu(nats) - before
    print(f"{name}: {result['per_s']:.0f} changes/s, {measured['cpu_s']:.1f} CPU-s, {measured['memory_mib']:.0f} MiB", file=sys.stderr)
    return result


def main():
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    nats, port = start_nats()
    try:
        steps, lags = measured(nats, port)
    finally:
        nats.kill()
        nats.wait()
    OUT.write_text(json.dumps({"changes": CHANGES, "steps": steps, "lags": lags}, indent=1))


def measured(nats, port):
    stream = f"nats://127.0.0.1:{port}/bench"
    write(WORK / "warehouse/wattlake.toml", f"[lake]\nurl = 'lake'\n[connections.bench]\nurl = '{SOURCE}'\n")
    write(WORK / "warehouse/transfers/direct.toml", "source = 'bench'\nmode = 'changes'\ninclude = ['public.*']\n")
    write(WORK / "warehouse/transfers/publish.toml", f"source = 'bench'\nmode = 'changes'\ninclude = ['public.*']\nstream = '{stream}'\n")
    for name in ("one", "two"):
        write(WORK / f"warehouse/transfers/{name}.toml", f"mode = 'changes'\nstream = '{stream}'\ninto = '{name}'\n")
    sql(TABLE)
    until = "--until-caught-up"
    for name in ("direct", "publish", "one", "two"):
        run(["transfer", "run", name, until])
    steps = []
    sql(f"CALL write_bulk({CHANGES})")
    steps.append(step("direct", CHANGES, run(["transfer", "run", "direct", until])))
    before = cpu(nats)
    steps.append(step("publish", CHANGES, run(["transfer", "run", "publish", until]), nats, before))
    before = cpu(nats)
    steps.append(step("read, one worker", CHANGES, run(["transfer", "run", "one", until]), nats, before))
    before = cpu(nats)
    two = follow("two.", ["transfer", "run", "two"], ["transfer", "worker", "two"])
    steps.append(step("read, two workers", CHANGES, two, nats, before))
    compare("", "one.", "two.")
    # Both at once: the reader follows while the publisher stores.
    sql(f"CALL write_bulk({CHANGES})")
    before = cpu(nats)
    both = follow("one.", ["transfer", "run", "one"], ["transfer", "run", "publish"])
    steps.append(step("publish and read at once", CHANGES, both, nats, before))
    for name in ("direct", "two"):
        run(["transfer", "run", name, until])
    compare("", "one.", "two.")
    lags = [
        lag("direct", WORK / "warehouse/lake/public/measures/_delta_log", ["transfer", "run", "direct"]),
    ]
    run(["transfer", "run", "publish", until])
    run(["transfer", "run", "one", until])
    lags.append(lag("one worker", WORK / "warehouse/lake/one/measures/_delta_log", ["transfer", "run", "publish"], ["transfer", "run", "one"]))
    run(["transfer", "run", "two", until])
    lags.append(lag("two workers", WORK / "warehouse/lake/two/measures/_delta_log",
                    ["transfer", "run", "publish"], ["transfer", "run", "two"], ["transfer", "worker", "two"]))
    for name in ("direct", "publish", "one", "two"):
        run(["transfer", "run", name, until])
    compare("", "one.", "two.")
    return steps, lags


main()
