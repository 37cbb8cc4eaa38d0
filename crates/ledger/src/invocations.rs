//! Events that wait for a function: put by anyone, taken by the one process that holds them, kept
//! until they have ended. What an end causes (an event for another function, an event of the
//! ledger, a file) is put in the same transaction, so that it is caused once.
//!
//! An event runs at least once: one whose process was killed runs again. It never runs twice after
//! an end was noted. How often and how late it is tried again is for those who take it to say.

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, Row, Transaction};
use serde::Serialize;
use serde_json::Value;

use crate::error::During;
use crate::ledger::{limit_of, put_event};
use crate::rows::count;
use crate::{Ledger, Result, instant};

/// An event that made its process end so often is dead.
const INTERRUPTIONS_MAX: u32 = 5;

/// An event for a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Invocation {
    /// Put twice, it is there once.
    pub request_id: String,
    pub function: String,
    pub qualifier: String,
    pub payload: Vec<u8>,
    pub client_context: Option<String>,
    /// "api", "on_success of bill, request .."
    pub cause: String,
    /// How many functions have caused one another before it.
    pub depth: u32,
}

/// What the queue holds at most, dead letters and files to be delivered included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub kept_max: u64,
    pub bytes_max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    Queued,
    /// It would go beyond the bounds.
    Full,
}

/// An event to be run now.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    pub id: i64,
    pub invocation: Invocation,
    /// This one included.
    pub attempts: u32,
    pub throttles: u32,
    pub created_at: DateTime<Utc>,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    Succeeded {
        executed_version: String,
    },
    /// With `dead`, its payload is kept until someone looks at it.
    Failed {
        executed_version: Option<String>,
        error: String,
        dead: bool,
    },
    Again {
        not_before: DateTime<Utc>,
        error: String,
    },
    /// It could not be run: the function was busy, or the host could not start it. No attempt.
    Throttled {
        not_before: DateTime<Utc>,
        error: Option<String>,
    },
}

/// What an end causes.
#[derive(Clone, Debug, PartialEq)]
pub enum Follow {
    Invocation(Invocation),
    Event {
        name: String,
        fields: Value,
    },
    /// A file; its name makes it happen once.
    File {
        folder: String,
        name: String,
        body: Vec<u8>,
    },
}

/// A file to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    pub id: i64,
    pub folder: String,
    pub name: String,
    pub body: Vec<u8>,
    pub attempts: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InvocationRow {
    pub request_id: String,
    pub function: String,
    pub qualifier: String,
    pub cause: String,
    /// waiting, running, succeeded, failed, dead, resent or dropped
    pub state: String,
    pub attempts: u32,
    pub payload_bytes: Option<u64>,
    #[serde(serialize_with = "instant::serialize")]
    pub not_before: DateTime<Utc>,
    #[serde(serialize_with = "instant::serialize")]
    pub created_at: DateTime<Utc>,
    #[serde(serialize_with = "instant::serialize_option")]
    pub ended_at: Option<DateTime<Utc>>,
    pub executed_version: Option<String>,
    pub error: Option<String>,
}

/// What is kept: events not ended, dead letters, files to be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub kept: u64,
    pub bytes: u64,
}

const ROW_COLUMNS: &str = "request_id, function, qualifier, cause, state, attempts, length(payload), not_before, \
     created_at, ended_at, executed_version, error";
const TAKEN_COLUMNS: &str = "id, request_id, function, qualifier, payload, client_context, cause, depth, attempts, \
     throttles, created_at";

impl Ledger {
    /// All of them in one transaction; for each, whether there was room.
    pub fn put_invocations(&self, all: &[Invocation], bounds: Bounds) -> Result<Vec<Put>> {
        self.write("queue events", |tx| {
            let mut totals = totals(tx)?;
            let mut put = Vec::with_capacity(all.len());
            for invocation in all {
                let bytes = invocation.payload.len() as u64;
                if totals.kept >= bounds.kept_max || totals.bytes.saturating_add(bytes) > bounds.bytes_max {
                    put.push(Put::Full);
                    continue;
                }
                if insert(tx, invocation)? {
                    totals.kept += 1;
                    totals.bytes += bytes;
                }
                put.push(Put::Queued);
            }
            Ok(put)
        })
    }

