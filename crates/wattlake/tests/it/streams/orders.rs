//! Orders of events in which changes could be lost, or come twice.

use serde_json::json;

use super::{Running, catch_up, wait_until, warehouse_of};
use crate::streaming::assert_same_rows;
use crate::world::{Nats, Source, Warehouse};

/// Another warehouse that reads the stream from its beginning.
fn new_reader(stream: &str, more: &str) -> Warehouse {
    Warehouse::new(&[
        ("wattlake.toml", "lake.url = 'lake'\n"),
        ("transfers/t.toml", &format!("mode = 'changes'\nstream = '{stream}'\n{more}")),
    ])
}

#[test]
fn a_reader_that_begins_later_follows_the_columns_that_a_table_had() {
    let (source, nats) = (Source::empty(), Nats::start());
    source.execute(
        "create table t (id int primary key, a text); insert into t select n, 'a' from generate_series(1, 20) n",
    );
    let stream = nats.stream("platform");
    let warehouse = warehouse_of(&source, &stream, "shards = 2", "");
    let publish = || drop(warehouse.ok(&["transfer", "run", "out", "--until-caught-up"]));
    publish();
    source.execute("alter table t add column b text; insert into t values (21, 'a', 'b')");
    publish();
    source.execute("alter table t drop column b; insert into t values (22, 'c')");
    publish();
    let reader = new_reader(&stream, "");
    reader.ok(&["transfer", "run", "t", "--until-caught-up"]);
    let rows = "select id::text, a from t";
    assert_same_rows(&source, &reader, [rows, rows], "the new reader");
    assert_eq!(reader.sql("select b from t where id = 21"), [json!({"b": "b"})]);
    assert_eq!(reader.run(&["transfer", "quarantine", "list", "t", "--json"]).out, "");
}

#[test]
fn each_truncate_of_a_transaction_counts() {
    let (source, nats) = (Source::empty(), Nats::start());
    source.execute("create table t (id int primary key); insert into t values (1)");
    let warehouse = warehouse_of(&source, &nats.stream("platform"), "", "");
    catch_up(&warehouse);
    source.execute("begin; insert into t values (2); truncate t; insert into t values (3); truncate t; insert into t values (4); commit");
    catch_up(&warehouse);
    assert_eq!(warehouse.sql("select id from t"), [json!({"id": 4})]);
}

#[test]
fn a_stream_that_was_created_again_is_noticed_by_both_sides() {
    let (source, mut nats) = (Source::empty(), Nats::start());
    source.execute("create table t (id int primary key); create table u (id int primary key); insert into t select generate_series(1, 50); insert into u values (1)");
    let stream = nats.stream("platform");
    let warehouse = warehouse_of(&source, &stream, "", "");
    catch_up(&warehouse);
    nats.wipe();
    // More messages than the reader has read: numbers alone would not tell.
    source.execute("insert into t select generate_series(51, 400)");
    warehouse.ok(&["transfer", "run", "out", "--until-caught-up"]);
    warehouse.run(&["transfer", "run", "t", "--until-caught-up"]).has("it was deleted and created again");
    let reader = new_reader(&stream, "");
    reader.ok(&["transfer", "run", "t", "--until-caught-up"]);
    assert_eq!((reader.count("t"), reader.count("u")), (400, 1));
    warehouse.ok(&["transfer", "replay", "t", "--from", "beginning"]);
    warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
    assert_eq!((warehouse.count("t"), warehouse.count("u")), (400, 1));
}

#[test]
fn two_tables_of_the_source_are_not_mixed_in_one_of_the_lake() {
    let (source, nats) = (Source::empty(), Nats::start());
    source.execute("create schema other; create table t (id int primary key); create table other.t (id int primary key); insert into t values (1); insert into other.t values (2)");
    let stream = nats.stream("platform");
    let warehouse = warehouse_of(&source, &stream, "", "");
    warehouse.ok(&["transfer", "run", "out", "--until-caught-up"]);
    let reader = new_reader(&stream, "into = 'lake'");
    reader.run(&["transfer", "run", "t", "--until-caught-up"]).has("is filled by the transfer t with");
}

#[test]
fn a_source_that_interrupts_the_publisher_has_nothing_stored_twice() {
    let (source, nats) = (Source::empty(), Nats::start());
    source.execute("create table k (a int, b text); alter table k replica identity full");
    let warehouse = warehouse_of(&source, &nats.stream("platform"), "", "");
    let publisher = Running::start(&warehouse, &["transfer", "run", "out"], None);
    let slot = source.name().to_owned();
    let active = format!("select count(*) from pg_replication_slots where slot_name = '{slot}' and active");
    for round in 0..6 {
        wait_until("the publisher streams", || source.value(&active) == "1");
        source.execute(&format!("insert into k select {round} * 1000 + n, 'v' from generate_series(1, 1000) n"));
        std::thread::sleep(std::time::Duration::from_millis(40 * round));
        let cut = "select pg_terminate_backend(active_pid) from pg_replication_slots where active_pid is not null and slot_name";
        source.attempt(&format!("{cut} = '{slot}'"));
    }
    drop(publisher);
    catch_up(&warehouse);
    assert_eq!(warehouse.count("k"), 6000);
}
