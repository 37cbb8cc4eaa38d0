"""asyncpg: all binary, and its own questions about types that it does not know."""

import asyncio
import datetime
import os
from decimal import Decimal

import asyncpg

UTC = datetime.timezone.utc
START = datetime.datetime(2026, 3, 28, 22, tzinfo=UTC)


async def rows_of_every_type(connection):
    at = START + datetime.timedelta(minutes=70)
    row = await connection.fetchrow("select * from platform.readings where site_id = $1 and at = $2", 2, at)
    expected = {
        "site_id": 2,
        "at": at,
        "local_at": datetime.datetime(2026, 3, 29, 0, 10),
        "power_kw": 203.5,
        "energy_kwh": Decimal("40.333334"),
        "quality": 1,
        "step_s": 600,
        "factor": 0.5,
        "valid": False,
        "note": "note 7",
        "tags": ["a", None, 'é"7'],
        "steps": [7, None, -7],
        "raw": b"\x00\xff\x00\x07",
        "updated_at": datetime.datetime(2026, 3, 30, 0, 0, 7, tzinfo=UTC),
    }
    assert dict(row) == expected, row
    opened = await connection.fetchval("select opened_on from platform.sites where id = 1")
    assert opened == datetime.date(2019, 3, 31), opened


async def parameters(connection):
    count = "select count(*) from platform.readings where "
    asked = [
        ("site_id = any($1::int[])", [1, 3], 2000),
        ("note = any($1::text[])", ["note 7", "note 8"], 6),
        ("energy_kwh = $1", Decimal("40.333334"), 1),
        ("local_at < $1", datetime.datetime(2026, 3, 29), 18),
        ("raw = $1", b"\x00\xff\x00\x07", 3),
        ("at::date = $1", datetime.date(2026, 3, 28), 36),
        ("power_kw > $1", 200.0, 2798),
    ]
    for condition, value, rows in asked:
        assert await connection.fetchval(count + condition, value) == rows, condition


async def portals(connection):
    async with connection.transaction(readonly=True, isolation="repeatable_read"):
        ats = [at async for (at,) in connection.cursor("select at from platform.readings where site_id = 1 order by at", prefetch=150)]
        assert len(ats) == 1000 and ats[0] == START
        cursor = await connection.cursor("select id from platform.sites order by id")
        assert [row["id"] for row in await cursor.fetch(2)] == [1, 2]
        assert (await cursor.fetchrow())["id"] == 3


async def prepared(connection):
    statement = await connection.prepare("select name, power_kw from platform.sites where id = $1")
    assert [a.name for a in statement.get_attributes()] == ["name", "power_kw"]
    assert [a.type.name for a in statement.get_attributes()] == ["text", "numeric"]
    assert [p.name for p in statement.get_parameters()] == ["int4"]
    assert await statement.fetchrow(2) == ("Toits de l'école", Decimal("250.000"))


async def main():
    connection = await asyncpg.connect(os.environ["WATTLAKE_CLIENT_URL"], server_settings={"timezone": "UTC"})
    await rows_of_every_type(connection)
    await parameters(connection)
    await portals(connection)
    await prepared(connection)
    try:
        await connection.fetch("select count(*) from generate_series(1, 10000000000) n where n % 7 = 3", timeout=0.5)
        raise AssertionError("an endless query ended")
    except asyncio.TimeoutError:
        pass
    assert await connection.fetchval("select 1") == 1
    await connection.close()
    async with asyncpg.create_pool(os.environ["WATTLAKE_CLIENT_URL"], min_size=2, max_size=4) as pool:
        counts = await asyncio.gather(*[pool.fetchval("select count(*) from platform.sites") for _ in range(12)])
        assert counts == [3] * 12


asyncio.run(main())
print("asyncpg", asyncpg.__version__)
