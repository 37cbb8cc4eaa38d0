//! The history of rows: a table is read as the source had it at any instant, from the entries of its changes.

use chrono::DateTime;
use datafusion::prelude::SessionContext;
use lake::AsOf;
use lake::row_history::RowHistory;

use super::fixture::*;
use super::streaming::{catch_up, drop_slot, streaming, try_catch_up};
use super::value_text;
use crate::plan::{Deletes, Mode, Settings};
use crate::resume::Permission;

fn recording(fixture: &Fixture) -> Settings {
    let mut settings = streaming(fixture);
    settings.changes.history = true;
    settings
}

/// The state of a table at the source at an instant.
struct Moment {
    at: String,
    rows: Vec<String>,
}

async fn moment(fixture: &Fixture, rows: &str) -> Moment {
    let now = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    let mut rows = fixture.first_column(rows).await;
    rows.sort();
    let at = fixture.first_column(now).await.remove(0);
    // A history is complete up to a few milliseconds before the end of the log was read.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    Moment { at, rows }
}

/// The first column of a query of the tables t, at the instant where there is one, and t__history, sorted.
async fn lake_rows(fixture: &Fixture, query: &str, at: Option<&str>) -> Vec<String> {
    let (table, history) = (fixture.table("public.t").await, fixture.table("public.t__history").await);
    let at = at.map(|at| DateTime::parse_from_rfc3339(at).unwrap().to_utc());
    let rows = match at {
        None => table.provider().await.unwrap(),
        Some(at) => match table.history_span(at).unwrap() {
            Some(span) => RowHistory { table: history.clone(), span }.rows_at(&table, at).await.unwrap(),
            None => table.at(AsOf::Instant(at)).await.unwrap().provider().await.unwrap(),
        },
    };
    let session = SessionContext::new();
    session.register_table("t", rows).unwrap();
    session.register_table("t__history", history.provider().await.unwrap()).unwrap();
    let mut rows: Vec<String> = Vec::new();
    for batch in session.sql(query).await.unwrap().collect().await.unwrap() {
        rows.extend((0..batch.num_rows()).map(|at| value_text::plain(batch.column(0), at)));
    }
    rows.sort();
    rows
}

/// Compares the table at each of the moments.
async fn compare(fixture: &Fixture, columns: &str, moments: &[Moment]) {
    for moment in moments {
        let found = lake_rows(fixture, &format!("SELECT {columns} FROM t"), Some(&moment.at)).await;
        assert_eq!(found, moment.rows, "at {}", moment.at);
    }
}

