//! The content of statements: the lines and days of each producer, from the user's queries.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use bill::{Company, DayEnergy, StatementLine};
use ingest::objects::Hash;
use serde::Deserialize;
use serde_json::{Map, Value};
use sql::Session;

use crate::flows::columns::Columns;
use crate::flows::moment::Moment;
use crate::flows::rows;

/// What one producer's statement of a period says.
pub struct Content {
    /// Letters, digits, `-`, `_` and `.` only: it becomes part of file names.
    pub producer_id: String,
    pub producer: String,
    pub siret: Option<String>,
    /// The producer on an invoice.
    pub company: Company,
    pub lines: Vec<StatementLine>,
    pub days: Vec<DayEnergy>,
    /// The hash of all rows that the queries returned for the producer. A new one means a new statement.
    pub hash: String,
    /// The version of the next statement in the series of the producer's period.
    pub version: i64,
}

/// The columns of a line that name its producer.
#[derive(Default, Deserialize)]
struct Producer {
    producer_id: String,
    producer: String,
    siret: Option<String>,
    vat_number: Option<String>,
    address: Option<String>,
    postcode: Option<String>,
    city: Option<String>,
    iban: Option<String>,
}

impl Producer {
    fn company(&self) -> Company {
        Company {
            name: self.producer.clone(),
            siren: self.siret.as_ref().map(|siret| siret.chars().take(9).collect()).unwrap_or_default(),
            vat_number: self.vat_number.clone(),
            address: self.address.clone(),
            postcode: self.postcode.clone(),
            city: self.city.clone(),
            legal: None,
            iban: self.iban.clone(),
        }
    }
}

#[derive(Default)]
struct Rows {
    lines: Vec<Value>,
    days: Vec<Value>,
}

impl Content {
    /// The content for a producer who has no lines any more.
    pub fn empty(producer_id: &str, producer: &str) -> Result<Content> {
        let producer =
            Producer { producer_id: producer_id.to_owned(), producer: producer.to_owned(), ..Producer::default() };
        Content::of(producer, &Rows::default())
    }

    fn of(producer: Producer, rows: &Rows) -> Result<Content> {
        // Sorted: the order of the rows must not make another statement.
        let mut texts: Vec<String> = rows.lines.iter().chain(&rows.days).map(Value::to_string).collect();
        texts.sort_unstable();
        let hash = Hash::of(texts.join("\n").as_bytes()).to_string();
        let lines = read_all("line", &rows.lines)?;
        let days = read_all("day", &rows.days)?;
        let company = producer.company();
        let Producer { producer_id, producer, siret, .. } = producer;
        Ok(Content { producer_id, producer, siret, company, lines, days, hash, version: 1 })
    }
}

/// Runs the queries of a statement for the run's period. Returns the contents in the order of the producers' ids.
pub async fn read(session: &Session, config: &config::Statement, moment: &Moment) -> Result<Vec<Content>> {
    let mut rows: BTreeMap<String, Rows> = BTreeMap::new();
    for row in query(session, moment, "lines", &config.lines).await? {
        rows.entry(producer_of(&row, "lines")?).or_default().lines.push(Value::Object(row));
    }
    if let Some(days) = &config.days {
        for row in query(session, moment, "days", days).await? {
            rows.entry(producer_of(&row, "days")?).or_default().days.push(Value::Object(row));
        }
    }
    let mut contents = Vec::new();
    for rows in rows.into_values() {
        // A producer with days and without lines is paid nothing.
        let Some(first) = rows.lines.first() else { continue };
        contents.push(Content::of(read_one("line", first)?, &rows)?);
    }
    Ok(contents)
}

async fn query(session: &Session, moment: &Moment, name: &str, sql: &str) -> Result<Vec<Map<String, Value>>> {
    let sql = moment.fill(sql, &|_| None)?;
    let batches = rows::query(session, &sql).await.with_context(|| format!("run the query {name:?} of statements"))?;
    Columns::of(&batches)?.objects()
}

/// The producer's id of a row. It becomes part of numbers and of file names, so its characters are limited.
fn producer_of(row: &Map<String, Value>, query: &str) -> Result<String> {
    let wrong = |what: String| sql::Error::new(sql::Kind::FixInput, what);
    let id = row.get("producer_id").and_then(Value::as_str);
    let id = id.ok_or_else(|| {
        wrong(format!("the query {query:?} of statements must return a column producer_id of texts without NULL"))
    })?;
    let is_plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) && !id.starts_with('.');
    if id.is_empty() || !is_plain {
        let what = format!("the producer_id {id:?} can't be part of a file name: use only letters, digits, -, _ and .");
        return Err(wrong(what).into());
    }
    Ok(id.to_owned())
}

fn read_all<T: for<'a> Deserialize<'a>>(what: &str, rows: &[Value]) -> Result<Vec<T>> {
    rows.iter().map(|row| read_one(what, row)).collect()
}

fn read_one<T: for<'a> Deserialize<'a>>(what: &str, row: &Value) -> Result<T> {
    T::deserialize(row).map_err(|error| {
        sql::Error::new(sql::Kind::FixInput, format!("read a {what} of a statement, {row}: {error}")).into()
    })
}
