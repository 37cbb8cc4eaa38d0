//! The optimizer rules for first rows return the rows that a sort would return.

use super::{TestLake, rows};
use crate::session::Session;

/// 40,000 rows of 613 sites over many batches, with NULL keys, instants and texts; `id` breaks ties.
const READINGS: &str = "WITH readings AS (SELECT value AS id, \
    CASE WHEN value % 613 = 5 THEN NULL ELSE value % 613 END AS site, \
    CASE WHEN value % 11 = 3 THEN NULL ELSE (value * 7919) % 10007 END AS at, \
    CASE WHEN value % 7 = 2 THEN NULL ELSE 'reading number ' || value END AS note, \
    to_timestamp_micros((value * 104729) % 1000003) AS ts, value * 1.5 AS kw FROM generate_series(1, 40000))";

async fn plan(session: &Session, sql: &str) -> String {
    rows(session, &format!("EXPLAIN {sql}")).await
}

/// A condition on the rank that the rules do not recognize as "the first row".
const SORTED: &str = "rank % 1000000 = 1";

#[tokio::test]
async fn the_first_row_of_each_partition_as_a_sort_finds_it() {
    let session = TestLake::new().await.session();
    let orders = [
        "at DESC, id",
        "at DESC NULLS LAST, id DESC",
        "at, note DESC NULLS FIRST, id",
        "ts DESC, id",
        "id DESC",
        "note NULLS FIRST, id",
    ];
    for order in orders {
        let ranked = |rank: &str| {
            format!(
                "{READINGS} SELECT site, id, at, note, ts, kw FROM (SELECT *, row_number() OVER \
                 (PARTITION BY site ORDER BY {order}) AS rank FROM readings) AS ranked WHERE {rank} ORDER BY site"
            )
        };
        let expected = rows(&session, &ranked(SORTED)).await;
        assert_eq!(expected.split(';').count(), 613, "{order}");
        for rank in ["rank = 1", "rank <= 1", "rank < 2", "1 = rank"] {
            assert_eq!(rows(&session, &ranked(rank)).await, expected, "{order}: {rank}");
            let plan = plan(&session, &ranked(rank)).await;
            assert!(plan.contains("first_row") && !plan.contains("WindowAgg"), "{order}: {rank}: {plan}");
        }
        let distinct = format!(
            "{READINGS} SELECT DISTINCT ON (site) site, id, at, note, ts, kw FROM readings ORDER BY site, {order}"
        );
        assert_eq!(rows(&session, &distinct).await, expected, "{order}");
        assert!(plan(&session, &distinct).await.contains("first_row"), "{order}");
    }
}

#[tokio::test]
async fn other_conditions_and_other_columns_stay() {
    let session = TestLake::new().await.session();
    let ranked = |rank: &str| {
        format!(
            "{READINGS} SELECT rank, site % 10 AS tens, id FROM (SELECT site, id, kw, row_number() OVER \
             (PARTITION BY site % 10, note IS NULL ORDER BY ts, id) AS rank FROM readings) AS ranked \
             WHERE {rank} AND kw > 10 AND id % 2 = 0 ORDER BY tens, id"
        )
    };
    let expected = rows(&session, &ranked(SORTED)).await;
    assert!(!expected.is_empty());
    assert_eq!(rows(&session, &ranked("rank = 1")).await, expected);
    assert!(plan(&session, &ranked("rank = 1")).await.contains("first_row"));
}

#[tokio::test]
async fn queries_for_more_than_the_first_row_are_unchanged() {
    let session = TestLake::new().await.session();
    for (ranks, rank) in [
        ("row_number() OVER (PARTITION BY site ORDER BY id) AS rank", "rank <= 2"),
        ("row_number() OVER (PARTITION BY site ORDER BY id) AS rank", "rank = 2"),
        ("rank() OVER (PARTITION BY site ORDER BY at) AS rank", "rank = 1"),
        (
            "row_number() OVER (PARTITION BY site ORDER BY id) AS rank, sum(kw) OVER (PARTITION BY site) AS most",
            "rank = 1 AND most > 0",
        ),
    ] {
        let sql = format!("{READINGS} SELECT * FROM (SELECT *, {ranks} FROM readings) AS ranked WHERE {rank}");
        assert!(!plan(&session, &sql).await.contains("first_row"), "{ranks} {rank}");
    }
}

#[tokio::test]
async fn first_and_last_values_of_one_order_come_from_one_row() {
    let session = TestLake::new().await.session();
    let sql = format!(
        "{READINGS} SELECT site, first_value(id ORDER BY ts, id) AS first, count(*) AS points, \
         first_value(note ORDER BY ts, id) AS note, last_value(id ORDER BY ts DESC, id DESC) AS again \
         FROM readings GROUP BY site"
    );
    assert!(plan(&session, &sql).await.contains("first_row"));
    let by_sort = format!(
        "{READINGS} SELECT site, id AS first, points, note, id AS again FROM (SELECT *, \
         count(*) OVER (PARTITION BY site) AS points, row_number() OVER (PARTITION BY site ORDER BY ts, id) AS rank \
         FROM readings) AS ranked WHERE rank = 1"
    );
    assert!(!plan(&session, &by_sort).await.contains("first_row"));
    let ordered = |sql: &str| format!("SELECT * FROM ({sql}) AS found ORDER BY site");
    assert_eq!(rows(&session, &ordered(&sql)).await, rows(&session, &ordered(&by_sort)).await);
    let two_orders = format!(
        "{READINGS} SELECT first_value(id ORDER BY ts), first_value(id ORDER BY at) FROM readings GROUP BY site"
    );
    assert!(!plan(&session, &two_orders).await.contains("first_row"));
}
