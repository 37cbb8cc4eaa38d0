"""polars by connectorx, which reads through binary COPY or a cursor, and partitions what it reads."""

import datetime
import os
from decimal import Decimal

import connectorx
import polars

URL = os.environ["WATTLAKE_CLIENT_URL"]
QUERY = "select site_id, at, local_at, power_kw, energy_kwh, quality, step_s, factor, valid, note, updated_at from platform.readings"


def checked(frame):
    assert frame.shape == (3000, 11), frame.shape
    assert frame["power_kw"].sum() == 600 * 1000 + 3 * 0.5 * 499500
    assert frame["note"].null_count() == 300
    first = frame.filter(polars.col("site_id") == 2).sort("at").row(7, named=True)
    assert first["at"] == datetime.datetime(2026, 3, 28, 23, 10, tzinfo=datetime.timezone.utc), first
    assert (first["local_at"], first["quality"], first["valid"]) == (datetime.datetime(2026, 3, 29, 0, 10), 1, False), first
    assert float(first["energy_kwh"]) == 40.333334, first


checked(polars.read_database_uri(QUERY, URL, engine="connectorx"))
checked(polars.read_database_uri(QUERY, URL, engine="connectorx", partition_on="site_id", partition_num=3))
for protocol in ("binary", "csv", "cursor", "simple"):
    checked(polars.from_arrow(connectorx.read_sql(URL, QUERY, return_type="arrow", protocol=protocol)))
sites = polars.read_database_uri("select id, power_kw, opened_on from platform.sites order by id", URL, engine="connectorx")
assert sites["opened_on"].to_list() == [datetime.date(2019, 3, 31), datetime.date(2022, 10, 30), None]
assert [value and Decimal(str(value)) for value in sites["power_kw"]] == [Decimal("12000.5"), Decimal("250"), None]
print("polars", polars.__version__, "connectorx", connectorx.__version__)
