//! What a target keeps of each of its tables: which table of which source it was filled from, how, and up to where.
//!
//! It lies in the target, in the commit that brings the rows, and belongs to the table: a transfer that is renamed goes
//! on, and two tables never share one.

use serde::{Deserialize, Serialize};

use crate::cursor::Place;
use crate::plan::TablePlan;
use crate::postgres::Identity;
use crate::resume::changed_expressions;
use crate::timeline::LogPosition;

/// Both parts of it. A table that an earlier build filled has a position and no origin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checkpoint {
    pub origin: Option<Origin>,
    pub position: Option<Position>,
}

/// Up to where a table has been carried.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Position {
    /// The greatest place carried; `None` where the source has had no row with one.
    pub high: Option<Place>,
    /// From here on rows may have come late; `None` is the beginning.
    pub low: Option<Place>,
    /// Where a writer did not end: rows of this transaction and later ones may have come late, anywhere.
    pub xid: Option<i64>,
    /// Of a single integer cursor, the greatest value that the target has ever been given.
    pub top: Option<i64>,
    /// The oldest transaction that was running at the snapshot: older ones had ended.
    pub xmin: Option<i64>,
    /// Of the sequence that gives the cursor its values, the last one.
    pub sequence: Option<i64>,
    /// Up to where the source's log went: the rows carried were all written before.
    pub log: Option<LogPosition>,
    /// A run has found that rows would be lost from here on: until a resync, whatever the source shows later.
    pub refusal: Option<Refusal>,
}

/// A state that a run found by rows of the source, which need not be there any more when the next one looks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub state: String,
    pub context: String,
}

/// States that are found by rows or by the log, and not by the catalogue alone.
pub const LASTING: [&str; 4] = ["restarted", "cursor-behind", "refilled", "source-restored"];

/// Where a table's rows came from, and how they were read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub transfer: String,
    pub system: i64,
    pub database: u32,
    pub table: u32,
    pub name: String,
    /// Target columns.
    pub key: Vec<String>,
    /// Target columns with their types at the source; empty where the table is read whole each time.
    pub cursor: Vec<(String, String)>,
    pub columns: Vec<OriginColumn>,
    /// The relations that hold the rows, each with its file node; 0 of one that was detached.
    pub storage: Vec<(u32, u32)>,
    /// Which rows were taken: empty where all were, `None` where an earlier build did not keep it.
    #[serde(default)]
    pub filter: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginColumn {
    /// At the source; 0 where the value is computed, by a mask for example.
    pub number: i16,
    /// At the source, when it was last carried; empty where the value is computed.
    pub name: String,
    pub target: String,
    /// The name that the plan gave it: another one where the target's has outlived a renaming at the source.
    pub planned: String,
    pub type_name: String,
    /// The query's expression for it.
    pub expression: String,
    /// Other expressions, by which rows that the target may still have were carried before.
    #[serde(default)]
    pub earlier: Vec<String>,
    /// The target has it from before, and it is not carried any more.
    #[serde(default)]
    pub absent: bool,
}

impl Origin {
    pub fn of(transfer: &str, identity: Identity, plan: &TablePlan) -> Origin {
        let columns = plan.columns.iter().map(|column| {
            let source = column.source.as_ref();
            OriginColumn {
                number: source.map_or(0, |source| source.number),
                name: source.map_or_else(String::new, |source| source.name.clone()),
                target: column.name.clone(),
                planned: source.and_then(|source| source.planned.clone()).unwrap_or_else(|| column.name.clone()),
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
        }
    }

    /// Of a table that keeps rows from before: remembers by which other expressions they may have been carried, and which
    /// columns of them are not carried any more.
    #[must_use]
    pub fn beside(mut self, before: &Origin, plan: &TablePlan) -> Origin {
        for (name, earlier) in changed_expressions(plan, before) {
            if let Some(column) = self.columns.iter_mut().find(|column| column.target == name) {
                column.earlier = earlier;
            }
        }
        let gone = before.columns.iter().filter(|was| !self.columns.iter().any(|column| column.target == was.target));
        let gone: Vec<OriginColumn> = gone.map(|was| OriginColumn { absent: true, ..was.clone() }).collect();
        self.columns.extend(gone);
        self
    }

    /// Of a table that goes on from its position: partitions that were detached are remembered, and of relations that
    /// were emptied (`unsettled`) the files from before, until rows show whether they were filled again.
    #[must_use]
    pub fn with_storage_of(mut self, before: &Origin, unsettled: &[u32]) -> Origin {
        for (oid, node) in &before.storage {
            match self.storage.iter_mut().find(|(own, _)| own == oid) {
                None => self.storage.push((*oid, 0)),
                Some((_, own)) if unsettled.contains(oid) => *own = *node,
                Some(_) => {}
            }
        }
        self
    }

    pub fn file_node(&self, relation: u32) -> Option<u32> {
        self.storage.iter().find(|(oid, _)| *oid == relation).map(|(_, node)| *node)
    }
}
