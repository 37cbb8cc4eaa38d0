//! The queue of events for functions. Any process puts events; one process, which holds a lease, claims
//! and runs them. What an end causes (an event for another function, an event of the ledger, a file) is
//! recorded in the transaction of the end, so that it is caused once.
//!
//! An event runs at least once: one whose process was killed runs again. After its end was recorded it
//! does not run again. The process that runs the events decides how often and when a failed one is retried.

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, Row, Transaction};
use serde::Serialize;
use serde_json::Value;

use crate::error::ErrorContext;
use crate::ledger::{limit_of, put_event};
use crate::rows::count;
use crate::{Ledger, Result, instant};

/// An event whose process has ended during its run is run again at once so many times, and then after a wait: the event
/// may be what ends the process.
const INTERRUPTIONS_AT_ONCE: u32 = 8;
const INTERRUPTED_WAIT: chrono::TimeDelta = chrono::TimeDelta::seconds(60);

/// An event for a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Invocation {
    /// Unique: an event that is put twice is one event.
    pub request_id: String,
    /// The function's name.
    pub function: String,
    /// `$LATEST`, a version's number or an alias.
    pub qualifier: String,
    /// The event itself, as the function receives it.
    pub payload: Vec<u8>,
    /// The client context of the AWS API, if any.
    pub client_context: Option<String>,
    /// What caused the event, for users: "api", "on_success of bill, request ...".
    pub cause: String,
    /// The number of functions in the chain that has caused this event.
    pub depth: u32,
}

/// The limits of the queue, which hold for pending events, dead letters and pending files together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvocationLimits {
    /// The number of events and files.
    pub kept_max: u64,
    /// The size of their payloads.
    pub bytes_max: u64,
}

/// Whether an event was put into the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The event is in the queue, or was before.
    Queued,
    /// The event was refused: the queue would exceed its limits.
    Full,
}

/// An event that this process has claimed and is to run now.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedInvocation {
    /// The event's number, for [`Ledger::end_invocation`].
    pub id: i64,
    /// The event.
    pub invocation: Invocation,
    /// The number of attempts, this one included.
    pub attempts: u32,
    /// How often the event could not be run, which counts as no attempt.
    pub throttles: u32,
    /// The time at which the event was put into the queue.
    pub created_at: DateTime<Utc>,
}

/// The end of an attempt, and whether another one follows.
#[derive(Clone, Debug, PartialEq)]
pub enum InvocationEnd {
    /// The function returned a result.
    Succeeded {
        /// The version that ran.
        executed_version: String,
    },
    /// The event failed; no attempt is left.
    Failed {
        /// The version that ran, where one did.
        executed_version: Option<String>,
        /// The error, for users.
        error: String,
        /// Whether it becomes a dead letter: its payload is kept, and a user can send it again or drop it.
        dead: bool,
    },
    /// The attempt failed, and the event waits for another one.
    Retry {
        /// The earliest time of the next attempt.
        not_before: DateTime<Utc>,
        /// The error, for users.
        error: String,
    },
    /// The event could not be run, since the function was busy or could not be started. It counts as no attempt.
    Throttled {
        /// The earliest time of the next attempt.
        not_before: DateTime<Utc>,
        /// The error, where there was one.
        error: Option<String>,
    },
}

/// What the end of an event causes.
#[derive(Clone, Debug, PartialEq)]
pub enum FollowUp {
    /// An event for another function.
    Invocation(Invocation),
    /// An event of the ledger.
    Event { name: String, fields: Value },
    /// A file in a folder. The name is unique to the event, so that a second delivery writes the same file.
    File { folder: String, name: String, body: Vec<u8> },
}

/// A pending file: it is written, then [`Ledger::remove_delivery`] is called.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The delivery's number.
    pub id: i64,
    /// The folder of the file.
    pub folder: String,
    /// The file's name.
    pub name: String,
    /// The file's content.
    pub body: Vec<u8>,
    /// The number of attempts that failed.
    pub attempts: u32,
}

/// An event for a function, without its payload.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InvocationRow {
    /// Unique.
    pub request_id: String,
    /// The function's name.
    pub function: String,
    /// `$LATEST`, a version's number or an alias.
    pub qualifier: String,
    /// What caused the event, for users.
    pub cause: String,
    /// `waiting`, `running`, `succeeded`, `failed`, `dead`, `resent` or `dropped`.
    pub state: String,
    /// The number of attempts begun.
    pub attempts: u32,
    /// The payload's size, while the payload is kept.
    pub payload_bytes: Option<u64>,
    /// The earliest time of the next attempt.
    #[serde(serialize_with = "instant::serialize")]
    pub not_before: DateTime<Utc>,
    /// The time at which the event was put into the queue.
    #[serde(serialize_with = "instant::serialize")]
    pub created_at: DateTime<Utc>,
    /// The time at which the event ended.
    #[serde(serialize_with = "instant::serialize_option")]
    pub ended_at: Option<DateTime<Utc>>,
    /// The version that ran in the last attempt.
    pub executed_version: Option<String>,
    /// The error of the last attempt that failed.
    pub error: Option<String>,
}

