//! **mart**: keeps the result of a query as a table of the lake. A run is one commit: the new rows,
//! the rows that they replace, and the versions of the tables that they were computed from. A run
//! that is killed leaves the table unchanged or refreshed, never between.
//!
//! Where nothing that the query reads has changed, nothing is done. Where it is proven that only
//! rows from some value of `since` on can differ, only those are computed and replaced.

mod columns;
mod provenance;
mod state;

use std::time::Instant;

use anyhow::{Context, Result};
use arrow::datatypes::SchemaRef;
use config::{Job, Mart, MartKind};
use futures::StreamExt;
use lake::{DataFile, FileWriter, HiddenRows, Lake, Table, TableName};
use ledger::Run;
use serde_json::{Value, json};
use sql::{AffectedRows, Limits, MartQuery, Session};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::runs::{self, FlowOutcome, RunRequest};
use crate::system::LedgerTables;
use crate::warehouse::Warehouse;
use provenance::QueryHash;

pub use columns::{check_order, schema_of};
pub use state::{Status, status};

/// How much memory sorts and aggregates of one refresh use before they spill to disk.
const MEMORY_BYTES: usize = 2 << 30;
const OPERATION: &str = "mart";

/// Refreshes the mart `name` as a run of `mart:NAME`; with `full` all of it. Returns the run's figures.
///
/// # Errors
/// The mart is a view, its query fails, or its table was not made by a mart.
pub async fn refresh(warehouse: &Warehouse, request: &RunRequest, name: &str, full: bool) -> Result<Value> {
    let mart = warehouse.mart(name)?;
    if mart.kind == MartKind::View {
        let context = format!(
            "refresh {name}: it is a view, which each query computes; write kind = \"table\" in its file to store it"
        );
        return Err(sql::Error::new(sql::Kind::FixInput, context).into());
    }
    let detail = json!({"mart": name, "full": full});
    runs::run(warehouse, Job::Mart(mart), request, detail, async |run| {
        let figures = refresh_table(warehouse, run, mart, full).await?;
        Ok(FlowOutcome::succeeded(figures.clone(), figures))
    })
    .await
}

/// Makes a mart's table equal to its query's result. Returns the run's figures.
async fn refresh_table(warehouse: &Warehouse, run: &Run, mart: &Mart, full: bool) -> Result<Value> {
    let (started, name) = (Instant::now(), &mart.name);
    let lake = warehouse.lake().await?;
    let limits = Limits { memory_bytes_max: Some(MEMORY_BYTES), partitions: None };
    let system = std::sync::Arc::new(LedgerTables::of(&warehouse.ledger));
    let session = Session::with_limits(lake.clone(), system, None, limits)?.with_views(warehouse.config.views());
    let query = match session.prepare(&mart.sql).await {
        Ok(query) => query,
        // The jobs that fill its inputs start it again.
        Err(error) => match state::pending(&warehouse.config, &lake, mart).await? {
            Some(why) => {
                return Ok(json!({"table": format!("{}.{}", mart.schema, mart.table), "how": PENDING, "why": why}));
            }
            None => return Err(error).with_context(|| format!("plan mart {name}")),
        },
    };
    let refresh = Refresh { mart, lake: &lake, query, hash: QueryHash::of(&warehouse.config, mart) };
    let table = lake.table(&refresh.target()).await?;
    let scope = refresh.scope(table.as_ref(), full).await?;
    let written = refresh.write_commit(run, table.as_ref(), &scope).await?;
    let inputs = refresh.query.inputs();
    let versions = inputs.iter().map(|table| (table.name().to_string(), json!(table.version())));
    run.note_inputs(&versions.collect())?;
    let mut figures = json!({
        "table": refresh.target().to_string(), "how": scope.how(), "why": scope.why(), "rows": written.rows,
        "replaced": written.replaced, "bytes_written": written.bytes, "version": written.version,
    });
    if written.version.is_some() && !matches!(scope, Scope::RecordOnly) {
        let mut fields = figures.clone();
        fields["mart"] = json!(name);
        run.event("mart.refreshed", fields)?;
    }
    figures["seconds"] = json!(started.elapsed().as_secs_f64());
    Ok(figures)
}

/// What a run's figures say of a mart whose inputs are not filled yet.
const PENDING: &str = "pending";

/// What a refresh has to compute.
enum Scope {
    /// No input has changed.
    Nothing,
    /// The inputs have new versions that change no row: only the versions are recorded.
    RecordOnly,
    /// The rows from this value of the mart's `since` on.
    From(i64),
    /// All rows, for this reason.
    Whole(String),
}

impl Scope {
    fn how(&self) -> &'static str {
        match self {
            Scope::Nothing | Scope::RecordOnly => "nothing",
            Scope::From(_) => "part",
            Scope::Whole(_) => "whole",
        }
    }

    fn why(&self) -> Option<&str> {
        match self {
            Scope::Whole(why) => Some(why),
            _ => None,
        }
    }
}

