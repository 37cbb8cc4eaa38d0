//! INCREMENTAL over time: only what is new, what is purged at the source stays, what is changed
//! takes its place.

use lake::When;

use super::world::{World, by_cursor, incremental, initial, of, rows_of, with};
use crate::plan::{Settings, TableSettings};
use crate::run::How;

fn at_settings() -> Settings {
    with(incremental(), "public.t", by_cursor("at"))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_new_rows_are_read_and_purged_ones_stay() {
    let world = World::new(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 5) i",
    )
    .await;
    let report = world.carries(&incremental()).await;
    assert_eq!((of(&report, "public.t").how, of(&report, "public.t").rows), (How::Initial, 5));
    world.sql("DELETE FROM t WHERE id <= 3; INSERT INTO t VALUES (6, 'v6'), (7, 'v7')").await;
    let report = world.carries(&incremental()).await;
    let table = of(&report, "public.t");
    assert_eq!((table.how, table.rows, table.replaced, table.version), (How::Incremental, 2, 0, Some(1)));
    let all: Vec<String> = (1..=7).map(|i| format!("{i}|v{i}")).collect();
    assert_eq!(world.rows("public.t").await, all);
    // All purged: nothing leaves, and the order goes on.
    world.sql("DELETE FROM t").await;
    assert_eq!(of(&world.carries(&incremental()).await, "public.t").version, None);
    world.sql("INSERT INTO t VALUES (8, 'v8')").await;
    world.carries(&incremental()).await;
    assert_eq!(world.rows("public.t").await.len(), 8);
    // INITIAL is the table as it is now.
    world.carries(&initial()).await;
    assert_eq!(world.rows("public.t").await, ["8|v8"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_news_writes_no_version() {
    let world = World::new(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz); INSERT INTO t VALUES (1, now()), (2, now() - interval '1 hour'); \
         CREATE TABLE u AS TABLE t; ALTER TABLE u ADD PRIMARY KEY (id)",
    )
    .await;
    world.carries(&at_settings()).await;
    for _ in 0..2 {
        let report = world.carries(&at_settings()).await;
        assert!(report.tables.iter().all(|t| t.version.is_none() && t.rows == 0 && t.how == How::Incremental));
    }
    assert_eq!(world.table("public.t").await.version(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_row_takes_the_place_of_its_earlier_version() {
    let world = World::new(
        "CREATE TABLE t (site text, n int, at timestamp, v int, PRIMARY KEY (site, n)); \
         INSERT INTO t SELECT s, n, timestamp '2026-01-01', 0 FROM unnest(ARRAY['a', 'b']) s, generate_series(1, 3) n",
    )
    .await;
    world.carries(&at_settings()).await;
    let first = chrono::Utc::now();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    for day in 2..5 {
        world.sql(&format!("UPDATE t SET at = '2026-01-0{day}', v = {day} WHERE site = 'a' AND n IN (1, {day})")).await;
        let report = world.carries(&at_settings()).await;
        let expected = if day == 4 { 1 } else { 2 };
        assert_eq!((of(&report, "public.t").rows, of(&report, "public.t").replaced), (expected, expected));
    }
    let source = "SELECT concat_ws('|', site, n, to_char(at, 'YYYY-MM-DD HH24:MI:SS.US'), v) FROM public.t ORDER BY 1";
    assert_eq!(world.rows("public.t").await, world.ask(source).await);
    let table = world.table("public.t").await;
    let size = table.size().unwrap();
    assert_eq!((size.rows, size.rows_hidden), (6, 5));
    // As the platform knew it then, by version and by instant.
    for when in [When::Version(0), When::Instant(first)] {
        let then = rows_of(&table.at(when).await.unwrap()).await;
        assert_eq!(then.len(), 6);
        assert!(then.iter().all(|row| row.ends_with("2026-01-01 00:00:00.000000|0")), "{then:?}");
    }
    let then = rows_of(&table.at(When::Version(1)).await.unwrap()).await;
    assert_eq!(then[0], "a|1|2026-01-02 00:00:00.000000|2");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_the_overlap_are_told_by_their_key() {
    let world = World::new(
        "CREATE TABLE t (id uuid PRIMARY KEY, at timestamptz, v int); \
         INSERT INTO t SELECT md5(i::text)::uuid, timestamptz '2026-01-01' + i * interval '1 s', i FROM generate_series(1, 100) i",
    )
    .await;
    world.carries(&at_settings()).await;
    // Late by a minute, within the overlap of ten.
    world.sql("INSERT INTO t VALUES (md5('late')::uuid, '2026-01-01 00:00:40', -1); UPDATE t SET v = 1000, at = at + interval '1 ms' WHERE v = 50").await;
    let report = world.carries(&at_settings()).await;
    assert_eq!((of(&report, "public.t").rows, of(&report, "public.t").replaced), (2, 1));
    let source =
        "SELECT concat_ws('|', id, to_char(at, 'YYYY-MM-DD HH24:MI:SS.US') || ' UTC', v) FROM public.t ORDER BY 1";
    assert_eq!(world.rows("public.t").await, world.ask(source).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_instants_do_not_end_the_order() {
    let world = World::new(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz); \
         INSERT INTO t VALUES (1, '2026-01-01'), (2, 'infinity'), (3, '-infinity')",
    )
    .await;
    world.carries(&at_settings()).await;
    world.sql("INSERT INTO t VALUES (4, '2026-01-02')").await;
    world.carries(&at_settings()).await;
    let rows = world.rows("public.t").await;
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert_eq!(rows[3], "4|2026-01-02 00:00:00.000000 UTC");
    let report = world.carries(&at_settings()).await;
    assert_eq!(of(&report, "public.t").version, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_at_both_ends_of_their_type() {
    let world =
        World::new("CREATE TABLE t (id bigint PRIMARY KEY); INSERT INTO t VALUES (-9223372036854775808), (-1)").await;
    world.carries(&incremental()).await;
    world.sql("INSERT INTO t VALUES (0), (9223372036854775807)").await;
    world.carries(&incremental()).await;
    assert_eq!(world.rows("public.t").await, ["-1", "-9223372036854775808", "0", "9223372036854775807"]);
    assert_eq!(of(&world.carries(&incremental()).await, "public.t").version, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overlap_of_ids_brings_gaps_that_were_filled() {
    let world = World::new("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (10), (20)").await;
    let own = TableSettings { overlap: Some(crate::plan::Overlap::Ids(5)), ..TableSettings::default() };
    let settings = with(incremental(), "public.t", own);
    world.carries(&settings).await;
    world.sql("INSERT INTO t VALUES (12), (17), (21)").await;
    world.carries(&settings).await;
    assert_eq!(world.rows("public.t").await, ["10", "17", "20", "21"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_transfers_of_one_table_keep_their_own_positions() {
    let world = World::new("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let other = Settings { name: "hourly".into(), into: Some("copy".into()), ..incremental() };
    world.carries(&incremental()).await;
    world.sql("INSERT INTO t VALUES (2)").await;
    world.carries(&other).await;
    world.sql("INSERT INTO t VALUES (3)").await;
    world.carries(&incremental()).await;
    assert_eq!(world.rows("public.t").await, ["1", "2", "3"]);
    assert_eq!(world.rows("copy.t").await, ["1", "2"]);
}

/// Enough rows that several files and row groups hold them.
#[tokio::test(flavor = "multi_thread")]
async fn many_rows_are_replaced_among_many() {
    let world = World::new(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, v int); \
         INSERT INTO t SELECT i, '2026-01-01', 0 FROM generate_series(1, 100000) i",
    )
    .await;
    world.carries(&at_settings()).await;
    for round in 1..=2 {
        world.sql(&format!(
            "UPDATE t SET at = timestamptz '2026-01-01' + interval '{round} days', v = {round} WHERE id % 37 = {round} OR id % 1009 = 0; \
             INSERT INTO t SELECT 100000 * {round} + i, timestamptz '2026-01-01' + interval '{round} days', {round} FROM generate_series(1, 500) i"
        ))
        .await;
        world.carries(&at_settings()).await;
    }
    let source =
        "SELECT concat_ws('|', id, to_char(at, 'YYYY-MM-DD HH24:MI:SS.US') || ' UTC', v) FROM public.t ORDER BY 1";
    assert!(world.rows("public.t").await == world.ask(source).await);
}
