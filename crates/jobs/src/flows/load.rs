//! **load**: adds rows to a table of the lake, by a layout. The accepted files of an ingest are added,
//! each once, many of them in a commit. The answer of a function is added by document: a row that differs
//! from the one in force becomes a reversal and a new entry, and no row is ever changed.
//!
//! A load that is killed and run again adds what is not there yet. It decides by what the table
//! holds, never by the ledger.

mod documents;
mod load_run;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use chrono::{SubsecRound, TimeDelta, Utc};
use config::Job;
use config::flow::{AnswerPart, LoadSource};
use ingest::layout::Layout;
use ingest::objects::Hash;
use ingest::read::{self, Rows, Verdict};
use serde_json::{Value, json};

use crate::flows::function;
use crate::flows::ingest::{ArrivalRow, FileVerdict, arrivals, current};
use crate::flows::rows;
use crate::runs::{self, FlowOutcome, RunRequest};
use crate::warehouse::Warehouse;

use documents::Counts;
pub(super) use load_run::sql_name;
use load_run::{LoadRun, OPERATION};

/// The rows of files that are committed together.
const COMMIT_BYTES: usize = 64 << 20;

/// How many faults an error lists.
const FAULTS_SHOWN: usize = 10;

/// Runs the load `name` as a run of `load:NAME`. Returns the run's figures.
pub async fn run(warehouse: &Warehouse, request: &RunRequest, name: &str) -> Result<Value> {
    let load = warehouse.load(name)?;
    let period = request.period.map(|period| period.to_string());
    let detail = json!({"load": name, "table": format!("{}.{}", load.schema, load.table), "from": load.from.job()});
    runs::run(warehouse, Job::Load(load), request, detail, async |run| {
        let lake = warehouse.lake().await?;
        let load_run = LoadRun { warehouse, run, load, lake, recorded_at: Utc::now().trunc_subsecs(6) };
        let figures = match &load.from {
            LoadSource::Ingest(from) => load_run.files(from).await?,
            LoadSource::Function { name, part, layout } => {
                load_run.answer(name, part, layout, period.as_deref()).await?
            }
        };
        if figures["rows"].as_u64() > Some(0) {
            let mut fields = figures.clone();
            fields["table"] = json!(load_run.target().to_string());
            fields["for"] = json!(period);
            run.event("load.committed", fields)?;
        }
        Ok(FlowOutcome::succeeded(figures.clone(), figures))
    })
    .await
}

/// Rows of files that wait for a commit.
#[derive(Default)]
struct WaitingRows {
    /// All files have one layout.
    schema: Option<SchemaRef>,
    batches: Vec<RecordBatch>,
    bytes: usize,
    positions: Vec<(String, i64)>,
}

