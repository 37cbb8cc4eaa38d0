//! **load**: rows into a table of the lake, by a layout. Of an ingest's accepted files, each in one
//! commit, once; of a function's answer, document by document: what differs from what is in force
//! becomes a reversal and a new entry, and nothing is ever changed.
//!
//! Killed at any instant and run again, it loads what is not there yet: what the table holds
//! decides, never what the ledger remembers.

mod documents;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::Schema;
use chrono::{DateTime, SubsecRound, Utc};
use ingest::layout::Layout;
use ingest::objects::Hash;
use ingest::read::{self, Rows, Verdict};
use lake::{Lake, TableName};
use ledger::Run;
use serde_json::{Value, json};

use crate::config::Load;
use crate::config::flow::{From, Part};
use crate::flows::function;
use crate::flows::ingest::{Arrived, Judged, arrivals, current};
use crate::flows::rows;
use crate::jobs::{self, Asked, Ended};
use crate::warehouse::Warehouse;

use documents::Counts;

const OPERATION: &str = "load";
const FAULTS_TOLD: usize = 10;

pub async fn run(warehouse: &Warehouse, asked: &Asked, name: &str) -> Result<Value> {
    let load = warehouse.load(name)?;
    let period = asked.period.map(|period| period.to_string());
    let detail = json!({"load": name, "table": format!("{}.{}", load.schema, load.table), "from": load.from.job()});
    jobs::run(warehouse, &format!("load:{name}"), asked, detail, async |run| {
        let lake = warehouse.lake().await?;
        let desk = Desk { warehouse, run, load, lake, recorded_at: Utc::now().trunc_subsecs(6) };
        let figures = match &load.from {
            From::Ingest(from) => desk.files(from).await?,
            From::Function { name, part, layout } => desk.answer(name, part, layout, period.as_deref()).await?,
        };
        if figures["rows"].as_u64() > Some(0) {
            let mut fields = figures.clone();
            fields["table"] = json!(desk.target().to_string());
            fields["for"] = json!(period);
            run.event("load.committed", fields)?;
        }
        Ok(Ended::well(figures.clone(), figures))
    })
    .await
}

struct Desk<'a> {
    warehouse: &'a Warehouse,
    run: &'a Run,
    load: &'a Load,
    lake: Lake,
    recorded_at: DateTime<Utc>,
}

