//! `ingest.files` and `ingest.faults`: the files that arrived, their verdicts and their faults.

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
use ingest::source::ListedFile;
use lake::{Lake, TableName};
use ledger::Run;
use sql::Session;

use crate::flows::rows;

/// The schema of the lake that holds the tables of ingests.
pub const SCHEMA: &str = "ingest";
const FILES: &str = "files";
const FAULTS: &str = "faults";
const SUBJECTS: &str = "subjects";
const OPERATION: &str = "ingest";

/// What a run decided about a file that it fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileVerdict {
    /// Its content is as its layout says.
    Accepted,
    /// Its content broke its layout's rules.
    Quarantined,
    /// It has the bytes of another file.
    Duplicate,
    /// Its bytes are unchanged; only its description at the source is another.
    Same,
    /// It is an archive, whose files have verdicts of their own.
    Unpacked,
}

impl FileVerdict {
    const ALL: [FileVerdict; 5] = [
        FileVerdict::Accepted,
        FileVerdict::Quarantined,
        FileVerdict::Duplicate,
        FileVerdict::Same,
        FileVerdict::Unpacked,
    ];

    /// The word for it in `ingest.files`.
    pub fn as_str(self) -> &'static str {
        match self {
            FileVerdict::Accepted => "accepted",
            FileVerdict::Quarantined => "quarantined",
            FileVerdict::Duplicate => "duplicate",
            FileVerdict::Same => "same",
            FileVerdict::Unpacked => "unpacked",
        }
    }
}

/// A row of `ingest.files`.
#[derive(Debug, Clone)]
pub struct ArrivalRow {
    pub ingest: String,
    /// The file's name at the source.
    pub name: String,
    /// The file as its source listed it.
    pub file: ListedFile,
    /// The hash of its bytes, which is its name among the objects.
    pub sha256: Hash,
    pub bytes: u64,
    pub listed_at: DateTime<Utc>,
    /// Counts the different contents of this name, from 1.
    pub version: u64,
    pub verdict: FileVerdict,
    pub reason: Option<String>,
    /// How many rows it has, where it was read.
    pub rows: Option<u64>,
    /// The hash of the layout that it was checked against.
    pub layout: Hash,
    /// What it is about, where it was read: JSON objects of the values of the layout's columns of the subject.
    pub subjects: Vec<String>,
}

impl ArrivalRow {
    /// The same as the ingest crate takes it, to recognise files that come again.
    pub fn arrival(&self) -> Arrival {
        Arrival { source: self.ingest.clone(), file: self.file.clone(), sha256: self.sha256, at: self.listed_at }
    }
}

/// The newest verdict on each version of each file. `past` is in the order in which it was recorded.
pub fn current(past: &[ArrivalRow]) -> Vec<&ArrivalRow> {
    let mut newest: HashMap<(&str, u64), usize> = HashMap::new();
    for (at, arrived) in past.iter().enumerate().filter(|(_, arrived)| arrived.verdict != FileVerdict::Same) {
        newest.insert((&arrived.name, arrived.version), at);
    }
    let mut places: Vec<usize> = newest.into_values().collect();
    places.sort_unstable();
    places.into_iter().map(|at| &past[at]).collect()
}

/// Adds arrivals and their faults. The faults are committed first, so that an arrival that is there
/// always has all of its faults.
pub async fn append(lake: &Lake, run: &Run, arrived: Vec<(ArrivalRow, Vec<Fault>)>) -> Result<()> {
    if arrived.is_empty() {
        return Ok(());
    }
    let now = Utc::now();
    if arrived.iter().any(|(arrived, _)| !arrived.subjects.is_empty()) {
        let subjects = subjects_of(run.id(), arrived.iter().map(|(arrived, _)| arrived), now)?;
        append_batches(lake, run, SUBJECTS, &subjects.schema(), vec![subjects]).await?;
    }
    let faults: Vec<RecordBatch> = arrived
        .iter()
        .filter(|(_, faults)| !faults.is_empty())
        .map(|(arrived, faults)| faults_of(run, arrived, faults, now))
        .collect::<Result<_>>()?;
    if let Some(schema) = faults.first().map(RecordBatch::schema) {
        append_batches(lake, run, FAULTS, &schema, faults).await?;
    }
    let arrived: Vec<ArrivalRow> = arrived.into_iter().map(|(arrived, _)| arrived).collect();
    let files = files_of(run.id(), &arrived, now)?;
    append_batches(lake, run, FILES, &files.schema(), vec![files]).await
}

