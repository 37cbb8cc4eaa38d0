//! Deleted rows that the lake keeps with the time of the delete.

use std::sync::Arc;

use super::fixture::*;
use super::streaming::{catch_up, drop_slot, start, streaming, try_catch_up};
use crate::plan::{Deletes, Settings};
use crate::resume::Permission;

fn marking(fixture: &Fixture) -> Settings {
    let mut settings = streaming(fixture);
    settings.changes.deletes = Deletes::Mark;
    settings
}

/// The source's time, as the rows of the lake show instants.
async fn now(fixture: &Fixture) -> String {
    let sql = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || ' UTC'";
    fixture.first_column(sql).await.remove(0)
}

/// The rows, where the time of a delete is shown as `deleted`, after a check that it was after `since`.
async fn rows(fixture: &Fixture, since: &str) -> Vec<String> {
    let now = now(fixture).await;
    let shown = fixture.rows("public.t").await.into_iter().map(|row| {
        let (values, at) = row.rsplit_once('|').unwrap();
        if at == "NULL" {
            return values.to_owned();
        }
        assert!(since <= at && at <= now.as_str(), "{since} {at} {now}");
        format!("{values}|deleted")
    });
    shown.collect()
}

async fn columns(fixture: &Fixture, table: &str) -> Vec<String> {
    let schema = fixture.table(table).await.schema().unwrap();
    schema.fields().iter().map(|field| field.name().clone()).collect()
}

