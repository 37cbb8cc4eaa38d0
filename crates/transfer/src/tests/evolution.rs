//! Columns that change at the source of an INCREMENTAL transfer: the earlier rows are unchanged.

use super::fixture::{Fixture, by_cursor, error_of, incremental, initial, rows_of, table_report, with};
use crate::resume::Permission;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_column_is_null_in_earlier_rows() {
    let fixture = Fixture::new("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await;
    fixture.run_ok(&incremental()).await;
    fixture
        .sql(
            "DELETE FROM t WHERE id = 1; ALTER TABLE t ADD v text, ADD w timestamp; INSERT INTO t VALUES (3, \
        'x', '2026-01-01')",
        )
        .await;
    fixture.run_ok(&incremental()).await;
    assert_eq!(fixture.rows("public.t").await, ["1|NULL|NULL", "2|NULL|NULL", "3|x|2026-01-01 00:00:00.000000"]);
    assert_eq!(table_report(&fixture.run_ok(&incremental()).await, "public.t").version, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_column_without_new_rows_is_added() {
    let fixture = Fixture::new("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    fixture.run_ok(&incremental()).await;
    fixture.sql("ALTER TABLE t ADD v text").await;
    fixture.run_ok(&incremental()).await;
    assert_eq!(fixture.rows("public.t").await, ["1|NULL"]);
    assert_eq!(table_report(&fixture.run_ok(&incremental()).await, "public.t").version, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_column_is_kept_and_null_in_later_rows() {
    let fixture =
        Fixture::new("CREATE TABLE t (id int PRIMARY KEY, v text, w int); INSERT INTO t VALUES (1, 'x', 10)").await;
    fixture.run_ok(&incremental()).await;
    fixture.sql("ALTER TABLE t DROP v; INSERT INTO t VALUES (2, 20)").await;
    fixture.run_ok(&incremental()).await;
    assert_eq!(fixture.rows("public.t").await, ["1|x|10", "2|NULL|20"]);
    // Created again: another column of the same name.
    fixture.sql("ALTER TABLE t ADD v text; INSERT INTO t VALUES (3, 30, 'z')").await;
    let (error, _) = error_of(&fixture.run(&incremental()).await, "public.t");
    assert!(error.contains("was not transferred for a while"), "{error}");
    let report = fixture.run_with(&incremental(), Permission::Resync).await;
    assert!(table_report(&report, "public.t").error.is_none());
    assert_eq!(fixture.rows("public.t").await, ["1|NULL|10", "2|NULL|20", "3|z|30"]);
    // Read whole, the table has the source's columns in their order.
    fixture.run_ok(&initial()).await;
    assert_eq!(fixture.rows("public.t").await, ["1|10|NULL", "2|20|NULL", "3|30|z"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wider_types_are_applied_to_earlier_rows() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, n int, d numeric(8,2), f real, m numeric(5,1), gone text); \
         INSERT INTO t VALUES (1, 2147483647, 123456.78, 0.5, 1.5, 'x'), (2, -1, NULL, NULL, NULL, NULL)",
    )
    .await;
    fixture.run_ok(&incremental()).await;
    fixture.sql(
        "DELETE FROM t WHERE id = 1; ALTER TABLE t DROP gone; ALTER TABLE t ALTER id TYPE bigint, ALTER n TYPE bigint, \
         ALTER d TYPE numeric(12,3), ALTER f TYPE double precision, ALTER m TYPE numeric; \
         INSERT INTO t VALUES (3000000000, 9223372036854775807, 123456789.123, 1e300, 1e30)",
    )
    .await;
    let before = fixture.table("public.t").await;
    fixture.run_ok(&incremental()).await;
    let rows = [
        "1|2147483647|123456.780|0.5|1.5|x".to_owned(),
        "2|-1|NULL|NULL|NULL|NULL".to_owned(),
        format!("3000000000|9223372036854775807|123456789.123|{}|{}|NULL", 1e300, 1e30),
    ];
    assert_eq!(fixture.rows("public.t").await, rows);
    assert_eq!(table_report(&fixture.run_ok(&incremental()).await, "public.t").version, None);
    // The earlier version is unchanged.
    assert_eq!(rows_of(&before).await[0], "1|2147483647|123456.78|0.5|1.5|x");
}

/// Rows that were hidden before the change stay hidden, and an update finds its row after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_replaced_across_a_wider_key() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, v text); \
         INSERT INTO t VALUES (1, '2026-01-01', 'a'), (2, '2026-01-01', 'b')",
    )
    .await;
    let settings = with(incremental(), "public.t", by_cursor("at"));
    fixture.run_ok(&settings).await;
    fixture.sql("UPDATE t SET at = '2026-01-02', v = 'A' WHERE id = 1").await;
    fixture.run_ok(&settings).await;
    fixture.sql("ALTER TABLE t ALTER id TYPE bigint; UPDATE t SET at = '2026-01-03', v = 'AA' WHERE id = 1").await;
    let report = fixture.run_ok(&settings).await;
    assert_eq!((table_report(&report, "public.t").rows, table_report(&report, "public.t").replaced), (1, 1));
    assert_eq!(
        fixture.rows("public.t").await,
        ["1|2026-01-03 00:00:00.000000 UTC|AA", "2|2026-01-01 00:00:00.000000 UTC|b"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrower_type_is_an_error_of_its_table_alone() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, v bigint); CREATE TABLE u (id int PRIMARY KEY); \
         INSERT INTO t VALUES (1, 1); INSERT INTO u VALUES (1)",
    )
    .await;
    fixture.run_ok(&incremental()).await;
    fixture.sql("ALTER TABLE t ALTER v TYPE int; INSERT INTO t VALUES (2, 2); INSERT INTO u VALUES (2)").await;
    let (error, hint) = error_of(&fixture.run(&incremental()).await, "public.t");
    assert!(error.contains("column \"v\" was Int64 and is Int32 now"), "{error}");
    assert!(hint.contains("--table public.t --replace"), "{hint}");
    assert_eq!(fixture.rows("public.t").await, ["1|1"]);
    assert_eq!(fixture.rows("public.u").await, ["1", "2"]);
    // What the hint advises.
    fixture.run_ok(&initial()).await;
    fixture.sql("INSERT INTO t VALUES (3, 3)").await;
    fixture.run_ok(&incremental()).await;
    assert_eq!(fixture.rows("public.t").await, ["1|1", "2|2", "3|3"]);
}
