//! Changes through streams: published from a PostgreSQL as messages of AWS DMS, and read into the lake.

#[cfg(feature = "failpoints")]
mod crash;
mod dms;
mod functions;
mod orders;
mod postgres;
mod shards;

use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::streaming::assert_same_rows;
use crate::world::{Nats, Source, Warehouse};

/// A table of many types, one with partitions, and one without a key.
const TABLES: &str = "
    create table measure (id bigint primary key, site int not null, at timestamptz not null, local timestamp, day date,
        kwh numeric(12, 3), amount numeric, ok boolean, note text, code char(4), raw bytea, doc jsonb, ratio float8,
        tags text[], during interval, clock time, key uuid);
    create table keyless (a int, b text);
    alter table keyless replica identity full;
    insert into measure select n, n % 7, '2026-03-29 00:30:00+00'::timestamptz + n * interval '1 min',
        '2026-03-29 02:30:00'::timestamp + n * interval '1 min', '2026-03-29'::date + n, n / 8.0,
        n * 12345678901234567890.5, n % 2 = 0, case when n % 5 = 0 then null else 'note \"' || n || E'\\u00e9\\n' end,
        'ab', decode('00ff' || lpad(to_hex(n), 4, '0'), 'hex'), jsonb_build_object('n', n), n / 3.0,
        array['a', null, 'b' || n], n * interval '1 hour', '12:34:56.5', md5(n::text)::uuid
      from generate_series(1, 500) n;
    insert into keyless select n % 7, 'k' from generate_series(1, 50) n";

/// The columns of `measure` as texts that are the same at the source and in the lake.
const MEASURE: &str = "select id::text, site::text, to_char(at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') as at, \
     to_char(local, 'YYYY-MM-DD HH24:MI:SS.US') as local, day::text, kwh::text, amount::text, ok::text, note, rtrim(code::text) as code, \
     encode(raw, 'hex') as raw, doc::text, ratio::text, key::text from measure";
const KEYLESS: &str = "select a::text, b from keyless";

/// Two transfers of one warehouse: `out` publishes, `t` reads.
fn warehouse_of(source: &Source, stream: &str, publishing: &str, reading: &str) -> Warehouse {
    let toml = format!("lake.url = 'lake'\nconnections.source.url = '{}'\n", source.url());
    let slot = source.name();
    let publishing = format!("source = 'source'\nmode = 'changes'\nslot = '{slot}'\nstream = '{stream}'\n{publishing}");
    let reading = format!("mode = 'changes'\nstream = '{stream}'\n{reading}");
    Warehouse::new(&[("wattlake.toml", &toml), ("transfers/out.toml", &publishing), ("transfers/t.toml", &reading)])
}

/// Publishes what the source has, and reads it.
fn catch_up(warehouse: &Warehouse) {
    warehouse.ok(&["transfer", "run", "out", "--until-caught-up"]);
    warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
}

fn assert_equal(source: &Source, warehouse: &Warehouse, what: &str) {
    assert_same_rows(source, warehouse, [MEASURE, MEASURE], &format!("{what}: measure"));
    assert_same_rows(source, warehouse, [KEYLESS, KEYLESS], &format!("{what}: keyless"));
}

/// A program in the background, which is killed where it is dropped. Where a test fails, its output is shown.
struct Running {
    child: Child,
    output: tempfile::NamedTempFile,
}

impl Running {
    fn start(warehouse: &Warehouse, arguments: &[&str], failpoints: Option<&str>) -> Running {
        let mut command = warehouse.command(arguments);
        let output = tempfile::NamedTempFile::new().unwrap();
        let file = output.reopen().unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        if let Some(points) = failpoints {
            command.env("FAILPOINTS", points);
        }
        Running { child: command.spawn().unwrap(), output }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("{}", std::fs::read_to_string(self.output.path()).unwrap_or_default());
        }
    }
}

/// Waits until a condition holds.
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} in two minutes");
        std::thread::sleep(Duration::from_millis(200));
    }
}

const CHANGES: &str = "
    update measure set note = 'changed', kwh = kwh + 1 where id <= 100;
    update measure set id = id + 100000 where id between 101 and 120;
    delete from measure where id between 121 and 140;
    insert into measure (id, site, at, ok) values (1000, 1, '2026-02-02', null), (1001, 1, '2026-01-01', true);
    delete from keyless where a = 3;
    update keyless set b = 'u' where a = 4;
    insert into keyless values (9, null)";

#[test]
fn changes_go_through_jetstream_into_the_lake() {
    let (source, nats) = (Source::empty(), Nats::start());
    source.execute(TABLES);
    let warehouse = warehouse_of(&source, &nats.stream("platform"), "", "");
    warehouse.ok(&["check"]).has("out: nats://127.0.0.1");
    catch_up(&warehouse);
    assert_equal(&source, &warehouse, "the rows");
    source.execute(CHANGES);
    catch_up(&warehouse);
    assert_equal(&source, &warehouse, "the changes");
    // Other values of a large column stay where an update does not change it.
    source.execute(
        "alter table measure alter note set storage external; update measure set note = repeat('x', 9000) where id = 1000",
    );
    source.execute("update measure set kwh = 7 where id = 1000");
    source.execute("alter table measure add column added int; update measure set added = 5 where id = 1001");
    catch_up(&warehouse);
    assert_equal(&source, &warehouse, "the added column");
    assert_eq!(warehouse.sql("select added from measure where id = 1001"), [json!({"added": 5})]);
    source.execute("truncate measure; insert into measure (id, site, at) values (1, 1, '2026-01-01')");
    catch_up(&warehouse);
    assert_equal(&source, &warehouse, "the truncated table");
    // Nothing comes twice: a further run has nothing to do.
    let before = warehouse.sql("select count(*) as n from keyless");
    catch_up(&warehouse);
    assert_eq!(warehouse.sql("select count(*) as n from keyless"), before);
    let shards = warehouse.sql(
        "select source_table, position from system.transfers where transfer = 't' and source_table like 'shard %'",
    );
    assert_eq!(shards.len(), 4, "{shards:?}");
    // Read again: the rows are the same, and those that were deleted since stay deleted.
    warehouse.ok(&["transfer", "replay", "t", "--from", "beginning"]);
    warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
    assert_same_rows(&source, &warehouse, [MEASURE, MEASURE], "the replay: measure");
    // A table that is read again into the stream replaces what readers have.
    source.execute("delete from measure; insert into measure (id, site, at) values (2, 1, '2026-01-02')");
    warehouse.ok(&["transfer", "resync", "out", "--table", "public.measure"]);
    catch_up(&warehouse);
    assert_equal(&source, &warehouse, "the table that was read again");
    warehouse.ok(&["transfer", "drop-slot", "out"]).has("dropped the slot");
}
