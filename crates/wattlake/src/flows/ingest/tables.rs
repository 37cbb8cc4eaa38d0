//! `ingest.files` and `ingest.faults`: what came, and what was wrong with it.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, Utc};
use ingest::arrivals::Arrival;
use ingest::objects::Hash;
use ingest::read::{Fault, faults_to_batch};
use ingest::source::Listed;
use lake::{Lake, TableName};
use ledger::Run;
use sql::Session;

use crate::flows::rows;

pub const SCHEMA: &str = "ingest";
const FILES: &str = "files";
const FAULTS: &str = "faults";
const OPERATION: &str = "ingest";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    Accepted,
    Quarantined,
    /// The bytes of another file.
    Duplicate,
    /// What it was before; only its description is another.
    Same,
}

impl Judged {
    const ALL: [Judged; 4] = [Judged::Accepted, Judged::Quarantined, Judged::Duplicate, Judged::Same];

    pub fn as_str(self) -> &'static str {
        match self {
            Judged::Accepted => "accepted",
            Judged::Quarantined => "quarantined",
            Judged::Duplicate => "duplicate",
            Judged::Same => "same",
        }
    }
}

/// A row of `ingest.files`.
#[derive(Debug, Clone)]
pub struct Arrived {
    pub ingest: String,
    pub name: String,
    /// As its source described it.
    pub file: Listed,
    pub sha256: Hash,
    pub bytes: u64,
    pub listed_at: DateTime<Utc>,
    /// Of its name, from 1.
    pub version: u64,
    pub judged: Judged,
    pub reason: Option<String>,
    pub rows: Option<u64>,
    /// The layout that it was held against.
    pub layout: Hash,
}

impl Arrived {
    pub fn arrival(&self) -> Arrival {
        Arrival { source: self.ingest.clone(), file: self.file.clone(), sha256: self.sha256, at: self.listed_at }
    }
}

/// The newest verdict on each file's version; `past` is in the order in which it was noted.
pub fn current(past: &[Arrived]) -> Vec<&Arrived> {
    let mut newest: HashMap<(&str, u64), usize> = HashMap::new();
    for (at, arrived) in past.iter().enumerate().filter(|(_, arrived)| arrived.judged != Judged::Same) {
        newest.insert((&arrived.name, arrived.version), at);
    }
    let mut kept: Vec<usize> = newest.into_values().collect();
    kept.sort_unstable();
    kept.into_iter().map(|at| &past[at]).collect()
}

/// The faults first: an arrival that is there has all of them.
pub async fn note(lake: &Lake, run: &Run, arrived: Vec<(Arrived, Vec<Fault>)>) -> Result<()> {
    if arrived.is_empty() {
        return Ok(());
    }
    let now = Utc::now();
    let faults: Vec<RecordBatch> = arrived
        .iter()
        .filter(|(_, faults)| !faults.is_empty())
        .map(|(arrived, faults)| faults_of(run, arrived, faults, now))
        .collect::<Result<_>>()?;
    if let Some(schema) = faults.first().map(RecordBatch::schema) {
        put(lake, run, FAULTS, &schema, faults).await?;
    }
    let arrived: Vec<Arrived> = arrived.into_iter().map(|(arrived, _)| arrived).collect();
    let files = files_of(run, &arrived, now)?;
    put(lake, run, FILES, &files.schema(), vec![files]).await
}

async fn put(lake: &Lake, run: &Run, table: &str, schema: &SchemaRef, batches: Vec<RecordBatch>) -> Result<()> {
    let name = TableName::new(SCHEMA, table);
    rows::append(lake, &name, run.id(), OPERATION, schema, batches, Vec::new()).await.map(drop)
}

