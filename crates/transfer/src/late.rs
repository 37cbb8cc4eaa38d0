//! Rows that are committed late. A cursor runs ahead of them: a transaction takes id 100, another
//! takes 101 and commits, a transfer sees 101, then 100 is committed.
//!
//! How none is lost. Before the snapshot is taken, the greatest cursor is read (the mark), then
//! who is writing to the table (locks), and those writers are given a moment to end. Whoever
//! still writes when the snapshot is taken began after the mark, so its rows lie above it, and
//! the next run reads again from the mark on; what the target has already is matched by its key.
//! A writer that does not end in time is remembered by the snapshot's oldest transaction: the
//! next run also takes the rows below the mark that are of that transaction or a later one.
//!
//! A timestamp is not given out in order even then (it is the time at which the transaction
//! began, or another machine's clock): an overlap is read again on top.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::checkpoint::Position;
use crate::cursor::{Cursor, Place, TRANSACTION};
use crate::error::{Context, Error, Kind, Result};
use crate::plan::TablePlan;

/// How long writers that were met are waited for before they are remembered instead.
const SETTLE: Duration = Duration::from_secs(3);

/// Questions about the tables' greatest places that are under way at a time, on one connection.
const QUESTIONS_AT_ONCE: usize = 32;

/// What was seen of a table before the snapshot.
#[derive(Debug, Clone, Default)]
pub struct Mark {
    /// The greatest place.
    pub place: Option<Place>,
    /// Every writer that was met has ended.
    pub is_settled: bool,
    /// The oldest transaction that was running then.
    pub xmin: i64,
}

/// Marks by table, and the tables that could not be marked: the others are carried without them.
#[derive(Debug, Default)]
pub struct Marks {
    pub marks: HashMap<u32, Mark>,
    pub failed: HashMap<u32, Error>,
}

/// Marks each table of the plan that has a cursor.
pub async fn mark(client: &Client, plans: &[&TablePlan]) -> Result<Marks> {
    let row = client.query_one(RUNNING, &[]).await.context("ask which transactions are running")?;
    let (xmin, is_standby): (i64, bool) = (row.get(0), row.get(1));
    let Marks { mut marks, failed } = places(client, plans, xmin).await?;
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

/// The greatest place of each table; a table that is locked, or that fails otherwise, does not stop the others.
async fn places(client: &Client, plans: &[&TablePlan], xmin: i64) -> Result<Marks> {
    let mut marked = Marks::default();
    let questions = plans.iter().filter_map(|plan| Some((*plan, plan.cursor.as_ref()?)));
    let mut answers = futures::stream::iter(questions)
        .map(async |(plan, cursor)| (plan.source.oid, greatest(client, plan, cursor).await))
        .buffered(QUESTIONS_AT_ONCE);
    while let Some((oid, answer)) = answers.next().await {
        match answer {
            Ok(place) => {
                marked.marks.insert(oid, Mark { place, is_settled: false, xmin });
            }
            Err(error) if error.kind == Kind::Retry && client.is_closed() => return Err(error),
            Err(error) => {
                marked.failed.insert(oid, error);
            }
        }
    }
    Ok(marked)
}

/// What a table's snapshot shows of its cursor: the answer to [`Cursor::cut`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorState {
    pub high: Place,
    /// From where the next run reads again; `None` is the beginning.
    pub low: Option<Place>,
    /// The greatest place lies below the position.
    pub is_behind: bool,
}

/// The position that a run leaves; `cut` is `None` where the source has no row with a place.
///
/// That no transaction was running at the cut says nothing: a writer gets its number from
/// PostgreSQL with its first row, and may have taken its place in the order long before.
pub fn next(mark: &Mark, cut: Option<CursorState>, before: Option<&Position>) -> Position {
    let xid = (!mark.is_settled).then_some(mark.xmin);
    match (cut, before) {
        (Some(cut), Some(before)) if cut.is_behind => Position { low: cut.low, xid, ..before.clone() },
        (Some(cut), before) => {
            Position { high: Some(cut.high), low: cut.low, xid, ..before.cloned().unwrap_or_default() }
        }
        // All is purged: the order goes on from where it was.
        (None, Some(before)) => Position { xid, ..before.clone() },
        (None, None) => Position { xid, ..Position::default() },
    }
}

/// What the next run asks for: all from `low` on, what an unended writer left below it, and the rows that have no
/// place; `None` is everything.
pub fn condition(position: &Position, cursor: &Cursor) -> Option<String> {
    let low = position.low.as_ref()?;
    if cursor.is_transaction() {
        return low.0.first().and_then(|xid| xid.parse().ok()).map(written_since);
    }
    let mut conditions = vec![cursor.from(low, cursor.is_key)];
    conditions.extend(cursor.placeless());
    conditions.extend(position.xid.map(written_since));
    Some(match conditions.as_slice() {
        [one] => one.clone(),
        _ => format!("({})", conditions.join(" OR ")),
    })
}

/// Rows of this transaction and of later ones. Compared by age, since a row carries only the lower half of its
/// transaction's number.
pub fn written_since(xid: i64) -> String {
    format!("age({TRANSACTION}) <= age('{}'::xid)", xid & 0xffff_ffff)
}

async fn greatest(client: &Client, plan: &TablePlan, cursor: &Cursor) -> Result<Option<Place>> {
    if cursor.is_transaction() {
        return Ok(None);
    }
    let context = || format!("read the cursor of {}", plan.source.display());
    let messages = client.simple_query(&cursor.greatest(&plan.source.rows())).await.context(context())?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok(row.map(|row| Place((0..row.len()).filter_map(|at| row.get(at).map(str::to_owned)).collect())))
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
