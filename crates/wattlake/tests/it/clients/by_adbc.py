"""ADBC: Arrow by binary COPY, parameters, the catalogue, and polars above it."""

import datetime
import os
from decimal import Decimal

import adbc_driver_postgresql.dbapi as adbc
import polars

URL = os.environ["WATTLAKE_CLIENT_URL"]
QUERY = "SELECT site_id, at, local_at, power_kw, quality, step_s, factor, valid, note FROM platform.readings"

with adbc.connect(URL) as connection, connection.cursor() as cursor:
    cursor.execute(QUERY)
    table = cursor.fetch_arrow_table()
    assert table.shape == (3000, 9), table.shape
    assert table["note"].null_count == 300
    cursor.execute("SELECT 1 AS a, 'é' AS b, date '2026-03-29' AS c, 2.5::float8 AS d, true AS e")
    assert cursor.fetchall() == [(1, "é", datetime.date(2026, 3, 29), 2.5, True)]
    # A numeric is a text in Arrow: the protocol does not send its precision.
    cursor.execute("SELECT 1.50::numeric AS n")
    assert Decimal(cursor.fetchone()[0]) == Decimal("1.5")
    cursor.execute("SELECT id FROM platform.sites WHERE id = $1", (2,))
    assert cursor.fetchall() == [(2,)]
    schema = connection.adbc_get_table_schema("sites", db_schema_filter="platform")
    assert "opened_on" in schema.names, schema

frame = polars.read_database_uri(QUERY, URL, engine="adbc")
assert frame.shape == (3000, 9), frame.shape
first = frame.filter(polars.col("site_id") == 2).sort("at").row(7, named=True)
assert first["at"] == datetime.datetime(2026, 3, 28, 23, 10, tzinfo=datetime.timezone.utc), first
print("adbc", adbc.__name__, "polars", polars.__version__)
