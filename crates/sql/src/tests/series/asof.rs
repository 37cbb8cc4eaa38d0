use super::{TestLake, shown};
use crate::tests::{chain, failure};

const TABLES: &str = "WITH m(site, ts, kwh) AS (VALUES ('a', timestamptz '2026-01-01 00:10Z', 1), \
    ('a', timestamptz '2026-01-01 01:00Z', 2), ('a', timestamptz '2026-01-01 00:00Z', 3), \
    ('b', timestamptz '2026-01-01 02:30Z', 4), ('c', timestamptz '2026-01-01 03:00Z', 5), \
    (NULL, timestamptz '2026-01-01 03:00Z', 6)), \
    p(zone, since, eur) AS (VALUES ('a', timestamptz '2026-01-01 00:05Z', 10.5), \
    ('a', timestamptz '2026-01-01 01:00Z', 11.5), ('b', timestamptz '2026-01-01 02:00Z', 20.0), \
    ('b', timestamptz '2026-01-01 02:30Z', NULL), (NULL, timestamptz '2026-01-01 00:00Z', 99.0)) ";

async fn run(query: &str) -> String {
    let test_lake = TestLake::new().await;
    shown(&test_lake.session(), &format!("{TABLES} {query}")).await
}

#[tokio::test]
async fn each_row_gets_the_newest_row_before_it() {
    let inner = run("SELECT kwh, eur FROM m ASOF JOIN p ON m.site = p.zone AND m.ts >= p.since ORDER BY kwh").await;
    assert_eq!(inner, "1,10.5;2,11.5;4,");
    let left = "SELECT kwh, eur FROM m ASOF LEFT JOIN p ON p.since <= m.ts AND p.zone = m.site ORDER BY kwh";
    assert_eq!(run(left).await, "1,10.5;2,11.5;3,;4,;5,;6,");
    let snowflake =
        "SELECT kwh, eur FROM m ASOF JOIN p MATCH_CONDITION (m.ts >= p.since) ON m.site = p.zone ORDER BY kwh";
    assert_eq!(run(snowflake).await, "1,10.5;2,11.5;3,;4,;5,;6,");
}

#[tokio::test]
async fn all_four_comparisons_and_no_key() {
    let of =
        |op: &str| format!("SELECT kwh, since FROM m ASOF JOIN p ON m.site = p.zone AND m.ts {op} p.since ORDER BY 1");
    assert_eq!(run(&of(">")).await, "1,2026-01-01 00:05:00+00;2,2026-01-01 00:05:00+00;4,2026-01-01 02:00:00+00");
    assert_eq!(
        run(&of("<=")).await,
        "1,2026-01-01 01:00:00+00;2,2026-01-01 01:00:00+00;3,2026-01-01 00:05:00+00;4,2026-01-01 02:30:00+00"
    );
    assert_eq!(run(&of("<")).await, "1,2026-01-01 01:00:00+00;3,2026-01-01 00:05:00+00");
    let alone = "SELECT kwh, eur FROM m ASOF JOIN p ON m.ts > p.since ORDER BY kwh";
    assert_eq!(run(alone).await, "1,10.5;2,10.5;4,20.0;5,;6,");
}

#[tokio::test]
async fn among_other_joins_filters_and_in_subqueries() {
    let sql = "SELECT s.name, x.kwh, x.eur FROM (SELECT m.*, p.eur FROM m ASOF JOIN p ON m.site = p.zone AND \
               m.ts >= p.since WHERE m.kwh < 4 AND p.eur > 11) AS x JOIN (VALUES ('a', 'north')) AS s(site, name) \
               ON s.site = x.site ASOF LEFT JOIN p AS q ON x.ts > q.since ORDER BY 2";
    assert_eq!(run(sql).await, "north,2,11.5");
}

#[tokio::test]
async fn many_rows_as_a_window_would_find() {
    let tables = "WITH m AS (SELECT value % 97 AS site, (value * 7919) % 60013 AS ts FROM generate_series(1, 30000)), \
                  p AS (SELECT value % 89 AS site, (value * 104729) % 60017 AS ts, value AS v FROM \
                  generate_series(1, 5000)) ";
    let asof = "SELECT m.site, m.ts, p.ts AS since FROM m ASOF JOIN p ON m.site = p.site AND m.ts >= p.ts";
    let plain =
        "SELECT m.site, m.ts, max(p.ts) AS since FROM m JOIN p ON m.site = p.site AND m.ts >= p.ts GROUP BY 1, 2";
    let test_lake = TestLake::new().await;
    let session = test_lake.session();
    let differ = format!("{tables} SELECT count(*) FROM (({asof}) EXCEPT ({plain}))");
    assert_eq!(shown(&session, &differ).await, "0");
    let counts = format!("{tables} SELECT (SELECT count(*) FROM ({asof})) = (SELECT count(*) FROM ({plain}))");
    assert_eq!(shown(&session, &counts).await, "true");
}

#[tokio::test]
async fn a_condition_on_the_left_is_applied_before_the_join() {
    let test_lake = TestLake::with_measures().await;
    let sql = "EXPLAIN SELECT a.id, b.value FROM platform.measures AS a ASOF JOIN platform.measures AS b \
               ON a.ts > b.ts WHERE a.id = 2 AND b.id < 3";
    let plan = shown(&test_lake.session(), sql).await;
    let (above, below) = plan.split_once("AsofJoinExec").unwrap();
    assert!(above.contains("id@1 < 3") || above.contains("id < Int64(3)"), "{plan}");
    assert!(below.contains("= 2"), "{plan}");
    let rows = shown(&test_lake.session(), sql.trim_start_matches("EXPLAIN ")).await;
    assert_eq!(rows, "2,1.100");
}

#[tokio::test]
async fn a_right_side_larger_than_the_memory_limit_is_an_error() {
    let test_lake = TestLake::new().await;
    let session = test_lake.session_within(4_000_000);
    let sql = "SELECT count(*) FROM (VALUES (1)) AS m(ts) ASOF JOIN \
               (SELECT value AS ts, value * 2 AS v FROM generate_series(1, 2000000)) AS p ON m.ts >= p.ts";
    let error = chain(&failure(&session, sql).await);
    assert!(error.contains("AsofJoinExec"), "{error}");
}

#[tokio::test]
async fn other_conditions_are_refused() {
    let test_lake = TestLake::new().await;
    for on in ["m.site = p.zone", "m.ts >= p.since AND m.kwh > p.eur", "m.site = 'a' AND m.ts >= p.since", "true"] {
        let sql = format!("{TABLES} SELECT * FROM m ASOF JOIN p ON {on}");
        let error = chain(&failure(&test_lake.session(), &sql).await);
        assert!(error.contains("an ASOF JOIN takes"), "{on}: {error}");
    }
}
