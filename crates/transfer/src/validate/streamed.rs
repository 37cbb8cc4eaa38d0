//! The versions of the lake's tables at a position in the log, while a stream writes them: the source is read by a
//! snapshot at a position, and each table at the version that has reached it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use lake::{AsOf, Lake, Table};

use super::digest::RowEncoder;
use crate::changes::source::slot_state;
use crate::changes::{StreamRecord, StreamStore};
use crate::checkpoint::STREAM;
use crate::destination::evolve::schema_of;
use crate::error::{Context, Error, Result};
use crate::lsn::Lsn;
use crate::plan::{Settings, TablePlan};
use crate::postgres::Snapshot;

/// How long the stream is waited for, and between two looks at it.
const WAIT_MAX: Duration = Duration::from_secs(60);
const WAIT: Duration = Duration::from_millis(100);

/// The keys of rows, as a [`RowEncoder`] writes them.
pub type Keys = HashSet<Box<[u8]>>;

/// A table of the lake as it is compared.
pub struct ComparedTable {
    /// The table at the version that is compared.
    pub table: Table,
    /// The rows that the version's commit changed, where some of its changes may be later than the snapshot.
    pub changed: Option<Keys>,
}

impl ComparedTable {
    /// The newest version.
    pub fn newest(table: Table) -> ComparedTable {
        ComparedTable { table, changed: None }
    }
}

/// Whether the transfer's stream runs.
pub async fn is_running(settings: &Settings, snapshot: &Snapshot, version: u32) -> Result<bool> {
    let state = slot_state(snapshot.client(), &settings.changes.slot, version).await?;
    Ok(state.is_some_and(|state| state.active_pid.is_some()))
}

/// The first version of a table that has all changes before `position`.
///
/// # Errors
/// `Retry` where the stream does not reach the position.
pub async fn at_position(
    lake: &Lake,
    settings: &Settings,
    plan: &TablePlan,
    position: Lsn,
) -> Result<Option<ComparedTable>> {
    let started = Instant::now();
    loop {
        // The record before the table: changes that it confirms are in the table.
        let confirmed =
            StreamRecord::read(StreamStore::Lake(lake), &settings.name).await?.map(|record| record.confirmed());
        let Some(table) = lake.table(&plan.target).await.context("open the table in the lake")? else {
            return Ok(None);
        };
        if position_of(&table).await? >= position {
            return first_version(table, plan, position).await.map(Some);
        }
        if confirmed.is_some_and(|confirmed| confirmed >= position) {
            return Ok(Some(ComparedTable::newest(table)));
        }
        if started.elapsed() >= WAIT_MAX {
            let reached = confirmed.unwrap_or_default();
            let what = format!("compare {} at {position} of the log: the stream is at {reached}", plan.target);
            return Err(Error::retry(what).hint("try it again when `lag_seconds` of system.transfers is small"));
        }
        tokio::time::sleep(WAIT).await;
    }
}

async fn first_version(mut table: Table, plan: &TablePlan, position: Lsn) -> Result<ComparedTable> {
    while let Some(earlier) = table.version().checked_sub(1) {
        let before = table.at(AsOf::Version(earlier)).await.context("open the version before")?;
        if position_of(&before).await? < position {
            break;
        }
        table = before;
    }
    if position_of(&table).await? == position {
        return Ok(ComparedTable::newest(table));
    }
    let encoder = RowEncoder::new(plan)?;
    let schema = schema_of(plan);
    let context = "read what the version has changed";
    let mut changed = Keys::new();
    let mut batches = table.read_changed(table.version()).await.context(context)?;
    while let Some(batch) = batches.try_next().await.context(context)? {
        let batch = lake::conform(&batch, &schema).context(context)?;
        changed.extend(encoder.keys(&batch)?.iter().map(|key| Box::from(key.as_ref())));
    }
    Ok(ComparedTable { table, changed: Some(changed) })
}

async fn position_of(table: &Table) -> Result<Lsn> {
    let position = table.position(STREAM).await.context("read the table's position")?;
    Ok(position.map(Lsn::from_i64).unwrap_or_default())
}