const COLUMNS: &str = "concat_ws('|', id, coalesce(v, 'NULL'), n)";

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_read_as_of_any_instant() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id bigint PRIMARY KEY, v text, n int); ALTER TABLE t ALTER v SET STORAGE EXTERNAL; \
         INSERT INTO t SELECT i, repeat('v', 3000), i FROM generate_series(1, 20) i",
    )
    .await;
    let settings = recording(&fixture);
    catch_up(&fixture, &settings).await;
    let rows = format!("SELECT {COLUMNS} FROM public.t");
    let mut moments = vec![moment(&fixture, &rows).await];
    for (step, sql) in [
        "INSERT INTO t VALUES (21, 'new', 0), (22, NULL, 0)",
        "UPDATE t SET n = n + 100 WHERE id % 2 = 0",
        // Several versions of a row in one transaction, with a value that is only in the first.
        "BEGIN; UPDATE t SET v = repeat('w', 3000) WHERE id = 3; UPDATE t SET n = -1 WHERE id = 3; \
         UPDATE t SET n = -2 WHERE id = 3; DELETE FROM t WHERE id = 3; COMMIT",
        "INSERT INTO t VALUES (3, 'again', 3)",
        "UPDATE t SET id = 1000 + id WHERE id IN (4, 5)",
        "BEGIN; UPDATE t SET id = -6 WHERE id = 6; UPDATE t SET id = 6 WHERE id = 7; UPDATE t SET id = 7 WHERE id = -6; COMMIT",
        "DELETE FROM t WHERE id < 3",
        "BEGIN; UPDATE t SET n = 7 WHERE id = 8; TRUNCATE t; INSERT INTO t VALUES (1, 'after', 1); COMMIT",
        "INSERT INTO t VALUES (2, 'x', 2)",
        "UPDATE t SET v = NULL",
        "TRUNCATE t",
        "INSERT INTO t SELECT i, 'last', i FROM generate_series(1, 3) i",
    ]
    .into_iter()
    .enumerate()
    {
        fixture.sql(sql).await;
        moments.push(moment(&fixture, &rows).await);
        if step % 4 == 3 {
            catch_up(&fixture, &settings).await;
        }
    }
    catch_up(&fixture, &settings).await;
    compare(&fixture, COLUMNS, &moments).await;
    assert_eq!(lake_rows(&fixture, &format!("SELECT {COLUMNS} FROM t"), None).await, moments.last().unwrap().rows);
    // The entries of one row, in their order.
    let entries = "SELECT concat_ws(' ', row_number() OVER (ORDER BY _generation, _lsn, _seq), _op, length(v), n) \
                   FROM t__history WHERE id = 3 AND _op <> 'truncate'";
    let wanted = [
        "1 load 3000 3",
        "2 update 3000 3",
        "3 update 3000 -1",
        "4 update 3000 -2",
        "5 delete",
        "6 insert 5 3",
        "7 insert 4 3",
    ];
    assert_eq!(lake_rows(&fixture, entries, None).await, wanted);
    // Read again: what was before is still there, and so is what comes after.
    fixture.sql("DELETE FROM t WHERE id = 1").await;
    try_catch_up(&fixture, &settings, Permission::AsConfigured, &["public.t"]).await.unwrap();
    moments.push(moment(&fixture, &rows).await);
    fixture.sql("UPDATE t SET n = 50").await;
    moments.push(moment(&fixture, &rows).await);
    catch_up(&fixture, &settings).await;
    compare(&fixture, COLUMNS, &moments).await;
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_rows_of_a_table_without_a_key_are_counted() {
    let fixture = Fixture::new(
        "CREATE TABLE t (a int, b text); ALTER TABLE t REPLICA IDENTITY FULL; \
         INSERT INTO t VALUES (1, 'x'), (1, 'x'), (1, 'x'), (2, NULL)",
    )
    .await;
    let mut settings = recording(&fixture);
    settings.changes.deletes = Deletes::Keep;
    catch_up(&fixture, &settings).await;
    let columns = "concat_ws('|', a, coalesce(b, 'NULL'))";
    let rows = format!("SELECT {columns} FROM public.t");
    let mut moments = vec![moment(&fixture, &rows).await];
    for sql in [
        "DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE a = 1)",
        "UPDATE t SET b = 'y' WHERE ctid = (SELECT min(ctid) FROM t WHERE a = 1)",
        "INSERT INTO t VALUES (2, NULL), (2, NULL)",
        "UPDATE t SET a = a",
        "DELETE FROM t WHERE a = 2",
    ] {
        fixture.sql(sql).await;
        moments.push(moment(&fixture, &rows).await);
    }
    catch_up(&fixture, &settings).await;
    // The table keeps what was deleted; its history says what the source had.
    compare(&fixture, columns, &moments).await;
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_follows_columns_and_says_where_it_ends() {
    let fixture =
        Fixture::new("CREATE TABLE t (id bigint PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1), (2, 2)").await;
    let mut settings = recording(&fixture);
    catch_up(&fixture, &settings).await;
    let rows = "SELECT concat_ws('|', id, v) FROM public.t";
    let columns = "concat_ws('|', id, v)";
    let mut moments = vec![moment(&fixture, rows).await];
    fixture.sql("ALTER TABLE t ALTER v TYPE bigint; ALTER TABLE t ADD w text DEFAULT 'old'").await;
    fixture.sql("UPDATE t SET v = 3000000000 WHERE id = 1").await;
    moments.push(moment(&fixture, rows).await);
    catch_up(&fixture, &settings).await;
    fixture.sql("ALTER TABLE t ADD x text").await;
    fixture.sql("INSERT INTO t VALUES (3, 3, 'w', 'x')").await;
    moments.push(moment(&fixture, rows).await);
    catch_up(&fixture, &settings).await;
    compare(&fixture, columns, &moments).await;
    let last = moments.last().unwrap();
    let query = "SELECT concat_ws('|', id, w, x) FROM t";
    assert_eq!(lake_rows(&fixture, query, Some(&last.at)).await, ["1|old", "2|old", "3|w|x"]);
    // Without the setting it ends; what it has stays.
    settings.changes.history = false;
    fixture.sql("DELETE FROM t WHERE id = 1").await;
    catch_up(&fixture, &settings).await;
    fixture.sql("DELETE FROM t WHERE id = 2").await;
    catch_up(&fixture, &settings).await;
    compare(&fixture, columns, &moments[..2]).await;
    assert_eq!(fixture.rows("public.t__history").await.iter().filter(|row| row.contains("delete")).count(), 0);
    // With it again, the table is read, and a second span begins.
    settings.changes.history = true;
    catch_up(&fixture, &settings).await;
    moments.push(moment(&fixture, rows).await);
    fixture.sql("UPDATE t SET v = 4").await;
    moments.push(moment(&fixture, rows).await);
    catch_up(&fixture, &settings).await;
    compare(&fixture, columns, &moments[..2]).await;
    compare(&fixture, columns, &moments[3..]).await;
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_the_history_needs_are_refused() {
    let fixture =
        Fixture::new("CREATE TABLE t (id bigint PRIMARY KEY, _op text); CREATE TABLE u (id bigint PRIMARY KEY)").await;
    let mut settings = recording(&fixture);
    let recorder = try_catch_up(&fixture, &settings, Permission::AsConfigured, &[]).await.unwrap();
    let errors = recorder.errors();
    assert!(errors.len() == 1 && errors[0].contains("it has a column \"_op\" of its own"), "{errors:?}");
    drop_slot(&fixture, &settings).await;
    fixture.sql("CREATE TABLE u__history (id bigint PRIMARY KEY)").await;
    let error = try_catch_up(&fixture, &settings, Permission::AsConfigured, &[]).await.err().unwrap();
    assert!(
        chain(&error).contains("would become public.u__history, which is the history of public.u"),
        "{}",
        chain(&error)
    );
    settings.changes.history = false;
    catch_up(&fixture, &settings).await;
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_identified_by_other_columns_begin_another_span() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL); INSERT INTO t SELECT i, i * 10 FROM generate_series(1, 5) i",
    )
    .await;
    let settings = recording(&fixture);
    catch_up(&fixture, &settings).await;
    let (rows, columns) = ("SELECT concat_ws('|', id, v) FROM public.t", "concat_ws('|', id, v)");
    fixture.sql("UPDATE t SET v = 11 WHERE id = 1").await;
    let mut moments = vec![moment(&fixture, rows).await];
    catch_up(&fixture, &settings).await;
    // By another key, and then without one.
    fixture.sql("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (v); INSERT INTO t VALUES (1, 99)").await;
    catch_up(&fixture, &settings).await;
    moments.push(moment(&fixture, rows).await);
    fixture.sql("DELETE FROM t WHERE v = 11; UPDATE t SET id = 7 WHERE v = 99").await;
    moments.push(moment(&fixture, rows).await);
    catch_up(&fixture, &settings).await;
    compare(&fixture, columns, &moments).await;
    fixture.sql("ALTER TABLE t DROP CONSTRAINT t_pkey, REPLICA IDENTITY FULL; ALTER TABLE t ADD w text").await;
    fixture.sql("INSERT INTO t VALUES (7, 99, 'x'), (7, 99, 'x')").await;
    catch_up(&fixture, &settings).await;
    moments.push(moment(&fixture, rows).await);
    fixture.sql("DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE w = 'x')").await;
    moments.push(moment(&fixture, rows).await);
    catch_up(&fixture, &settings).await;
    fixture.sql("ALTER TABLE t DROP w; DELETE FROM t WHERE id = 2").await;
    catch_up(&fixture, &settings).await;
    moments.push(moment(&fixture, rows).await);
    fixture.sql("DELETE FROM t WHERE id = 3; UPDATE t SET v = 0 WHERE id = 4").await;
    moments.push(moment(&fixture, rows).await);
    catch_up(&fixture, &settings).await;
    compare(&fixture, columns, &moments).await;
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_column_has_its_values_from_before_a_new_copy() {
    let fixture =
        Fixture::new("CREATE TABLE t (id int PRIMARY KEY, a int, b int); INSERT INTO t VALUES (1, 1, 5), (2, 2, 6)")
            .await;
    let settings = recording(&fixture);
    catch_up(&fixture, &settings).await;
    let columns = |a: &str| format!("concat_ws('|', id, {a}, b)");
    let rows = |a: &str| format!("SELECT {} FROM public.t", columns(a));
    let mut moments = vec![moment(&fixture, &rows("a")).await];
    fixture.sql("UPDATE t SET a = 11 WHERE id = 1").await;
    catch_up(&fixture, &settings).await;
    fixture.sql("ALTER TABLE t RENAME a TO kwh; UPDATE t SET kwh = 12 WHERE id = 1").await;
    moments.push(moment(&fixture, &rows("kwh")).await);
    catch_up(&fixture, &settings).await;
    compare(&fixture, &columns("a"), &moments).await;
    drop_slot(&fixture, &settings).await;
    catch_up(&fixture, &settings).await;
    fixture.sql("UPDATE t SET kwh = 13 WHERE id = 1").await;
    moments.push(moment(&fixture, &rows("kwh")).await);
    catch_up(&fixture, &settings).await;
    compare(&fixture, &columns("kwh"), &moments).await;
    drop_slot(&fixture, &settings).await;
}

/// 0.0 and -0.0 are one key, whose bytes differ.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_changes_to_an_equal_one_remains() {
    let fixture =
        Fixture::new("CREATE TABLE t (f float8 PRIMARY KEY, v text); INSERT INTO t VALUES (0.0, 'start')").await;
    let settings = recording(&fixture);
    catch_up(&fixture, &settings).await;
    let mut moments = Vec::new();
    for sql in ["UPDATE t SET f = '-0.0'", "UPDATE t SET v = 'negative'", "UPDATE t SET f = 0.0, v = 'positive'"] {
        fixture.sql(sql).await;
        moments.push(moment(&fixture, "SELECT v FROM public.t").await);
    }
    catch_up(&fixture, &settings).await;
    compare(&fixture, "v", &moments).await;
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_left_out_for_a_while_has_a_gap() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE u (id int PRIMARY KEY); INSERT INTO t VALUES (1, 1)",
    )
    .await;
    let settings = recording(&fixture);
    catch_up(&fixture, &settings).await;
    let (rows, columns) = ("SELECT concat_ws('|', id, v) FROM public.t", "concat_ws('|', id, v)");
    fixture.sql("UPDATE t SET v = 2").await;
    let before = moment(&fixture, rows).await;
    catch_up(&fixture, &settings).await;
    let without = Settings { exclude: vec!["public.t".to_owned()], ..settings.clone() };
    catch_up(&fixture, &without).await;
    fixture.sql("UPDATE t SET v = 3; INSERT INTO u VALUES (1)").await;
    catch_up(&fixture, &without).await;
    let between = moment(&fixture, rows).await;
    fixture.sql("INSERT INTO u VALUES (2)").await;
    catch_up(&fixture, &without).await;
    catch_up(&fixture, &settings).await;
    fixture.sql("UPDATE t SET v = 4").await;
    let after = moment(&fixture, rows).await;
    catch_up(&fixture, &settings).await;
    compare(&fixture, columns, &[before, after]).await;
    let at = DateTime::parse_from_rfc3339(&between.at).unwrap().to_utc();
    let error = fixture.table("public.t").await.history_span(at).unwrap_err();
    assert!(error.to_string().contains("were not streamed"), "{error}");
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_mode_ends_the_history_where_the_stream_was() {
    let fixture = Fixture::new("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)").await;
    let settings = recording(&fixture);
    catch_up(&fixture, &settings).await;
    let (rows, columns) = ("SELECT concat_ws('|', id, v) FROM public.t", "concat_ws('|', id, v)");
    fixture.sql("UPDATE t SET v = 2").await;
    let streamed = moment(&fixture, rows).await;
    fixture.sql("UPDATE t SET v = 3").await;
    catch_up(&fixture, &settings).await;
    drop_slot(&fixture, &settings).await;
    let mut incremental = Settings { mode: Mode::Incremental, ..settings.clone() };
    incremental.changes.history = false;
    fixture.sql("INSERT INTO t VALUES (2, 4)").await;
    fixture.run_with(&incremental, Permission::Resync).await;
    let later = moment(&fixture, rows).await;
    // From the history before, and from the lake's versions afterwards.
    compare(&fixture, columns, &[streamed, later]).await;
}