/// The size of the queue: pending events, dead letters and pending files together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InvocationTotals {
    /// The number of events and files.
    pub kept: u64,
    /// The size of their payloads.
    pub bytes: u64,
}

const ROW_COLUMNS: &str = "request_id, function, qualifier, cause, state, attempts, length(payload), not_before, \
     created_at, ended_at, executed_version, error";
const CLAIMED_COLUMNS: &str = "id, request_id, function, qualifier, payload, client_context, cause, depth, attempts, \
     throttles, created_at";

impl Ledger {
    /// Puts events into the queue in one transaction. Returns for each, in order, whether there was room for it.
    pub fn put_invocations(&self, all: &[Invocation], limits: InvocationLimits) -> Result<Vec<PutOutcome>> {
        self.write("queue events", |tx| {
            let mut totals = totals(tx)?;
            let mut put = Vec::with_capacity(all.len());
            for invocation in all {
                let bytes = invocation.payload.len() as u64;
                if totals.kept >= limits.kept_max || totals.bytes.saturating_add(bytes) > limits.bytes_max {
                    put.push(PutOutcome::Full);
                    continue;
                }
                if insert(tx, invocation)? {
                    totals.kept += 1;
                    totals.bytes += bytes;
                }
                put.push(PutOutcome::Queued);
            }
            Ok(put)
        })
    }

    /// Claims up to `limit` events that are due at `now`, and of each function at most the number that `room` returns
    /// for its name. Events of a function are claimed in the order of their due times. The limit is shared between the
    /// functions, so that a function with many events does not delay the others.
    pub fn claim_invocations(
        &self,
        now: DateTime<Utc>,
        limit: usize,
        room: &dyn Fn(&str) -> usize,
    ) -> Result<Vec<ClaimedInvocation>> {
        let now = instant::to_text(now);
        let functions: Vec<(String, usize)> =
            self.due_functions(&now)?.into_iter().map(|name| (room(&name), name)).map(|(n, name)| (name, n)).collect();
        let mut open: Vec<_> = functions.into_iter().filter(|(_, room)| *room > 0).collect();
        if open.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        // The function with the least room first: what it leaves of its share is for the others.
        open.sort_by_key(|(_, room)| *room);
        self.write("claim events", |tx| {
            let mut claimed = Vec::new();
            for (at, (function, room)) in open.iter().enumerate() {
                let share = (limit - claimed.len()).div_ceil(open.len() - at);
                claim(tx, function, &now, share.min(*room), &mut claimed)?;
            }
            Ok(claimed)
        })
    }

