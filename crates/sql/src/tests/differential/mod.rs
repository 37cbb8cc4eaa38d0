//! Compares the results of random queries in PostgreSQL and in a lake with the same rows: all cells and column types.
//!
//! `WATTLAKE_QUERIES` is the number of queries, `WATTLAKE_SEED` the first seed, `WATTLAKE_DIFFERENCES` a file for all
//! differences. Numerics are compared by their values, since all values of a column have one scale here.

mod data;
mod grammar;
mod slt;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use futures::TryStreamExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tokio_postgres::SimpleQueryMessage;

use super::oracle::Oracle;
use super::{Session, TestLake};
use crate::values::Column;
use grammar::Grammar;

const QUERIES: u64 = 400;
const SEED: u64 = 2026;

struct Answer {
    types: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Answer {
    /// The answer with sorted rows, since most queries do not order them.
    fn sorted(mut self) -> Answer {
        self.rows.sort();
        self
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Same,
    /// Both return an error.
    BothRefuse,
    /// Only PostgreSQL returns an error.
    Lenient,
    Refused,
    OtherType,
    OtherValue,
}

/// A cell in a comparable form: numerics without trailing zeros, doubles with 12 digits, since their sums depend on the
/// order of rows.
fn cell(text: &str, type_name: &str) -> String {
    let number =
        |digits: usize| text.parse::<f64>().map_or_else(|_| text.to_owned(), |value| format!("{value:.digits$e}"));
    match type_name {
        "numeric" => {
            let trimmed = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
            let decimals = trimmed.split_once('.').map_or(0, |(_, decimals)| decimals.len());
            // PostgreSQL may return more decimals than a column has here: then only the first digits are compared.
            if decimals <= 12 { trimmed.to_owned() } else { number(11) }
        }
        "float8" | "float4" => number(11),
        _ => text.to_owned(),
    }
}

async fn answer_of_oracle(oracle: &Oracle, sql: &str) -> Result<Answer, String> {
    let statement = oracle.client.prepare(sql).await.map_err(|error| format!("{error:?}"))?;
    let types: Vec<String> = statement.columns().iter().map(|column| column.type_().name().to_owned()).collect();
    let messages = oracle.client.simple_query(sql).await.map_err(|error| format!("{error:?}"))?;
    let mut rows = Vec::new();
    for message in &messages {
        if let SimpleQueryMessage::Row(row) = message {
            let cells =
                (0..row.len()).map(|at| row.get(at).map_or_else(|| "NULL".to_owned(), |text| cell(text, &types[at])));
            rows.push(cells.collect());
        }
    }
    let types =
        types.iter().map(|name| if name == "varchar" || name == "unknown" { "text".to_owned() } else { name.clone() });
    Ok(Answer { types: types.collect(), rows })
}

fn type_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "bool",
        DataType::Int16 => "int2",
        DataType::Int32 => "int4",
        DataType::Int64 | DataType::UInt64 => "int8",
        DataType::Float32 => "float4",
        DataType::Float64 => "float8",
        DataType::Decimal128(..) => "numeric",
        DataType::Date32 => "date",
        DataType::Timestamp(_, Some(_)) => "timestamptz",
        DataType::Timestamp(_, None) => "timestamp",
        DataType::Interval(_) | DataType::Duration(_) => "interval",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => "text",
        _ => "other",
    }
}

async fn answer_of_lake(session: &Session, sql: &str, zone: &str) -> Result<Answer, String> {
    let chain = |error: &dyn std::error::Error| format!("{error}: {:?}", error.source().map(ToString::to_string));
    let stream = session.run(sql).await.map_err(|error| chain(&error))?;
    let types: Vec<String> =
        stream.schema().fields().iter().map(|field| type_name(field.data_type()).to_owned()).collect();
    let batches: Vec<RecordBatch> = stream.try_collect().await.map_err(|error| chain(&error))?;
    let (mut rows, mut text) = (Vec::new(), String::new());
    for batch in &batches {
        let columns: Vec<Column> = batch.columns().iter().map(|array| Column::new(array, zone).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let mut cells = Vec::new();
            for (column, name) in columns.iter().zip(&types) {
                text.clear();
                let is_null = column.is_null(row);
                if !is_null {
                    column.text(row, &mut text).unwrap();
                }
                cells.push(if is_null { "NULL".to_owned() } else { cell(&text, name) });
            }
            rows.push(cells);
        }
    }
    Ok(Answer { types, rows })
}

