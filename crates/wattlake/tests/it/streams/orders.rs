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

#[test]
fn wider_types_are_followed_and_a_table_that_is_refused_stops_nobody_else() {
    let (source, nats) = (Source::empty(), Nats::start());
    source.execute(
        "create table t (id int primary key, small int, amount numeric(6, 2), at timestamp); \
         create table u (id int primary key); insert into t values (1, 7, 1.25, '2026-01-01'); insert into u values (1)",
    );
    let warehouse = warehouse_of(&source, &nats.stream("platform"), "shards = 2", "");
    catch_up(&warehouse);
    source.execute(
        "insert into t values (2, 8, 2.5); alter table t alter small type bigint, alter amount type numeric(12, 4); \
         insert into t values (3, 5000000000, 12345678.1234)",
    );
    catch_up(&warehouse);
    // A narrower type, and one that all values fit into.
    source.execute("alter table t alter amount type text; insert into t values (4, 1, 'much')");
    source
        .execute("delete from t where id = 3; alter table t alter small type int; insert into t values (5, 9, 'more')");
    catch_up(&warehouse);
    let rows = "select id::text, small::text, amount from t";
    assert_same_rows(&source, &warehouse, [rows, rows], "wider types");
    assert_eq!(warehouse.run(&["transfer", "quarantine", "list", "t", "--json"]).out, "");

    source.execute("alter table t drop column at, add column at int; update t set at = id; insert into u values (2)");
    warehouse.ok(&["transfer", "run", "out", "--until-caught-up"]);
    let run = warehouse.run(&["transfer", "run", "t", "--until-caught-up"]);
    assert_eq!(run.code, 1, "{}", run.text());
    run.has("column \"at\" has the type INT4 now").has("transfer replay t --from beginning");
    assert_eq!(warehouse.count("u"), 2);
    source.execute("insert into t (id) values (6); insert into u values (3)");
    warehouse.ok(&["transfer", "run", "out", "--until-caught-up"]);
    assert_eq!(warehouse.run(&["transfer", "run", "t", "--until-caught-up"]).code, 1);
    assert_eq!((warehouse.count("t"), warehouse.count("u")), (4, 3));
    // The column is left out, and the table is read again.
    source.execute("alter table t drop column at");
    warehouse.ok(&["transfer", "resync", "out", "--table", "public.t"]);
    catch_up(&warehouse);
    assert_same_rows(&source, &warehouse, [rows, rows], "the table that was read again");
}

#[test]
fn a_shard_that_is_replayed_alone_leaves_the_others_where_they_are() {
    let (source, nats) = (Source::empty(), Nats::start());
    source.execute(
        "create table t (id int primary key, v int); insert into t select n, 0 from generate_series(1, 200) n",
    );
    let warehouse = warehouse_of(&source, &nats.stream("platform"), "shards = 3", "");
    catch_up(&warehouse);
    // Changes that nobody has read yet, in all shards.
    source.execute("update t set v = id; delete from t where id % 10 = 0");
    warehouse.ok(&["transfer", "run", "out", "--until-caught-up"]);
    warehouse.ok(&["transfer", "replay", "t", "--shard", "0", "--from", "0"]);
    warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
    let rows = "select id::text, v::text from t";
    assert_same_rows(&source, &warehouse, [rows, rows], "the replay");
    source.execute("truncate t; insert into t values (1, 1)");
    catch_up(&warehouse);
    assert_same_rows(&source, &warehouse, [rows, rows], "what concerns all shards, after the replay");
}

#[test]
fn a_truncate_of_a_table_that_some_shards_have_not_seen_is_applied() {
    let (source, nats) = (Source::empty(), Nats::start());
    source.execute("create table t (a int, b text); alter table t replica identity full; insert into t select n, 'x' from generate_series(1, 20) n");
    let publishing = "shards = 3\n[messages]\ninclude_control_details = false";
    let warehouse = warehouse_of(&source, &nats.stream("platform"), publishing, "");
    warehouse.ok(&["transfer", "run", "out", "--until-caught-up"]);
    source.execute("truncate t; insert into t values (7, 'after')");
    catch_up(&warehouse);
    assert_eq!(warehouse.sql("select a, b from t"), [json!({"a": 7, "b": "after"})]);
}
