//! Cursors other than integers and timestamps.

use super::fixture::{Fixture, by_cursor, incremental, table_report, wait_for_writers, with};
use crate::plan::{Settings, TableSettings};

/// Runs, applies `news` at the source, runs again, and compares the lake with the source.
async fn follows(create: &str, columns: &str, settings: Settings, news: &str) {
    let fixture = Fixture::new(create).await;
    wait_for_writers(&fixture).await;
    fixture.run_ok(&settings).await;
    let source = format!("SELECT concat_ws('|', {columns}) FROM public.t ORDER BY 1");
    for step in [news, "SELECT 1"] {
        fixture.sql(step).await;
        wait_for_writers(&fixture).await;
        fixture.run_ok(&settings).await;
        let mut expected = fixture.first_column(&source).await;
        expected.sort();
        assert_eq!(fixture.rows("public.t").await, expected, "{create}");
    }
    let report = fixture.run_ok(&settings).await;
    assert_eq!(
        (table_report(&report, "public.t").version, table_report(&report, "public.t").rows),
        (None, 0),
        "{create}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_numerics_uuids_and_texts() {
    let cases = [
        ("date", "date '2026-01-01' + g", "'2026-01-09'"),
        ("numeric(30,0)", "123456789012345678901234567890 + g", "223456789012345678901234567890"),
        ("numeric", "g / 7.0", "2.5"),
        ("uuid", "('0191e5a0-000' || g || '-7abc-8def-0123456789ab')::uuid", "'0191e5a1-0000-7abc-8def-0123456789ab'"),
        ("text", "'2026-01-0' || g || 'T00:00:00Z'", "'2026-01-09T00:00:00Z'"),
        ("varchar(30)", "'batch-' || g", "'batch-9'"),
    ];
    for (type_name, old, new) in cases {
        let create = format!(
            "CREATE TABLE t (id int PRIMARY KEY, c {type_name}, v text); INSERT INTO t SELECT g, {old}, 'a' FROM \
             generate_series(1, 5) g"
        );
        let news = format!(
            "INSERT INTO t VALUES (6, {new}, 'b'), (7, {new}, 'c'); UPDATE t SET v = 'd', c = {new} WHERE id = 2"
        );
        follows(&create, "id, c, v", with(incremental(), "public.t", by_cursor("c")), &news).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_columns_the_first_in_order_first() {
    let own = TableSettings { cursor: vec!["day".into(), "id".into()], ..TableSettings::default() };
    follows(
        "CREATE TABLE t (id int PRIMARY KEY, day date, v text); INSERT INTO t SELECT g, '2026-01-01', 'a' FROM \
         generate_series(1, 5) g",
        "id, day, v",
        with(incremental(), "public.t", own),
        "INSERT INTO t VALUES (6, '2026-01-01', 'b'), (7, '2026-01-02', 'c'); UPDATE t SET v = 'd', day = \
         '2026-01-02' WHERE id = 2",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_cursor_are_read_once() {
    follows(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamp, v text); INSERT INTO t VALUES (1, '2026-01-01', 'a'), (2, \
         NULL, 'b')",
        "id, to_char(at, 'YYYY-MM-DD HH24:MI:SS.US'), coalesce(v, 'NULL')",
        with(incremental(), "public.t", by_cursor("at")),
        "UPDATE t SET at = '2026-01-02' WHERE id = 2",
    )
    .await;
    let fixture =
        Fixture::new("CREATE TABLE t (id int PRIMARY KEY, at timestamp); INSERT INTO t VALUES (1, '2026-01-01')").await;
    let settings = with(incremental(), "public.t", by_cursor("at"));
    fixture.run_ok(&settings).await;
    fixture.sql("INSERT INTO t VALUES (2, NULL), (3, '-infinity'), (4, 'infinity')").await;
    fixture.run_ok(&settings).await;
    assert_eq!(fixture.rows("public.t").await.len(), 4);
    assert_eq!(table_report(&fixture.run_ok(&settings).await, "public.t").version, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_where_the_table_has_no_other_order() {
    follows(
        "CREATE TABLE t (id uuid PRIMARY KEY, v text); INSERT INTO t SELECT gen_random_uuid(), 'a' FROM \
         generate_series(1, 5)",
        "id, v",
        with(incremental(), "public.t", by_cursor("xmin")),
        "INSERT INTO t VALUES (gen_random_uuid(), 'b'); UPDATE t SET v = 'c' WHERE id = (SELECT min(id::text)::uuid \
         FROM t)",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_a_key_comes_once_whoever_is_writing() {
    let fixture = Fixture::new("CREATE TABLE t (v text); INSERT INTO t VALUES ('a'), ('a')").await;
    let settings = with(incremental(), "public.t", by_cursor("xmin"));
    let long = fixture.session().await;
    long.batch_execute("BEGIN; SAVEPOINT one; INSERT INTO t VALUES ('late')").await.unwrap();
    fixture.sql("INSERT INTO t VALUES ('b')").await;
    fixture.run_ok(&settings).await;
    fixture.sql("INSERT INTO t VALUES ('c')").await;
    fixture.run_ok(&settings).await;
    long.batch_execute("COMMIT").await.unwrap();
    wait_for_writers(&fixture).await;
    fixture.run_ok(&settings).await;
    fixture.run_ok(&settings).await;
    assert_eq!(fixture.rows("public.t").await, ["a", "a", "b", "c", "late"]);
}
