//! The system tables of the ledger and of the configuration, such as `system.runs`, `system.queue` and `system.marts`.
//! Each is declared once, in `tables`: SQL, the paths of `/api` over HTTP, `--json` of the command line and
//! docs/system-tables.md all come from that declaration.

mod column;
mod model_tables;
mod row_models;
mod tables;

use std::sync::Arc;

use anyhow::Result;
use arrow::array::RecordBatch;
use ledger::Ledger;
use serde_json::Value;
use sql::SystemTables;

pub use column::{Column, ColumnValue};
use column::{batch, object};
pub use model_tables::{ENDPOINT_CONFIGS, ENDPOINTS, MODEL_VERSIONS, MODELS, REQUESTS, TRAINING_JOBS};
pub use tables::{EVENTS, LOGS, MARTS, QUEUE, QUEUE_STATES, RUN_STATES, RUNS, SCHEDULES, TRANSFERS};

/// How many rows a system table has at most in SQL; `wattlake runs --limit` shows older runs.
const ROWS_MAX: usize = 100_000;

/// What the rows of system tables are read from.
#[derive(Clone)]
pub struct Sources {
    ledger: Ledger,
    /// The configuration and the lake, for `system.marts`.
    marts: Option<(config::Warehouse, lake::Lake)>,
}

/// Which rows of a system table are read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection<'a> {
    /// At most so many rows; the newest, where rows have an age.
    pub limit: usize,
    /// The value of the table's [`SystemTable::filter`] column.
    pub only: Option<&'a str>,
}

/// The declaration of a system table over rows of the type `T`.
pub struct SystemTable<T: 'static> {
    /// Its name, without the schema.
    pub name: &'static str,
    /// What a row is, in one sentence.
    pub documentation: &'static str,
    /// The column by which [`Selection::only`] selects.
    pub filter: Option<&'static str>,
    pub columns: &'static [Column<T>],
    read: fn(&Sources, &Selection<'_>) -> Result<Vec<T>>,
}

impl<T> SystemTable<T> {
    /// A row as JSON: an object with a key for each column.
    pub fn json(&self, row: &T) -> Value {
        object(self.columns, row)
    }

    /// The selected rows of a ledger's table as JSON.
    pub fn select(&self, ledger: &Ledger, selection: &Selection<'_>) -> Result<Vec<Value>> {
        let rows = (self.read)(&Sources { ledger: ledger.clone(), marts: None }, selection)?;
        Ok(rows.iter().map(|row| self.json(row)).collect())
    }
}

/// The part of [`SystemTable`] that does not depend on the type of its rows.
trait AnyTable: Sync {
    fn name(&self) -> &'static str;
    fn batch(&self, sources: &Sources) -> Result<RecordBatch>;
    /// A chapter of the reference.
    fn reference(&self) -> String;
}

impl<T: 'static> AnyTable for SystemTable<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn batch(&self, sources: &Sources) -> Result<RecordBatch> {
        batch(self.columns, &(self.read)(sources, &Selection { limit: ROWS_MAX, only: None })?)
    }

    fn reference(&self) -> String {
        let columns = self.columns.iter().map(|column| (column.name, column.type_name(), column.documentation));
        chapter(self.name, self.documentation, columns)
    }
}

/// All tables of this crate, in the order of the reference.
const ALL: [&dyn AnyTable; 13] = [
    &RUNS,
    &TRANSFERS,
    &EVENTS,
    &QUEUE,
    &SCHEDULES,
    &LOGS,
    &MARTS,
    &TRAINING_JOBS,
    &MODEL_VERSIONS,
    &MODELS,
    &ENDPOINT_CONFIGS,
    &ENDPOINTS,
    &REQUESTS,
];

/// The tables of docs/system-tables.md, as Markdown: those of this crate, then those that the crate `sql` computes.
pub fn reference() -> String {
    let own = ALL.iter().map(|table| table.reference());
    let others = sql::system_table_reference().into_iter();
    let others = others.map(|table| chapter(table.name, table.documentation, table.columns.into_iter()));
    own.chain(others).collect()
}

fn chapter<'a>(name: &str, text: &str, columns: impl Iterator<Item = (&'a str, &'a str, &'a str)>) -> String {
    let rows = columns.map(|(name, kind, text)| format!("| `{name}` | {kind} | {text} |\n"));
    format!("\n## system.{name}\n\n{text}\n\n| column | type | meaning |\n|---|---|---|\n{}", rows.collect::<String>())
}

/// The system tables for SQL sessions.
pub struct LedgerTables(Sources);

impl LedgerTables {
    /// The tables of a ledger, without `system.marts`.
    pub fn of(ledger: &Ledger) -> Self {
        LedgerTables(Sources { ledger: ledger.clone(), marts: None })
    }

    /// Adds `system.marts`.
    #[must_use]
    pub fn with_marts(mut self, config: config::Warehouse, lake: lake::Lake) -> Self {
        self.0.marts = Some((config, lake));
        self
    }

    fn tables(&self) -> impl Iterator<Item = &'static dyn AnyTable> {
        let has_marts = self.0.marts.is_some();
        ALL.into_iter().filter(move |table| has_marts || table.name() != MARTS.name)
    }
}

impl SystemTables for LedgerTables {
    fn model(&self, endpoint: &str) -> sql::Result<Arc<dyn sql::RowModel>> {
        row_models::model(&self.0.ledger, endpoint)
    }

    fn names(&self) -> Vec<&'static str> {
        self.tables().map(AnyTable::name).collect()
    }

    fn scan(&self, name: &str) -> sql::Result<RecordBatch> {
        let found = self.tables().find(|table| table.name() == name);
        let table = found.ok_or_else(|| sql::Error::input(format!("there is no table system.{name}")))?;
        table.batch(&self.0).map_err(|error| {
            let source: Box<dyn std::error::Error + Send + Sync> = error.into();
            sql::Error::retry(format!("read system.{name}")).because(source)
        })
    }
}
