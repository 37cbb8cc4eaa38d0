//! A stream into another PostgreSQL.

use super::{CHANGES, TABLES};
#[cfg(feature = "failpoints")]
use super::{Running, wait_until};
use crate::world::{Nats, Source, Warehouse};

/// Two transfers of one warehouse: `out` publishes, `t` reads into the target.
fn warehouse_of(source: &Source, target: &Source, stream: &str, reading: &str) -> Warehouse {
    let toml = format!(
        "lake.url = 'lake'\nconnections.source.url = '{}'\nconnections.target.url = '{}'\n",
        source.url(),
        target.url()
    );
    let slot = source.name();
    let publishing = format!("source = 'source'\nmode = 'changes'\nslot = '{slot}'\nstream = '{stream}'\nshards = 2\n");
    let reading = format!("target = 'target'\nmode = 'changes'\nstream = '{stream}'\n{reading}");
    Warehouse::new(&[("wattlake.toml", &toml), ("transfers/out.toml", &publishing), ("transfers/t.toml", &reading)])
}

fn assert_equal(source: &Source, target: &Source, what: &str) {
    for query in ["select m::text from measure m order by id", "select k::text from keyless k order by 1"] {
        assert_eq!(source.rows(query), target.rows(query), "{what}");
    }
}

#[test]
fn changes_go_through_a_stream_into_another_postgresql() {
    let (source, target, nats) = (Source::empty(), Source::empty(), Nats::start());
    source.execute(TABLES);
    let warehouse = warehouse_of(&source, &target, &nats.stream("platform"), "");
    let catch_up = || {
        warehouse.ok(&["transfer", "run", "out", "--until-caught-up"]);
        warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
    };
    warehouse.ok(&["check"]);
    catch_up();
    assert_equal(&source, &target, "the rows");
    let types = "select column_name, data_type from information_schema.columns where table_name = 'measure' order by 1";
    assert_eq!(source.rows(types), target.rows(types));
    source.execute(CHANGES);
    catch_up();
    assert_equal(&source, &target, "the changes");
    source.execute(
        "alter table measure alter note set storage external; update measure set note = repeat('x', 9000) where id = 1000",
    );
    source.execute("update measure set kwh = 7 where id = 1000");
    source.execute("alter table measure add column added int, alter site type bigint; update measure set added = 5, site = 5000000000 where id = 1001");
    catch_up();
    assert_equal(&source, &target, "the columns");
    source.execute("truncate keyless; insert into keyless values (1, 'after')");
    catch_up();
    assert_equal(&source, &target, "the truncated table");
    // What the stream has is applied again, with the same outcome; a table without a key has its messages once.
    warehouse.ok(&["transfer", "replay", "t", "--from", "beginning"]);
    warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
    assert_equal(&source, &target, "the replay");
    // What the target does not take stops its table only.
    target.execute("alter table measure add constraint refused check (site <> 99)");
    source.execute("update measure set site = 99 where id = 1; insert into keyless values (2, 'beside')");
    warehouse.ok(&["transfer", "run", "out", "--until-caught-up"]);
    let run = warehouse.run(&["transfer", "run", "t", "--until-caught-up"]);
    assert_eq!(run.code, 1, "{}", run.text());
    run.has("violates check constraint \"refused\"");
    assert_eq!(target.count("keyless"), 2);
    target.execute("alter table measure drop constraint refused");
    warehouse.ok(&["transfer", "resync", "out", "--table", "public.measure"]);
    catch_up();
    assert_equal(&source, &target, "the table that was read again");
}

