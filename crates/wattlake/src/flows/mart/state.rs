//! Whether a mart shows what its inputs hold now. Reads logs, never data.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use lake::{Changes, Lake, TableName};
use ledger::Ledger;
use sql::Session;

use super::marks::{self, Marks};
use super::{OPERATION, schema_of};
use crate::config::{self, Mart, MartKind};
use crate::report;
use crate::system::LedgerTables;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// A view, or a table whose inputs show the same rows as when it was refreshed.
    Fresh,
    /// And why.
    Stale(String),
    Never,
    /// The query can't be planned: the error.
    Broken(String),
}

impl State {
    pub fn as_str(&self) -> &'static str {
        match self {
            State::Fresh => "fresh",
            State::Stale(_) => "stale",
            State::Never => "never refreshed",
            State::Broken(_) => "broken",
        }
    }

    pub fn why(&self) -> Option<&str> {
        match self {
            State::Stale(why) | State::Broken(why) => Some(why),
            _ => None,
        }
    }
}

/// A mart as it stands.
#[derive(Debug, Clone)]
pub struct Status {
    pub state: State,
    /// The tables of the lake that it is computed from, through views too, and for a table the
    /// versions that it shows.
    pub inputs: Vec<(TableName, Option<u64>)>,
    pub refreshed_at: Option<DateTime<Utc>>,
    pub rows: Option<u64>,
    pub version: Option<u64>,
}

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
        Err(error) => return Ok(Status { state: State::Broken(report::chain(&error)), ..none }),
    };
    let inputs = query.inputs();
    if mart.kind == MartKind::View {
        return Ok(Status { inputs: inputs.iter().map(|table| (table.name().clone(), None)).collect(), ..none });
    }
    let marks = Marks::of(config, mart);
    let Some(table) = lake.table(&TableName::new(&mart.schema, &mart.table)).await? else {
        let inputs = inputs.iter().map(|table| (table.name().clone(), None)).collect();
        return Ok(Status { state: State::Never, inputs, ..none });
    };
    let before = marks::inputs_of(&table, &inputs).await?;
    let mut state = State::Fresh;
    if marks.query_of(&table).await? != Some(marks.query) || table.schema()? != schema {
        state = State::Stale("the query changed".to_owned());
    } else if query.is_moving() {
        state = State::Stale("the query asks for more than the lake's tables, such as the time".to_owned());
    }
    for input in &inputs {
        let changes = match before.get(input.name()) {
            Some(version) => input.changes_since(*version).await?,
            None => Changes::Whole,
        };
        if changes != Changes::None && state == State::Fresh {
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