impl LoadRun<'_> {
    /// Loads the accepted files that the table has no rows of.
    async fn files(&self, from: &str) -> Result<Value> {
        let ingest = self.warehouse.ingest(from)?;
        let session = rows::session(self.warehouse, &self.lake)?;
        let past = arrivals(&session, from).await?;
        let loaded = self.loaded_files(&session).await?;
        let accepted = current(&past).into_iter().filter(|arrived| arrived.verdict == FileVerdict::Accepted);
        let mut figures = Figures::default();
        let (mut recorded_at, mut waiting) = (self.recorded_at, WaitingRows::default());
        for arrived in accepted.filter(|arrived| !loaded.contains(&version_key(arrived))) {
            // Of two values that were known at the same time, that of the file which arrived last counts.
            recorded_at += TimeDelta::microseconds(1);
            let of_file = LoadRun { lake: self.lake.clone(), recorded_at, ..*self };
            let read = match self.read_file(arrived, &ingest.layout).await {
                Ok(read) => read,
                Err(error) => {
                    self.commit(&mut waiting).await?;
                    return Err(error);
                }
            };
            figures.files += 1;
            if self.load.document.is_empty() {
                figures.rows += of_file.collect(arrived, &ingest.layout, read, &mut waiting)?;
                if waiting.bytes >= COMMIT_BYTES {
                    self.commit(&mut waiting).await?;
                }
            } else {
                let batches: Vec<RecordBatch> = read.into_iter().map(|rows| rows.batch).collect();
                let origin = documents::Origin {
                    inputs: arrived.sha256.to_string(),
                    code: arrived.layout.to_string(),
                    // A version of a file that is delivered again is in force again.
                    again: true,
                    whole: None,
                };
                figures.add(&documents::enter(&of_file, &session, &ingest.layout, &origin, batches).await?);
            }
        }
        self.commit(&mut waiting).await?;
        Ok(figures.json())
    }

    async fn read_file(&self, arrived: &ArrivalRow, layout: &Layout) -> Result<Vec<Rows>> {
        let object = self.warehouse.objects(&self.lake).get(&arrived.sha256).await?;
        rows_of(object, &arrived.name, layout).await.with_context(|| format!("read {}", arrived.name))
    }

    /// The [`version_key`] of each file that the table has rows of; empty for a table of documents.
    async fn loaded_files(&self, session: &sql::Session) -> Result<Vec<String>> {
        if self.lake.table(&self.target()).await?.is_none() || !self.load.document.is_empty() {
            return Ok(Vec::new());
        }
        let table = sql_name(&self.target());
        let query = format!("SELECT DISTINCT file_name || ' ' || file_version || ' ' || file_sha256 FROM {table}");
        let batches = rows::query(session, &query).await.with_context(|| format!("read which files {table} holds"))?;
        Ok(rows::texts(&batches, 0)?.into_iter().flatten().collect())
    }

    /// Adds a file to the rows that wait for a commit. Returns how many there are of it.
    fn collect(
        &self,
        arrived: &ArrivalRow,
        layout: &Layout,
        read: Vec<Rows>,
        waiting: &mut WaitingRows,
    ) -> Result<u64> {
        // A file without rows creates the table, with all of its columns.
        let none = Rows { batch: RecordBatch::new_empty(layout.schema()), lines: UInt64Array::from(Vec::<u64>::new()) };
        waiting.schema = Some(self.with_origin(arrived, none)?.schema());
        let mut count = 0;
        for rows in read {
            let batch = self.with_origin(arrived, rows)?;
            count += batch.num_rows() as u64;
            waiting.bytes += batch.get_array_memory_size();
            waiting.batches.push(batch);
        }
        waiting.positions.push((format!("load/{}/{}", self.load.name, version_key(arrived)), 1));
        Ok(count)
    }

    /// Commits rows of files, each with its position: a file that another run has loaded since fails all of them.
    async fn commit(&self, waiting: &mut WaitingRows) -> Result<()> {
        let WaitingRows { schema, batches, positions, .. } = std::mem::take(waiting);
        let Some(schema) = schema else { return Ok(()) };
        rows::append(&self.lake, &self.target(), self.run.id(), OPERATION, &schema, batches, positions).await?;
        Ok(())
    }

    /// Adds the columns that say where each row comes from: `file_name`, `file_version`, `file_sha256`,
    /// `file_row`, `recorded_at`.
    fn with_origin(&self, arrived: &ArrivalRow, rows: Rows) -> Result<RecordBatch> {
        let count = rows.batch.num_rows();
        let text =
            |text: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, count))) };
        let lines: Int64Array = rows.lines.iter().map(|line| line.map(u64::cast_signed)).collect();
        let at = TimestampMicrosecondArray::from_value(self.recorded_at.timestamp_micros(), count).with_timezone("UTC");
        let version = Int64Array::from_value(arrived.version.cast_signed(), count);
        let schema = rows.batch.schema();
        let own = schema.fields().iter().zip(rows.batch.columns());
        let own = own.map(|(field, column)| (field.name().clone(), Arc::clone(column), true));
        let origin: [(&str, ArrayRef); 5] = [
            ("file_name", text(&arrived.name)),
            ("file_version", Arc::new(version)),
            ("file_sha256", text(&arrived.sha256.to_string())),
            ("file_row", Arc::new(lines)),
            ("recorded_at", Arc::new(at)),
        ];
        let origin = origin.into_iter().map(|(name, column)| (name.to_owned(), column, true));
        RecordBatch::try_from_iter_with_nullable(own.chain(origin)).context("add the columns of the rows' origin")
    }

    /// Loads the answer of a function, or the part of it that the load names.
    async fn answer(&self, name: &str, part: &AnswerPart, layout: &Layout, period: Option<&str>) -> Result<Value> {
        let run = function::latest_answer(self.warehouse, name, period)?;
        let answer = |file| function::open_answer(self.warehouse, &self.lake, &run, file);
        let rows = match part {
            AnswerPart::Whole => answer(None).await?,
            AnswerPart::At(at) => {
                value_at(answer(None).await?, at).with_context(|| format!("find {at:?} in the answer of {name}"))?
            }
            AnswerPart::File(file) => answer(Some(file)).await?,
        };
        let read = rows_of(rows, "", layout).await.with_context(|| format!("read the answer of {name}"))?;
        let session = rows::session(self.warehouse, &self.lake)?;
        let text = |key: &str| run.inputs[key].as_str().unwrap_or_default().to_owned();
        let code = Hash::of(format!("{} {}", text("function"), text("code")).as_bytes()).to_string();
        let origin =
            documents::Origin { inputs: text("event"), code, again: false, whole: Some(period.map(str::to_owned)) };
        let batches: Vec<RecordBatch> = read.into_iter().map(|rows| rows.batch).collect();
        let mut figures = Figures::default();
        figures.add(&documents::enter(self, &session, layout, &origin, batches).await?);
        let mut shown = figures.json();
        shown["answer_of"] = json!(run.id);
        Ok(shown)
    }
}

