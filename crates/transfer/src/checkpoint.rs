//! What a target stores about each of its tables: which table of which source its rows come from, how they were read,
//! and up to which position.
//!
//! The checkpoint is stored in the target, in the commit that writes the rows, and belongs to the table: a transfer
//! that is renamed continues from it, and no two tables share one.

use lake::row_history::{HistoryState, SourceColumns};
use serde::{Deserialize, Serialize};

use crate::cursor::CursorValue;
use crate::plan::TablePlan;
use crate::postgres::{Identity, quote};
use crate::timeline::LogPosition;

/// The name of the position up to which a table of the lake has the changes of the source's log.
pub const STREAM: &str = "wattlake.changes";

/// For how many hours the versions of a table are kept that is committed every second.
pub const STREAM_RETENTION_HOURS: u32 = 24;

/// The checkpoint of one table. A table that an earlier build filled has a position and no origin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// Where the rows come from.
    pub origin: Option<Origin>,
    /// Up to where they have been read; `None` where the table is read whole each time.
    pub position: Option<Position>,
}

/// Up to where a table has been transferred. Its JSON is stored in the target.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Position {
    /// The greatest cursor value transferred; `None` where no row of the source has had one.
    pub high: Option<CursorValue>,
    /// The cursor value from which on late rows are possible: the next run reads from it. `None` is the beginning.
    pub low: Option<CursorValue>,
    /// The oldest transaction that may have written late rows below `low`; `None` where every writer has ended.
    pub xid: Option<i64>,
    /// The greatest value that the target has ever been given, where the cursor is a single integer.
    pub top: Option<i64>,
    /// The oldest transaction that was running at the snapshot: all older ones had ended.
    pub xmin: Option<i64>,
    /// The last value of the sequence that the cursor's values come from.
    pub sequence: Option<i64>,
    /// The source's position in its write-ahead log: all rows transferred were written before it.
    pub log: Option<LogPosition>,
    /// Why a run refused to continue. It stays until a resync, also where the source no longer shows the cause.
    pub refusal: Option<Refusal>,
}

/// A reason to refuse the next increments that a run found in the source's rows, which may be gone by the next run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// One of [`LASTING_STATES`].
    pub state: String,
    /// The message of the run that found it.
    pub context: String,
}

/// States that are found in the rows or in the log, which a later run may not find again: a [`Refusal`] stores them.
pub const LASTING_STATES: [&str; 4] = ["restarted", "cursor-behind", "refilled", "source-restored"];

/// Where a table's rows came from, and how they were read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The name of the transfer.
    pub transfer: String,
    /// [`Identity::system`] of the source.
    pub system: i64,
    /// [`Identity::database`] of the source.
    pub database: u32,
    /// The OID of the source's table.
    pub table: u32,
    /// `schema.name` of the source's table.
    pub name: String,
    /// The key, as columns of the target.
    pub key: Vec<String>,
    /// The cursor, as columns of the target with their types at the source; empty where the table is read whole each
    /// time.
    pub cursor: Vec<(String, String)>,
    /// The columns that the target has from the source.
    pub columns: Vec<OriginColumn>,
    /// The relations that hold the rows, each with its file node; 0 for a partition that was detached.
    pub storage: Vec<(u32, u32)>,
    /// The condition on the rows: empty where all are read, `None` where an earlier build did not store it.
    #[serde(default)]
    pub filter: Option<String>,
    /// The target has exactly the rows that the source had at the table's position in the log.
    #[serde(default)]
    pub mirrors: bool,
    /// Rows that the source has deleted are in the target, with the time of the delete.
    #[serde(default)]
    pub marks: bool,
    /// The stream whose position in the log the table has: the id of its record.
    #[serde(default)]
    pub stream: Option<String>,
    /// The history of the table's rows.
    #[serde(default)]
    pub history: Option<HistoryState>,
}

/// A column of the target's table, with what it was read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginColumn {
    /// `pg_attribute.attnum` at the source; 0 where the value is computed, by a mask for example.
    pub number: i16,
    /// The name at the source when it was last transferred; empty where the value is computed.
    pub name: String,
    /// The name in the target.
    pub target: String,
    /// The target's name by the plan: it differs from `target` where the source's column was renamed since.
    pub planned: String,
    /// The type at the source, as `format_type()` gives it; empty where the value is computed.
    pub type_name: String,
    /// The SQL expression that it is selected by.
    pub expression: String,
    /// Earlier expressions, by which older rows of the target were selected.
    #[serde(default)]
    pub earlier: Vec<String>,
    /// The target has the column from an earlier run, and it is not transferred any more.
    #[serde(default)]
    pub absent: bool,
}

