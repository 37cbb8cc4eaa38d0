//! INCREMENTAL over several runs: only new rows are read, purged rows are kept, and changed rows replace their
//! earlier versions.

use lake::AsOf;

use super::fixture::{Fixture, by_cursor, incremental, initial, rows_of, table_report, with};
use crate::plan::{Settings, TableSettings};
use crate::run::TableMode;

fn at_settings() -> Settings {
    with(incremental(), "public.t", by_cursor("at"))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_new_rows_are_read_and_purged_ones_stay() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 5) i",
    )
    .await;
    let report = fixture.run_ok(&incremental()).await;
    assert_eq!(
        (table_report(&report, "public.t").mode, table_report(&report, "public.t").rows),
        (TableMode::Initial, 5)
    );
    fixture.sql("DELETE FROM t WHERE id <= 3; INSERT INTO t VALUES (6, 'v6'), (7, 'v7')").await;
    let report = fixture.run_ok(&incremental()).await;
    let table = table_report(&report, "public.t");
    assert_eq!((table.mode, table.rows, table.replaced, table.version), (TableMode::Incremental, 2, 0, Some(1)));
    let all: Vec<String> = (1..=7).map(|i| format!("{i}|v{i}")).collect();
    assert_eq!(fixture.rows("public.t").await, all);
    // All rows are purged: the lake's are kept, and later rows are read.
    fixture.sql("DELETE FROM t").await;
    assert_eq!(table_report(&fixture.run_ok(&incremental()).await, "public.t").version, None);
    fixture.sql("INSERT INTO t VALUES (8, 'v8')").await;
    fixture.run_ok(&incremental()).await;
    assert_eq!(fixture.rows("public.t").await.len(), 8);
    // INITIAL gives the source's current rows.
    fixture.run_ok(&initial()).await;
    assert_eq!(fixture.rows("public.t").await, ["8|v8"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_news_writes_no_version() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz); INSERT INTO t VALUES (1, now()), (2, now() - interval \
         '1 hour'); \
         CREATE TABLE u AS TABLE t; ALTER TABLE u ADD PRIMARY KEY (id)",
    )
    .await;
    fixture.run_ok(&at_settings()).await;
    for _ in 0..2 {
        let report = fixture.run_ok(&at_settings()).await;
        assert!(report.tables.iter().all(|t| t.version.is_none() && t.rows == 0 && t.mode == TableMode::Incremental));
    }
    assert_eq!(fixture.table("public.t").await.version(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_row_takes_the_place_of_its_earlier_version() {
    let fixture = Fixture::new(
        "CREATE TABLE t (site text, n int, at timestamp, v int, PRIMARY KEY (site, n)); \
         INSERT INTO t SELECT s, n, timestamp '2026-01-01', 0 FROM unnest(ARRAY['a', 'b']) s, generate_series(1, 3) n",
    )
    .await;
    fixture.run_ok(&at_settings()).await;
    let first = chrono::Utc::now();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    for day in 2..5 {
        fixture
            .sql(&format!("UPDATE t SET at = '2026-01-0{day}', v = {day} WHERE site = 'a' AND n IN (1, {day})"))
            .await;
        let report = fixture.run_ok(&at_settings()).await;
        let expected = if day == 4 { 1 } else { 2 };
        assert_eq!(
            (table_report(&report, "public.t").rows, table_report(&report, "public.t").replaced),
            (expected, expected)
        );
    }
    let source = "SELECT concat_ws('|', site, n, to_char(at, 'YYYY-MM-DD HH24:MI:SS.US'), v) FROM public.t ORDER BY 1";
    assert_eq!(fixture.rows("public.t").await, fixture.first_column(source).await);
    let table = fixture.table("public.t").await;
    let size = table.size().unwrap();
    assert_eq!((size.rows, size.rows_hidden), (6, 5));
    // The earlier state, by version and by instant.
    for when in [AsOf::Version(0), AsOf::Instant(first)] {
        let then = rows_of(&table.at(when).await.unwrap()).await;
        assert_eq!(then.len(), 6);
        assert!(then.iter().all(|row| row.ends_with("2026-01-01 00:00:00.000000|0")), "{then:?}");
    }
    let then = rows_of(&table.at(AsOf::Version(1)).await.unwrap()).await;
    assert_eq!(then[0], "a|1|2026-01-02 00:00:00.000000|2");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_the_overlap_are_recognized_by_their_key() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id uuid PRIMARY KEY, at timestamptz, v int); \
         INSERT INTO t SELECT md5(i::text)::uuid, timestamptz '2026-01-01' + i * interval '1 s', i FROM \
         generate_series(1, 100) i",
    )
    .await;
    fixture.run_ok(&at_settings()).await;
    // Late by a minute, within the overlap of ten minutes.
    fixture
        .sql(
            "INSERT INTO t VALUES (md5('late')::uuid, '2026-01-01 00:00:40', -1); UPDATE t SET v = 1000, at = at \
        + interval '1 ms' WHERE v = 50",
        )
        .await;
    let report = fixture.run_ok(&at_settings()).await;
    assert_eq!((table_report(&report, "public.t").rows, table_report(&report, "public.t").replaced), (2, 1));
    let source =
        "SELECT concat_ws('|', id, to_char(at, 'YYYY-MM-DD HH24:MI:SS.US') || ' UTC', v) FROM public.t ORDER BY 1";
    assert_eq!(fixture.rows("public.t").await, fixture.first_column(source).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_instants_do_not_end_the_order() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz); \
         INSERT INTO t VALUES (1, '2026-01-01'), (2, 'infinity'), (3, '-infinity')",
    )
    .await;
    fixture.run_ok(&at_settings()).await;
    fixture.sql("INSERT INTO t VALUES (4, '2026-01-02')").await;
    fixture.run_ok(&at_settings()).await;
    let rows = fixture.rows("public.t").await;
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert_eq!(rows[3], "4|2026-01-02 00:00:00.000000 UTC");
    let report = fixture.run_ok(&at_settings()).await;
    assert_eq!(table_report(&report, "public.t").version, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_at_both_ends_of_their_type() {
    let fixture =
        Fixture::new("CREATE TABLE t (id bigint PRIMARY KEY); INSERT INTO t VALUES (-9223372036854775808), (-1)").await;
    fixture.run_ok(&incremental()).await;
    fixture.sql("INSERT INTO t VALUES (0), (9223372036854775807)").await;
    fixture.run_ok(&incremental()).await;
    assert_eq!(fixture.rows("public.t").await, ["-1", "-9223372036854775808", "0", "9223372036854775807"]);
    assert_eq!(table_report(&fixture.run_ok(&incremental()).await, "public.t").version, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overlap_of_ids_brings_gaps_that_were_filled() {
    let fixture = Fixture::new("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (10), (20)").await;
    let own = TableSettings { overlap: Some(crate::plan::Overlap::Ids(5)), ..TableSettings::default() };
    let settings = with(incremental(), "public.t", own);
    fixture.run_ok(&settings).await;
    fixture.sql("INSERT INTO t VALUES (12), (17), (21)").await;
    fixture.run_ok(&settings).await;
    assert_eq!(fixture.rows("public.t").await, ["10", "17", "20", "21"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_transfers_of_one_table_keep_their_own_positions() {
    let fixture = Fixture::new("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let other = Settings { name: "hourly".into(), into: Some("copy".into()), ..incremental() };
    fixture.run_ok(&incremental()).await;
    fixture.sql("INSERT INTO t VALUES (2)").await;
    fixture.run_ok(&other).await;
    fixture.sql("INSERT INTO t VALUES (3)").await;
    fixture.run_ok(&incremental()).await;
    assert_eq!(fixture.rows("public.t").await, ["1", "2", "3"]);
    assert_eq!(fixture.rows("copy.t").await, ["1", "2"]);
}

/// With enough rows for several files and row groups.
#[tokio::test(flavor = "multi_thread")]
async fn many_rows_are_replaced_among_many() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, v int); \
         INSERT INTO t SELECT i, '2026-01-01', 0 FROM generate_series(1, 100000) i",
    )
    .await;
    fixture.run_ok(&at_settings()).await;
    for round in 1..=2 {
        fixture
            .sql(&format!(
                "UPDATE t SET at = timestamptz '2026-01-01' + interval '{round} days', v = {round} WHERE id % 37 = \
             {round} OR id % 1009 = 0; \
             INSERT INTO t SELECT 100000 * {round} + i, timestamptz '2026-01-01' + interval '{round} days', {round} \
             FROM generate_series(1, 500) i"
            ))
            .await;
        fixture.run_ok(&at_settings()).await;
    }
    let source =
        "SELECT concat_ws('|', id, to_char(at, 'YYYY-MM-DD HH24:MI:SS.US') || ' UTC', v) FROM public.t ORDER BY 1";
    assert!(fixture.rows("public.t").await == fixture.first_column(source).await);
}
