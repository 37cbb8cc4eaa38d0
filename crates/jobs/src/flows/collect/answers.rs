//! `collect.answers` and `collect.faults`: the answers that had new values or were quarantined; and what a collect
//! remembers between runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::DataType;
use chrono::{DateTime, Utc};
use ingest::objects::Object;
use ingest::read::{Fault, faults_to_batch};
use lake::{Lake, TableName};
use ledger::Run;
use serde::{Deserialize, Serialize};

use super::windows::Window;
use crate::flows::rows;

/// The schema of the lake that holds the tables of collects.
pub const SCHEMA: &str = "collect";
const ANSWERS: &str = "answers";
const FAULTS: &str = "faults";
/// The operation of a collect's commits.
pub const OPERATION: &str = "collect";

/// A row of `collect.answers`.
#[derive(Debug, Clone)]
pub struct AnswerRow {
    pub item: String,
    pub window: Window,
    pub object: Object,
    pub received_at: DateTime<Utc>,
    pub rows: u64,
    /// Why it is quarantined.
    pub quarantined: Option<String>,
    pub faults: Vec<Fault>,
}

/// Adds answers and their faults. The faults are committed first, so that an answer that is there has all of them.
pub async fn append(lake: &Lake, run: &Run, collect: &str, answers: &[AnswerRow]) -> Result<()> {
    if answers.is_empty() {
        return Ok(());
    }
    let now = Utc::now();
    let faults = answers.iter().filter(|answer| !answer.faults.is_empty());
    let faults: Vec<RecordBatch> = faults.map(|answer| faults_of(run, collect, answer, now)).collect::<Result<_>>()?;
    if let Some(schema) = faults.first().map(RecordBatch::schema) {
        let name = TableName::new(SCHEMA, FAULTS);
        rows::append(lake, &name, run.id(), OPERATION, &schema, faults, Vec::new()).await?;
    }
    let batch = batch_of(run, collect, answers, now)?;
    let name = TableName::new(SCHEMA, ANSWERS);
    rows::append(lake, &name, run.id(), OPERATION, &batch.schema(), vec![batch], Vec::new()).await.map(drop)
}

fn instants(values: impl Iterator<Item = DateTime<Utc>>) -> ArrayRef {
    let micros: TimestampMicrosecondArray = values.map(|at| Some(at.timestamp_micros())).collect();
    Arc::new(micros.with_timezone("UTC"))
}

fn batch_of(run: &Run, collect: &str, all: &[AnswerRow], now: DateTime<Utc>) -> Result<RecordBatch> {
    fn texts<'a>(texts: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
        Arc::new(texts.collect::<StringArray>())
    }
    fn numbers(numbers: impl Iterator<Item = u64>) -> ArrayRef {
        Arc::new(numbers.map(|number| Some(number.cast_signed())).collect::<Int64Array>())
    }
    let verdict = |answer: &AnswerRow| if answer.quarantined.is_some() { "quarantined" } else { "accepted" };
    let hashes: Vec<String> = all.iter().map(|answer| answer.object.sha256.to_string()).collect();
    let columns: [(&str, ArrayRef); 12] = [
        ("collect", texts(all.iter().map(|_| Some(collect)))),
        ("item", texts(all.iter().map(|answer| Some(answer.item.as_str())))),
        ("window_from", instants(all.iter().map(|answer| answer.window.from))),
        ("window_to", instants(all.iter().map(|answer| answer.window.to))),
        ("verdict", texts(all.iter().map(|answer| Some(verdict(answer))))),
        ("reason", texts(all.iter().map(|answer| answer.quarantined.as_deref()))),
        ("rows", numbers(all.iter().map(|answer| answer.rows))),
        ("sha256", texts(hashes.iter().map(|hash| Some(hash.as_str())))),
        ("bytes", numbers(all.iter().map(|answer| answer.object.bytes))),
        ("received_at", instants(all.iter().map(|answer| answer.received_at))),
        ("run_id", texts(all.iter().map(|_| Some(run.id())))),
        ("recorded_at", instants(all.iter().map(|_| now))),
    ];
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    RecordBatch::try_from_iter_with_nullable(columns).context("write answers")
}