    /// The functions with due events. One step in the index for each function: waiting events are not read.
    fn due_functions(&self, now: &str) -> Result<Vec<String>> {
        let sql = "with recursive name (of) as (
                select min(function) from invocations where state = 'waiting'
                union all
                select (select min(function) from invocations where state = 'waiting' and function > of)
                from name where of is not null)
            select of from name where of is not null
                and exists (select 1 from invocations where state = 'waiting' and function = of and not_before <= ?)";
        const LOOK: &str = "look for events";
        let reader = self.lock_reader();
        let mut statement = reader.prepare_cached(sql).during(LOOK)?;
        statement.query_map([now], |row| row.get(0)).and_then(Iterator::collect).during(LOOK)
    }

    /// The time at which the next event or file becomes due, in the past where one is due. None where none is pending.
    pub fn next_invocation(&self) -> Result<Option<DateTime<Utc>>> {
        let sql = "select min(at) from (select min(not_before) as at from invocations where state = 'waiting'
                   union all select min(not_before) from deliveries)";
        let read = |row: &Row<'_>| row.get::<_, Option<String>>(0)?.map(|at| instant::from_text(0, &at)).transpose();
        self.lock_reader().query_row(sql, [], read).during("look for the next event")
    }

    /// Lets all events that are marked as running wait again: their process has ended during the run. Those that this
    /// has happened to too often become dead letters. The process that claims events calls it before its first claim.
    /// Returns the number of events that wait again.
    pub fn requeue_interrupted(&self) -> Result<usize> {
        self.write("requeue interrupted events", |tx| {
            let now = instant::to_text(instant::now());
            let later = instant::to_text(instant::now() + INTERRUPTED_WAIT);
            let sql = "update invocations set state = 'waiting', interruptions = interruptions + 1,
                           attempts = attempts - 1, not_before = case when interruptions < ? then ? else ? end
                           where state = 'running'";
            tx.execute(sql, (INTERRUPTIONS_AT_ONCE, &now, &later))
        })
    }

    /// Records the end of an attempt and what it causes, in one transaction. False where the event is not running: then
    /// nothing is changed or caused.
    pub fn end_invocation(&self, id: i64, end: &InvocationEnd, follow_up: Option<&FollowUp>) -> Result<bool> {
        self.write("end an event", |tx| {
            let ended = record_end(tx, id, end)?;
            match follow_up {
                Some(FollowUp::Invocation(invocation)) if ended => insert(tx, invocation).map(drop)?,
                Some(FollowUp::Event { name, fields }) if ended => put_event(tx, name, None, fields).map(drop)?,
                Some(FollowUp::File { folder, name, body }) if ended => {
                    let sql = "insert into deliveries (folder, name, body, not_before) values (?, ?, ?, ?)";
                    tx.execute(sql, (folder, name, body, instant::to_text(instant::now()))).map(drop)?;
                }
                _ => {}
            }
            Ok(ended)
        })
    }

    /// The newest `limit` events, in one state or in all, of one function or of all, newest first.
    pub fn invocations(&self, limit: usize, function: Option<&str>, state: Option<&str>) -> Result<Vec<InvocationRow>> {
        let sql = format!(
            "select {ROW_COLUMNS} from invocations
             where (?1 is null or function = ?1) and (?2 is null or state = ?2) order by id desc limit ?3"
        );
        self.list("list events", &sql, (function, state, limit_of(limit)), InvocationRow::read)
    }

    /// Looks up an event by its request id.
    pub fn invocation(&self, request_id: &str) -> Result<Option<InvocationRow>> {
        let sql = format!("select {ROW_COLUMNS} from invocations where request_id = ?");
        Ok(self.list("look up an event", &sql, [request_id], InvocationRow::read)?.into_iter().next())
    }

    /// The payload of a pending event or a dead letter. None where the payload is not kept any more.
    pub fn invocation_payload(&self, request_id: &str) -> Result<Option<Vec<u8>>> {
        let sql = "select payload from invocations where request_id = ? and payload is not null";
        Ok(self.list("look up an event", sql, [request_id], |row| row.get(0))?.into_iter().next())
    }

    /// Puts a dead letter into the queue again, under a new request id. False where the event is no dead letter.
    pub fn resend_invocation(&self, request_id: &str, new_request_id: &str) -> Result<bool> {
        self.write("send a dead letter again", |tx| {
            let sql = format!("select {CLAIMED_COLUMNS} from invocations where request_id = ? and state = 'dead'");
            let letter = tx.query_row(&sql, [request_id], ClaimedInvocation::read).optional()?;
            let Some(letter) = letter else { return Ok(false) };
            tx.execute("update invocations set state = 'resent', payload = null where id = ?", [letter.id])?;
            let cause = format!("sent again: {request_id}");
            insert(tx, &Invocation { request_id: new_request_id.to_owned(), cause, depth: 0, ..letter.invocation })
        })
    }

    /// Drops a dead letter: its payload is removed, its row is kept. False where the event is no dead letter.
    pub fn drop_invocation(&self, request_id: &str) -> Result<bool> {
        self.write("drop a dead letter", |tx| {
            let sql =
                "update invocations set state = 'dropped', payload = null where request_id = ? and state = 'dead'";
            Ok(tx.execute(sql, [request_id])? == 1)
        })
    }

    /// The first `limit` pending files whose next attempt is due at `now`.
    pub fn deliveries(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<Delivery>> {
        let sql = "select id, folder, name, body, attempts from deliveries where not_before <= ? order by id limit ?";
        self.list("list files to deliver", sql, (instant::to_text(now), limit_of(limit)), |row| {
            Ok(Delivery {
                id: row.get(0)?,
                folder: row.get(1)?,
                name: row.get(2)?,
                body: row.get(3)?,
                attempts: row.get(4)?,
            })
        })
    }

    /// Removes a pending file, after it was written.
    pub fn remove_delivery(&self, id: i64) -> Result<()> {
        self.write("record a delivery", |tx| tx.execute("delete from deliveries where id = ?", [id]).map(drop))
    }

    /// Records that a file could not be written, and the earliest time of the next attempt.
    pub fn postpone_delivery(&self, id: i64, not_before: DateTime<Utc>, error: &str) -> Result<()> {
        self.write("postpone a delivery", |tx| {
            let sql = "update deliveries set attempts = attempts + 1, not_before = ?, error = ? where id = ?";
            tx.execute(sql, (instant::to_text(not_before), error, id)).map(drop)
        })
    }

    /// The size of the queue; it waits for no writer.
    pub fn invocation_totals(&self) -> Result<InvocationTotals> {
        let sql = "select kept, bytes from invocation_totals";
        let read = |row: &Row<'_>| Ok(InvocationTotals { kept: count(row, 0)?, bytes: count(row, 1)? });
        self.lock_reader().query_row(sql, [], read).during("count events")
    }
}

