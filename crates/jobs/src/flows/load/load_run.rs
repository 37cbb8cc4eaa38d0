//! What the steps of one run of a load share.

use chrono::{DateTime, Utc};
use config::Load;
use lake::{Lake, TableName};
use ledger::Run;

use crate::warehouse::Warehouse;

/// The operation of a load's commits.
pub(super) const OPERATION: &str = "load";

/// What the steps of one run share.
pub(super) struct LoadRun<'a> {
    pub(super) warehouse: &'a Warehouse,
    pub(super) run: &'a Run,
    pub(super) load: &'a Load,
    pub(super) lake: Lake,
    pub(super) recorded_at: DateTime<Utc>,
}

impl LoadRun<'_> {
    /// The table that the rows are added to.
    pub(super) fn target(&self) -> TableName {
        TableName::new(&self.load.schema, &self.load.table)
    }
}

/// The table's name, quoted for SQL.
pub(in crate::flows) fn sql_name(name: &TableName) -> String {
    name.to_string().split('.').map(|part| format!("\"{part}\"")).collect::<Vec<_>>().join(".")
}
