"""Counts what a contender wrote: count.py FILE.parquet|FOLDER TABLE

Prints {"rows", "bytes"}. In a folder, the Delta table is the folder itself or the one of that name
below it; bytes are those of all its files, its log included.
"""

import json
import os
import pathlib
import sys


def parquet_rows(path):
    import duckdb

    return duckdb.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchone()[0]


def delta_rows(folder):
    import deltalake

    table = deltalake.DeltaTable(str(folder))
    query = deltalake.QueryBuilder().register("t", table).execute("SELECT count(*) AS rows FROM t")
    return query.read_all()["rows"][0].as_py()


def find_delta(folder, table):
    if (folder / "_delta_log").is_dir():
        return folder
    found = [log.parent for log in folder.rglob("_delta_log") if log.parent.name == table]
    if len(found) != 1:
        sys.exit(f"{len(found)} Delta tables {table} in {folder}")
    return found[0]


def main():
    path, table = pathlib.Path(sys.argv[1]), sys.argv[2]
    if path.is_file():
        counted = {"rows": parquet_rows(path), "bytes": path.stat().st_size}
    else:
        folder = find_delta(path, table)
        size = sum(os.path.getsize(file) for file in folder.rglob("*") if file.is_file())
        counted = {"rows": delta_rows(folder), "bytes": size}
    json.dump(counted, sys.stdout)


main()
