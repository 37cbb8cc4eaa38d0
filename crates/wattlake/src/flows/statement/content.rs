//! What statements say: the lines and days of each producer, from the user's queries.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use ingest::objects::Hash;
use serde::Deserialize;
use serde_json::{Map, Value};
use sql::Session;
use statement::{Day, Line};

use crate::config;
use crate::flows::columns::Columns;
use crate::flows::moment::Moment;
use crate::flows::rows;

/// Of one producer.
pub struct Content {
    pub producer_id: String,
    pub producer: String,
    pub siret: Option<String>,
    pub lines: Vec<Line>,
    pub days: Vec<Day>,
    /// Of all that the queries returned for it: another content, another statement.
    pub hash: String,
}

/// Whose a line is, beside the line itself.
#[derive(Deserialize)]
struct Whose {
    producer_id: String,
    producer: String,
    siret: Option<String>,
}

#[derive(Default)]
struct Rows {
    lines: Vec<Value>,
    days: Vec<Value>,
}

impl Content {
    /// Of a producer who has no lines any more.
    pub fn nothing(producer_id: &str, producer: &str) -> Result<Content> {
        let whose = Whose { producer_id: producer_id.to_owned(), producer: producer.to_owned(), siret: None };
        Content::of(whose, &Rows::default())
    }

    fn of(whose: Whose, rows: &Rows) -> Result<Content> {
        // What counts is what they say, not their order.
        let mut texts: Vec<String> = rows.lines.iter().chain(&rows.days).map(Value::to_string).collect();
        texts.sort_unstable();
        let hash = Hash::of(texts.join("\n").as_bytes()).to_string();
        let lines = read_all("line", &rows.lines)?;
        let days = read_all("day", &rows.days)?;
        Ok(Content { producer_id: whose.producer_id, producer: whose.producer, siret: whose.siret, lines, days, hash })
    }
}

pub async fn read(session: &Session, config: &config::Statement, moment: &Moment) -> Result<Vec<Content>> {
    let mut rows: BTreeMap<String, Rows> = BTreeMap::new();
    for row in asked(session, moment, "lines", &config.lines).await? {
        rows.entry(producer_of(&row, "lines")?).or_default().lines.push(Value::Object(row));
    }
    if let Some(days) = &config.days {
        for row in asked(session, moment, "days", days).await? {
            rows.entry(producer_of(&row, "days")?).or_default().days.push(Value::Object(row));
        }
    }
    let mut contents = Vec::new();
    for rows in rows.into_values() {
        // Energy alone is nothing to be paid.
        let Some(first) = rows.lines.first() else { continue };
        contents.push(Content::of(read_one("line", first)?, &rows)?);
    }
    Ok(contents)
}

async fn asked(session: &Session, moment: &Moment, name: &str, query: &str) -> Result<Vec<Map<String, Value>>> {
    let query = moment.fill(query, &|_| None)?;
    let batches = rows::asked(session, &query).await.with_context(|| format!("ask for the {name} of statements"))?;
    let columns = Columns::of(&batches)?;
    Ok((0..columns.rows()).map(|row| columns.row(row)).collect())
}

/// It becomes part of numbers, and of files' names.
fn producer_of(row: &Map<String, Value>, query: &str) -> Result<String> {
    let wrong = |what: String| sql::Error::new(sql::Kind::FixInput, what);
    let id = row.get("producer_id").and_then(Value::as_str);
    let id = id.ok_or_else(|| wrong(format!("the query {query:?} of statements has to return a text producer_id")))?;
    let is_plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) && !id.starts_with('.');
    if id.is_empty() || !is_plain {
        let what =
            format!("the producer_id {id:?} can't be part of a file's name: it needs letters, digits, - _ and . only");
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