    /// Takes up to `limit` events whose time has come, of each function up to what `room` says: the
    /// longest waiting first, and no function keeps the others out.
    pub fn take_invocations(
        &self,
        now: DateTime<Utc>,
        limit: usize,
        room: &dyn Fn(&str) -> usize,
    ) -> Result<Vec<Taken>> {
        let now = instant::to_text(now);
        let functions: Vec<(String, usize)> =
            self.due_functions(&now)?.into_iter().map(|name| (room(&name), name)).map(|(n, name)| (name, n)).collect();
        let mut open: Vec<_> = functions.into_iter().filter(|(_, room)| *room > 0).collect();
        if open.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        // Who wants least is served first: what it leaves is for the others.
        open.sort_by_key(|(_, room)| *room);
        self.write("take events", |tx| {
            let mut taken = Vec::new();
            for (at, (function, room)) in open.iter().enumerate() {
                let share = (limit - taken.len()).div_ceil(open.len() - at);
                take(tx, function, &now, share.min(*room), &mut taken)?;
            }
            Ok(taken)
        })
    }

    /// A walk over the index, one step a function: it reads no backlog.
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

    /// When the next event or file becomes due; in the past where one is.
    pub fn next_invocation(&self) -> Result<Option<DateTime<Utc>>> {
        let sql = "select min(at) from (select min(not_before) as at from invocations where state = 'waiting'
                   union all select min(not_before) from deliveries)";
        let read = |row: &Row<'_>| row.get::<_, Option<String>>(0)?.map(|at| instant::from_text(0, &at)).transpose();
        self.lock_reader().query_row(sql, [], read).during("look for the next event")
    }

    /// To be called by the one who takes, before the first: what still counts as running was cut
    /// off with its process, and waits again. Returns how many.
    pub fn put_back_invocations(&self) -> Result<usize> {
        self.write("put events back", |tx| {
            let now = instant::to_text(instant::now());
            let sql =
                "update invocations set state = 'dead', ended_at = ?, error = 'its process ended ' || ? || ' times'
                       where state = 'running' and interruptions + 1 >= ?2";
            tx.execute(sql, (&now, INTERRUPTIONS_MAX))?;
            let sql = "update invocations set state = 'waiting', interruptions = interruptions + 1,
                           attempts = attempts - 1, not_before = ? where state = 'running'";
            tx.execute(sql, [&now])
        })
    }

    /// Notes an end and what it causes, at once. False where it does not run: nothing happens then.
    pub fn end_invocation(&self, id: i64, ended: &Ended, follow: Option<&Follow>) -> Result<bool> {
        self.write("end an event", |tx| {
            let ended = end(tx, id, ended)?;
            match follow {
                Some(Follow::Invocation(invocation)) if ended => insert(tx, invocation).map(drop)?,
                Some(Follow::Event { name, fields }) if ended => put_event(tx, name, None, fields).map(drop)?,
                Some(Follow::File { folder, name, body }) if ended => {
                    let sql = "insert into deliveries (folder, name, body, not_before) values (?, ?, ?, ?)";
                    tx.execute(sql, (folder, name, body, instant::to_text(instant::now()))).map(drop)?;
                }
                _ => {}
            }
            Ok(ended)
        })
    }

    /// Newest first, in one state or in all, of one function or of all.
    pub fn invocations(&self, limit: usize, function: Option<&str>, state: Option<&str>) -> Result<Vec<InvocationRow>> {
        let sql = format!(
            "select {ROW_COLUMNS} from invocations
             where (?1 is null or function = ?1) and (?2 is null or state = ?2) order by id desc limit ?3"
        );
        self.list("list events", &sql, (function, state, limit_of(limit)), InvocationRow::read)
    }

    pub fn invocation(&self, request_id: &str) -> Result<Option<InvocationRow>> {
        let sql = format!("select {ROW_COLUMNS} from invocations where request_id = ?");
        Ok(self.list("look up an event", &sql, [request_id], InvocationRow::read)?.into_iter().next())
    }

    /// What a dead letter, or an event that has not ended, says.
    pub fn invocation_payload(&self, request_id: &str) -> Result<Option<Vec<u8>>> {
        let sql = "select payload from invocations where request_id = ? and payload is not null";
        Ok(self.list("look up an event", sql, [request_id], |row| row.get(0))?.into_iter().next())
    }

    /// Puts a dead letter into the queue again, under a new id. False where it is no dead letter.
    pub fn resend_invocation(&self, request_id: &str, new_request_id: &str) -> Result<bool> {
        self.write("send a dead letter again", |tx| {
            let sql = format!("select {TAKEN_COLUMNS} from invocations where request_id = ? and state = 'dead'");
            let Some(letter) = tx.query_row(&sql, [request_id], Taken::read).optional()? else { return Ok(false) };
            tx.execute("update invocations set state = 'resent', payload = null where id = ?", [letter.id])?;
            let cause = format!("sent again: {request_id}");
            insert(tx, &Invocation { request_id: new_request_id.to_owned(), cause, depth: 0, ..letter.invocation })
        })
    }

    /// Lets go of a dead letter. False where it is none.
    pub fn drop_invocation(&self, request_id: &str) -> Result<bool> {
        self.write("drop a dead letter", |tx| {
            let sql =
                "update invocations set state = 'dropped', payload = null where request_id = ? and state = 'dead'";
            Ok(tx.execute(sql, [request_id])? == 1)
        })
    }

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

    pub fn delivered(&self, id: i64) -> Result<()> {
        self.write("note a delivery", |tx| tx.execute("delete from deliveries where id = ?", [id]).map(drop))
    }

    pub fn deliver_later(&self, id: i64, not_before: DateTime<Utc>, error: &str) -> Result<()> {
        self.write("put a delivery off", |tx| {
            let sql = "update deliveries set attempts = attempts + 1, not_before = ?, error = ? where id = ?";
            tx.execute(sql, (instant::to_text(not_before), error, id)).map(drop)
        })
    }

    pub fn invocation_totals(&self) -> Result<Totals> {
        let sql = "select kept, bytes from invocation_totals";
        let read = |row: &Row<'_>| Ok(Totals { kept: count(row, 0)?, bytes: count(row, 1)? });
        self.lock_reader().query_row(sql, [], read).during("count events")
    }
}