fn instants(values: impl Iterator<Item = Option<DateTime<Utc>>>) -> ArrayRef {
    let micros = values.map(|at| at.map(|at| at.timestamp_micros()));
    Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn files_of(run: &Run, all: &[Arrived], now: DateTime<Utc>) -> Result<RecordBatch> {
    fn texts(all: &[Arrived], text: impl Fn(&Arrived) -> Option<String>) -> ArrayRef {
        Arc::new(all.iter().map(text).collect::<StringArray>())
    }
    fn numbers(all: &[Arrived], number: impl Fn(&Arrived) -> Option<u64>) -> ArrayRef {
        Arc::new(all.iter().map(|arrived| number(arrived).map(u64::cast_signed)).collect::<Int64Array>())
    }
    let columns: [(&str, ArrayRef); 15] = [
        ("ingest", texts(all, |a| Some(a.ingest.clone()))),
        ("name", texts(all, |a| Some(a.name.clone()))),
        ("version", numbers(all, |a| Some(a.version))),
        ("verdict", texts(all, |a| Some(a.judged.as_str().to_owned()))),
        ("reason", texts(all, |a| a.reason.clone())),
        ("rows", numbers(all, |a| a.rows)),
        ("sha256", texts(all, |a| Some(a.sha256.to_string()))),
        ("bytes", numbers(all, |a| Some(a.bytes))),
        ("size", numbers(all, |a| a.file.size)),
        ("modified", instants(all.iter().map(|a| a.file.modified))),
        ("etag", texts(all, |a| a.file.etag.clone())),
        ("listed_at", instants(all.iter().map(|a| Some(a.listed_at)))),
        ("layout_sha256", texts(all, |a| Some(a.layout.to_string()))),
        ("run_id", texts(all, |_| Some(run.id().to_owned()))),
        ("recorded_at", instants(all.iter().map(|_| Some(now)))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .context("write what came")
}

fn faults_of(run: &Run, arrived: &Arrived, faults: &[Fault], now: DateTime<Utc>) -> Result<RecordBatch> {
    let faults = faults_to_batch(faults)?;
    let count = faults.num_rows();
    let same = |text: String| -> ArrayRef { Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, count))) };
    let mut columns: Vec<(String, ArrayRef, bool)> = vec![
        ("ingest".to_owned(), same(arrived.ingest.clone()), true),
        ("name".to_owned(), same(arrived.name.clone()), true),
        ("sha256".to_owned(), same(arrived.sha256.to_string()), true),
    ];
    for (field, column) in faults.schema().fields().iter().zip(faults.columns()) {
        let column = match field.data_type() {
            DataType::UInt64 => arrow::compute::cast(column, &DataType::Int64)?,
            _ => Arc::clone(column),
        };
        columns.push((field.name().clone(), column, true));
    }
    columns.push(("run_id".to_owned(), same(run.id().to_owned()), true));
    columns.push(("recorded_at".to_owned(), instants(std::iter::repeat_n(Some(now), count)), true));
    RecordBatch::try_from_iter_with_nullable(columns).context("write what is wrong")
}

/// All rows of an ingest, in the order in which they were noted.
pub async fn read(session: &Session, ingest: &str) -> Result<Vec<Arrived>> {
    if session.lake.table(&TableName::new(SCHEMA, FILES)).await?.is_none() {
        return Ok(Vec::new());
    }
    let query = format!(
        "SELECT name, verdict, reason, sha256, etag, layout_sha256, version, rows, bytes, size, modified, listed_at
         FROM {SCHEMA}.{FILES} WHERE ingest = '{ingest}' ORDER BY recorded_at, listed_at, name"
    );
    let mut all = Vec::new();
    for batch in rows::asked(session, &query).await.context("read what came before")? {
        let columns = Read::of(&batch)?;
        for row in 0..batch.num_rows() {
            all.push(columns.row(ingest, row)?);
        }
    }
    Ok(all)
}

struct Read {
    texts: Vec<StringArray>,
    numbers: Vec<Int64Array>,
    instants: Vec<TimestampMicrosecondArray>,
}

impl Read {
    fn of(batch: &RecordBatch) -> Result<Read> {
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let cast = |column: usize, to: &DataType| -> Result<ArrayRef> {
            let found = batch.column(column);
            let is_null = *found.data_type() == DataType::Null;
            Ok(if is_null { new_null_array(to, found.len()) } else { arrow::compute::cast(found, to)? })
        };
        Ok(Read {
            texts: (0..6).map(|at| Ok(cast(at, &DataType::Utf8)?.as_string::<i32>().clone())).collect::<Result<_>>()?,
            numbers: (6..10)
                .map(|at| Ok(cast(at, &DataType::Int64)?.as_primitive::<Int64Type>().clone()))
                .collect::<Result<_>>()?,
            instants: (10..12)
                .map(|at| Ok(cast(at, &instant)?.as_primitive::<TimestampMicrosecondType>().clone()))
                .collect::<Result<_>>()?,
        })
    }

    fn row(&self, ingest: &str, row: usize) -> Result<Arrived> {
        let text = |at: usize| self.texts[at].is_valid(row).then(|| self.texts[at].value(row).to_owned());
        let number = |at: usize| self.numbers[at].is_valid(row).then(|| self.numbers[at].value(row).cast_unsigned());
        let instant = |at: usize| {
            let micros = self.instants[at].is_valid(row).then(|| self.instants[at].value(row))?;
            DateTime::from_timestamp_micros(micros)
        };
        let must = |at: usize| text(at).with_context(|| format!("{SCHEMA}.{FILES} lacks a value of its own"));
        let (name, verdict) = (must(0)?, must(1)?);
        let Some(judged) = Judged::ALL.into_iter().find(|judged| judged.as_str() == verdict) else {
            bail!("{SCHEMA}.{FILES} has the verdict {verdict:?}, which nobody gives");
        };
        Ok(Arrived {
            ingest: ingest.to_owned(),
            file: Listed { name: name.clone(), size: number(3), modified: instant(0), etag: text(4) },
            name,
            sha256: must(3)?.parse()?,
            bytes: number(2).unwrap_or_default(),
            listed_at: instant(1).unwrap_or_default(),
            version: number(0).unwrap_or(1),
            judged,
            reason: text(2),
            rows: number(1),
            layout: must(5)?.parse()?,
        })
    }
}
