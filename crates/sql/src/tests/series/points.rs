use super::{TestLake, shown};

const READINGS: &str = "WITH readings(site, at, ts, kw, note) AS (VALUES \
    ('a', 1, timestamptz '2026-01-01 00:00Z', 1.5, 'x'), ('a', 3, timestamptz '2026-01-01 02:00Z', NULL, 'z'), \
    ('a', 2, timestamptz '2026-01-01 01:00Z', 2.5, 'y'), ('b', 1, timestamptz '2026-01-01 05:00Z', 7.0, NULL), \
    ('b', 2, NULL, 8.0, 'w')) ";

#[tokio::test]
async fn the_newest_and_the_oldest_row_of_each_series() {
    let session = TestLake::new().await.session();
    let sql = format!(
        "{READINGS} SELECT site, last(kw, ts), first(kw, ts), last(note, ts), first(note, at), \
         last(kw, ts) FILTER (WHERE kw IS NOT NULL) AS known, max_by(note, at), min_by(kw, kw), max(ts) \
         FROM readings GROUP BY site ORDER BY site"
    );
    assert_eq!(
        shown(&session, &sql).await,
        "a,,1.5,z,x,2.5,z,1.5,2026-01-01 02:00:00+00;b,7.0,7.0,,,7.0,w,7.0,2026-01-01 05:00:00+00"
    );
}

#[tokio::test]
async fn without_groups_and_over_windows() {
    let session = TestLake::new().await.session();
    let sql =
        format!("{READINGS} SELECT last(note, ts), first(kw, ts), last(kw, ts) FILTER (WHERE false) FROM readings");
    assert_eq!(shown(&session, &sql).await, ",1.5,");
    let sql = format!(
        "{READINGS} SELECT site, at, last(kw, ts) OVER (PARTITION BY site ORDER BY at) FROM readings \
         ORDER BY site, at"
    );
    assert_eq!(shown(&session, &sql).await, "a,1,1.5;a,2,2.5;a,3,;b,1,7.0;b,2,7.0");
}

#[tokio::test]
async fn many_groups_over_many_batches_as_a_sort_finds_them() {
    let session = TestLake::new().await.session();
    let rows = "WITH t AS (SELECT value % 997 AS site, (value * 7919) % 100003 AS at, value * 1.5 AS kw, \
                CAST(value AS varchar) AS note FROM generate_series(1, 100002))";
    let by_last =
        format!("{rows} SELECT site, last(kw, at), last(note, at), first(kw, CAST(at AS double)) FROM t GROUP BY site");
    let by_sort = format!(
        "{rows} SELECT site, last_value(kw ORDER BY at), last_value(note ORDER BY at), first_value(kw ORDER BY at) \
         FROM t GROUP BY site"
    );
    let differ = format!("SELECT count(*) FROM (({by_last}) EXCEPT ({by_sort}))");
    assert_eq!(shown(&session, &differ).await, "0");
    assert_eq!(shown(&session, &format!("SELECT count(*) FROM ({by_last})")).await, "997");
}
