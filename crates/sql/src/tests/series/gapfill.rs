use super::{TestLake, failure, shown};
use crate::tests::chain;

const ROWS: &str = "WITH m(site, ts, kw) AS (VALUES ('a', timestamptz '2026-01-01 00:10Z', 1.0), \
    ('a', timestamptz '2026-01-01 00:20Z', 3.0), ('a', timestamptz '2026-01-01 03:00Z', 8.0), \
    ('b', timestamptz '2026-01-01 01:00Z', 5.0)) ";

async fn run(query: &str) -> String {
    let test_lake = TestLake::new().await;
    shown(&test_lake.session(), &format!("{ROWS} {query}")).await
}

#[tokio::test]
async fn every_series_has_every_bucket_of_the_range() {
    let sql = "SELECT site, time_bucket_gapfill('1 hour', ts) AS hour, avg(kw) AS kw, locf(avg(kw)) AS held, \
               interpolate(avg(kw)) AS line, count(*) AS n FROM m WHERE ts >= '2026-01-01 00:00Z' AND \
               ts < '2026-01-01 05:00Z' GROUP BY site, hour ORDER BY site, hour";
    let expected = "a,2026-01-01 00:00:00+00,2.0,2.0,2.0,2;\
        a,2026-01-01 01:00:00+00,,2.0,4.0,;a,2026-01-01 02:00:00+00,,2.0,6.0,;\
        a,2026-01-01 03:00:00+00,8.0,8.0,8.0,1;a,2026-01-01 04:00:00+00,,8.0,,;\
        b,2026-01-01 00:00:00+00,,,,;b,2026-01-01 01:00:00+00,5.0,5.0,5.0,1;\
        b,2026-01-01 02:00:00+00,,5.0,,;b,2026-01-01 03:00:00+00,,5.0,,;b,2026-01-01 04:00:00+00,,5.0,,";
    assert_eq!(run(sql).await.replace(".0000000000000000", ".0"), expected);
}

#[tokio::test]
async fn without_a_range_each_series_is_filled_from_its_first_to_its_last() {
    let sql = "SELECT site, time_bucket_gapfill('1 hour', ts), count(*) FROM m GROUP BY 1, 2 ORDER BY 1, 2";
    assert_eq!(
        run(sql).await,
        "a,2026-01-01 00:00:00+00,2;a,2026-01-01 01:00:00+00,;a,2026-01-01 02:00:00+00,;a,2026-01-01 03:00:00+00,1;\
         b,2026-01-01 01:00:00+00,1"
    );
}

#[tokio::test]
async fn days_and_hours_through_both_clock_changes() {
    let days = "SELECT time_bucket_gapfill('1 day', ts, 'Europe/Paris'), coalesce(count(*), 0) FROM m \
                WHERE ts BETWEEN '2026-03-27 23:00Z' AND '2026-03-30 21:59Z' GROUP BY 1 ORDER BY 1";
    assert_eq!(run(days).await, "2026-03-27 23:00:00+00,0;2026-03-28 23:00:00+00,0;2026-03-29 22:00:00+00,0");
    for (from, to, hours) in
        [("2026-10-24 22:00Z", "2026-10-25 23:00Z", "25,25"), ("2026-03-28 23:00Z", "2026-03-29 22:00Z", "23,23")]
    {
        let sql = format!(
            "SELECT count(*), count(DISTINCT h) FROM (SELECT time_bucket_gapfill('1 hour', ts, 'Europe/Paris') AS h \
             FROM m WHERE ts >= '{from}' AND ts < '{to}' GROUP BY 1)"
        );
        assert_eq!(run(&sql).await, hours);
    }
}

#[tokio::test]
async fn many_series_over_many_batches() {
    let test_lake = TestLake::new().await;
    let sql = "SELECT count(*), count(n), min(s), max(s) FROM (SELECT site, \
               time_bucket_gapfill('1 hour', ts) AS hour, count(*) AS n, locf(max(v)) AS s FROM (SELECT value % 300 \
               AS site, \
               value AS v, to_timestamp(1767225600 + (value / 300) * 7200) AS ts \
               FROM generate_series(0, 29999)) WHERE ts >= '2026-01-01 00:00Z' AND ts < '2026-01-09 08:00Z' \
               GROUP BY site, hour)";
    assert_eq!(shown(&test_lake.session(), sql).await, "60000,30000,0,29999");
}

#[tokio::test]
async fn misplaced_markers_are_reported() {
    let test_lake = TestLake::with_measures().await;
    let session = test_lake.session();
    let cases = [
        ("SELECT time_bucket_gapfill('1 hour', ts) FROM platform.measures", "must be a GROUP BY key"),
        ("SELECT locf(value) FROM platform.measures", "takes an aggregate"),
        ("SELECT interpolate(note) FROM platform.measures", "of numbers"),
        (
            "SELECT time_bucket_gapfill('1 second', ts), count(*) FROM platform.measures \
             WHERE ts > '1900-01-01' AND ts < '2100-01-01' GROUP BY 1",
            "a wider bucket or a shorter range",
        ),
    ];
    for (sql, said) in cases {
        let error = chain(&failure(&session, sql).await);
        assert!(error.contains(said), "{sql}: {error}");
    }
}