impl Origin {
    /// The origin of a table that is read by this plan, without what earlier runs have added.
    pub fn of(transfer: &str, identity: Identity, plan: &TablePlan) -> Origin {
        let columns = plan.columns.iter().map(|column| {
            let source = column.source.as_ref();
            OriginColumn {
                number: source.map_or(0, |source| source.number),
                name: source.map_or_else(String::new, |source| source.name.clone()),
                target: column.name.clone(),
                planned: source.and_then(|source| source.planned_name.clone()).unwrap_or_else(|| column.name.clone()),
                type_name: source.map_or_else(String::new, |source| source.type_name.clone()),
                expression: column.expression.clone(),
                earlier: Vec::new(),
                absent: false,
            }
        });
        let cursor = plan.cursor.iter().flat_map(|cursor| &cursor.columns);
        Origin {
            transfer: transfer.to_owned(),
            system: identity.system,
            database: identity.database,
            table: plan.source.oid,
            name: plan.source.display(),
            key: plan.key.clone(),
            cursor: cursor.map(|column| (column.name.clone(), column.type_name.clone())).collect(),
            columns: columns.collect(),
            storage: plan.source.leaves.iter().map(|leaf| (leaf.oid, leaf.file_node)).collect(),
            filter: Some(plan.filter.clone().unwrap_or_default()),
            mirrors: false,
            marks: false,
            stream: None,
            history: None,
        }
    }

    /// Adds what is known of the rows that the target keeps from earlier runs: the expressions that they may have been
    /// selected by, and the columns that are not transferred any more.
    #[must_use]
    pub fn with_earlier_columns(mut self, before: &Origin, plan: &TablePlan) -> Origin {
        for (name, earlier) in before.changed_expressions(plan) {
            if let Some(column) = self.columns.iter_mut().find(|column| column.target == name) {
                column.earlier = earlier;
            }
        }
        let gone = before.columns.iter().filter(|was| !self.columns.iter().any(|column| column.target == was.target));
        let gone: Vec<OriginColumn> = gone.map(|was| OriginColumn { absent: true, ..was.clone() }).collect();
        self.columns.extend(gone);
        self
    }

    /// Adds what a table that continues from its position must keep of `before`: partitions that were detached, and the
    /// earlier file nodes of relations in `emptied`, until rows show whether those were filled again.
    #[must_use]
    pub fn with_earlier_storage(mut self, before: &Origin, emptied: &[u32]) -> Origin {
        for (oid, node) in &before.storage {
            match self.storage.iter_mut().find(|(own, _)| own == oid) {
                None => self.storage.push((*oid, 0)),
                Some((_, own)) if emptied.contains(oid) => *own = *node,
                Some(_) => {}
            }
        }
        self
    }

    /// Columns whose values in the target may come from another expression than the plan's, with those expressions.
    pub fn changed_expressions(&self, plan: &TablePlan) -> Vec<(String, Vec<String>)> {
        let mut changed = Vec::new();
        for column in &plan.columns {
            let Some(was) = self.columns.iter().find(|was| was.target == column.name) else { continue };
            // The expression of a renamed column has changed, and its values have not.
            let renamed = |expression: &String| match &column.source {
                Some(now) if now.number == was.number => expression.replace(&quote(&was.name), &quote(&now.name)),
                _ => expression.clone(),
            };
            let all = was.earlier.iter().chain([&was.expression]).map(renamed);
            let earlier: Vec<String> = all.filter(|earlier| *earlier != column.expression).collect();
            if !earlier.is_empty() {
                changed.push((column.name.clone(), earlier));
            }
        }
        // Columns that the mapping has removed since: the target has their values of earlier rows.
        let is_there = |number: i16| plan.source.columns.iter().any(|column| column.number == number);
        for was in &self.columns {
            if is_there(was.number) && !plan.columns.iter().any(|column| column.name == was.target) {
                changed.push((was.target.clone(), was.earlier.iter().chain([&was.expression]).cloned().collect()));
            }
        }
        changed
    }

    /// Its history, which ends at an instant where it is open.
    pub fn ended_history(&self, at_micros: i64) -> Option<HistoryState> {
        self.history.clone().map(|state| state.closed(at_micros, self.source_columns()))
    }

    /// The columns that have a number at the source.
    pub fn source_columns(&self) -> SourceColumns {
        let numbered = self.columns.iter().filter(|column| column.number != 0);
        let numbers = numbered.map(|column| (column.target.clone(), column.number)).collect();
        SourceColumns { relation: self.table, numbers }
    }

    /// The file node of a relation at the last run: 0 where it was detached, `None` where it is not known.
    pub fn file_node(&self, relation: u32) -> Option<u32> {
        self.storage.iter().find(|(oid, _)| *oid == relation).map(|(_, node)| *node)
    }
}
