//! **mart**: a query's answer kept as a table of the lake. One run, one commit: the rows that are
//! new, those that they take the place of, and the versions of the tables that they were computed
//! from. Killed at any instant, the table is as it was or as it should be.
//!
//! Where nothing that the query reads has changed, nothing is done. Where it is proven that only
//! rows from some value of `since` on may differ, only those are computed and replaced.

mod columns;
mod marks;
mod state;

use std::time::Instant;

use anyhow::{Context, Result};
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use lake::{DataFile, FileWriter, Hidden, Lake, Table, TableName};
use ledger::Run;
use serde_json::{Value, json};
use sql::{Affected, Limits, Query, Session};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::config::{self, Mart, MartKind};
use crate::jobs::{self, Asked, Ended};
use crate::system::LedgerTables;
use crate::warehouse::Warehouse;
use marks::Marks;

pub use columns::{check_order, schema_of};
pub use state::{Status, status};

/// Beyond it sorts and aggregates go to disk.
const MEMORY_BYTES: usize = 2 << 30;
const OPERATION: &str = "mart";

pub async fn refresh(warehouse: &Warehouse, asked: &Asked, name: &str, full: bool) -> Result<Value> {
    let mart = warehouse.mart(name)?;
    if mart.kind == MartKind::View {
        let context = format!("refresh {name}: it is a view, computed by each query; kind = \"table\" keeps it");
        return Err(sql::Error::new(sql::Kind::FixInput, context).into());
    }
    let detail = json!({"mart": name, "full": full});
    jobs::run(warehouse, &format!("mart:{name}"), asked, detail, async |begun| {
        let figures = run(warehouse, begun, mart, full).await?;
        Ok(Ended::well(figures.clone(), figures))
    })
    .await
}

/// Brings a mart's table up to its inputs. Returns what it came to.
async fn run(warehouse: &Warehouse, run: &Run, mart: &Mart, full: bool) -> Result<Value> {
    let (started, name) = (Instant::now(), &mart.name);
    let lake = warehouse.lake().await?;
    let limits = Limits { memory_bytes_max: Some(MEMORY_BYTES), partitions: None };
    let system = std::sync::Arc::new(LedgerTables::of(&warehouse.ledger));
    let session = Session::with_limits(lake.clone(), system, None, limits)?.with_views(warehouse.config.views());
    let query = session.prepare(&mart.sql).await.with_context(|| format!("plan mart {name}"))?;
    let refresh = Refresh { mart, lake: &lake, query, marks: Marks::of(&warehouse.config, mart) };
    let table = lake.table(&refresh.target()).await?;
    let what = refresh.what(table.as_ref(), full).await?;
    let written = refresh.carry_out(run, table.as_ref(), &what).await?;
    let inputs = refresh.query.inputs();
    let versions = inputs.iter().map(|table| (table.name().to_string(), json!(table.version())));
    run.note_inputs(&versions.collect())?;
    let mut figures = json!({
        "table": refresh.target().to_string(), "how": what.how(), "why": what.why(), "rows": written.rows,
        "replaced": written.replaced, "bytes_written": written.bytes, "version": written.version,
    });
    if written.version.is_some() && !matches!(what, What::Note) {
        let mut fields = figures.clone();
        fields["mart"] = json!(name);
        run.event("mart.refreshed", fields)?;
    }
    figures["seconds"] = json!(started.elapsed().as_secs_f64());
    Ok(figures)
}

/// What a refresh has to do.
enum What {
    Nothing,
    /// Only to note that the inputs were looked at.
    Note,
    /// From this value of the mart's `since` on.
    Part(i64),
    Whole(String),
}

impl What {
    fn how(&self) -> &'static str {
        match self {
            What::Nothing | What::Note => "nothing",
            What::Part(_) => "part",
            What::Whole(_) => "whole",
        }
    }

    fn why(&self) -> Option<&str> {
        match self {
            What::Whole(why) => Some(why),
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
    query: Query,
    marks: Marks,
}

impl Refresh<'_> {
    fn target(&self) -> TableName {
        TableName::new(&self.mart.schema, &self.mart.table)
    }

    /// Sets out from what the table's own commits say, never from the ledger.
    async fn what(&self, table: Option<&Table>, full: bool) -> Result<What> {
        let since = self.mart.since.as_deref();
        if let Some(since) = since {
            self.query.check_since(since)?;
        }
        let schema = schema_of(&self.query.schema())?;
        columns::check_order(&self.mart.order, &schema)?;
        let Some(table) = table else { return Ok(What::Whole("the first refresh".to_owned())) };
        let Some(mark) = self.marks.query_of(table).await? else {
            let context = format!(
                "refresh {}: {} is a table that no mart made; give the mart's file another name, or remove the table",
                self.mart.name,
                table.name()
            );
            return Err(sql::Error::new(sql::Kind::FixInput, context).into());
        };
        if full {
            return Ok(What::Whole("asked for".to_owned()));
        }
        if mark != self.marks.query || table.schema()? != schema {
            return Ok(What::Whole("the query changed".to_owned()));
        }
        if self.query.is_moving() {
            return Ok(What::Whole("the query asks for more than the lake's tables, such as the time".to_owned()));
        }
        let before = marks::inputs_of(table, &self.query.inputs()).await?;
        Ok(match self.query.affected(since, &before).await? {
            Affected::Nothing => What::Nothing,
            Affected::Nowhere => What::Note,
            Affected::From(least) => What::Part(least),
            Affected::Everything(why) => What::Whole(why),
        })
    }

    async fn carry_out(&self, run: &Run, table: Option<&Table>, what: &What) -> Result<Written> {
        let target = self.target();
        let schema = schema_of(&self.query.schema())?;
        let (part, hidden) = match (what, table, &self.mart.since) {
            (What::Nothing, ..) => return Ok(Written::default()),
            (What::Part(least), Some(table), Some(since)) => {
                (Some((since.as_str(), *least)), table.rows_from(since, *least).await?)
            }
            _ => (None, Hidden::default()),
        };
        let files = match what {
            What::Note => Vec::new(),
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
        let commit = match (what, table) {
            (What::Part(_) | What::Note, Some(table)) => table.commit(run.id(), OPERATION).hide(hidden),
            _ => self.lake.replace(&target, schema, run.id(), OPERATION).await?.order(&self.mart.order),
        };
        let commit = self.marks.on(commit.files(files), &self.query.inputs())?;
        let version = commit.write().await?;
        #[cfg(feature = "failpoints")]
        fail::fail_point!("mart-after-commit");
        Ok(Written { version: Some(version), ..written })
    }

    /// A batch at a time, whatever the answer's size.
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
            let batch = batch.map_err(sql::Error::from_query)?;
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

impl config::Warehouse {
    /// The queries that answer under names.
    pub fn views(&self) -> std::sync::Arc<sql::Views> {
        let views = self.marts.values().filter(|mart| mart.kind == MartKind::View);
        let views = views.map(|mart| (TableName::new(&mart.schema, &mart.table), mart.sql.clone()));
        std::sync::Arc::new(views.collect())
    }
}

#[cfg(test)]
mod tests;