#[test]
fn a_table_is_filled_by_one_transfer() {
    let (source, target, nats) = (Source::empty(), Source::empty(), Nats::start());
    source.execute("create table t (id int primary key); insert into t values (1)");
    let stream = nats.stream("platform");
    let warehouse = warehouse_of(&source, &target, &stream, "");
    warehouse.ok(&["transfer", "run", "out", "--until-caught-up"]);
    warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
    let other = format!("target = 'target'\nmode = 'changes'\nstream = '{stream}'\n");
    warehouse.write("transfers/other.toml", &other);
    warehouse.run(&["transfer", "run", "other", "--until-caught-up"]).has("is filled by the transfer t with public.t");
    warehouse.write("transfers/other.toml", &format!("{other}into = 'copy'\n"));
    warehouse.ok(&["transfer", "replay", "other", "--from", "beginning"]);
    warehouse.ok(&["transfer", "run", "other", "--until-caught-up"]);
    assert_eq!(target.count("copy.t"), 1);
    // Rows of somebody else are not touched.
    target.execute("create schema theirs; create table theirs.t (id int primary key); insert into theirs.t values (1)");
    warehouse.write("transfers/third.toml", &format!("{other}into = 'theirs'\n"));
    let run = warehouse.run(&["transfer", "run", "third", "--until-caught-up"]);
    run.has("has rows that are of no stream");
    assert_eq!((run.code, target.count("theirs.t")), (1, 1));
    // A transfer of the same name in another warehouse.
    let second = warehouse_of(&source, &target, &stream, "");
    let run = second.run(&["transfer", "run", "t", "--until-caught-up"]);
    run.has("is filled by the transfer t of another warehouse");
    let same = warehouse_of(&source, &source, &stream, "");
    let run = same.run(&["transfer", "run", "t", "--until-caught-up"]);
    run.has("is the database of its source");
    assert_eq!(source.value("select count(*) from pg_namespace where nspname = 'wattlake'"), "0");
}

#[test]
fn the_key_and_the_last_days_are_those_of_the_source() {
    let (source, target, nats) = (Source::empty(), Source::empty(), Nats::start());
    source.execute(
        "create table t (a int, b int primary key, day date, at timestamptz, local timestamp);
         insert into t values (1, 1, '9999-12-31', '9999-12-31 23:59:59.999999+00', '9999-12-31 23:59:59.999999'),
             (2, 2, 'infinity', 'infinity', 'infinity'), (3, 3, '-infinity', '-infinity', '-infinity'),
             (4, 4, '0001-01-01', '0001-01-01 00:00+00', '0001-01-01')",
    );
    let warehouse = warehouse_of(&source, &target, &nats.stream("platform"), "");
    let compare = |what: &str| {
        warehouse.ok(&["transfer", "run", "out", "--until-caught-up"]);
        warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
        let rows = "select t::text from t order by b, a";
        assert_eq!(source.rows(rows), target.rows(rows), "{what}");
        let key = "select array_agg(attname order by attnum)::text from pg_index join pg_attribute on attrelid = indrelid \
                   and attnum = any(indkey) where indrelid = 't'::regclass and indisprimary";
        assert_eq!(source.rows(key), target.rows(key), "{what}");
    };
    compare("the rows");
    source.execute(
        "alter table t drop constraint t_pkey, add primary key (a, b); insert into t values (7, 1, null, null, null)",
    );
    compare("another key");
    source.execute("alter table t drop constraint t_pkey; alter table t replica identity full; insert into t select * from t where a = 7; delete from t where a = 2");
    compare("no key");
    source.execute("update t set b = 10 where a = 7");
    compare("changes without a key");
}

#[cfg(feature = "failpoints")]
#[test]
fn after_kills_of_the_reader_source_and_target_are_equal() {
    let (source, target, nats) = (Source::empty(), Source::empty(), Nats::start());
    source.execute(TABLES);
    let warehouse = warehouse_of(&source, &target, &nats.stream("platform"), "commit_interval = '1s'");
    let publisher = Running::start(&warehouse, &["transfer", "run", "out"], None);
    let points = ["before-commit=sleep(3600000)", "after-commit=sleep(3600000)", "after-commit=2*off->sleep(3600000)"];
    for round in 0..4 {
        let reader = Running::start(&warehouse, &["transfer", "run", "t"], points.get(round).copied());
        for step in 0..10 {
            source.execute(&format!(
                "update measure set site = site + 1 where id % 10 = {step}; insert into keyless values ({round}, '{step}'); \
                 delete from keyless where ctid in (select ctid from keyless where a = {} limit 1)",
                step % 3
            ));
        }
        std::thread::sleep(std::time::Duration::from_millis(1200));
        drop(reader);
    }
    let reader = Running::start(&warehouse, &["transfer", "run", "t"], None);
    source.execute("insert into keyless values (77, 'last')");
    wait_until("the last row is there", || target.value("select count(*) from keyless where a = 77") == "1");
    drop(publisher);
    let rows = "select count(*) from measure where site > 0";
    wait_until("all rows are there", || target.value(rows) == source.value(rows));
    drop(reader);
    warehouse.ok(&["transfer", "run", "out", "--until-caught-up"]);
    warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
    assert_equal(&source, &target, "after the kills");
}
