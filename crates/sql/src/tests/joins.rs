//! Plans of joins: their order, and dynamic filters.

use arrow::array::StringArray;

use super::*;

const CONTRACTS: i64 = 2_000;
const READINGS: i64 = 120_000;

/// Regions, their contracts and the readings of these: each table is some hundred times larger than the one before.
async fn test_lake() -> TestLake {
    let test_lake = TestLake::new().await;
    let regions = batch(&[("region_id", numbers(4, |row| row)), ("name", names(4, |row| format!("region {row}")))]);
    test_lake.replace("platform", "regions", &regions).await;
    let contracts = batch(&[
        ("contract_id", numbers(CONTRACTS, |row| row)),
        ("region_id", numbers(CONTRACTS, |row| row % 4)),
        ("kind", names(CONTRACTS, |row| format!("kind {}", row % 1_000))),
    ]);
    test_lake.replace("platform", "contracts", &contracts).await;
    let readings = batch(&[
        ("reading_id", numbers(READINGS, |row| row)),
        ("contract_id", numbers(READINGS, |row| row % CONTRACTS)),
        ("value", numbers(READINGS, |row| row % 7)),
    ]);
    test_lake.replace("platform", "readings", &readings).await;
    test_lake
}

fn batch(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter(columns.iter().cloned()).unwrap()
}

fn numbers(rows: i64, of: impl Fn(i64) -> i64) -> ArrayRef {
    Arc::new((0..rows).map(of).collect::<Int64Array>())
}

fn names(rows: i64, of: impl Fn(i64) -> String) -> ArrayRef {
    Arc::new((0..rows).map(of).map(Some).collect::<StringArray>())
}

/// The tables of a plan, from top to bottom.
async fn order(session: &Session, sql: &str) -> Vec<String> {
    let plan = session.run(&format!("EXPLAIN {sql}")).await.unwrap();
    let batches: Vec<RecordBatch> = plan.try_collect().await.unwrap();
    let text = arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
    let physical = text.split("physical_plan").nth(1).unwrap();
    let scans = physical.lines().filter(|line| line.contains("DataSourceExec"));
    let tables = ["regions", "contracts", "readings"];
    scans
        .filter_map(|line| tables.iter().find(|table| line.contains(&format!("platform/{table}/"))))
        .map(|table| (*table).to_owned())
        .collect()
}

