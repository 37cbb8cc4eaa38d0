"""DuckDB's postgres extension to one Parquet file: duckdb_copy.py URL TABLE FILE zstd|default

The extension comes from a Python package and is loaded by its path: nothing is downloaded by DuckDB.
"""

import pathlib
import sys
import time

import duckdb
import duckdb_extension_postgres_scanner as package


def main():
    url, table, to, compression = sys.argv[1:]
    start = time.monotonic()
    folder = pathlib.Path(package.__file__).parent / "extensions" / f"v{duckdb.__version__}"
    database = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    database.execute(f"LOAD '{folder / 'postgres_scanner.duckdb_extension'}'")
    database.execute(f"ATTACH '{url}' AS source (TYPE postgres, READ_ONLY)")
    options = "FORMAT parquet" if compression == "default" else f"FORMAT parquet, COMPRESSION {compression}"
    database.execute(f"COPY (SELECT * FROM source.{table}) TO '{to}' ({options})")
    print("inside_s", time.monotonic() - start)


main()
