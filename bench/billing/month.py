"""A month of many plants, from their files to statements: Wattlake, each job by itself, and a plain query in DuckDB.

The plain query reads the same files and multiplies energies by prices. It checks nothing, keeps nothing and writes no
statement: it says what reading and multiplying take at least.

    month.py WATTLAKE WORK PLANTS OUT.json
"""

import csv
import datetime as dt
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from zoneinfo import ZoneInfo

PARIS = ZoneInfo("Europe/Paris")
MONTH = "2026-03"
KNOWN = "2020-01-01T00:00:00Z"
CONTRACT = ("contract_id,producer_id,producer,siret,site_id,site,technology,prm,perimeter,pmax_kw,kind,valid_from,valid_to,"
            "price_eur_mwh,fee_eur_mwh,fee_eur_mw_month,management_premium_eur_mwh,nbcapa_mw,imbalance_share,go_eur_mwh,"
            "negative_premium,vat,vat_rate_pct,known_at").split(",")
PRODUCTION = ("schema_version;producteur_id;contrat_id;site_id;prm;mois;horodate_debut;pas;energie_injectee_kwh;"
              "energie_soutiree_auxiliaires_kwh;disponibilite_pct;code_evenement;source;statut;commentaire")


def steps(month, seconds):
    """The instants of a local month."""
    year, number = map(int, month.split("-"))
    at = dt.datetime(year, number, 1, tzinfo=PARIS).astimezone(dt.timezone.utc)
    end = dt.datetime(year + number // 12, number % 12 + 1, 1, tzinfo=PARIS).astimezone(dt.timezone.utc)
    while at < end:
        yield at
        at += dt.timedelta(seconds=seconds)


def write(path, columns, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    # An ingest leaves a file that was written just now for its next run.
    os.utime(path, (1_700_000_000, 1_700_000_000))


def make_files(inbox, plants):
    """Contracts, prices and a file of each plant for the month; returns how many rows the plants' files have."""
    quarters = list(steps(MONTH, 900))
    utc = [at.strftime("%Y-%m-%dT%H:%M:%SZ") for at in quarters]
    local = [at.astimezone(PARIS).isoformat() for at in quarters]
    contracts = []
    for n in range(1, plants + 1):
        values = dict(
            contract_id=f"CTR-2024-{n:04}", producer_id=f"PRD{n:04}", producer=f"Producer {n}", siret="73282932000074",
            site_id=f"S-{n:03}", site=f"Site {n}", technology="solar", prm=f"{30_000_000_000_000 + n}",
            perimeter="17X0000000000001", pmax_kw="12000", kind="SPOT_PASSTHROUGH", valid_from="2024-01-01",
            fee_eur_mwh="1.5", vat="reverse_charge", known_at=KNOWN)
        contracts.append([values.get(name, "") for name in CONTRACT])
        lines, total = [PRODUCTION], 0
        for at, start in enumerate(local):
            energy = (at * 53 + n * 17) % 2900
            total += energy
            lines.append(f"1;PRD{n:04};CTR-2024-{n:04};S-{n:03};{values['prm']};{MONTH};{start};PT15M;{energy};0;100,0;;"
                         "COMPTEUR;DEFINITIF;")
        path = inbox / "production" / f"PRD{n:04}-{MONTH}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + f"\n#TOTAL;{len(local)};{total}\n")
        os.utime(path, (1_700_000_000, 1_700_000_000))
    reference = inbox / "reference"
    write(reference / "contracts.csv", CONTRACT, contracts)
    sources = ["DSO_CORRECTED", "DSO_RAW", "PRODUCER_DECLARED", "SCADA"]
    write(reference / "precedence.csv", ["kind", "source", "rank", "valid_from", "valid_to", "known_at"],
          [["*", source, rank, "2020-01-01", "", KNOWN] for rank, source in enumerate(sources, 1)])
    prices = [["DAY_AHEAD_FR", at, "PT15M", n * 37 % 120 - 10, f"{MONTH}-28T00:00:00Z"] for n, at in enumerate(utc)]
    prices += [["IMBALANCE_FR", at, "PT15M", n * 13 % 90, f"{MONTH}-28T00:00:00Z"] for n, at in enumerate(utc)]
    write(reference / f"prices-{MONTH}.csv", ["series", "starts_at", "step", "price", "known_at"], prices)
    return plants * len(local)


def run(command, env=None, cwd=None, may_fail=False):
    """Runs a program; returns its seconds and the peak of resident memory of it or of a program that it ran, in MiB."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd=cwd, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    if status != 0 and not may_fail:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{output[-3000:]}")
    return seconds, usage.ru_maxrss / 1024


JOBS = [
    ("ingest", ["ingest:contracts", "ingest:precedence", "ingest:prices", "ingest:production"], []),
    ("load", ["load:contracts", "load:precedence", "load:prices", "load:declared"], []),
    ("extract", ["function:billing-extract"], ["--for", MONTH]),
    ("enter", ["load:days", "load:lines"], ["--for", MONTH]),
    ("controls", ["control:billing"], ["--for", MONTH]),
    ("statements", ["statement:producers"], ["--for", MONTH]),
]


def wattlake(program, folder, plants):
    """Each job of the month, by itself: a list of name, seconds and memory."""
    env = dict(os.environ, PLATFORM_URL="postgresql://nobody@127.0.0.1:1/none")
    subprocess.run([program, "init", folder, "--billing"], check=True, stdout=subprocess.DEVNULL)
    rows = make_files(folder / "inbox", plants)
    run([program, "-C", folder, "layer", "build"], env)
    measured = []
    for name, jobs, period in JOBS:
        seconds, memory = 0.0, 0.0
        for job in jobs:
            # The yearly controls find nothing to compare with: a run with findings that hold nobody back succeeds.
            took, peak = run([program, "-C", folder, "run", job, *period], env)
            seconds, memory = seconds + took, max(memory, peak)
        measured.append({"step": name, "seconds": seconds, "memory_mib": memory})
    issued = len(list((folder / "outbox/statements" / MONTH).glob("*.xlsx")))
    if issued != plants:
        sys.exit(f"{issued} statements of {plants} were issued")
    return rows, measured


DUCKDB = """
import duckdb, sys
folder = sys.argv[1]
connection = duckdb.connect()
connection.execute("SET threads = 2")
files = connection.execute(f'''
    SELECT prm, CAST(horodate_debut AS TIMESTAMPTZ) AS starts_at, CAST(replace(energie_injectee_kwh, ',', '.') AS DECIMAL(18,3)) AS kwh
    FROM read_csv('{folder}/inbox/production/*.csv', delim=';', header=true, all_varchar=true, null_padding=true, ignore_errors=true)
    WHERE schema_version = '1' ''').fetch_arrow_table()
result = connection.execute(f'''
    SELECT f.prm, round(sum(f.kwh * p.price) / 1000, 2) AS amount
    FROM files f JOIN read_csv('{folder}/inbox/reference/prices-*.csv', types={{'price': 'DECIMAL(18,4)'}}) p
      ON p.series = 'DAY_AHEAD_FR' AND p.starts_at = f.starts_at
    GROUP BY f.prm''').fetchall()
print(len(result))
"""


def main():
    program, work, plants, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    shutil.rmtree(work, ignore_errors=True)
    folder = work.resolve() / "warehouse"
    rows, measured = wattlake(program, folder, plants)
    seconds, memory = run([sys.executable, "-c", DUCKDB, str(folder)])
    result = {
        "plants": plants, "rows": rows, "steps": measured,
        "seconds": sum(step["seconds"] for step in measured), "memory_mib": max(step["memory_mib"] for step in measured),
        "peer": {"name": "DuckDB, files times prices only", "seconds": seconds, "memory_mib": memory},
    }
    out.write_text(json.dumps(result, indent=1))
    shutil.rmtree(work, ignore_errors=True)


main()
