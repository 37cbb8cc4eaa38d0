//! Tables of all kinds, read whole.

use std::collections::BTreeSet;

use lake::TableName;

use super::fixture::{Fixture, by_cursor, error_of, incremental, initial, table_report, with};
use crate::plan::{OnNoCursor, Settings};
use crate::postgres::Endpoint;
use crate::run::TableMode;

#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_two_levels_are_one_table() {
    let fixture = Fixture::new(
        "CREATE TABLE m (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at); \
         CREATE TABLE m25 PARTITION OF m FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (id); \
         CREATE TABLE m25_some PARTITION OF m25 FOR VALUES IN (1, 2, 3); \
         CREATE TABLE m25_rest PARTITION OF m25 DEFAULT; \
         CREATE TABLE m26 PARTITION OF m FOR VALUES FROM ('2026-01-01') TO ('2027-01-01'); \
         INSERT INTO m SELECT i, date '2025-12-01' + i FROM generate_series(1, 60) i",
    )
    .await;
    let settings = with(incremental(), "public.m", by_cursor("id"));
    fixture.run_ok(&settings).await;
    assert_eq!(fixture.lake.tables().await.unwrap(), [TableName::new("public", "m")]);
    let source = "SELECT concat_ws('|', id, at) FROM public.m ORDER BY 1";
    assert_eq!(fixture.rows("public.m").await, fixture.first_column(source).await);
    fixture.sql("INSERT INTO m VALUES (61, '2025-05-05'), (62, '2026-05-05')").await;
    let report = fixture.run_ok(&settings).await;
    assert_eq!(
        (table_report(&report, "public.m").rows, table_report(&report, "public.m").mode),
        (2, TableMode::Incremental)
    );
    assert_eq!(fixture.rows("public.m").await, fixture.first_column(source).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_key_is_carried_whole_or_not_at_all() {
    let fixture = Fixture::new("CREATE TABLE t (v int); INSERT INTO t VALUES (1), (1), (NULL)").await;
    fixture.run_ok(&initial()).await;
    assert_eq!(fixture.rows("public.t").await, ["1", "1", "NULL"]);
    fixture.sql("DELETE FROM t WHERE v IS NULL; INSERT INTO t VALUES (2)").await;
    let (error, hint) = error_of(&fixture.run(&incremental()).await, "public.t");
    assert!(error.contains("it has no key, and no cursor is set for it"), "{error}");
    assert!(hint.contains("on_no_cursor = \"reload\""), "{hint}");
    assert_eq!(fixture.rows("public.t").await, ["1", "1", "NULL"]);
    let reload = Settings { on_no_cursor: OnNoCursor::Reload, ..incremental() };
    let report = fixture.run_ok(&reload).await;
    assert_eq!(table_report(&report, "public.t").mode, TableMode::Reload);
    assert_eq!(fixture.rows("public.t").await, ["1", "1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn views_are_transferred_where_they_are_enabled() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b'); \
         CREATE VIEW seen AS SELECT v, id * 2 AS twice FROM t; \
         CREATE MATERIALIZED VIEW kept AS SELECT upper(v) AS v FROM t; INSERT INTO t VALUES (3, 'c')",
    )
    .await;
    assert_eq!(fixture.run_ok(&initial()).await.tables.len(), 1);
    fixture.run_ok(&Settings { views: true, ..initial() }).await;
    assert_eq!(fixture.rows("public.seen").await, ["a|2", "b|4", "c|6"]);
    assert_eq!(fixture.rows("public.kept").await, ["A", "B"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_table_is_created_with_its_columns_and_continued() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY, at timestamptz)",
    )
    .await;
    let settings = with(incremental(), "public.u", by_cursor("at"));
    fixture.run_ok(&settings).await;
    let table = fixture.table("public.t").await;
    assert_eq!(table.schema().unwrap().fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), ["id", "v"]);
    assert!(fixture.rows("public.t").await.is_empty());
    let report = fixture.run_ok(&settings).await;
    assert!(report.tables.iter().all(|t| t.version.is_none()), "a version without news");
    fixture.sql("INSERT INTO t VALUES (-5, 'x'), (0, 'y'); INSERT INTO u VALUES (1, '0001-01-01 00:00:01+00')").await;
    fixture.run_ok(&settings).await;
    assert_eq!(fixture.rows("public.t").await, ["-5|x", "0|y"]);
    assert_eq!(fixture.rows("public.u").await, ["1|0001-01-01 00:00:01.000000 UTC"]);
    // The overlap reaches before the first year.
    assert_eq!(table_report(&fixture.run_ok(&settings).await, "public.u").version, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_columns_as_postgresql_allows() {
    let columns: Vec<String> = (1..1600).map(|at| format!("c{at} int")).collect();
    let values: Vec<String> = (1..1600).map(|at| at.to_string()).collect();
    let fixture = Fixture::new(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, {}); INSERT INTO t VALUES (0, {}); INSERT INTO t VALUES (-1)",
        columns.join(", "),
        values.join(", ")
    ))
    .await;
    fixture.run_ok(&incremental()).await;
    let rows = fixture.rows("public.t").await;
    assert_eq!(rows, [format!("-1{}", "|NULL".repeat(1599)), format!("0|{}", values.join("|"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_fifty_megabytes() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, v text, b bytea); \
         INSERT INTO t SELECT i, repeat('0123456789abcdé', 1700000), convert_to(repeat('\u{1}x', 13000000), 'UTF8') \
         FROM generate_series(1, 2) i; INSERT INTO t VALUES (3, 'small', 'x')",
    )
    .await;
    fixture.run_ok(&initial()).await;
    let rows = fixture.rows("public.t").await;
    let huge = format!("|{}|{}", "0123456789abcdé".repeat(1_700_000), "0178".repeat(13_000_000));
    assert_eq!(rows.len(), 3);
    assert!(rows[0] == format!("1{huge}") && rows[1] == format!("2{huge}"));
    assert_eq!(rows[2], "3|small|78");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_any_sort() {
    let names = [
        "Ünï.Code",
        "a/b",
        "..",
        "~",
        "quo\"te",
        "o'clock",
        "日本語 😀",
        "%41",
        "=41",
        "x y",
        "back\\slash",
        "select",
        "C",
        "_delta_log",
    ];
    let fixture = Fixture::new("SELECT").await;
    for (at, name) in names.iter().enumerate() {
        let (schema, table) = (crate::postgres::quote(&format!("s {name}")), crate::postgres::quote(name));
        fixture
            .sql(&format!(
                "CREATE SCHEMA {schema}; CREATE TABLE {schema}.{table} (id int PRIMARY KEY); INSERT \
            INTO {schema}.{table} VALUES ({at})"
            ))
            .await;
    }
    fixture.run_ok(&incremental()).await;
    let found: BTreeSet<TableName> = fixture.lake.tables().await.unwrap().into_iter().collect();
    let expected: BTreeSet<TableName> = names.iter().map(|name| TableName::new(format!("s {name}"), *name)).collect();
    assert_eq!(found, expected);
    for (at, name) in names.iter().enumerate() {
        let table = fixture.lake.table(&TableName::new(format!("s {name}"), *name)).await.unwrap().unwrap();
        assert_eq!(super::fixture::rows_of(&table).await, [at.to_string()]);
    }
    let report = fixture.run_ok(&incremental()).await;
    assert!(report.tables.iter().all(|t| t.mode == TableMode::Incremental && t.version.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_columns_and_dropped_ones() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, gone text, w int, twice int GENERATED ALWAYS AS (w * 2) STORED, \
         n int GENERATED BY DEFAULT AS IDENTITY); \
         CREATE TYPE pair AS (a int, gone text, b text); CREATE TABLE u (id int PRIMARY KEY, p pair); \
         INSERT INTO t VALUES (1, 'x', 21); ALTER TABLE t DROP COLUMN gone; \
         ALTER TYPE pair DROP ATTRIBUTE gone; INSERT INTO u VALUES (1, (7, 'seven'))",
    )
    .await;
    fixture.run_ok(&initial()).await;
    assert_eq!(fixture.rows("public.t").await, ["1|21|42|1"]);
    assert_eq!(fixture.rows("public.u").await, ["1|{7,seven}"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_table_with_columns_of_its_own_is_a_table_too() {
    let fixture = Fixture::new(
        "CREATE TABLE parent (id int PRIMARY KEY, v text); CREATE TABLE child (w int) INHERITS (parent); \
         INSERT INTO parent VALUES (1, 'p'); INSERT INTO child VALUES (2, 'c', 9)",
    )
    .await;
    fixture.run_ok(&initial()).await;
    assert_eq!(fixture.rows("public.parent").await, ["1|p", "2|c"]);
    assert_eq!(fixture.rows("public.child").await, ["2|c|9"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_rows_of_a_child_table_are_read_with_the_parent() {
    let fixture = Fixture::new(
        "CREATE TABLE parent (id int PRIMARY KEY, v text); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent); \
         INSERT INTO parent VALUES (1, 'p')",
    )
    .await;
    fixture.run_ok(&incremental()).await;
    fixture.sql("INSERT INTO child VALUES (2, 'c'); INSERT INTO parent VALUES (3, 'p')").await;
    fixture.run_ok(&incremental()).await;
    assert_eq!(fixture.rows("public.parent").await, ["1|p", "2|c", "3|p"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_policy_hides_are_an_error_and_no_gap() {
    let mut fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, owner text); INSERT INTO t VALUES (1, 'x'), (2, 'reader'); \
         CREATE TABLE open AS SELECT 1 AS id; ALTER TABLE open ADD PRIMARY KEY (id); \
         CREATE ROLE oracle_reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO oracle_reader; \
         CREATE TABLE closed (id int PRIMARY KEY); \
         ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON t USING (owner = current_user)",
    )
    .await;
    fixture.source = Endpoint::parse(&fixture.url.replace("postgres@", "oracle_reader@")).unwrap();
    let report = fixture.run(&incremental()).await;
    let (error, _) = error_of(&report, "public.t");
    assert!(error.contains("row-level security policy"), "{error}");
    let (error, hint) = error_of(&report, "public.closed");
    assert!(error.contains("permission denied") && hint.contains("GRANT SELECT ON \"public\".\"closed\""), "{error}");
    assert_eq!(fixture.rows("public.open").await, ["1"]);
    assert!(fixture.lake.table(&TableName::new("public", "t")).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tables_at_once_and_one_in_error_stops_none() {
    let fixture = Fixture::new(
        "DO $$ BEGIN FOR at IN 1..50 LOOP \
           EXECUTE format('CREATE TABLE t%s AS SELECT i AS id, md5(i::text) AS v, date ''2026-01-01'' AS day FROM \
           generate_series(1, %s) i', at, at); \
           EXECUTE format('ALTER TABLE t%s ADD PRIMARY KEY (id)', at); \
         END LOOP; END $$; UPDATE t25 SET day = '20260-01-01' WHERE id = 13",
    )
    .await;
    let report = fixture.run(&Settings { parallel_tables: 4, ..incremental() }).await;
    assert_eq!(report.tables.len(), 50);
    for at in 1..=50 {
        let table = format!("public.t{at}");
        if at == 25 {
            assert!(error_of(&report, &table).0.contains("column \"day\", row id=13"));
        } else {
            assert_eq!(table_report(&report, &table).rows, at);
            assert_eq!(fixture.rows(&table).await.len() as u64, at);
        }
    }
}

/// Several streams share one table's pages, and each row is read once.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_table_in_ranges_of_pages() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, pad text); ALTER TABLE t ALTER pad SET STORAGE PLAIN; \
         INSERT INTO t SELECT i, repeat('x', 1900) FROM generate_series(1, 20000) i; DELETE FROM t WHERE id % 5 = 0",
    )
    .await;
    fixture.run_ok(&Settings { streams: 3, ..initial() }).await;
    let mut ids: Vec<i32> =
        fixture.rows("public.t").await.iter().map(|row| row.split('|').next().unwrap().parse().unwrap()).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq((1..=20_000).filter(|id| id % 5 != 0)));
}
