"""DuckDB's postgres extension: attaches the lake as a database and scans it by binary COPY."""

import datetime
import glob
import os
from decimal import Decimal

import duckdb
import duckdb_extension_postgres_scanner

package = os.path.dirname(duckdb_extension_postgres_scanner.__file__)
(extension,) = glob.glob(package + "/**/*.duckdb_extension", recursive=True)
connection = duckdb.connect()
connection.load_extension(extension)
connection.execute("set timezone = 'UTC'")
connection.execute(f"attach '{os.environ['WATTLAKE_CLIENT_URL']}' as lake (type postgres, read_only)")
tables = connection.execute("select schema, name from (show all tables) where database = 'lake'").fetchall()
assert {("platform", "readings"), ("platform", "sites")} <= set(tables), tables
described = dict(row[:2] for row in connection.execute("describe lake.platform.readings").fetchall())
assert described["at"] == "TIMESTAMP WITH TIME ZONE" and described["energy_kwh"] == "DECIMAL(18,6)", described
assert described["tags"] == "VARCHAR[]" and described["quality"] == "SMALLINT", described

row = connection.execute(
    "select power_kw, energy_kwh, note, tags, steps, raw, local_at, valid from lake.platform.readings where site_id = 2 and \"at\" = '2026-03-28 23:10:00+00'"
).fetchone()
assert row == (203.5, Decimal("40.333334"), "note 7", ["a", None, 'é"7'], [7, None, -7], b"\x00\xff\x00\x07", datetime.datetime(2026, 3, 29, 0, 10), False), row
joined = connection.execute(
    "select name, count(*), sum(energy_kwh) from lake.platform.readings join lake.platform.sites on id = site_id group by name order by name"
).fetchall()
assert [row[:2] for row in joined] == [("Barrage", 1000), ("Toits de l'école", 1000), ("Éoliennes du Nord", 1000)], joined
assert joined[2][2] == Decimal("516166.667000"), joined
(passed,) = connection.execute("select count(*) from postgres_query('lake', 'select 1 from platform.readings where note is null')").fetchone()
assert passed == 300, passed
print("DuckDB", duckdb.__version__)
