"""DuckDB over the same files, one query after the other: query_duckdb.py LAKE SCHEMA TABLE...

Reads SQL up to a line that begins with \\echo, as psql does, answers with CSV, then repeats what follows \\echo.
A table's files are those that the newest version of its Delta log names; DuckDB reads them as plain Parquet.
DUCKDB_THREADS bounds its threads; without it there is one for each core.
"""

import csv
import os
import sys

import deltalake
import duckdb


def text(value):
    """As psql writes it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "t" if value else "f"
    if hasattr(value, "isoformat"):
        return value.isoformat(sep=" ") if hasattr(value, "hour") else value.isoformat()
    return str(value)


def main():
    lake, schema, *tables = sys.argv[1:]
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    if threads := os.environ.get("DUCKDB_THREADS"):
        database.execute(f"SET threads = {threads}")
    database.execute(f"CREATE SCHEMA {schema}")
    for table in tables:
        delta = deltalake.DeltaTable(f"{lake}/{schema}/{table}")
        files = [uri.removeprefix("file://") for uri in delta.file_uris()]
        names = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
        database.execute(f"CREATE VIEW {schema}.{table} AS SELECT * FROM read_parquet([{names}])")
    database.execute(f"SET search_path = '{schema}'")
    out = csv.writer(sys.stdout, lineterminator="\n")
    lines = []
    for line in sys.stdin:
        if not line.startswith("\\echo "):
            lines.append(line)
            continue
        result = database.execute("".join(lines)).to_arrow_table()
        lines.clear()
        out.writerow(result.column_names)
        for row in result.to_pylist():
            cells = [text(value) for value in row.values()]
            if cells == [""]:
                # The csv module writes "" for it; psql writes an empty line.
                print()
            else:
                out.writerow(cells)
        print(line.removeprefix("\\echo ").rstrip("\n"), flush=True)
        # A query may have chosen the zone whose days it counts.
        database.execute("SET TimeZone = 'UTC'")


main()
