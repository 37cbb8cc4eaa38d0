"""Reads tables with each of the lake's readers, and prints their rows in one form.

Input: {"tables": {name: folder}, "parquet": {name: file}, "postgres": {name: [url, query]}}.
Output: {name: {reader: rows}}: the rows in order, each a list of [column, value].
"""

import datetime
import decimal
import glob
import json
import os
import sys

import deltalake
import duckdb
import duckdb_extension_delta
import polars
import psycopg
import pyarrow
import pyarrow.parquet


def plain(value):
    match value:
        case datetime.datetime() if value.tzinfo:
            return value.astimezone(datetime.timezone.utc).isoformat()
        case datetime.datetime() | datetime.date():
            return value.isoformat()
        case decimal.Decimal():
            return format(value, "f")
        case float():
            return repr(value)
        case bytes() | memoryview():
            return bytes(value).hex()
        case list() | tuple():
            return [plain(item) for item in value]
        case dict():
            return [[name, plain(item)] for name, item in sorted(value.items())]
        case _:
            return value


def told(rows):
    """Rows as dicts, in an order that all readers share."""
    return sorted((plain(row) for row in rows), key=lambda row: json.dumps(row, ensure_ascii=False))


def of_arrow(table):
    return told(pyarrow.table(table).to_pylist())


def by_deltalake(folder):
    table = deltalake.DeltaTable(folder)
    return of_arrow(deltalake.QueryBuilder().register("t", table).execute("select * from t").read_all())


def by_polars(folder):
    return of_arrow(polars.scan_delta(folder).collect().to_arrow())


def by_duckdb(folder):
    package = os.path.dirname(duckdb_extension_delta.__file__)
    (extension,) = glob.glob(package + "/**/*.duckdb_extension", recursive=True)
    connection = duckdb.connect()
    connection.load_extension(extension)
    return of_arrow(connection.execute("select * from delta_scan(?)", [folder]).to_arrow_table())


def by_postgres(url, query):
    with psycopg.connect(url, row_factory=psycopg.rows.dict_row) as connection:
        return told(connection.execute(query).fetchall())


asked = json.load(sys.stdin)
answer = {}
for name, folder in asked["tables"].items():
    answer[name] = {
        "deltalake": by_deltalake(folder),
        "polars": by_polars(folder),
        "duckdb": by_duckdb(folder),
    }
for name, file in asked.get("parquet", {}).items():
    answer[name]["wattlake"] = of_arrow(pyarrow.parquet.read_table(file))
for name, (url, query) in asked.get("postgres", {}).items():
    answer[name]["postgres"] = by_postgres(url, query)
json.dump(answer, sys.stdout)
