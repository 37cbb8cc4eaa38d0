//! The examples of docs/series.md return the results that the page shows.

use arrow::compute::concat_batches;
use futures::TryStreamExt;

use super::TestLake;
use crate::output::Format;
use crate::tests::written;

const INSTANT: &str = "'Timestamp(Microsecond, Some(\"UTC\"))'";

/// Two sites around the night of the spring change: one by ten minutes with a hole, one by the hour.
async fn test_lake() -> TestLake {
    let test_lake = TestLake::new().await;
    let measurements = format!(
        "SELECT site_id, arrow_cast(to_timestamp(at), {INSTANT}) AS ts, arrow_cast(kw, 'Decimal128(10, 2)') AS \
        power_kw, step \
         FROM (SELECT 1 AS site_id, 1774738800 + value * 600 AS at, 60 + value % 7 AS kw, '10 min' AS step \
         FROM generate_series(0, 29) WHERE value NOT BETWEEN 12 AND 19 UNION ALL \
         SELECT 2, 1774738800 + value * 3600, 500 - value * 10, '1 hour' FROM generate_series(0, 4))"
    );
    let prices = format!(
        "SELECT arrow_cast(to_timestamp(1774738800 + value * 3600), {INSTANT}) AS since, \
         arrow_cast(40 + value * 2.5, 'Decimal128(10, 2)') AS eur_mwh FROM generate_series(0, 3)"
    );
    let forecasts = format!(
        "SELECT arrow_cast(to_timestamp(1774738800 + hour * 3600), {INSTANT}) AS valid_at, \
         arrow_cast(to_timestamp(1774700000 + run * 21600), {INSTANT}) AS known_at, 100 * run + hour AS power_kw \
         FROM (SELECT value % 3 AS hour, value / 3 AS run FROM generate_series(0, 8))"
    );
    for (table, sql) in [("measurements", measurements), ("prices", prices), ("forecasts", forecasts)] {
        let session = test_lake.session();
        let stream = session.run(&sql).await.unwrap();
        let schema = stream.schema();
        let batches: Vec<_> = stream.try_collect().await.unwrap();
        test_lake.replace("platform", table, &concat_batches(&schema, &batches).unwrap()).await;
    }
    test_lake
}

#[tokio::test]
async fn the_examples_of_the_page_are_right() {
    let page = std::fs::read_to_string("../../docs/series.md").unwrap();
    let test_lake = test_lake().await;
    let session = test_lake.session();
    let mut examples = 0;
    let mut rest = page.as_str();
    while let Some((_, after)) = rest.split_once("```sql\n") {
        let (sql, after) = after.split_once("```").unwrap();
        let said =
            after.strip_prefix("\n```text\n").and_then(|after| after.split_once("```")).map_or("", |(said, _)| said);
        let actual = written(&session, sql, Format::Csv).await;
        assert_eq!(said, actual, "{sql}");
        examples += 1;
        rest = after;
    }
    assert!(examples >= 10, "{examples} examples found");
}