impl Desk<'_> {
    fn target(&self) -> TableName {
        TableName::new(&self.load.schema, &self.load.table)
    }

    /// The accepted files that the table has no rows of.
    async fn files(&self, from: &str) -> Result<Value> {
        let ingest = self.warehouse.ingest(from)?;
        let session = rows::session(self.warehouse, &self.lake)?;
        let past = arrivals(&session, from).await?;
        let there = self.hashes_there(&session).await?;
        let accepted = current(&past).into_iter().filter(|arrived| arrived.judged == Judged::Accepted);
        let mut figures = Figures::default();
        for arrived in accepted.filter(|arrived| !there.contains(&version_key(arrived))) {
            let object = self.warehouse.objects(&self.lake).get(&arrived.sha256).await?;
            let read = rows_of(object, &ingest.layout).await.with_context(|| format!("read {}", arrived.name))?;
            figures.files += 1;
            if self.load.document.is_empty() {
                figures.rows += self.append(arrived, &ingest.layout, read).await?;
            } else {
                let batches: Vec<RecordBatch> = read.into_iter().map(|rows| rows.batch).collect();
                let made = documents::Made {
                    inputs: arrived.sha256.to_string(),
                    code: arrived.layout.to_string(),
                    // A version that came back counts again.
                    again: true,
                    whole: None,
                };
                figures.add(&documents::enter(self, &session, &ingest.layout, &made, batches).await?);
            }
        }
        Ok(figures.json())
    }

    async fn hashes_there(&self, session: &sql::Session) -> Result<Vec<String>> {
        if self.lake.table(&self.target()).await?.is_none() || !self.load.document.is_empty() {
            return Ok(Vec::new());
        }
        let table = sql_name(&self.target());
        let query = format!("SELECT DISTINCT file_name || ' ' || file_version || ' ' || file_sha256 FROM {table}");
        let batches = rows::asked(session, &query).await.with_context(|| format!("ask what {table} holds"))?;
        Ok(rows::texts(&batches, 0)?.into_iter().flatten().collect())
    }

    async fn append(&self, arrived: &Arrived, layout: &Layout, read: Vec<Rows>) -> Result<u64> {
        let batches = read.into_iter().map(|rows| self.with_origin(arrived, rows));
        let batches: Vec<RecordBatch> = batches.collect::<Result<_>>()?;
        let schema = match batches.first() {
            Some(batch) => batch.schema(),
            None => Arc::new(Schema::new(layout.schema().fields().clone())),
        };
        let count = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        let position = (format!("load/{}/{}", self.load.name, version_key(arrived)), 1);
        rows::append(&self.lake, &self.target(), self.run.id(), OPERATION, &schema, batches, vec![position]).await?;
        Ok(count)
    }

    /// Where each row came from: `file_name`, `file_version`, `file_sha256`, `file_row`, `recorded_at`.
    fn with_origin(&self, arrived: &Arrived, rows: Rows) -> Result<RecordBatch> {
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
        RecordBatch::try_from_iter_with_nullable(own.chain(origin)).context("write where rows came from")
    }

    async fn answer(&self, name: &str, part: &Part, layout: &Layout, period: Option<&str>) -> Result<Value> {
        let run = function::answered(self.warehouse, name, period)?;
        let answer = |file| function::answer(self.warehouse, &self.lake, &run, file);
        let rows = match part {
            Part::Whole => answer(None).await?,
            Part::At(at) => {
                under(answer(None).await?, at).with_context(|| format!("look into the answer of {name}"))?
            }
            Part::File(file) => answer(Some(file)).await?,
        };
        let read = rows_of(rows, layout).await.with_context(|| format!("read the answer of {name}"))?;
        let session = rows::session(self.warehouse, &self.lake)?;
        let text = |key: &str| run.inputs[key].as_str().unwrap_or_default().to_owned();
        let code = Hash::of(format!("{} {}", text("function"), text("code")).as_bytes()).to_string();
        let made =
            documents::Made { inputs: text("event"), code, again: false, whole: Some(period.map(str::to_owned)) };
        let batches: Vec<RecordBatch> = read.into_iter().map(|rows| rows.batch).collect();
        let mut figures = Figures::default();
        figures.add(&documents::enter(self, &session, layout, &made, batches).await?);
        let mut shown = figures.json();
        shown["answer_of"] = json!(run.id);
        Ok(shown)
    }
}

fn version_key(arrived: &Arrived) -> String {
    format!("{} {} {}", arrived.name, arrived.version, arrived.sha256)
}

/// For a query.
fn sql_name(name: &TableName) -> String {
    name.to_string().split('.').map(|part| format!("\"{part}\"")).collect::<Vec<_>>().join(".")
}

/// All of a file that is as its layout says; anything else is an error that says what is wrong.
async fn rows_of(file: File, layout: &Layout) -> Result<Vec<Rows>> {
    let layout = layout.clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut rows = Vec::new();
        let report = read::read(file, &layout, &mut |one| {
            rows.push(one);
            Ok(())
        })?;
        Ok::<_, ingest::Error>((rows, report))
    });
    let (rows, report) = read.await.context("read rows")??;
    if let Verdict::Quarantine { reason } = &report.verdict {
        let faults: Vec<String> = report.faults.iter().take(FAULTS_TOLD).map(|fault| format!("\n  {fault}")).collect();
        let what = format!("hold the rows against their layout: {reason}{}", faults.concat());
        return Err(ingest::Error::new(ingest::Kind::FixInput, what).into());
    }
    Ok(rows)
}

/// The rows under a name in a JSON object.
fn under(mut answer: File, at: &str) -> Result<File> {
    let mut text = String::new();
    answer.read_to_string(&mut text)?;
    let mut whole: serde_json::Map<String, Value> =
        serde_json::from_str(&text).context("the answer is no JSON object")?;
    let names = whole.keys().cloned().collect::<Vec<_>>().join(", ");
    let rows = whole.remove(at).with_context(|| format!("there is nothing under {at:?}; there are: {names}"))?;
    let mut file = tempfile::tempfile().context("make a file for rows")?;
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
    fn add(&mut self, entered: &documents::Entered) {
        self.rows += entered.rows;
        self.documents += entered.documents;
        self.counts.add(entered.counts);
    }

    fn json(&self) -> Value {
        json!({
            "files": self.files, "rows": self.rows, "documents": self.documents, "new": self.counts.new,
            "same": self.counts.same, "changed": self.counts.changed, "withdrawn": self.counts.withdrawn,
        })
    }
}
