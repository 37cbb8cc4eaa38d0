//! What a run is asked to do: the transfer's settings, its source and target, and how it treats tables that hold rows.

use std::path::PathBuf;
use std::sync::Arc;

use lake::Lake;

use crate::plan::Settings;
use crate::postgres::Endpoint;
use crate::publish::StreamTarget;
use crate::read::Progress;
use crate::resume::Permission;

/// Where a transfer writes its tables.
#[derive(Clone)]
pub enum Target {
    /// The lake.
    Lake(Lake),
    /// Another database of PostgreSQL.
    Postgres(Endpoint),
    /// A stream of messages, for changes.
    Stream(StreamTarget),
}

/// The parameters of a run.
pub struct Request {
    /// The transfer's settings.
    pub settings: Settings,
    /// The source's server, on which tables are planned and marked, also where the rows are read from a copy of it.
    pub source: Endpoint,
    /// The target.
    pub target: Target,
    /// The run's id, which is part of the names of the files in the lake.
    pub run: String,
    /// The tables to transfer, as `schema.table`; empty for all tables of the transfer.
    pub tables: Vec<String>,
    /// What the run may do to a table that holds rows.
    pub permission: Permission,
    /// Whether a resync sets columns whose mapping has changed to NULL in rows that the source no longer has.
    pub clears_changed: bool,
    /// Is informed of the progress.
    pub progress: Arc<dyn Progress>,
    /// The folder for what does not fit into memory.
    pub scratch: PathBuf,
}

impl Request {
    /// The same request with another permission.
    pub(crate) fn with_permission(&self, permission: Permission) -> Request {
        Request {
            settings: self.settings.clone(),
            source: self.source.clone(),
            target: self.target.clone(),
            run: self.run.clone(),
            tables: self.tables.clone(),
            permission,
            clears_changed: self.clears_changed,
            progress: Arc::clone(&self.progress),
            scratch: self.scratch.clone(),
        }
    }

    /// What receives the run's progress.
    pub(crate) fn progress(&self) -> Arc<dyn Progress> {
        Arc::clone(&self.progress)
    }
}
