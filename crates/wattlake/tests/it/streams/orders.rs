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
    source.execute("create table t (id int primary key); create table u (id int primary key); insert into t select generate_series(1, 50); insert into u values (1); create table k (a int); alter table k replica identity full; insert into k select n % 3 from generate_series(1, 40) n");
    let stream = nats.stream("platform");
    let warehouse = warehouse_of(&source, &stream, "", "");
    catch_up(&warehouse);
    nats.wipe();
    source.execute("delete from t where id <= 5; delete from k where a = 2");
    // More messages than the reader has read: numbers alone would not tell.
    source.execute("insert into t select generate_series(51, 400)");
    warehouse.ok(&["transfer", "run", "out", "--until-caught-up"]);
    warehouse.run(&["transfer", "run", "t", "--until-caught-up"]).has("it was deleted and created again");
    let reader = new_reader(&stream, "");
    reader.ok(&["transfer", "run", "t", "--until-caught-up"]);
    assert_eq!((reader.count("t"), reader.count("u")), (395, 1));
    warehouse.run(&["transfer", "replay", "t", "--from", "2026-01-01T00:00:00Z"]).has("write --from beginning");
    warehouse.ok(&["transfer", "replay", "t", "--from", "beginning"]);
    warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
    assert_eq!((warehouse.count("t"), warehouse.count("u")), (395, 1));
    // A table without a key has none of the rows before.
    let keyless = ["select a::text from k", "select a::text from k"];
    assert_same_rows(&source, &warehouse, keyless, "the new stream");
    source
        .execute("insert into k values (7), (7); delete from k where ctid in (select ctid from k where a = 1 limit 1)");
    catch_up(&warehouse);
    assert_same_rows(&source, &warehouse, keyless, "its changes");
}

#[test]
fn a_table_with_another_key_or_name_is_read_again() {
    let (source, nats) = (Source::empty(), Nats::start());
    source.execute(
        "create table t (a int, b int primary key); insert into t select n, n from generate_series(1, 30) n;
         create table u (id int primary key, v int); insert into u values (1, 1), (2, 2);
         create table w (id int primary key, v int); insert into w select n, n from generate_series(1, 20) n",
    );
    let warehouse = warehouse_of(&source, &nats.stream("platform"), "shards = 2", "");
    catch_up(&warehouse);
    // What is published after the key was changed has been changed by the one before.
    source.execute(
        "update t set a = a + b; alter table t drop constraint t_pkey, add primary key (a, b); delete from t where b = 3;
         insert into t values (1, 1), (3, 1);
         alter table u drop constraint u_pkey; alter table u replica identity full;
         insert into u values (1, 1), (1, 1), (2, 3); delete from u where v = 2;
         alter table w rename to w_new; update w_new set v = 0 where id > 10; insert into w_new values (100, 100)",
    );
    catch_up(&warehouse);
    let of = |table: &str, columns: &str| {
        let query = format!("select {columns} from {table}");
        assert_same_rows(&source, &warehouse, [&query, &query], table);
    };
    let all = || {
        of("t", "a::text, b::text");
        of("u", "id::text, v::text");
        of("w_new", "id::text, v::text");
    };
    all();
    source.execute(
        "update t set b = b + 1 where a > 50; insert into u values (9, 9), (9, 9);
         delete from u where ctid in (select ctid from u where id = 1 limit 1); update w_new set v = 5 where id = 100",
    );
    catch_up(&warehouse);
    all();
    // Values that the log does not have.
    source.execute(
        "alter table w_new add uid uuid not null default gen_random_uuid(), drop constraint w_pkey, add primary key (uid);
         update w_new set v = 6 where id = 1",
    );
    catch_up(&warehouse);
    of("w_new", "id::text, v::text, uid::text");
    assert_eq!(warehouse.run(&["transfer", "quarantine", "list", "t", "--json"]).out, "");
}

#[test]
fn all_tables_are_read_again_also_while_nothing_runs() {
    let (source, nats) = (Source::empty(), Nats::start());
    source.execute("create table t (id int primary key, v int); insert into t values (1, 1), (2, 2)");
    let stream = nats.stream("platform");
    let warehouse = warehouse_of(&source, &stream, "", "");
    catch_up(&warehouse);
    warehouse.ok(&["transfer", "resync", "out", "--all"]);
    let reader = new_reader(&stream, "");
    reader.ok(&["transfer", "run", "t", "--until-caught-up"]);
    let rows = reader.sql("select inserts from system.transfers where source_table = 'public.t'");
    assert_eq!(rows, [json!({"inserts": 4})], "each row came twice");
    catch_up(&warehouse);
    assert_eq!(warehouse.count("t"), 2);
}

#[test]
fn a_table_that_somebody_removed_is_refused_until_it_is_read_again() {
    let (source, nats) = (Source::empty(), Nats::start());
    source.execute("create table t (id int primary key); create table empty (id int primary key); insert into t select generate_series(1, 20)");
    let warehouse = warehouse_of(&source, &nats.stream("platform"), "", "");
    catch_up(&warehouse);
    assert_eq!((warehouse.count("t"), warehouse.count("empty")), (20, 0));
    std::fs::remove_dir_all(warehouse.path().join("lake/public/t")).unwrap();
    source.execute("insert into t values (21); insert into empty values (1)");
    warehouse.ok(&["transfer", "run", "out", "--until-caught-up"]);
    let run = warehouse.run(&["transfer", "run", "t", "--until-caught-up"]);
    run.has("public.t is not there any more, and with it its earlier rows");
    assert_eq!((run.code, warehouse.count("empty")), (1, 1));
    warehouse.ok(&["transfer", "resync", "out", "--table", "public.t"]);
    warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
    assert_eq!(warehouse.count("t"), 21);
    std::fs::remove_dir_all(warehouse.path().join("lake/public/t")).unwrap();
    warehouse.ok(&["transfer", "replay", "t", "--from", "beginning"]);
    warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
    assert_eq!(warehouse.count("t"), 21);
}

#[test]
fn commands_about_a_source_name_the_publisher() {
    let warehouse = new_reader("nats://127.0.0.1:1/platform", "");
    for command in
        [&["transfer", "validate", "t"][..], &["transfer", "drop-slot", "t"], &["transfer", "hand-over", "t", "--all"]]
    {
        warehouse.run(command).has("it reads a stream, and has no source");
    }
    warehouse.write(
        "transfers/t.toml",
        "mode = 'changes'\nstream = 'nats://127.0.0.1:1/p'\n[tables.'public.t']\ncursor = 'id'\n",
    );
    warehouse.run(&["check"]).has("\"cursor\" can't be used: the stream is the source");
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
    // What was removed since stays removed.
    warehouse.ok(&["transfer", "replay", "t", "--shard", "1", "--from", "0"]);
    source.execute("insert into t values (2, 2), (3, 3), (4, 4)");
    catch_up(&warehouse);
    assert_same_rows(&source, &warehouse, [rows, rows], "a replay of what was removed");
    warehouse.run(&["transfer", "replay", "t", "--shard", "9", "--from", "0"]).has("the stream has no shard \"9\"");
    warehouse.run(&["transfer", "replay", "t", "--from", "2999-01-01T00:00:00Z"]).has("is in the future");
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