fn totals(tx: &Transaction<'_>) -> rusqlite::Result<Totals> {
    let sql = "select kept, bytes from invocation_totals";
    tx.prepare_cached(sql)?.query_row([], |row| Ok(Totals { kept: count(row, 0)?, bytes: count(row, 1)? }))
}

/// False where its id is there already.
fn insert(tx: &Transaction<'_>, invocation: &Invocation) -> rusqlite::Result<bool> {
    let sql = "insert into invocations
                   (request_id, function, qualifier, payload, client_context, cause, depth, state, not_before, created_at)
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

fn take(tx: &Transaction<'_>, function: &str, now: &str, limit: usize, taken: &mut Vec<Taken>) -> rusqlite::Result<()> {
    let sql = format!(
        "update invocations set state = 'running', attempts = attempts + 1
         where id in (select id from invocations where state = 'waiting' and function = ?1 and not_before <= ?2
                      order by not_before, id limit ?3)
         returning {TAKEN_COLUMNS}"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    for row in statement.query_map((function, now, limit_of(limit)), Taken::read)? {
        taken.push(row?);
    }
    Ok(())
}

fn end(tx: &Transaction<'_>, id: i64, ended: &Ended) -> rusqlite::Result<bool> {
    let now = instant::to_text(instant::now());
    let changed = match ended {
        Ended::Succeeded { executed_version } => tx.execute(
            "update invocations set state = 'succeeded', payload = null, ended_at = ?, executed_version = ?, error = null
             where id = ? and state = 'running'",
            (now, executed_version, id),
        )?,
        Ended::Failed { executed_version, error, dead: true } => tx.execute(
            "update invocations set state = 'dead', ended_at = ?, executed_version = ?, error = ?
             where id = ? and state = 'running'",
            (now, executed_version, error, id),
        )?,
        Ended::Failed { executed_version, error, dead: false } => tx.execute(
            "update invocations set state = 'failed', payload = null, ended_at = ?, executed_version = ?, error = ?
             where id = ? and state = 'running'",
            (now, executed_version, error, id),
        )?,
        Ended::Again { not_before, error } => tx.execute(
            "update invocations set state = 'waiting', not_before = ?, error = ? where id = ? and state = 'running'",
            (instant::to_text(*not_before), error, id),
        )?,
        Ended::Throttled { not_before, error } => tx.execute(
            "update invocations set state = 'waiting', not_before = ?, attempts = attempts - 1,
                 throttles = throttles + 1, error = coalesce(?, error) where id = ? and state = 'running'",
            (instant::to_text(*not_before), error, id),
        )?,
    };
    Ok(changed == 1)
}

impl Taken {
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
        Ok(Taken { id: row.get(0)?, invocation, attempts: row.get(8)?, throttles: row.get(9)?, created_at })
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
