//! Whether a mart is up to date with its inputs. Reads the tables' logs, never their data.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use config::{Mart, MartKind};
use lake::{Lake, TableChanges, TableName};
use ledger::Ledger;
use sql::Session;

use super::provenance::{self, QueryHash};
use super::{OPERATION, schema_of};
use crate::system::LedgerTables;
use crate::unfilled_tables::UnfilledTables;

/// Whether a mart's rows are what its query would return now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// A view, or a table whose inputs have not changed since it was refreshed.
    Fresh,
    /// An input or the query has changed since; says what.
    Stale(String),
    /// It was never refreshed.
    Never,
    /// Tables that its query reads are not filled yet; says which.
    Pending(String),
    /// The query can't be planned; holds the error.
    Broken(String),
}

impl State {
    /// The word for it in `system.marts`.
    pub fn as_str(&self) -> &'static str {
        match self {
            State::Fresh => "fresh",
            State::Stale(_) => "stale",
            State::Never => "never refreshed",
            State::Pending(_) => "pending",
            State::Broken(_) => "broken",
        }
    }

    /// Why it is stale, pending or broken.
    pub fn why(&self) -> Option<&str> {
        match self {
            State::Stale(why) | State::Pending(why) | State::Broken(why) => Some(why),
            _ => None,
        }
    }
}

/// A mart's state, and what it was computed from.
#[derive(Debug, Clone)]
pub struct Status {
    pub state: State,
    /// The tables of the lake that its query reads, also through views, and the version of each that
    /// the mart's rows are computed from; no versions for a view.
    pub inputs: Vec<(TableName, Option<u64>)>,
    pub refreshed_at: Option<DateTime<Utc>>,
    /// How many rows the mart's table has.
    pub rows: Option<u64>,
    /// The version of the mart's own table.
    pub version: Option<u64>,
}

/// Why a mart whose query can't be planned is pending: which tables are not filled yet. `None` where none is missing.
pub async fn pending(config: &config::Warehouse, lake: &Lake, mart: &Mart) -> lake::Result<Option<String>> {
    let unfilled = UnfilledTables::of(config, lake).await?.with_marts().read_by(&mart.sql);
    let tables: Vec<String> = unfilled.into_iter().collect();
    Ok((!tables.is_empty()).then(|| format!("not in the lake yet: {}", tables.join(", "))))
}

/// The state of a mart. Plans its query, and reads the logs of its inputs and of its own table.
pub async fn status(config: &config::Warehouse, lake: &Lake, ledger: &Ledger, mart: &Mart) -> lake::Result<Status> {
    let none = Status { state: State::Fresh, inputs: Vec::new(), refreshed_at: None, rows: None, version: None };
    let planned = async {
        let session = Session::new(lake.clone(), Arc::new(LedgerTables::of(ledger)), None)?;
        let query = session.with_views(config.views()).prepare(&mart.sql).await?;
        let schema = schema_of(&query.schema())?;
        Ok::<_, sql::Error>((query, schema))
    };
    let (query, schema) = match planned.await {
        Ok(planned) => planned,
        Err(error) => {
            let state = match pending(config, lake, mart).await? {
                None => State::Broken(base::chain(&error)),
                Some(why) => State::Pending(why),
            };
            return Ok(Status { state, ..none });
        }
    };
    let inputs = query.inputs();
    if mart.kind == MartKind::View {
        return Ok(Status { inputs: inputs.iter().map(|table| (table.name().clone(), None)).collect(), ..none });
    }
    let hash = QueryHash::of(config, mart);
    let Some(table) = lake.table(&TableName::new(&mart.schema, &mart.table)).await? else {
        let inputs = inputs.iter().map(|table| (table.name().clone(), None)).collect();
        return Ok(Status { state: State::Never, inputs, ..none });
    };
    let before = provenance::inputs_of(&table, &inputs).await?;
    let mut state = State::Fresh;
    if provenance::query_of(&table).await? != Some(hash.value) || table.schema()? != schema {
        state = State::Stale("the query changed".to_owned());
    } else if query.is_volatile() {
        state = State::Stale("the query asks for more than the lake's tables, such as the time".to_owned());
    }
    for input in &inputs {
        let changes = match before.get(input.name()) {
            Some(version) => input.changes_since(*version).await?,
            None => TableChanges::Unknown,
        };
        if changes != TableChanges::None && state == State::Fresh {
            state = State::Stale(format!("{} changed", input.name()));
        }
    }
    let refreshed = table.history().await?.into_iter().find(|version| version.operation == OPERATION);
    Ok(Status {
        state,
        inputs: inputs.iter().map(|input| (input.name().clone(), before.get(input.name()).copied())).collect(),
        refreshed_at: refreshed.and_then(|version| version.at),
        rows: Some(table.size()?.rows),
        version: Some(table.version()),
    })
}