/// The number of output rows of each operator with this name.
async fn rows_out_of(session: &Session, operator: &str, sql: &str) -> Vec<String> {
    let plan = session.run(&format!("EXPLAIN ANALYZE {sql}")).await.unwrap();
    let batches: Vec<RecordBatch> = plan.try_collect().await.unwrap();
    let text = arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
    let lines = text.lines().filter(|line| line.contains(&format!(" {operator}:")));
    // An operator that did not run has no metrics.
    let rows = lines.filter_map(|line| line.split("output_rows=").nth(1)?.split(',').next());
    rows.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_the_smaller_side_filter_the_larger_one_by_rows() {
    let test_lake = test_lake().await;
    let session = test_lake.session();
    let sql = "SELECT count(*), sum(value) FROM readings r JOIN contracts c USING (contract_id) WHERE kind = 'kind 7'";
    assert_eq!(rows(&session, sql).await, "120,357");
    // Two contracts are of the kind, each with 60 readings.
    assert!(rows_out_of(&session, "OrderedFilterExec", sql).await.contains(&"120".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_keeps_most_rows_is_left_out_and_changes_nothing() {
    let test_lake = test_lake().await;
    let session = test_lake.session();
    let sql = "SELECT count(*) FROM readings JOIN contracts USING (contract_id) WHERE kind <> 'kind 7'";
    assert_eq!(rows(&session, sql).await, "119880");
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_that_may_fail_see_only_filtered_rows() {
    let test_lake = test_lake().await;
    let session = test_lake.session();
    // A value is zero in every seventh row.
    for sql in [
        "SELECT count(*) FROM readings WHERE value <> 0 AND 6 / value = 2",
        "SELECT count(*) FROM readings WHERE value > 0 AND 6 / value = 2 AND contract_id >= 0",
        "SELECT count(*) FROM (SELECT contract_id, value FROM readings) r JOIN contracts USING (contract_id)
         WHERE value <> 0 AND 6 / value + region_id = 4",
    ] {
        assert!(!rows(&session, sql).await.is_empty(), "{sql}");
    }
    let error = failure(&session, "SELECT count(*) FROM readings WHERE 6 / value = 2").await;
    assert!(chain(&error).contains("Divide by zero"), "{}", chain(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_are_ordered_by_the_rows_that_they_give() {
    let test_lake = test_lake().await;
    let session = test_lake.session();
    // Contracts of one kind come first and their readings last, in whatever order the query names them.
    let conditions = "WHERE r.contract_id = c.contract_id AND c.region_id = g.region_id AND c.kind = 'kind 7'";
    let mut orders = Vec::new();
    for tables in [
        "readings r, contracts c, regions g",
        "regions g, readings r, contracts c",
        "readings r, regions g, contracts c",
        "contracts c, regions g, readings r",
    ] {
        let sql = format!("SELECT g.name, count(*), sum(r.value) FROM {tables} {conditions} GROUP BY 1 ORDER BY 1");
        assert_eq!(rows(&session, &sql).await, "region 3,120,357", "{tables}");
        orders.push(order(&session, &sql).await);
    }
    for order in &orders {
        assert_eq!(order.last().map(String::as_str), Some("readings"), "{orders:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn relations_are_joined_by_transitive_equality() {
    let test_lake = test_lake().await;
    let session = test_lake.session();
    // No condition relates regions and contracts, but both are joined with readings.
    let sql = "SELECT count(*) FROM readings r, contracts c, regions g
               WHERE r.contract_id = c.contract_id AND r.contract_id = g.region_id AND g.name <> 'region 0'";
    assert_eq!(rows(&session, sql).await, "180");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_keep_the_order_of_the_query() {
    let test_lake = test_lake().await;
    let session = test_lake.session();
    let sql = "SELECT * FROM readings r, contracts c, regions g
               WHERE r.contract_id = c.contract_id AND c.region_id = g.region_id AND c.kind = 'kind 7' AND r.value > 5
               ORDER BY reading_id LIMIT 1";
    assert_eq!(rows(&session, sql).await, "1007,1007,6,1007,3,kind 7,3,region 3");
}

const TWICE: &str = "WITH sums AS (SELECT contract_id, sum(value) AS total FROM readings GROUP BY contract_id)
    SELECT count(*), min(total) FROM sums WHERE total = (SELECT max(total) FROM sums)";

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_grouping_is_computed_once() {
    let test_lake = test_lake().await;
    let session = test_lake.session();
    assert_eq!(rows(&session, TWICE).await, "285,183");
    assert_eq!(
        rows_out_of(&session, "DataSourceExec", TWICE).await.iter().filter(|rows| *rows == "120.0 K").count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sparse_keys_do_not_exceed_the_memory_limit() {
    let test_lake = test_lake().await;
    let far = batch(&[("contract_id", numbers(CONTRACTS, |row| row * 8_000))]);
    test_lake.replace("platform", "far", &far).await;
    // An array over the whole range of keys would take 64 MB.
    let sql = "SELECT count(*) FROM far JOIN readings ON readings.reading_id = far.contract_id";
    assert_eq!(rows(&test_lake.session_within(16 << 20), sql).await, "15");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_grouping_is_right_with_little_memory() {
    let test_lake = test_lake().await;
    for megabytes in [2, 4, 64] {
        assert_eq!(rows(&test_lake.session_within(megabytes << 20), TWICE).await, "285,183", "{megabytes} MB");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_groupings_are_not_shared() {
    let test_lake = test_lake().await;
    let sql = "WITH drawn AS (SELECT contract_id, max(random()) AS one FROM readings GROUP BY contract_id)
        SELECT count(*) FROM drawn a JOIN drawn b USING (contract_id) WHERE a.one <> b.one";
    assert_eq!(rows(&test_lake.session(), sql).await, "2000");
}