async fn append_batches(
    lake: &Lake,
    run: &Run,
    table: &str,
    schema: &SchemaRef,
    batches: Vec<RecordBatch>,
) -> Result<()> {
    let name = TableName::new(SCHEMA, table);
    rows::append(lake, &name, run.id(), OPERATION, schema, batches, Vec::new()).await.map(drop)
}

fn instants(values: impl Iterator<Item = Option<DateTime<Utc>>>) -> ArrayRef {
    let micros = values.map(|at| at.map(|at| at.timestamp_micros()));
    Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

/// The columns of the tables of ingests, by their names, for those who query them before the first file has arrived.
pub fn declared() -> Result<[(TableName, SchemaRef); 2]> {
    let files = files_of("", &[], DateTime::UNIX_EPOCH)?.schema();
    let subjects = subjects_of("", std::iter::empty(), DateTime::UNIX_EPOCH)?.schema();
    Ok([(TableName::new(SCHEMA, FILES), files), (TableName::new(SCHEMA, SUBJECTS), subjects)])
}

/// `ingest.subjects`: what files are about, a row for each combination of values of their layout's columns.
fn subjects_of<'a>(
    run: &str,
    arrived: impl Iterator<Item = &'a ArrivalRow>,
    now: DateTime<Utc>,
) -> Result<RecordBatch> {
    let all: Vec<(&ArrivalRow, &String)> =
        arrived.flat_map(|arrived| arrived.subjects.iter().map(move |subject| (arrived, subject))).collect();
    let texts = |text: &dyn Fn(&(&ArrivalRow, &String)) -> String| -> ArrayRef {
        Arc::new(all.iter().map(|one| Some(text(one))).collect::<StringArray>())
    };
    let versions: Int64Array = all.iter().map(|(arrived, _)| Some(arrived.version.cast_signed())).collect();
    let columns: [(&str, ArrayRef); 7] = [
        ("ingest", texts(&|(arrived, _)| arrived.ingest.clone())),
        ("name", texts(&|(arrived, _)| arrived.name.clone())),
        ("version", Arc::new(versions)),
        ("sha256", texts(&|(arrived, _)| arrived.sha256.to_string())),
        ("subject", texts(&|(_, subject)| (*subject).clone())),
        ("run_id", texts(&|_| run.to_owned())),
        ("recorded_at", instants(all.iter().map(|_| Some(now)))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .context("write what files are about")
}

fn files_of(run: &str, all: &[ArrivalRow], now: DateTime<Utc>) -> Result<RecordBatch> {
    fn texts(all: &[ArrivalRow], text: impl Fn(&ArrivalRow) -> Option<String>) -> ArrayRef {
        Arc::new(all.iter().map(text).collect::<StringArray>())
    }
    fn numbers(all: &[ArrivalRow], number: impl Fn(&ArrivalRow) -> Option<u64>) -> ArrayRef {
        Arc::new(all.iter().map(|arrived| number(arrived).map(u64::cast_signed)).collect::<Int64Array>())
    }
    let columns: [(&str, ArrayRef); 15] = [
        ("ingest", texts(all, |a| Some(a.ingest.clone()))),
        ("name", texts(all, |a| Some(a.name.clone()))),
        ("version", numbers(all, |a| Some(a.version))),
        ("verdict", texts(all, |a| Some(a.verdict.as_str().to_owned()))),
        ("reason", texts(all, |a| a.reason.clone())),
        ("rows", numbers(all, |a| a.rows)),
        ("sha256", texts(all, |a| Some(a.sha256.to_string()))),
        ("bytes", numbers(all, |a| Some(a.bytes))),
        ("size", numbers(all, |a| a.file.size)),
        ("modified", instants(all.iter().map(|a| a.file.modified))),
        ("etag", texts(all, |a| a.file.etag.clone())),
        ("listed_at", instants(all.iter().map(|a| Some(a.listed_at)))),
        ("layout_sha256", texts(all, |a| Some(a.layout.to_string()))),
        ("run_id", texts(all, |_| Some(run.to_owned()))),
        ("recorded_at", instants(all.iter().map(|_| Some(now)))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .context("write arrivals of files")
}

fn faults_of(run: &Run, arrived: &ArrivalRow, faults: &[Fault], now: DateTime<Utc>) -> Result<RecordBatch> {
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
    RecordBatch::try_from_iter_with_nullable(columns).context("write faults of files")
}

/// All rows of `ingest.files` of one ingest, in the order in which they were recorded.
pub async fn read(session: &Session, ingest: &str) -> Result<Vec<ArrivalRow>> {
    if session.lake.table(&TableName::new(SCHEMA, FILES)).await?.is_none() {
        return Ok(Vec::new());
    }
    let query = format!(
        "SELECT name, verdict, reason, sha256, etag, layout_sha256, version, rows, bytes, size, modified, listed_at
         FROM {SCHEMA}.{FILES} WHERE ingest = '{ingest}' ORDER BY recorded_at, listed_at, name"
    );
    let mut all = Vec::new();
    for batch in rows::query(session, &query).await.context("read the arrivals of earlier runs")? {
        let columns = FileColumns::of(&batch)?;
        for row in 0..batch.num_rows() {
            all.push(columns.row(ingest, row)?);
        }
    }
    Ok(all)
}

/// The columns of a batch of `ingest.files`, by type, in the query's order.
struct FileColumns {
    texts: Vec<StringArray>,
    numbers: Vec<Int64Array>,
    instants: Vec<TimestampMicrosecondArray>,
}

impl FileColumns {
    fn of(batch: &RecordBatch) -> Result<FileColumns> {
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let cast = |column: usize, to: &DataType| -> Result<ArrayRef> {
            let array = batch.column(column);
            let is_null = *array.data_type() == DataType::Null;
            Ok(if is_null { new_null_array(to, array.len()) } else { arrow::compute::cast(array, to)? })
        };
        Ok(FileColumns {
            texts: (0..6).map(|at| Ok(cast(at, &DataType::Utf8)?.as_string::<i32>().clone())).collect::<Result<_>>()?,
            numbers: (6..10)
                .map(|at| Ok(cast(at, &DataType::Int64)?.as_primitive::<Int64Type>().clone()))
                .collect::<Result<_>>()?,
            instants: (10..12)
                .map(|at| Ok(cast(at, &instant)?.as_primitive::<TimestampMicrosecondType>().clone()))
                .collect::<Result<_>>()?,
        })
    }

    fn row(&self, ingest: &str, row: usize) -> Result<ArrivalRow> {
        let text = |at: usize| self.texts[at].is_valid(row).then(|| self.texts[at].value(row).to_owned());
        let number = |at: usize| self.numbers[at].is_valid(row).then(|| self.numbers[at].value(row).cast_unsigned());
        let instant = |at: usize| {
            let micros = self.instants[at].is_valid(row).then(|| self.instants[at].value(row))?;
            DateTime::from_timestamp_micros(micros)
        };
        let must = |at: usize| {
            text(at).with_context(|| format!("a row of {SCHEMA}.{FILES} lacks a value that Wattlake writes"))
        };
        let (name, word) = (must(0)?, must(1)?);
        let Some(verdict) = FileVerdict::ALL.into_iter().find(|verdict| verdict.as_str() == word) else {
            bail!("{SCHEMA}.{FILES} has the verdict {word:?}, which this version does not know");
        };
        Ok(ArrivalRow {
            ingest: ingest.to_owned(),
            file: ListedFile { name: name.clone(), size: number(3), modified: instant(0), etag: text(4) },
            name,
            sha256: must(3)?.parse()?,
            bytes: number(2).unwrap_or_default(),
            listed_at: instant(1).unwrap_or_default(),
            version: number(0).unwrap_or(1),
            verdict,
            reason: text(2),
            rows: number(1),
            layout: must(5)?.parse()?,
            subjects: Vec::new(),
        })
    }
}
