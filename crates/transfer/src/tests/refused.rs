//! Values that no column of the lake can hold: the error has the table, the column and the row, the hint solves it, and
//! nothing is written before.

use std::collections::BTreeMap;

use super::fixture::{Fixture, error_of, incremental, initial, with};
use crate::plan::{ColumnAs, Settings, TableSettings};

fn carried_as(settings: Settings, carried_as: ColumnAs) -> Settings {
    let columns = BTreeMap::from([("v".to_owned(), carried_as)]);
    with(settings, "public.t", TableSettings { columns, ..TableSettings::default() })
}

/// Row 7 has a value that can't be transferred; the other table is transferred.
async fn refused(fixture: &Fixture, settings: &Settings, what: &str) {
    let report = fixture.run(settings).await;
    let (error, hint) = error_of(&report, "public.t");
    assert!(error.contains(&format!("public.t, column \"v\", row id=7: {what}")), "{error}");
    assert!(hint.contains("as = \"text\""), "{hint}");
    assert!(fixture.lake.table(&lake::TableName::new("public", "t")).await.unwrap().is_none());
    assert_eq!(fixture.rows("public.beside").await, ["1"]);
}

async fn refused_until_text(kind: &str, bad: &str, what: &str, text: &str) {
    let fixture = Fixture::new(&format!(
        "CREATE TABLE beside AS SELECT 1 AS id; CREATE TABLE t (id int PRIMARY KEY, v {kind}); \
         INSERT INTO t VALUES (1, NULL), (7, '{bad}')"
    ))
    .await;
    refused(&fixture, &initial(), what).await;
    fixture.run_ok(&carried_as(initial(), ColumnAs::Text)).await;
    assert_eq!(fixture.rows("public.t").await, ["1|NULL".to_owned(), format!("7|{text}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nan_in_a_decimal() {
    refused_until_text("numeric(10,2)", "NaN", "NaN, which a decimal can't hold", "NaN").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timestamp_after_the_year_9999() {
    let what = "a time outside the years 1 to 9999";
    refused_until_text("timestamptz", "10000-01-01 00:00:00+00", what, "10000-01-01 00:00:00+00").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_before_christ() {
    refused_until_text("date", "0044-03-15 BC", "a date outside the years 1 to 9999", "0044-03-15 BC").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_array_of_two_dimensions() {
    let what = "an array of 2 dimensions, where a list has one";
    refused_until_text("int[]", "{{1,2},{3,4}}", what, "{{1,2},{3,4}}").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_array_that_starts_elsewhere() {
    refused_until_text("text[]", "[0:1]={a,b}", "an array that starts at 0, where a list starts at 1", "[0:1]={a,b}")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decimal_that_was_chosen_too_small() {
    let fixture = Fixture::new(
        "CREATE TABLE beside AS SELECT 1 AS id; CREATE TABLE t (id int PRIMARY KEY, v numeric); \
         INSERT INTO t VALUES (1, 1.5), (7, 1234.567)",
    )
    .await;
    let small = carried_as(initial(), ColumnAs::Decimal(6, 2));
    refused(&fixture, &small, "a numeric that decimal(6,2) can't hold exactly").await;
    fixture.run_ok(&carried_as(initial(), ColumnAs::Decimal(7, 3))).await;
    assert_eq!(fixture.rows("public.t").await, ["1|1.500", "7|1234.567"]);
    fixture.run_ok(&carried_as(initial(), ColumnAs::Text)).await;
    assert_eq!(fixture.rows("public.t").await, ["1|1.5", "7|1234.567"]);
    fixture.run_ok(&carried_as(initial(), ColumnAs::Double)).await;
    assert_eq!(fixture.rows("public.t").await, ["1|1.5", "7|1234.567"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_a_key_is_named_by_its_place() {
    let fixture = Fixture::new("CREATE TABLE t (v date); INSERT INTO t VALUES ('2026-01-01'), ('0001-01-01 BC')").await;
    let (error, _) = error_of(&fixture.run(&initial()).await, "public.t");
    assert!(error.contains("public.t, column \"v\", row 2 of this stream"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_increment_that_is_refused_leaves_rows_and_position_unchanged() {
    let fixture =
        Fixture::new("CREATE TABLE t (id int PRIMARY KEY, v date); INSERT INTO t VALUES (1, '2026-01-01')").await;
    fixture.run_ok(&incremental()).await;
    fixture.sql("INSERT INTO t VALUES (2, '2026-01-02'), (3, '12026-01-03'), (4, '2026-01-04')").await;
    let before = fixture.table("public.t").await.version();
    let (error, _) = error_of(&fixture.run(&incremental()).await, "public.t");
    assert!(error.contains("column \"v\", row id=3"), "{error}");
    assert_eq!(fixture.table("public.t").await.version(), before);
    fixture.sql("UPDATE t SET v = '2026-01-03' WHERE id = 3").await;
    fixture.run_ok(&incremental()).await;
    assert_eq!(fixture.rows("public.t").await, ["1|2026-01-01", "2|2026-01-02", "3|2026-01-03", "4|2026-01-04"]);
}