async fn assert_valid(fixture: &Fixture, settings: &Settings) {
    let progress: Arc<dyn crate::read::Progress> = Arc::new(crate::read::NoProgress);
    let validated = crate::validate::validate(settings, &fixture.source, &fixture.lake, &[], &progress).await.unwrap();
    assert!(validated.iter().all(|table| table.is_ok() && table.purged == 0), "{validated:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_rows_are_marked_with_the_time() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id bigint PRIMARY KEY, v text, large text); ALTER TABLE t ALTER large SET STORAGE EXTERNAL; \
         INSERT INTO t SELECT i, 'v' || i, repeat('x', 10000 * (i % 2)) FROM generate_series(1, 6) i",
    )
    .await;
    let settings = marking(&fixture);
    catch_up(&fixture, &settings).await;
    let since = now(&fixture).await;
    let large = |id: usize| "x".repeat(10000 * (id % 2));
    let row = |id: usize, v: &str, end: &str| format!("{id}|{v}|{}{end}", large(id));
    // Deleted without a change; after an update in the same commit; with an unchanged large value; inserted again; another key.
    fixture
        .sql(
            "BEGIN; DELETE FROM t WHERE id = 1; UPDATE t SET v = 'new' WHERE id IN (2, 3); DELETE FROM t WHERE id IN (2, 3); \
             DELETE FROM t WHERE id = 4; INSERT INTO t VALUES (4, 'again', ''); UPDATE t SET id = 8 WHERE id = 6; \
             INSERT INTO t VALUES (7, 'short', repeat('x', 10000)); DELETE FROM t WHERE id = 7; COMMIT",
        )
        .await;
    catch_up(&fixture, &settings).await;
    let mut expected = vec![
        row(1, "v1", "|deleted"),
        row(2, "new", "|deleted"),
        row(3, "new", "|deleted"),
        row(4, "again", ""),
        row(5, "v5", ""),
        row(7, "short", "|deleted"),
        row(8, "v6", ""),
    ];
    assert_eq!(rows(&fixture, &since).await, expected);
    assert_valid(&fixture, &settings).await;
    // A later commit takes the place of marked rows.
    fixture.sql("INSERT INTO t VALUES (1, 'back', ''), (2, 'back', ''); DELETE FROM t WHERE id = 2").await;
    catch_up(&fixture, &settings).await;
    expected[0] = "1|back|".to_owned();
    expected[1] = "2|back||deleted".to_owned();
    assert_eq!(rows(&fixture, &since).await, expected);
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_rows_are_marked() {
    let fixture =
        Fixture::new("CREATE TABLE t (id bigint PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    let settings = marking(&fixture);
    catch_up(&fixture, &settings).await;
    let since = now(&fixture).await;
    fixture.sql("DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (3, 'c'), (4, 'd')").await;
    fixture
        .sql("BEGIN; UPDATE t SET v = 'x' WHERE id = 3; TRUNCATE t; INSERT INTO t VALUES (2, 'again'), (5, 'e'); TRUNCATE t; INSERT INTO t VALUES (5, 'last'); COMMIT")
        .await;
    catch_up(&fixture, &settings).await;
    let expected = ["1|a|deleted", "2|again|deleted", "3|x|deleted", "4|d|deleted", "5|last"];
    assert_eq!(rows(&fixture, &since).await, expected);
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_deleted_meanwhile_are_marked_by_a_new_copy() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id bigint PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    )
    .await;
    // From a stream that applies deletes, and without its slot.
    let plain = streaming(&fixture);
    catch_up(&fixture, &plain).await;
    drop_slot(&fixture, &plain).await;
    let since = now(&fixture).await;
    fixture.sql("DELETE FROM t WHERE id = 1").await;
    let settings = marking(&fixture);
    catch_up(&fixture, &settings).await;
    assert_eq!(rows(&fixture, &since).await, ["1|a|deleted", "2|b", "3|c"]);
    let first = fixture.rows("public.t").await.remove(0);
    fixture.sql("DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (4, 'd')").await;
    try_catch_up(&fixture, &settings, Permission::Resync, &["public.t"]).await.unwrap();
    assert_eq!(rows(&fixture, &since).await, ["1|a|deleted", "2|b|deleted", "3|c", "4|d"]);
    // The time of a row that was marked before stays.
    assert_eq!(fixture.rows("public.t").await.remove(0), first);
    assert_valid(&fixture, &settings).await;
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_added_beside_marked_rows() {
    let fixture = Fixture::new("CREATE TABLE t (id bigint PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await;
    let mut settings = marking(&fixture);
    settings.changes.history = true;
    catch_up(&fixture, &settings).await;
    let running = start(&fixture, &settings);
    fixture
        .sql("DELETE FROM t WHERE id = 1; ALTER TABLE t ADD v text DEFAULT 'd'; INSERT INTO t VALUES (3, 'x')")
        .await;
    running.stop().await;
    catch_up(&fixture, &settings).await;
    let mut present = columns(&fixture, "public.t").await;
    present.sort();
    assert_eq!(present, ["_deleted_at", "id", "v"]);
    assert!(!columns(&fixture, "public.t__history").await.contains(&"_deleted_at".to_owned()));
    assert_eq!(fixture.rows("public.t").await.iter().filter(|row| row.contains("NULL")).count(), 2);
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn types_are_widened_before_the_first_change() {
    for has_history in [false, true] {
        let fixture =
            Fixture::new("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1), (2, 2)").await;
        let mut settings = marking(&fixture);
        settings.changes.history = has_history;
        catch_up(&fixture, &settings).await;
        assert_eq!(columns(&fixture, "public.t").await, ["id", "a", "_deleted_at"]);
        for sql in [
            "ALTER TABLE t ALTER a TYPE bigint",
            "ALTER TABLE t ADD k int DEFAULT 4",
            "DELETE FROM t WHERE id = 1",
            "INSERT INTO t VALUES (3, 5000000000)",
        ] {
            fixture.sql(sql).await;
        }
        catch_up(&fixture, &settings).await;
        let shown = fixture.rows("public.t").await;
        assert_eq!(shown[1..], ["2|2|NULL|4", "3|5000000000|NULL|4"], "history {has_history}");
        assert!(shown[0].starts_with("1|1|2") && shown[0].ends_with("|4"), "{shown:?}");
        assert_valid(&fixture, &settings).await;
        drop_slot(&fixture, &settings).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_kept_without_a_mark_are_marked_when_it_is_set() {
    let fixture = Fixture::new("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3)").await;
    let mut settings = streaming(&fixture);
    let since = now(&fixture).await;
    // Applied, marked, kept, and marked again.
    for (deletes, id) in [(Deletes::Apply, 0), (Deletes::Mark, 1), (Deletes::Keep, 2), (Deletes::Mark, 3)] {
        settings.changes.deletes = deletes;
        fixture.sql(&format!("DELETE FROM t WHERE id = {id}")).await;
        catch_up(&fixture, &settings).await;
    }
    assert_eq!(rows(&fixture, &since).await, ["1|deleted", "2|deleted", "3|deleted"]);
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_cannot_have_marked_rows_are_refused() {
    let fixture = Fixture::new(
        "CREATE TABLE a (id bigint); ALTER TABLE a REPLICA IDENTITY FULL; \
         CREATE TABLE b (id bigint PRIMARY KEY, _deleted_at date); CREATE TABLE t (id bigint PRIMARY KEY)",
    )
    .await;
    let settings = marking(&fixture);
    let recorder = try_catch_up(&fixture, &settings, Permission::AsConfigured, &[]).await.unwrap();
    let errors = recorder.errors();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors.iter().any(|error| error.contains("public.a: it has no key")), "{errors:?}");
    assert!(errors.iter().any(|error| error.contains("a column \"_deleted_at\" of its own")), "{errors:?}");
    drop_slot(&fixture, &settings).await;
}
