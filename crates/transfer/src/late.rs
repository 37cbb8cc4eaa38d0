//! Late rows: rows that are committed after a run has passed their cursor value. A transaction takes id 100, another
//! takes 101 and commits, a run reads 101, then 100 is committed.
//!
//! No late row is lost. Before the snapshot, the greatest cursor value is read (the mark), then the transactions that
//! hold a lock for writing, and these writers get a few seconds to end. A transaction that still writes when the
//! snapshot is taken began after the mark, so its rows are above the mark. The next run reads from the mark on, and
//! matches by key the rows that the target has already. Where a writer does not end in time, the position stores the
//! oldest transaction of that moment: the next run also reads the rows below the mark of that transaction and of later
//! ones.
//!
//! Timestamps are not assigned in order even so: they hold the time at which the transaction began, or the clock of
//! another machine. For them an overlap is read again as well.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::checkpoint::Position;
use crate::cursor::{Cursor, CursorValue, TRANSACTION};
use crate::error::{Context, Error, Kind, Result};
use crate::plan::TablePlan;

/// How long to wait for the writers of a table to end before their oldest transaction is stored instead.
const WRITERS_WAIT_MAX: Duration = Duration::from_secs(3);

/// How many queries for greatest cursor values run at a time, on one connection.
const QUERIES_AT_A_TIME: usize = 32;

/// The high-water mark of a table, read before the snapshot.
#[derive(Debug, Clone, Default)]
pub struct Mark {
    /// The greatest cursor value; `None` where no row has one, and for `xmin`.
    pub value: Option<CursorValue>,
    /// Every transaction that was writing to the table when the mark was read has ended.
    pub writers_ended: bool,
    /// The oldest transaction that was running when the mark was read.
    pub xmin: i64,
}

/// The marks of a transfer's tables. A table whose mark could not be read does not stop the others.
#[derive(Debug, Default)]
pub struct Marks {
    /// By the table's OID.
    pub marks: HashMap<u32, Mark>,
    /// Why a mark could not be read, by the table's OID.
    pub failed: HashMap<u32, Error>,
}

/// Reads the mark of each table that has a cursor, and waits up to three seconds for their writers to end.
///
/// # Errors
/// Where the connection fails. A query that fails for one table is in [`Marks::failed`].
pub async fn read_marks(client: &Client, plans: &[&TablePlan]) -> Result<Marks> {
    let row = client.query_one(RUNNING, &[]).await.context("read which transactions are running")?;
    let (xmin, is_standby): (i64, bool) = (row.get(0), row.get(1));
    let Marks { mut marks, failed } = greatest_values(client, plans, xmin).await?;
    if is_standby {
        // A standby does not show the primary's locks: its writers count as still writing.
        return Ok(Marks { marks, failed });
    }
    let met = writers(client).await?;
    let started = Instant::now();
    loop {
        let now = writers(client).await?;
        for plan in plans {
            if let Some(mark) = marks.get_mut(&plan.source.oid) {
                let still = |(relation, writer): &(u32, String)| {
                    plan.relations().any(|oid| oid == *relation) && now.contains(&(*relation, writer.clone()))
                };
                mark.writers_ended = !met.iter().any(still);
            }
        }
        if marks.values().all(|mark| mark.writers_ended) || started.elapsed() > WRITERS_WAIT_MAX {
            return Ok(Marks { marks, failed });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The greatest cursor value of each table. A table that is locked, or that fails otherwise, does not stop the others.
async fn greatest_values(client: &Client, plans: &[&TablePlan], xmin: i64) -> Result<Marks> {
    let mut marked = Marks::default();
    let questions = plans.iter().filter_map(|plan| Some((*plan, plan.cursor.as_ref()?)));
    let mut answers = futures::stream::iter(questions)
        .map(async |(plan, cursor)| (plan.source.oid, greatest(client, plan, cursor).await))
        .buffered(QUERIES_AT_A_TIME);
    while let Some((oid, answer)) = answers.next().await {
        match answer {
            Ok(value) => {
                marked.marks.insert(oid, Mark { value, writers_ended: false, xmin });
            }
            Err(error) if error.kind == Kind::Retry && client.is_closed() => return Err(error),
            Err(error) => {
                marked.failed.insert(oid, error);
            }
        }
    }
    Ok(marked)
}

/// The cursor of a table under the snapshot: the result of [`Cursor::bounds_query`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorState {
    /// The greatest value.
    pub high: CursorValue,
    /// The value from which the next run reads again; `None` is the beginning.
    pub low: Option<CursorValue>,
    /// The greatest value is below that of the position.
    pub is_behind: bool,
}

/// The position after a run. `state` is `None` where no row of the source has a cursor value; `before` is the position
/// that the run continued from.
///
/// It is not enough that no transaction was running at the snapshot: PostgreSQL assigns a transaction its number with
/// the first row that it writes, and the row's id may have been taken long before.
pub fn next_position(mark: &Mark, state: Option<CursorState>, before: Option<&Position>) -> Position {
    let xid = (!mark.writers_ended).then_some(mark.xmin);
    match (state, before) {
        (Some(state), Some(before)) if state.is_behind => Position { low: state.low, xid, ..before.clone() },
        (Some(state), before) => {
            Position { high: Some(state.high), low: state.low, xid, ..before.cloned().unwrap_or_default() }
        }
        // All rows are purged: the position does not move.
        (None, Some(before)) => Position { xid, ..before.clone() },
        (None, None) => Position { xid, ..Position::default() },
    }
}

/// The SQL condition for the rows that the next run reads: those from `low` on, those below it of transactions that had
/// not ended, and those without a cursor value. `None` stands for all rows.
pub fn increment_condition(position: &Position, cursor: &Cursor) -> Option<String> {
    let low = position.low.as_ref()?;
    if cursor.is_transaction() {
        return low.0.first().and_then(|xid| xid.parse().ok()).map(written_since);
    }
    let mut conditions = vec![cursor.rows_from(low, cursor.is_key)];
    conditions.extend(cursor.unordered_rows());
    conditions.extend(position.xid.map(written_since));
    Some(match conditions.as_slice() {
        [one] => one.clone(),
        _ => format!("({})", conditions.join(" OR ")),
    })
}

/// The SQL condition for rows of this transaction and of later ones. They are compared by age, since a row holds only
/// the lower 32 bits of its transaction's number.
pub fn written_since(xid: i64) -> String {
    format!("age({TRANSACTION}) <= age('{}'::xid)", xid & 0xffff_ffff)
}

async fn greatest(client: &Client, plan: &TablePlan, cursor: &Cursor) -> Result<Option<CursorValue>> {
    if cursor.is_transaction() {
        return Ok(None);
    }
    let context = || format!("read the cursor of {}", plan.source.display());
    let messages = client.simple_query(&cursor.greatest_query(&plan.source.rows())).await.context(context())?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok(row.map(|row| CursorValue((0..row.len()).filter_map(|at| row.get(at).map(str::to_owned)).collect())))
}

/// The OIDs of tables with the transactions that hold a lock for writing on them.
async fn writers(client: &Client) -> Result<Vec<(u32, String)>> {
    let rows = client.query(WRITERS, &[]).await.context("list the transactions that are writing")?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

const RUNNING: &str = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, pg_is_in_recovery()";

const WRITERS: &str = "SELECT DISTINCT l.relation, l.virtualtransaction FROM pg_locks l \
     JOIN pg_database d ON d.oid = l.database \
     WHERE l.locktype = 'relation' AND l.granted AND d.datname = current_database() \
       AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') \
       AND l.pid IS DISTINCT FROM pg_backend_pid()";

#[cfg(test)]
mod tests;