/// Names one version of a file, in commits and in queries.
fn version_key(arrived: &ArrivalRow) -> String {
    format!("{} {} {}", arrived.name, arrived.version, arrived.sha256)
}

/// All rows of a file of this name.
///
/// # Errors
/// The file breaks its layout's rules: the error lists the first faults.
pub(super) async fn rows_of(file: File, name: &str, layout: &Layout) -> Result<Vec<Rows>> {
    let (layout, name) = (layout.clone(), name.to_owned());
    let read = tokio::task::spawn_blocking(move || {
        let mut rows = Vec::new();
        let report = read::read(file, &name, &layout, &mut |one| {
            rows.push(one);
            Ok(())
        })?;
        Ok::<_, ingest::Error>((rows, report))
    });
    let (rows, report) = read.await.context("read rows")??;
    if let Verdict::Quarantine { reason } = &report.verdict {
        let faults: Vec<String> = report.faults.iter().take(FAULTS_SHOWN).map(|fault| format!("\n  {fault}")).collect();
        let what = format!("check the rows against their layout: {reason}{}", faults.concat());
        return Err(ingest::Error::new(ingest::Kind::FixInput, what).into());
    }
    Ok(rows)
}

/// The value of one name of a JSON object, as a file of its own.
fn value_at(mut answer: File, at: &str) -> Result<File> {
    let mut text = String::new();
    answer.read_to_string(&mut text)?;
    let mut whole: serde_json::Map<String, Value> =
        serde_json::from_str(&text).context("the answer is not a JSON object")?;
    let names = whole.keys().cloned().collect::<Vec<_>>().join(", ");
    let rows = whole.remove(at).with_context(|| format!("the answer has no {at:?}; it has: {names}"))?;
    let mut file = tempfile::tempfile().context("create a temporary file for rows")?;
    file.write_all(&serde_json::to_vec(&rows)?)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

#[derive(Default)]
struct Figures {
    files: u64,
    rows: u64,
    documents: u64,
    counts: Counts,
}

impl Figures {
    fn add(&mut self, added: &documents::DocumentCounts) {
        self.rows += added.rows;
        self.documents += added.documents;
        self.counts.add(added.counts);
    }

    fn json(&self) -> Value {
        json!({
            "files": self.files, "rows": self.rows, "documents": self.documents, "new": self.counts.new,
            "same": self.counts.same, "changed": self.counts.changed, "withdrawn": self.counts.withdrawn,
        })
    }
}