fn totals(tx: &Transaction<'_>) -> rusqlite::Result<InvocationTotals> {
    let sql = "select kept, bytes from invocation_totals";
    tx.prepare_cached(sql)?.query_row([], |row| Ok(InvocationTotals { kept: count(row, 0)?, bytes: count(row, 1)? }))
}

/// Inserts an event. False where one with its request id exists.
fn insert(tx: &Transaction<'_>, invocation: &Invocation) -> rusqlite::Result<bool> {
    let sql = "insert into invocations
                   (request_id, function, qualifier, payload, client_context, cause, depth, state, not_before,
                    created_at)
               values (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'waiting', ?8, ?8) on conflict (request_id) do nothing";
    let put = tx.prepare_cached(sql)?.execute((
        &invocation.request_id,
        &invocation.function,
        &invocation.qualifier,
        &invocation.payload,
        &invocation.client_context,
        &invocation.cause,
        invocation.depth,
        instant::to_text(instant::now()),
    ))?;
    Ok(put == 1)
}

fn claim(
    tx: &Transaction<'_>,
    function: &str,
    now: &str,
    limit: usize,
    claimed: &mut Vec<ClaimedInvocation>,
) -> rusqlite::Result<()> {
    let sql = format!(
        "update invocations set state = 'running', attempts = attempts + 1
         where id in (select id from invocations where state = 'waiting' and function = ?1 and not_before <= ?2
                      order by not_before, id limit ?3)
         returning {CLAIMED_COLUMNS}"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    for row in statement.query_map((function, now, limit_of(limit)), ClaimedInvocation::read)? {
        claimed.push(row?);
    }
    Ok(())
}

/// False where the event is not running.
fn record_end(tx: &Transaction<'_>, id: i64, end: &InvocationEnd) -> rusqlite::Result<bool> {
    let now = instant::to_text(instant::now());
    let changed = match end {
        InvocationEnd::Succeeded { executed_version } => tx.execute(
            "update invocations set state = 'succeeded', payload = null, ended_at = ?, executed_version = ?,
                 error = null
             where id = ? and state = 'running'",
            (now, executed_version, id),
        )?,
        InvocationEnd::Failed { executed_version, error, dead: true } => tx.execute(
            "update invocations set state = 'dead', ended_at = ?, executed_version = ?, error = ?
             where id = ? and state = 'running'",
            (now, executed_version, error, id),
        )?,
        InvocationEnd::Failed { executed_version, error, dead: false } => tx.execute(
            "update invocations set state = 'failed', payload = null, ended_at = ?, executed_version = ?, error = ?
             where id = ? and state = 'running'",
            (now, executed_version, error, id),
        )?,
        InvocationEnd::Retry { not_before, error } => tx.execute(
            "update invocations set state = 'waiting', not_before = ?, error = ? where id = ? and state = 'running'",
            (instant::to_text(*not_before), error, id),
        )?,
        InvocationEnd::Throttled { not_before, error } => tx.execute(
            "update invocations set state = 'waiting', not_before = ?, attempts = attempts - 1,
                 throttles = throttles + 1, error = coalesce(?, error) where id = ? and state = 'running'",
            (instant::to_text(*not_before), error, id),
        )?,
    };
    Ok(changed == 1)
}

impl ClaimedInvocation {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let invocation = Invocation {
            request_id: row.get(1)?,
            function: row.get(2)?,
            qualifier: row.get(3)?,
            payload: row.get(4)?,
            client_context: row.get(5)?,
            cause: row.get(6)?,
            depth: row.get(7)?,
        };
        let created_at = instant::from_text(10, &row.get::<_, String>(10)?)?;
        Ok(ClaimedInvocation { id: row.get(0)?, invocation, attempts: row.get(8)?, throttles: row.get(9)?, created_at })
    }
}

impl InvocationRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let ended_at: Option<String> = row.get(9)?;
        Ok(InvocationRow {
            request_id: row.get(0)?,
            function: row.get(1)?,
            qualifier: row.get(2)?,
            cause: row.get(3)?,
            state: row.get(4)?,
            attempts: row.get(5)?,
            payload_bytes: row.get::<_, Option<i64>>(6)?.and_then(|bytes| u64::try_from(bytes).ok()),
            not_before: instant::from_text(7, &row.get::<_, String>(7)?)?,
            created_at: instant::from_text(8, &row.get::<_, String>(8)?)?,
            ended_at: ended_at.map(|at| instant::from_text(9, &at)).transpose()?,
            executed_version: row.get(10)?,
            error: row.get(11)?,
        })
    }
}