fn compare(expected: &Result<Answer, String>, actual: &Result<Answer, String>) -> Outcome {
    match (expected, actual) {
        (Ok(expected), Ok(actual)) if expected.rows != actual.rows => Outcome::OtherValue,
        (Ok(expected), Ok(actual)) if expected.types != actual.types => Outcome::OtherType,
        (Ok(_), Ok(_)) => Outcome::Same,
        (Ok(_), Err(_)) => Outcome::Refused,
        (Err(_), Ok(_)) => Outcome::Lenient,
        (Err(_), Err(_)) => Outcome::BothRefuse,
    }
}

/// The answer without the signs of double zeros where the query groups rows: -0 and 0 are equal, and which of them stands
/// for both depends on the order in which PostgreSQL's hash table has them.
fn without_signs_of_zeros(mut answer: Answer, sql: &str) -> Answer {
    let groups = ["EXCEPT", "INTERSECT", "UNION", "DISTINCT", "GROUP BY"].iter().any(|word| sql.contains(word));
    let is_zero = |cell: &str| cell.strip_prefix("-0.").is_some_and(|rest| rest.trim_start_matches('0') == "e0");
    if groups {
        let cells = answer.rows.iter_mut().flatten().filter(|cell| is_zero(cell));
        cells.for_each(|cell| *cell = cell.trim_start_matches('-').to_owned());
    }
    answer
}

fn shown(answer: &Result<Answer, String>) -> String {
    match answer {
        Ok(answer) => {
            let rows: Vec<String> = answer.rows.iter().take(6).map(|row| row.join("|")).collect();
            format!("{:?} {} rows: {}", answer.types, answer.rows.len(), rows.join(" / "))
        }
        Err(error) => error.chars().take(300).collect(),
    }
}

/// The first rows that only one of the two answers has.
fn first_difference(expected: &Result<Answer, String>, actual: &Result<Answer, String>) -> String {
    let (Ok(expected), Ok(actual)) = (expected, actual) else { return String::new() };
    let missing = expected.rows.iter().find(|row| !actual.rows.contains(row));
    let surplus = actual.rows.iter().find(|row| !expected.rows.contains(row));
    format!("missing {missing:?}, unexpected {surplus:?}")
}

#[tokio::test(flavor = "multi_thread")]
async fn random_queries_have_the_results_of_postgresql() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (count, seed) = (number("WATTLAKE_QUERIES").unwrap_or(QUERIES), number("WATTLAKE_SEED").unwrap_or(SEED));
    let (oracle, test_lake) = (Oracle::new().await, TestLake::new().await);
    data::fill(&oracle, &test_lake).await;
    let mut outcomes: BTreeMap<Outcome, u64> = BTreeMap::new();
    let mut differences = String::new();
    for zone in ["UTC", "Europe/Paris"] {
        oracle.client.batch_execute(&format!("SET timezone = '{zone}'")).await.unwrap();
        let session = test_lake.session();
        drop(session.run(&format!("SET datafusion.execution.time_zone = '{zone}'")).await.unwrap());
        for at in 0..count / 2 {
            let seed = seed + at;
            let sql = Grammar { rng: ChaCha8Rng::seed_from_u64(seed) }.query();
            let comparable = |answer: Answer| without_signs_of_zeros(answer, &sql).sorted();
            let expected = answer_of_oracle(&oracle, &sql).await.map(comparable);
            let actual = answer_of_lake(&session, &sql, zone).await.map(comparable);
            let outcome = compare(&expected, &actual);
            *outcomes.entry(outcome).or_default() += 1;
            if !matches!(outcome, Outcome::Same | Outcome::BothRefuse) {
                let _ = writeln!(
                    differences,
                    "{outcome:?} in {zone} (seed {seed}): {sql}\n    {}\n    PostgreSQL {}\n    here       {}",
                    first_difference(&expected, &actual),
                    shown(&expected),
                    shown(&actual)
                );
            }
        }
    }
    if let Some(file) = std::env::var_os("WATTLAKE_DIFFERENCES") {
        std::fs::write(file, &differences).unwrap();
    }
    let of = |outcome: Outcome| outcomes.get(&outcome).copied().unwrap_or(0);
    println!("{outcomes:?} of {count}");
    assert_eq!(of(Outcome::OtherValue), 0, "{outcomes:?}\n{differences}");
    assert!(of(Outcome::Refused) * 100 < 3 * count, "{outcomes:?}\n{differences}");
    let same = of(Outcome::Same) + of(Outcome::BothRefuse);
    assert!(same * 100 >= 95 * count, "{outcomes:?}\n{differences}");
}
