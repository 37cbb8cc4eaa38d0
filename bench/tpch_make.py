"""The tables and the queries of TPC-H, by DuckDB's extension: tpch_make.py FOLDER SCALE

Writes a CSV file for each table, fill.sql, which makes and fills the tables by psql, and queries/qNN.sql.
"""

import pathlib
import sys

import duckdb
import duckdb_extension_tpch as package

KEYS = {
    "customer": "c_custkey",
    "lineitem": "l_orderkey, l_linenumber",
    "nation": "n_nationkey",
    "orders": "o_orderkey",
    "part": "p_partkey",
    "partsupp": "ps_partkey, ps_suppkey",
    "region": "r_regionkey",
    "supplier": "s_suppkey",
}


def main():
    folder, scale = pathlib.Path(sys.argv[1]), float(sys.argv[2])
    (folder / "queries").mkdir(parents=True, exist_ok=True)
    extensions = pathlib.Path(package.__file__).parent / "extensions" / f"v{duckdb.__version__}"
    database = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    database.execute(f"LOAD '{extensions / 'tpch.duckdb_extension'}'")
    database.execute(f"CALL dbgen(sf = {scale})")
    fill = ["CREATE SCHEMA bench;"]
    for table, key in KEYS.items():
        columns = database.execute(f"DESCRIBE {table}").fetchall()
        defined = ", ".join(f"{name} {kind.lower()} NOT NULL" for name, kind, *_ in columns)
        file = folder / f"{table}.csv"
        database.execute(f"COPY {table} TO '{file}' (FORMAT csv, HEADER false)")
        fill.append(f"CREATE TABLE bench.{table} ({defined}, PRIMARY KEY ({key}));")
        fill.append(f"\\copy bench.{table} FROM '{file}' CSV")
    (folder / "fill.sql").write_text("\n".join(fill) + "\n")
    for number, query in database.execute("SELECT query_nr, query FROM tpch_queries()").fetchall():
        (folder / "queries" / f"q{number:02}.sql").write_text(f"-- Query {number} of TPC-H.\n{query}\n")


main()
