//! Rows that are committed late. A cursor runs ahead of them: a transaction takes id 100, another
//! takes 101 and commits, a transfer sees 101, then 100 is committed.
//!
//! How none is lost. Before the snapshot is taken, the greatest cursor is read (the mark), then
//! who is writing to the table (locks), and those writers are given a moment to end. Whoever
//! still writes when the snapshot is taken began after the mark, so its rows lie above it, and
//! the next run reads again from the mark on; what the target has already is told by its key.
//! A writer that does not end in time is remembered by the snapshot's oldest transaction: the
//! next run also takes the rows below the mark that are of that transaction or a later one.
//!
//! A timestamp is not given out in order even then (it is the time at which the transaction
//! began, or another machine's clock): an overlap is read again on top.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::error::{Context, Error, Kind, Result};
use crate::plan::{Cursor, TablePlan};
use crate::postgres::quote;

/// How long writers that were met are waited for before they are remembered instead.
const SETTLE: Duration = Duration::from_secs(3);

/// What was seen of a table before the snapshot.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mark {
    /// The greatest cursor value, as an integer or in microseconds since 1970.
    pub cursor: Option<i64>,
    /// Every writer that was met has ended.
    pub is_settled: bool,
    /// The oldest transaction that was running then.
    pub xmin: i64,
}

/// Up to where a table has been carried, as its target keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The greatest cursor value carried.
    pub high: i64,
    /// From here on rows may have come late.
    pub low: i64,
    /// Where a writer did not end: rows of this transaction and later ones may have come late, anywhere.
    pub xid: Option<i64>,
}

/// Marks by table, and the tables that could not be marked: the others are carried without them.
#[derive(Debug, Default)]
pub struct Marks {
    pub marks: HashMap<u32, Mark>,
    pub failed: HashMap<u32, Error>,
}

/// Marks each table of the plan that has a cursor.
pub async fn mark(client: &Client, plans: &[&TablePlan]) -> Result<Marks> {
    let (mut marks, mut failed) = (HashMap::new(), HashMap::new());
    let row = client.query_one(RUNNING, &[]).await.context("ask which transactions are running")?;
    let (xmin, is_standby): (i64, bool) = (row.get(0), row.get(1));
    for plan in plans {
        if let Some(cursor) = &plan.cursor {
            match greatest(client, plan, cursor).await {
                Ok(cursor) => {
                    marks.insert(plan.source.oid, Mark { cursor, is_settled: false, xmin });
                }
                Err(error) if error.kind == Kind::Retry => return Err(error),
                Err(error) => {
                    failed.insert(plan.source.oid, error);
                }
            }
        }
    }
    if is_standby {
        // The primary's locks are not seen here: its writers count as never ended.
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
                mark.is_settled = !met.iter().any(still);
            }
        }
        if marks.values().all(|mark| mark.is_settled) || started.elapsed() > SETTLE {
            return Ok(Marks { marks, failed });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The position that a run leaves, given what the table's greatest cursor was under the snapshot.
///
/// That no transaction was running at the cut says nothing: a writer gets its number from
/// PostgreSQL with its first row, and may have taken its place in the order long before.
pub fn next(mark: Mark, high: i64, overlap: i64) -> Position {
    let low = mark.cursor.unwrap_or(i64::MIN).min(high);
    let xid = (!mark.is_settled).then_some(mark.xmin);
    Position { high, low: low.min(high.saturating_sub(overlap)), xid }
}

/// What the next run asks for: all above `low`, and what an unended writer left below it.
pub fn condition(position: Position, cursor: &Cursor) -> String {
    let column = quote(&cursor.column);
    let above = format!("{column} > {}", cursor.literal(position.low));
    match position.xid {
        None => above,
        // Compared by age, since a row carries only the lower half of its transaction's number.
        Some(xid) => format!("({above} OR age(xmin) <= age('{}'::xid))", xid & 0xffff_ffff),
    }
}

async fn greatest(client: &Client, plan: &TablePlan, cursor: &Cursor) -> Result<Option<i64>> {
    let sql =
        format!("SELECT {} FROM {}", cursor.as_integer(&format!("max({})", quote(&cursor.column))), plan.source.rows());
    let row = client.query_one(&sql, &[]).await.context(format!("read the cursor of {}", plan.source.display()))?;
    Ok(row.get(0))
}

/// Who holds a lock that goes with writing, by table.
async fn writers(client: &Client) -> Result<Vec<(u32, String)>> {
    let rows = client.query(WRITERS, &[]).await.context("list who is writing")?;
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