fn faults_of(run: &Run, collect: &str, answer: &AnswerRow, now: DateTime<Utc>) -> Result<RecordBatch> {
    let faults = faults_to_batch(&answer.faults)?;
    let count = faults.num_rows();
    let same = |text: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, count))) };
    let mut columns: Vec<(String, ArrayRef, bool)> = vec![
        ("collect".to_owned(), same(collect), true),
        ("item".to_owned(), same(&answer.item), true),
        ("sha256".to_owned(), same(&answer.object.sha256.to_string()), true),
    ];
    for (field, column) in faults.schema().fields().iter().zip(faults.columns()) {
        let column = match field.data_type() {
            DataType::UInt64 => arrow::compute::cast(column, &DataType::Int64)?,
            _ => Arc::clone(column),
        };
        columns.push((field.name().clone(), column, true));
    }
    columns.push(("run_id".to_owned(), same(run.id()), true));
    columns.push(("recorded_at".to_owned(), instants(std::iter::repeat_n(now, count)), true));
    RecordBatch::try_from_iter_with_nullable(columns).context("write faults of answers")
}

/// What a collect remembers between runs: a record of the lake. What the table has is not in it.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CollectState {
    /// The partner is not to be asked before this instant.
    pub not_before: Option<DateTime<Utc>>,
    /// The table that the items were asked for: `schema.table`.
    pub table: Option<String>,
    /// By the names of items.
    pub items: BTreeMap<String, ItemState>,
}

/// What is remembered of an item.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ItemState {
    /// When it was asked for the first time.
    pub first_asked_at: Option<DateTime<Utc>>,
    /// From where on it was asked for: `since` of the first run, or an earlier one with the answers accepted.
    pub asked_from: Option<DateTime<Utc>>,
    /// When it was asked for last, up to that instant, with the answers accepted.
    pub asked_at: Option<DateTime<Utc>>,
    /// Up to where it was asked for, with the answers accepted, also by runs that went no further.
    pub asked_to: Option<DateTime<Utc>>,
    /// The tag of the last answer, where requests have neither windows nor pages.
    pub tag: Option<Tag>,
    /// The hashes of the answers that were quarantined last, and of the layout that they were checked against.
    pub quarantined_answers: Vec<(String, String)>,
}

/// The server's tag of an answer that was accepted.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tag {
    pub etag: String,
    /// The hash of the layout that the answer was checked against.
    pub layout: String,
}

/// Of how many quarantined answers of an item it is remembered that they were recorded.
const QUARANTINED_MAX: usize = 50;

impl ItemState {
    /// Remembers an answer that was quarantined. Returns whether it was not remembered before.
    pub fn quarantine(&mut self, sha256: &str, layout: &str) -> bool {
        let mark = (sha256.to_owned(), layout.to_owned());
        if self.quarantined_answers.contains(&mark) {
            return false;
        }
        self.quarantined_answers.push(mark);
        let excess = self.quarantined_answers.len().saturating_sub(QUARANTINED_MAX);
        self.quarantined_answers.drain(..excess);
        true
    }
}

impl CollectState {
    fn name(collect: &str) -> String {
        format!("collects/{collect}.json")
    }

    /// Reads the state of a collect.
    pub async fn read(lake: &Lake, collect: &str) -> Result<CollectState> {
        match lake.record(&Self::name(collect)).await? {
            Some(text) => serde_json::from_slice(&text).with_context(|| format!("read the state of collect {collect}")),
            None => Ok(CollectState::default()),
        }
    }

    /// Writes it.
    pub async fn write(&self, lake: &Lake, collect: &str) -> Result<()> {
        Ok(lake.write_record(&Self::name(collect), serde_json::to_vec(self)?.into()).await?)
    }
}
