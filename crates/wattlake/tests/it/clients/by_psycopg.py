"""psycopg 3: every type in text and in binary, prepared statements, named cursors, COPY, cancelling."""

import datetime
import os
import threading
import time
from decimal import Decimal
from zoneinfo import ZoneInfo

import psycopg
from psycopg.rows import dict_row

URL = os.environ["WATTLAKE_CLIENT_URL"]
UTC = datetime.timezone.utc
START = datetime.datetime(2026, 3, 28, 22, tzinfo=UTC)
SEVENTH = {
    "site_id": 2,
    "at": START + datetime.timedelta(minutes=70),
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


def fails(sqlstate, action):
    try:
        action()
    except psycopg.Error as error:
        assert error.sqlstate == sqlstate, (error.sqlstate, str(error))
        return str(error)
    raise AssertionError(f"expected an error {sqlstate}")


def every_type_both_ways(connection):
    for binary in (False, True):
        with connection.cursor(row_factory=dict_row, binary=binary) as cursor:
            cursor.execute("select * from platform.readings where site_id = %s and at = %s", (2, SEVENTH["at"]))
            (row,) = cursor.fetchall()
            assert row == SEVENTH, (binary, row)
            assert all(type(row[name]) is type(value) for name, value in SEVENTH.items()), (binary, row)
            cursor.execute("select * from platform.sites where id = 3")
            row = cursor.fetchone()
            assert (row["name"], row["power_kw"], row["opened_on"]) == ("Barrage", None, None), row


def parameters_of_every_type(connection):
    asked = [
        ("site_id = %s", 2, 1),
        ("power_kw = %s", 203.5, 1),
        ("energy_kwh = %s", Decimal("40.333334"), 1),
        ("quality = %s", 1, 3),
        ("step_s = %s", 600, 3),
        ("valid = %s", False, 3),
        ("note = %s", "note 7", 3),
        ("local_at = %s", datetime.datetime(2026, 3, 29, 0, 10), 3),
        ("at = %s", SEVENTH["at"].astimezone(ZoneInfo("Europe/Paris")), 3),
        ("at::date = %s", datetime.date(2026, 3, 28), 3),
        ("site_id = any(%s)", [2, 3], 2),
        ("note = any(%s)", ["note 7", "note 8"], 3),
        ("raw = %s", b"\x00\xff\x00\x07", 3),
    ]
    for binary in ("%s", "%b", "%t"):
        for condition, value, rows in asked:
            query = f"select count(*) from platform.readings where note = 'note 7' and {condition}"
            query = query.replace("%s", binary)
            (count,) = connection.execute(query, (value,)).fetchone()
            assert count == rows, (query, count)
        (nothing,) = connection.execute(f"select {binary}::int is null", (None,)).fetchone()
        assert nothing is True


def prepared(connection):
    query = "select name from platform.sites where id = %s"
    names = [connection.execute(query, (n % 3 + 1,), prepare=True).fetchone()[0] for n in range(12)]
    assert names[:3] == ["Éoliennes du Nord", "Toits de l'école", "Barrage"] and names[9:] == names[:3], names
    with connection.pipeline():
        answers = [connection.execute(query, (n,)) for n in (1, 2, 3)]
    assert [answer.fetchone()[0] for answer in answers] == names[:3]


def named_cursors(connection):
    with connection.transaction(), connection.cursor(name="steps") as cursor:
        cursor.itersize = 250
        cursor.execute("select at from platform.readings where site_id = 1 order by at")
        ats = [at for (at,) in cursor]
    assert len(ats) == 1000 and ats[0] == START and ats == sorted(ats)
    with connection.transaction(), connection.cursor(name="few", binary=True) as cursor:
        cursor.execute("select power_kw from platform.readings where site_id = %s order by at", (1,))
        assert cursor.fetchmany(2) == [(100.0,), (100.5,)]
        assert cursor.fetchone() == (101.0,)


def copy_out(connection):
    query = "select site_id, at, note, energy_kwh, tags from platform.readings where site_id = 1 order by at limit 11"
    with connection.cursor() as cursor:
        with cursor.copy(f"copy ({query}) to stdout") as copy:
            rows = list(copy.rows())
        assert len(rows) == 11 and rows[10][2] is None, rows
        assert rows[0][0] == "1" and rows[7][2:] == ("note 7", "23.666667", '{a,NULL,"é\\"7"}'), rows[7]
        with cursor.copy(f"copy ({query}) to stdout (format csv, header)") as copy:
            lines = b"".join(copy).decode().splitlines()
        assert lines[0] == "site_id,at,note,energy_kwh,tags" and lines[1].startswith("1,2026-03-28 22:00:00+00,,16.666667,")
        with cursor.copy(f"copy ({query}) to stdout (format binary)") as copy:
            copy.set_types(["int4", "timestamptz", "text", "numeric", "text[]"])
            rows = list(copy.rows())
        assert rows[7] == (1, SEVENTH["at"], "note 7", Decimal("23.666667"), ["a", None, 'é"7']), rows[7]


def transactions(connection):
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        first = connection.execute("select count(*) from platform.readings").fetchone()
        assert first == connection.execute("select count(*) from platform.readings").fetchone() == (3000,)
    with connection.transaction():
        fails("42P01", lambda: connection.execute("select * from platform.nothing"))
        fails("25P02", lambda: connection.execute("select 1"))
        raise psycopg.Rollback()
    assert connection.execute("select 1").fetchone() == (1,)


def errors(connection):
    connection.autocommit = True
    fails("42P01", lambda: connection.execute("select * from platform.nothing"))
    fails("42703", lambda: connection.execute("select nothing from platform.sites"))
    fails("42601", lambda: connection.execute("selec 1"))
    fails("42883", lambda: connection.execute("select nothing(1)"))
    fails("22P02", lambda: connection.execute("select 'x'::int"))
    fails("22012", lambda: connection.execute("select id / 0 from platform.sites"))
    assert connection.execute("select 1").fetchone() == (1,)


LONG = "select count(*) from platform.readings a, platform.readings b, platform.readings c where a.power_kw * b.power_kw > c.power_kw"


def cancelling(connection):
    """What the user waits for is the answer to the cancel, not the end of the query."""
    answered = threading.Event()

    def cancel():
        # On a busy machine a cancel may come before the query: then it is sent again.
        while not answered.wait(0.5):
            connection.cancel_safe()

    cancels = threading.Thread(target=cancel)
    cancels.start()
    started = time.monotonic()
    try:
        fails("57014", lambda: connection.execute(LONG))
    finally:
        answered.set()
        cancels.join()
    assert time.monotonic() - started < 60, "the cancelled query went on"
    connection.execute("set statement_timeout = '300ms'")
    fails("57014", lambda: connection.execute(LONG))
    connection.execute("reset statement_timeout")
    assert connection.execute("select 1").fetchone() == (1,)


def zones(connection):
    query = "select min(at)::text, date_trunc('day', min(at)), extract(hour from min(at)) from platform.readings"
    assert connection.execute(query).fetchone()[0] == "2026-03-28 22:00:00+00"
    connection.execute("set time zone 'Europe/Paris'")
    text, day, hour = connection.execute(query).fetchone()
    assert text == "2026-03-28 23:00:00+01" and hour == 23, (text, hour)
    assert day == datetime.datetime(2026, 3, 28, tzinfo=ZoneInfo("Europe/Paris")), day
    assert connection.execute("show timezone").fetchone() == ("Europe/Paris",)


with psycopg.connect(URL, autocommit=True, options="-c TimeZone=UTC") as connection:
    assert connection.info.server_version >= 150000
    assert connection.info.parameter_status("server_encoding") == "UTF8"
    every_type_both_ways(connection)
    parameters_of_every_type(connection)
    prepared(connection)
    copy_out(connection)
    named_cursors(connection)
    transactions(connection)
    errors(connection)
    cancelling(connection)
    zones(connection)
fails(None, lambda: psycopg.connect(URL, password="wrong"))
print("psycopg", psycopg.__version__)
