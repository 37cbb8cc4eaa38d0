//! A source whose columns change under an INCREMENTAL transfer: history stays as it was.

use super::world::{World, by_cursor, error_of, incremental, initial, of, rows_of, with};
use crate::resume::Permission;

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_came_is_null_before() {
    let world = World::new("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await;
    world.carries(&incremental()).await;
    world.sql("DELETE FROM t WHERE id = 1; ALTER TABLE t ADD v text, ADD w timestamp; INSERT INTO t VALUES (3, 'x', '2026-01-01')").await;
    world.carries(&incremental()).await;
    assert_eq!(world.rows("public.t").await, ["1|NULL|NULL", "2|NULL|NULL", "3|x|2026-01-01 00:00:00.000000"]);
    assert_eq!(of(&world.carries(&incremental()).await, "public.t").version, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_came_without_rows_is_there_too() {
    let world = World::new("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    world.carries(&incremental()).await;
    world.sql("ALTER TABLE t ADD v text").await;
    world.carries(&incremental()).await;
    assert_eq!(world.rows("public.t").await, ["1|NULL"]);
    assert_eq!(of(&world.carries(&incremental()).await, "public.t").version, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_went_is_kept_and_null_after() {
    let world =
        World::new("CREATE TABLE t (id int PRIMARY KEY, v text, w int); INSERT INTO t VALUES (1, 'x', 10)").await;
    world.carries(&incremental()).await;
    world.sql("ALTER TABLE t DROP v; INSERT INTO t VALUES (2, 20)").await;
    world.carries(&incremental()).await;
    assert_eq!(world.rows("public.t").await, ["1|x|10", "2|NULL|20"]);
    // Back again: another column of its name.
    world.sql("ALTER TABLE t ADD v text; INSERT INTO t VALUES (3, 30, 'z')").await;
    let (error, _) = error_of(&world.run(&incremental()).await, "public.t");
    assert!(error.contains("was not carried for a while"), "{error}");
    let report = world.run_with(&incremental(), Permission::Resync).await;
    assert!(of(&report, "public.t").error.is_none());
    assert_eq!(world.rows("public.t").await, ["1|NULL|10", "2|NULL|20", "3|z|30"]);
    // Read anew, the table has the source's columns in their order.
    world.carries(&initial()).await;
    assert_eq!(world.rows("public.t").await, ["1|10|NULL", "2|20|NULL", "3|30|z"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wider_types_are_taken_over_with_their_history() {
    let world = World::new(
        "CREATE TABLE t (id int PRIMARY KEY, n int, d numeric(8,2), f real, m numeric(5,1), gone text); \
         INSERT INTO t VALUES (1, 2147483647, 123456.78, 0.5, 1.5, 'x'), (2, -1, NULL, NULL, NULL, NULL)",
    )
    .await;
    world.carries(&incremental()).await;
    world.sql(
        "DELETE FROM t WHERE id = 1; ALTER TABLE t DROP gone; ALTER TABLE t ALTER id TYPE bigint, ALTER n TYPE bigint, \
         ALTER d TYPE numeric(12,3), ALTER f TYPE double precision, ALTER m TYPE numeric; \
         INSERT INTO t VALUES (3000000000, 9223372036854775807, 123456789.123, 1e300, 1e30)",
    )
    .await;
    let before = world.table("public.t").await;
    world.carries(&incremental()).await;
    let rows = [
        "1|2147483647|123456.780|0.5|1.5|x".to_owned(),
        "2|-1|NULL|NULL|NULL|NULL".to_owned(),
        format!("3000000000|9223372036854775807|123456789.123|{}|{}|NULL", 1e300, 1e30),
    ];
    assert_eq!(world.rows("public.t").await, rows);
    assert_eq!(of(&world.carries(&incremental()).await, "public.t").version, None);
    // The version before is what it was.
    assert_eq!(rows_of(&before).await[0], "1|2147483647|123456.78|0.5|1.5|x");
}

/// Rows that were hidden before the change stay so, and an update finds its row across it.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_replaced_across_a_wider_key() {
    let world = World::new(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, v text); \
         INSERT INTO t VALUES (1, '2026-01-01', 'a'), (2, '2026-01-01', 'b')",
    )
    .await;
    let settings = with(incremental(), "public.t", by_cursor("at"));
    world.carries(&settings).await;
    world.sql("UPDATE t SET at = '2026-01-02', v = 'A' WHERE id = 1").await;
    world.carries(&settings).await;
    world.sql("ALTER TABLE t ALTER id TYPE bigint; UPDATE t SET at = '2026-01-03', v = 'AA' WHERE id = 1").await;
    let report = world.carries(&settings).await;
    assert_eq!((of(&report, "public.t").rows, of(&report, "public.t").replaced), (1, 1));
    assert_eq!(
        world.rows("public.t").await,
        ["1|2026-01-03 00:00:00.000000 UTC|AA", "2|2026-01-01 00:00:00.000000 UTC|b"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrower_type_is_an_error_of_its_table_alone() {
    let world = World::new(
        "CREATE TABLE t (id int PRIMARY KEY, v bigint); CREATE TABLE u (id int PRIMARY KEY); \
         INSERT INTO t VALUES (1, 1); INSERT INTO u VALUES (1)",
    )
    .await;
    world.carries(&incremental()).await;
    world.sql("ALTER TABLE t ALTER v TYPE int; INSERT INTO t VALUES (2, 2); INSERT INTO u VALUES (2)").await;
    let (error, hint) = error_of(&world.run(&incremental()).await, "public.t");
    assert!(error.contains("column \"v\" was Int64 and is Int32 now"), "{error}");
    assert!(hint.contains("--table public.t --replace"), "{hint}");
    assert_eq!(world.rows("public.t").await, ["1|1"]);
    assert_eq!(world.rows("public.u").await, ["1", "2"]);
    // The hint.
    world.carries(&initial()).await;
    world.sql("INSERT INTO t VALUES (3, 3)").await;
    world.carries(&incremental()).await;
    assert_eq!(world.rows("public.t").await, ["1|1", "2|2", "3|3"]);
}