#[derive(Default)]
struct Written {
    rows: u64,
    replaced: u64,
    bytes: u64,
    version: Option<u64>,
}

struct Refresh<'a> {
    mart: &'a Mart,
    lake: &'a Lake,
    query: MartQuery,
    hash: QueryHash,
}

impl Refresh<'_> {
    fn target(&self) -> TableName {
        TableName::new(&self.mart.schema, &self.mart.table)
    }

    /// Decides by what the table's own commits record, never by the ledger.
    async fn scope(&self, table: Option<&Table>, full: bool) -> Result<Scope> {
        let since = self.mart.since.as_deref();
        if let Some(since) = since {
            self.query.check_since(since)?;
        }
        let schema = schema_of(&self.query.schema())?;
        columns::check_order(&self.mart.order, &schema)?;
        let Some(table) = table else { return Ok(Scope::Whole("the first refresh".to_owned())) };
        let Some(query_hash) = provenance::query_of(table).await? else {
            let context = format!(
                "refresh {}: {} is a table that no mart made; rename the mart's file, or remove the table",
                self.mart.name,
                table.name()
            );
            return Err(sql::Error::new(sql::Kind::FixInput, context).into());
        };
        if full {
            return Ok(Scope::Whole("asked for".to_owned()));
        }
        if query_hash != self.hash.value || table.schema()? != schema {
            return Ok(Scope::Whole("the query changed".to_owned()));
        }
        if self.query.is_volatile() {
            return Ok(Scope::Whole("the query asks for more than the lake's tables, such as the time".to_owned()));
        }
        let before = provenance::inputs_of(table, &self.query.inputs()).await?;
        Ok(match self.query.affected(since, &before).await? {
            AffectedRows::InputsUnchanged => Scope::Nothing,
            AffectedRows::None => Scope::RecordOnly,
            AffectedRows::From(least) => Scope::From(least),
            AffectedRows::All(why) => Scope::Whole(why),
        })
    }

    async fn write_commit(&self, run: &Run, table: Option<&Table>, scope: &Scope) -> Result<Written> {
        let target = self.target();
        let schema = schema_of(&self.query.schema())?;
        let (part, hidden) = match (scope, table, &self.mart.since) {
            (Scope::Nothing, ..) => return Ok(Written::default()),
            (Scope::From(least), Some(table), Some(since)) => {
                (Some((since.as_str(), *least)), table.rows_from(since, *least).await?)
            }
            _ => (None, HiddenRows::default()),
        };
        let files = match scope {
            Scope::RecordOnly => Vec::new(),
            _ => {
                self.write(&target, run, &schema, part).await.with_context(|| format!("compute {}", self.mart.name))?
            }
        };
        let written = Written {
            rows: files.iter().map(|file| file.rows).sum(),
            replaced: hidden.rows(),
            bytes: files.iter().map(|file| file.bytes).sum(),
            version: None,
        };
        #[cfg(feature = "failpoints")]
        fail::fail_point!("mart-before-commit");
        let commit = match (scope, table) {
            (Scope::From(_) | Scope::RecordOnly, Some(table)) => table.commit(run.id(), OPERATION).hide(hidden),
            _ => self.lake.replace(&target, schema, run.id(), OPERATION).await?.order(&self.mart.order),
        };
        let commit = self.hash.record_in(commit.files(files), &self.query.inputs())?;
        let version = commit.write().await?;
        #[cfg(feature = "failpoints")]
        fail::fail_point!("mart-after-commit");
        Ok(Written { version: Some(version), ..written })
    }

    /// Writes the result's data files, a batch at a time, so that memory does not depend on its size.
    async fn write(
        &self,
        target: &TableName,
        run: &Run,
        schema: &SchemaRef,
        part: Option<(&str, i64)>,
    ) -> Result<Vec<DataFile>> {
        let mut batches = self.query.stream(part).await?;
        let writer = self.lake.writer(target, run.id(), std::sync::Arc::clone(schema), Handle::current());
        let (sender, receiver) = mpsc::channel(2);
        let writing = tokio::task::spawn_blocking(move || write_all(writer, receiver));
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|error| sql::error::query_error(error, "run the query"))?;
            let batch = lake::conform(&batch, schema)?;
            if sender.send(batch).await.is_err() {
                break;
            }
        }
        drop(sender);
        Ok(writing.await.context("write a mart's rows")??)
    }
}

fn write_all(
    mut writer: FileWriter,
    mut batches: mpsc::Receiver<arrow::array::RecordBatch>,
) -> lake::Result<Vec<DataFile>> {
    while let Some(batch) = batches.blocking_recv() {
        writer.write(&batch)?;
    }
    writer.finish()
}

#[cfg(test)]
mod tests;
