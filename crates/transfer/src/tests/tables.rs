//! Tables of every sort, read whole.

use std::collections::BTreeSet;

use lake::TableName;

use super::world::{World, by_cursor, error_of, incremental, initial, of, with};
use crate::plan::{OnNoCursor, Settings};
use crate::postgres::Endpoint;
use crate::run::How;

#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_two_levels_are_one_table() {
    let world = World::new(
        "CREATE TABLE m (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at); \
         CREATE TABLE m25 PARTITION OF m FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (id); \
         CREATE TABLE m25_some PARTITION OF m25 FOR VALUES IN (1, 2, 3); \
         CREATE TABLE m25_rest PARTITION OF m25 DEFAULT; \
         CREATE TABLE m26 PARTITION OF m FOR VALUES FROM ('2026-01-01') TO ('2027-01-01'); \
         INSERT INTO m SELECT i, date '2025-12-01' + i FROM generate_series(1, 60) i",
    )
    .await;
    let settings = with(incremental(), "public.m", by_cursor("id"));
    world.carries(&settings).await;
    assert_eq!(world.lake.tables().await.unwrap(), [TableName::new("public", "m")]);
    let source = "SELECT concat_ws('|', id, at) FROM public.m ORDER BY 1";
    assert_eq!(world.rows("public.m").await, world.ask(source).await);
    world.sql("INSERT INTO m VALUES (61, '2025-05-05'), (62, '2026-05-05')").await;
    let report = world.carries(&settings).await;
    assert_eq!((of(&report, "public.m").rows, of(&report, "public.m").how), (2, How::Incremental));
    assert_eq!(world.rows("public.m").await, world.ask(source).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_key_is_carried_whole_or_not_at_all() {
    let world = World::new("CREATE TABLE t (v int); INSERT INTO t VALUES (1), (1), (NULL)").await;
    world.carries(&initial()).await;
    assert_eq!(world.rows("public.t").await, ["1", "1", "NULL"]);
    world.sql("DELETE FROM t WHERE v IS NULL; INSERT INTO t VALUES (2)").await;
    let (error, hint) = error_of(&world.run(&incremental()).await, "public.t");
    assert!(error.contains("it has no key, and no cursor is set for it"), "{error}");
    assert!(hint.contains("on_no_cursor = \"reload\""), "{hint}");
    assert_eq!(world.rows("public.t").await, ["1", "1", "NULL"]);
    let reload = Settings { on_no_cursor: OnNoCursor::Reload, ..incremental() };
    let report = world.carries(&reload).await;
    assert_eq!(of(&report, "public.t").how, How::Reload);
    assert_eq!(world.rows("public.t").await, ["1", "1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn views_are_carried_where_they_are_asked_for() {
    let world = World::new(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b'); \
         CREATE VIEW seen AS SELECT v, id * 2 AS twice FROM t; \
         CREATE MATERIALIZED VIEW kept AS SELECT upper(v) AS v FROM t; INSERT INTO t VALUES (3, 'c')",
    )
    .await;
    assert_eq!(world.carries(&initial()).await.tables.len(), 1);
    world.carries(&Settings { views: true, ..initial() }).await;
    assert_eq!(world.rows("public.seen").await, ["a|2", "b|4", "c|6"]);
    assert_eq!(world.rows("public.kept").await, ["A", "B"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_table_comes_with_its_columns_and_goes_on_from_nothing() {
    let world =
        World::new("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY, at timestamptz)")
            .await;
    let settings = with(incremental(), "public.u", by_cursor("at"));
    world.carries(&settings).await;
    let table = world.table("public.t").await;
    assert_eq!(table.schema().unwrap().fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), ["id", "v"]);
    assert!(world.rows("public.t").await.is_empty());
    let report = world.carries(&settings).await;
    assert!(report.tables.iter().all(|t| t.version.is_none()), "a version without news");
    world.sql("INSERT INTO t VALUES (-5, 'x'), (0, 'y'); INSERT INTO u VALUES (1, '0001-01-01 00:00:01+00')").await;
    world.carries(&settings).await;
    assert_eq!(world.rows("public.t").await, ["-5|x", "0|y"]);
    assert_eq!(world.rows("public.u").await, ["1|0001-01-01 00:00:01.000000 UTC"]);
    // The overlap reaches before the first year.
    assert_eq!(of(&world.carries(&settings).await, "public.u").version, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_columns_as_postgresql_allows() {
    let columns: Vec<String> = (1..1600).map(|at| format!("c{at} int")).collect();
    let values: Vec<String> = (1..1600).map(|at| at.to_string()).collect();
    let world = World::new(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, {}); INSERT INTO t VALUES (0, {}); INSERT INTO t VALUES (-1)",
        columns.join(", "),
        values.join(", ")
    ))
    .await;
    world.carries(&incremental()).await;
    let rows = world.rows("public.t").await;
    assert_eq!(rows, [format!("-1{}", "|NULL".repeat(1599)), format!("0|{}", values.join("|"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_fifty_megabytes() {
    let world = World::new(
        "CREATE TABLE t (id int PRIMARY KEY, v text, b bytea); \
         INSERT INTO t SELECT i, repeat('0123456789abcdé', 1700000), convert_to(repeat('\u{1}x', 13000000), 'UTF8') \
         FROM generate_series(1, 2) i; INSERT INTO t VALUES (3, 'small', 'x')",
    )
    .await;
    world.carries(&initial()).await;
    let rows = world.rows("public.t").await;
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
    let world = World::new("SELECT").await;
    for (at, name) in names.iter().enumerate() {
        let (schema, table) = (crate::postgres::quote(&format!("s {name}")), crate::postgres::quote(name));
        world.sql(&format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.{table} (id int PRIMARY KEY); INSERT INTO {schema}.{table} VALUES ({at})")).await;
    }
    world.carries(&incremental()).await;
    let found: BTreeSet<TableName> = world.lake.tables().await.unwrap().into_iter().collect();
    let expected: BTreeSet<TableName> = names.iter().map(|name| TableName::new(format!("s {name}"), *name)).collect();
    assert_eq!(found, expected);
    for (at, name) in names.iter().enumerate() {
        let table = world.lake.table(&TableName::new(format!("s {name}"), *name)).await.unwrap().unwrap();
        assert_eq!(super::world::rows_of(&table).await, [at.to_string()]);
    }
    let report = world.carries(&incremental()).await;
    assert!(report.tables.iter().all(|t| t.how == How::Incremental && t.version.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_columns_and_dropped_ones() {
    let world = World::new(
        "CREATE TABLE t (id int PRIMARY KEY, gone text, w int, twice int GENERATED ALWAYS AS (w * 2) STORED, \
         n int GENERATED BY DEFAULT AS IDENTITY); \
         CREATE TYPE pair AS (a int, gone text, b text); CREATE TABLE u (id int PRIMARY KEY, p pair); \
         INSERT INTO t VALUES (1, 'x', 21); ALTER TABLE t DROP COLUMN gone; \
         ALTER TYPE pair DROP ATTRIBUTE gone; INSERT INTO u VALUES (1, (7, 'seven'))",
    )
    .await;
    world.carries(&initial()).await;
    assert_eq!(world.rows("public.t").await, ["1|21|42|1"]);
    assert_eq!(world.rows("public.u").await, ["1|{7,seven}"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_heir_with_columns_of_its_own_is_a_table_too() {
    let world = World::new(
        "CREATE TABLE parent (id int PRIMARY KEY, v text); CREATE TABLE child (w int) INHERITS (parent); \
         INSERT INTO parent VALUES (1, 'p'); INSERT INTO child VALUES (2, 'c', 9)",
    )
    .await;
    world.carries(&initial()).await;
    assert_eq!(world.rows("public.parent").await, ["1|p", "2|c"]);
    assert_eq!(world.rows("public.child").await, ["2|c|9"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_heirs_new_rows_come_into_the_parent() {
    let world = World::new(
        "CREATE TABLE parent (id int PRIMARY KEY, v text); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent); \
         INSERT INTO parent VALUES (1, 'p')",
    )
    .await;
    world.carries(&incremental()).await;
    world.sql("INSERT INTO child VALUES (2, 'c'); INSERT INTO parent VALUES (3, 'p')").await;
    world.carries(&incremental()).await;
    assert_eq!(world.rows("public.parent").await, ["1|p", "2|c", "3|p"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_policy_hides_are_an_error_and_no_gap() {
    let mut world = World::new(
        "CREATE TABLE t (id int PRIMARY KEY, owner text); INSERT INTO t VALUES (1, 'x'), (2, 'reader'); \
         CREATE TABLE open AS SELECT 1 AS id; ALTER TABLE open ADD PRIMARY KEY (id); \
         CREATE ROLE oracle_reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO oracle_reader; \
         CREATE TABLE closed (id int PRIMARY KEY); \
         ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON t USING (owner = current_user)",
    )
    .await;
    world.source = Endpoint::parse(&world.url.replace("postgres@", "oracle_reader@")).unwrap();
    let report = world.run(&incremental()).await;
    let (error, _) = error_of(&report, "public.t");
    assert!(error.contains("row-level security policy"), "{error}");
    let (error, hint) = error_of(&report, "public.closed");
    assert!(error.contains("permission denied") && hint.contains("GRANT SELECT ON \"public\".\"closed\""), "{error}");
    assert_eq!(world.rows("public.open").await, ["1"]);
    assert!(world.lake.table(&TableName::new("public", "t")).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tables_at_once_and_one_in_error_stops_none() {
    let world = World::new(
        "DO $$ BEGIN FOR at IN 1..50 LOOP \
           EXECUTE format('CREATE TABLE t%s AS SELECT i AS id, md5(i::text) AS v, date ''2026-01-01'' AS day FROM generate_series(1, %s) i', at, at); \
           EXECUTE format('ALTER TABLE t%s ADD PRIMARY KEY (id)', at); \
         END LOOP; END $$; UPDATE t25 SET day = '20260-01-01' WHERE id = 13",
    )
    .await;
    let report = world.run(&Settings { parallel_tables: 4, ..incremental() }).await;
    assert_eq!(report.tables.len(), 50);
    for at in 1..=50 {
        let table = format!("public.t{at}");
        if at == 25 {
            assert!(error_of(&report, &table).0.contains("column \"day\", row id=13"));
        } else {
            assert_eq!(of(&report, &table).rows, at);
            assert_eq!(world.rows(&table).await.len() as u64, at);
        }
    }
}

/// Several streams share one table's pages, and each row comes once.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_table_in_ranges_of_pages() {
    let world = World::new(
        "CREATE TABLE t (id int PRIMARY KEY, pad text); ALTER TABLE t ALTER pad SET STORAGE PLAIN; \
         INSERT INTO t SELECT i, repeat('x', 1900) FROM generate_series(1, 20000) i; DELETE FROM t WHERE id % 5 = 0",
    )
    .await;
    world.carries(&Settings { streams: 3, ..initial() }).await;
    let mut ids: Vec<i32> =
        world.rows("public.t").await.iter().map(|row| row.split('|').next().unwrap().parse().unwrap()).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq((1..=20_000).filter(|id| id % 5 != 0)));
}
