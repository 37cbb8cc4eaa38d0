//! The rows of both sides: NULLs, numerics of several scales, times around both clock changes, accents.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

use super::super::oracle::Oracle;
use crate::testing::TestLake;

type Definition = (&'static str, &'static str, DataType);

fn measures() -> Vec<Definition> {
    vec![
        ("id", "int", DataType::Int32),
        ("s", "smallint", DataType::Int16),
        ("n", "bigint", DataType::Int64),
        ("kw", "numeric(12,3)", DataType::Decimal128(12, 3)),
        ("price", "numeric(9,1)", DataType::Decimal128(9, 1)),
        ("f", "float8", DataType::Float64),
        ("site", "text", DataType::Utf8),
        ("note", "text", DataType::Utf8),
        ("ok", "boolean", DataType::Boolean),
        ("day", "date", DataType::Date32),
        ("ts", "timestamptz", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
    ]
}

fn sites() -> Vec<Definition> {
    vec![
        ("site", "text", DataType::Utf8),
        ("region", "text", DataType::Utf8),
        ("cap", "numeric(10,2)", DataType::Decimal128(10, 2)),
        ("since", "date", DataType::Date32),
    ]
}

const SITES: [&str; 4] = [
    "FR-01|Bretagne|12.50|2020-02-29",
    "FR-02|Île-de-France|30.00|2024-01-01",
    "FR-03|NULL|NULL|2025-06-30",
    "FR-99|Corse|99.99|NULL",
];

const SITE: [&str; 5] = ["FR-01", "FR-02", "FR-03", "FR-04", "NULL"];
const NOTES: [&str; 7] = ["night", "été", "NULL", "", "A b-c", "100%", "a\\b"];
const INSTANTS: [&str; 9] = [
    "2026-03-28 22:30:00Z",
    "2026-03-29 00:59:59.5Z",
    "2026-03-29 01:00:00Z",
    "2026-10-24 22:00:00Z",
    "2026-10-25 00:30:00Z",
    "2026-10-25 01:30:00Z",
    "2024-02-29 12:00:00Z",
    "NULL",
    "1999-12-31 23:59:59.999999Z",
];
const POWERS: [&str; 8] = ["0.000", "12.345", "-2.500", "NULL", "99999.999", "0.001", "7.000", "2.500"];
const PRICES: [&str; 6] = ["45.0", "-12.3", "NULL", "0.0", "3000.5", "0.1"];
const DOUBLES: [&str; 6] = ["0.5", "-2.5", "NULL", "1e-9", "123456.789", "3.5"];
const WHOLE: [&str; 6] = ["0", "7", "-3", "NULL", "32000", "2"];
const LARGE: [&str; 5] = ["0", "5000000000", "NULL", "-1", "9000000000000"];
const DAYS: [&str; 6] = ["2026-03-29", "2026-10-25", "NULL", "2024-02-29", "1999-12-31", "2026-01-01"];

/// Each column repeats its values with a period of its own, so that the rows have many combinations.
fn rows() -> Vec<String> {
    let row = |at: usize| {
        let of = |values: &[&str], step: usize| values[(at * step + at / 7) % values.len()].to_owned();
        let ok = ["t", "f", "NULL"][at % 3].to_owned();
        [
            at.to_string(),
            of(&WHOLE, 1),
            of(&LARGE, 2),
            of(&POWERS, 3),
            of(&PRICES, 1),
            of(&DOUBLES, 5),
            of(&SITE, 1),
            of(&NOTES, 2),
            ok,
            of(&DAYS, 1),
            of(&INSTANTS, 4),
        ]
        .join("|")
    };
    (1..=60).map(row).collect()
}

/// Writes the same rows to PostgreSQL and to the lake.
pub(super) async fn fill(oracle: &Oracle, test_lake: &TestLake) {
    let measures_rows = rows();
    let measured: Vec<&str> = measures_rows.iter().map(String::as_str).collect();
    for (name, columns, rows) in [("m", measures(), measured), ("sites", sites(), SITES.to_vec())] {
        let defined: Vec<String> = columns.iter().map(|(name, sql, _)| format!("{name} {sql}")).collect();
        oracle.client.batch_execute(&format!("CREATE TABLE {name} ({})", defined.join(", "))).await.unwrap();
        let cells: Vec<Vec<Option<&str>>> =
            rows.iter().map(|row| row.split('|').map(|cell| (cell != "NULL").then_some(cell)).collect()).collect();
        for row in &cells {
            let literals: Vec<String> = row
                .iter()
                .map(|cell| cell.map_or_else(|| "NULL".to_owned(), |text| format!("'{}'", text.replace('\'', "''"))))
                .collect();
            oracle.client.batch_execute(&format!("INSERT INTO {name} VALUES ({})", literals.join(", "))).await.unwrap();
        }
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let arrays: Vec<ArrayRef> = columns
            .iter()
            .enumerate()
            .map(|(at, (_, _, data_type))| {
                let texts: StringArray = cells.iter().map(|row| row[at]).collect();
                cast_with_options(&texts, data_type, &options).unwrap()
            })
            .collect();
        let fields: Vec<Field> =
            columns.iter().map(|(name, _, data_type)| Field::new(*name, data_type.clone(), true)).collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
        test_lake.replace("public", name, &batch).await;
    }
}
