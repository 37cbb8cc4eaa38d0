"""Reads a table with each of the lake's readers again and again, while it is written.

Input: {"folder": folder, "seconds": number}. Output: {reader: [[rows, least v, greatest v], ...]}, in the order of the
reads.
"""

import glob
import json
import os
import sys
import time

import deltalake
import duckdb
import duckdb_extension_delta
import polars

asked = json.load(sys.stdin)
folder = asked["folder"]
package = os.path.dirname(duckdb_extension_delta.__file__)
(extension,) = glob.glob(package + "/**/*.duckdb_extension", recursive=True)
connection = duckdb.connect()
connection.load_extension(extension)


def by_deltalake():
    query = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(folder))
    row = query.execute("select count(*) as n, min(v) as low, max(v) as high from t").read_all()
    return [row.column(name)[0].as_py() for name in ("n", "low", "high")]


def by_polars():
    column = polars.scan_delta(folder).select("v").collect()["v"]
    return [len(column), column.min(), column.max()]


def by_duckdb():
    return list(connection.execute("select count(*), min(v), max(v) from delta_scan(?)", [folder]).fetchone())


readers = {"deltalake": by_deltalake, "polars": by_polars, "duckdb": by_duckdb}
states = {name: [] for name in readers}
until = time.monotonic() + asked["seconds"]
while time.monotonic() < until:
    for name, read in readers.items():
        states[name].append(read())
json.dump(states, sys.stdout)
