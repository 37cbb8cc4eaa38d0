"""SQLAlchemy's inspector and pandas, which most notebooks stand on."""

import datetime
import os
from decimal import Decimal

import pandas
import sqlalchemy
from sqlalchemy import BigInteger, Boolean, Date, DateTime, Float, Integer, LargeBinary, Numeric, SmallInteger, String
from sqlalchemy.dialects.postgresql import ARRAY

TYPES = {
    "site_id": Integer,
    "at": DateTime,
    "local_at": DateTime,
    "power_kw": Float,
    "energy_kwh": Numeric,
    "quality": SmallInteger,
    "step_s": BigInteger,
    "factor": Float,
    "valid": Boolean,
    "note": String,
    "tags": ARRAY,
    "steps": ARRAY,
    "raw": LargeBinary,
    "updated_at": DateTime,
}


def inspected(engine):
    inspector = sqlalchemy.inspect(engine)
    assert "platform" in inspector.get_schema_names(), inspector.get_schema_names()
    assert {"readings", "sites"} <= set(inspector.get_table_names("platform"))
    assert inspector.get_view_names("platform") == []
    assert inspector.has_table("readings", "platform") and not inspector.has_table("nothing", "platform")
    columns = {column["name"]: column for column in inspector.get_columns("readings", "platform")}
    assert list(columns) == list(TYPES), list(columns)
    for name, expected in TYPES.items():
        assert isinstance(columns[name]["type"], expected), (name, columns[name])
    assert columns["at"]["type"].timezone and not columns["local_at"]["type"].timezone
    energy = columns["energy_kwh"]["type"]
    assert (energy.precision, energy.scale) == (18, 6), energy
    # A key is returned where there is one; inspecting what a lake does not have is no error.
    assert inspector.get_pk_constraint("sites", "platform")["constrained_columns"] in (["id"], [])
    assert inspector.get_foreign_keys("sites", "platform") == []
    assert inspector.get_unique_constraints("sites", "platform") == []
    assert inspector.get_check_constraints("sites", "platform") == []
    inspector.get_indexes("sites", "platform")
    assert inspector.get_table_comment("sites", "platform") == {"text": None}


def reflected(engine):
    metadata = sqlalchemy.MetaData()
    metadata.reflect(engine, schema="platform", views=True)
    sites, readings = metadata.tables["platform.sites"], metadata.tables["platform.readings"]
    joined = (
        sqlalchemy.select(sites.c.name, sqlalchemy.func.sum(readings.c.energy_kwh).label("energy_kwh"))
        .join(readings, readings.c.site_id == sites.c.id)
        .where(readings.c.at >= datetime.datetime(2026, 3, 29, tzinfo=datetime.timezone.utc), sites.c.kind.in_(["wind", "solar"]))
        .group_by(sites.c.name)
        .order_by(sites.c.name.desc())
        .limit(5)
    )
    with engine.connect() as connection:
        rows = connection.execute(joined).all()
    # Steps 12 to 999, whose numbers add up to 499434.
    assert rows == [("Éoliennes du Nord", Decimal("515900.666996")), ("Toits de l'école", Decimal("532367.333992"))], rows


def framed(engine):
    query = sqlalchemy.text("select * from platform.readings where site_id = :site order by at")
    with engine.connect() as connection:
        frame = pandas.read_sql(query, connection, params={"site": 2}, index_col="at")
        chunks = list(pandas.read_sql(query, connection.execution_options(stream_results=True), params={"site": 2}, chunksize=300))
        whole = pandas.read_sql_table("sites", connection, schema="platform")
    assert len(frame) == 1000 and [len(chunk) for chunk in chunks] == [300, 300, 300, 100]
    assert frame.index[0] == pandas.Timestamp("2026-03-28 22:00", tz="UTC")
    assert frame["power_kw"].sum() == 200 * 1000 + 0.5 * 499500
    assert str(frame["power_kw"].dtype) == "float64" and str(frame["valid"].dtype) == "bool"
    assert sorted(whole["id"]) == [1, 2, 3] and str(whole["updated_at"].dtype).endswith("UTC]")


url = sqlalchemy.make_url(os.environ["WATTLAKE_CLIENT_URL"]).set(drivername="postgresql+psycopg")
engine = sqlalchemy.create_engine(url, pool_pre_ping=True, connect_args={"options": "-c TimeZone=UTC"})
inspected(engine)
reflected(engine)
framed(engine)
print("SQLAlchemy", sqlalchemy.__version__, "pandas", pandas.__version__)
