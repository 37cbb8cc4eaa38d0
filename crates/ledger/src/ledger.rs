//! The handle on the file: begins runs, notes events, reads all back.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, Params, Row, Transaction, TransactionBehavior};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::{During, Error, Kind};
use crate::lease::Lease;
use crate::rows::{self, EVENT_COLUMNS, RUN_COLUMNS, TABLE_COLUMNS};
use crate::{EventRow, Result, Run, RunRow, RunTableRow, Start, TransferTableRow, instant, schema};

/// Cheap to clone; all clones share their connections. Several processes may open the same file.
#[derive(Clone, Debug)]
pub struct Ledger {
    connection: Arc<Mutex<Connection>>,
    logs: Arc<Mutex<Connection>>,
    reader: Arc<Mutex<Connection>>,
    leases: Arc<PathBuf>,
}

/// Given back when it is dropped, or when its process ends, however it does.
#[derive(Debug)]
pub struct Held {
    _lease: Lease,
}

impl Ledger {
    /// Opens or creates the file, its folders included, and brings it to today's schema.
    pub fn open(path: &Path) -> Result<Self> {
        // The leases are looked for at every run: a change of the working folder must not move them.
        let path = &std::path::absolute(path).during("open ledger")?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).during(format!("make folder {}", parent.display()))?;
        }
        let mut leases = path.as_os_str().to_owned();
        leases.push(".locks");
        let connection = Arc::new(Mutex::new(schema::connect(path)?));
        let logs = Arc::new(Mutex::new(schema::connect_for_logs(path)?));
        let reader = Arc::new(Mutex::new(schema::connect_to_read(path)?));
        Ok(Self { connection, logs, reader, leases: Arc::new(leases.into()) })
    }

    /// Begins a run of `job`, such as "transfer:platform". Refused with [`Kind::Retry`] while
    /// another run of that job, or one with the same concurrency key, lives, here or in another
    /// process. Runs of the job that died without a word are marked crashed. A run of an entry of
    /// the queue begins only where the entry was taken for just this attempt: a process that comes
    /// late finds it gone.
    pub fn begin(&self, job: &str, start: Start) -> Result<Run> {
        let Some(lease) = Lease::take(&self.leases, job)? else {
            return Err(self.already_running(job)?);
        };
        let id = Uuid::now_v7().to_string();
        let mut leases = vec![lease];
        // A key that is named twice would be refused by itself.
        for key in start.keys.iter().collect::<BTreeSet<_>>() {
            leases.push(self.take_key(key, job, &id)?);
        }
        let begun = self.write(&format!("begin a run of {job}"), |tx| {
            mark_crashed(tx, job)?;
            if let Some(entry) = start.queued {
                let sql = "update queue set run_id = ?
                           where id = ? and state = 'running' and attempts = ? and run_id is null";
                if tx.execute(sql, (&id, entry, start.attempt))? == 0 {
                    return Ok(false);
                }
            }
            tx.execute(
                "insert into runs (id, job, cause, state, detail, pid, started_at, logical, inputs, queue_id, attempt)
                 values (?, ?, ?, 'running', ?, ?, ?, ?, ?, ?, ?)",
                (
                    &id,
                    job,
                    &start.cause,
                    start.detail.to_string(),
                    std::process::id(),
                    instant::to_text(instant::now()),
                    &start.logical,
                    start.inputs.to_string(),
                    start.queued,
                    start.attempt,
                ),
            )?;
            Ok(true)
        })?;
        if !begun {
            let context = format!(
                "begin a run of {job}: entry {} of the queue does not wait for this attempt; it is the server's to begin",
                start.queued.unwrap_or_default()
            );
            return Err(Error::new(Kind::FixInput, context));
        }
        Ok(Run::new(self.clone(), id, job, start, leases))
    }

    /// True while a living run holds the concurrency key.
    pub fn key_is_held(&self, key: &str) -> Result<bool> {
        Lease::is_held(&self.leases, &format!("key::{key}"))
    }

    /// True while a run of the job lives.
    pub fn job_is_running(&self, job: &str) -> Result<bool> {
        Lease::is_held(&self.leases, job)
    }

    /// Something that at most one process does, such as serving the warehouse; for as long as it
    /// is held. None where another has it.
    pub fn hold(&self, name: &str) -> Result<Option<Held>> {
        Ok(Lease::take(&self.leases, &format!("hold::{name}"))?.map(|lease| Held { _lease: lease }))
    }

    /// True while some process holds it.
    pub fn is_held(&self, name: &str) -> Result<bool> {
        Lease::is_held(&self.leases, &format!("hold::{name}"))
    }

    /// Notes what happened, such as "snapshot.created"; returns the event's sequence number.
    pub fn event(&self, name: &str, run: Option<&str>, fields: Value) -> Result<i64> {
        self.write(&format!("note event {name}"), |tx| put_event(tx, name, run, &fields))
    }

    /// Is this run still going on in a living process? False for a run that is not known here.
    ///
    /// While a new run of the same job is just beginning, a crashed one may still count as alive;
    /// never the other way round.
    pub fn alive(&self, run_id: &str) -> Result<bool> {
        let sql = "select job from runs where id = ? and state = 'running'";
        let job: Option<String> =
            self.lock().query_row(sql, [run_id], |row| row.get(0)).optional().during("look up a run")?;
        job.map_or(Ok(false), |job| Lease::is_held(&self.leases, &job))
    }

    /// The newest `limit` runs, of all jobs or of one, newest first. A run whose process died is
    /// shown, and from then on kept, as crashed.
    pub fn runs(&self, limit: usize, job: Option<&str>) -> Result<Vec<RunRow>> {
        self.notice_crashes()?;
        let sql = format!("select {RUN_COLUMNS} from runs where ?1 is null or job = ?1 order by id desc limit ?2");
        self.list("list runs", &sql, (job, limit_of(limit)), RunRow::read)
    }

    pub fn run(&self, run_id: &str) -> Result<Option<RunRow>> {
        self.notice_crashes()?;
        let sql = format!("select {RUN_COLUMNS} from runs where id = ?");
        let found = self.list("look up a run", &sql, [run_id], RunRow::read)?;
        Ok(found.into_iter().next())
    }

    /// The newest `limit` events, of all names or of one, newest first.
    pub fn events(&self, limit: usize, name: Option<&str>) -> Result<Vec<EventRow>> {
        let sql = format!(
            "select {EVENT_COLUMNS} from events where ?1 is null or name = ?1
             order by seq desc limit ?2"
        );
        self.list("list events", &sql, (name, limit_of(limit)), EventRow::read)
    }

    /// The next `limit` events after `seq`, oldest first: for those who follow. None is skipped:
    /// events are numbered in the order in which they are committed.
    pub fn events_after(&self, seq: i64, limit: usize) -> Result<Vec<EventRow>> {
        let sql = format!("select {EVENT_COLUMNS} from events where seq > ? order by seq limit ?");
        self.list("follow events", &sql, (seq, limit_of(limit)), EventRow::read)
    }

    /// The events of one run, oldest first.
    pub fn run_events(&self, run_id: &str) -> Result<Vec<EventRow>> {
        let sql = format!("select {EVENT_COLUMNS} from events where run_id = ? order by seq");
        self.list("list a run's events", &sql, [run_id], EventRow::read)
    }

    /// The current state of every table, of all transfers or of one, by transfer and source table.
    pub fn transfer_tables(&self, transfer: Option<&str>) -> Result<Vec<TransferTableRow>> {
        let sql = format!(
            "select {TABLE_COLUMNS} from transfer_tables where ?1 is null or transfer = ?1
             order by transfer, source_table"
        );
        self.list("list transfer tables", &sql, [transfer], TransferTableRow::read)
    }

    /// What one run noted about its tables, in the order in which it did.
    pub fn run_tables(&self, run_id: &str) -> Result<Vec<RunTableRow>> {
        let sql = format!("select {TABLE_COLUMNS}, seq from run_tables where run_id = ? order by seq");
        self.list("list a run's tables", &sql, [run_id], RunTableRow::read)
    }

    /// One short transaction; takes the write lock first, so that it waits instead of failing half-way.
    pub(crate) fn write<T>(
        &self,
        doing: &str,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).during(doing)?;
        let value = change(&transaction).during(doing)?;
        transaction.commit().during(doing)?;
        Ok(value)
    }

    pub(crate) fn list<T>(
        &self,
        doing: &str,
        sql: &str,
        params: impl Params,
        read: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(sql).during(doing)?;
        let rows = statement.query_map(params, read).during(doing)?;
        rows.collect::<rusqlite::Result<_>>().during(doing)
    }

    /// A thread that panicked has left no open transaction: it was rolled back as it unwound.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lock_logs(&self) -> MutexGuard<'_, Connection> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For what is asked thousands of times a second: it waits for no commit.
    pub(crate) fn lock_reader(&self) -> MutexGuard<'_, Connection> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn notice_crashes(&self) -> Result<()> {
        let sql = "select distinct job from runs where state = 'running'";
        let jobs = self.list("list living runs", sql, [], |row| row.get::<_, String>(0))?;
        for job in jobs {
            if Lease::is_held(&self.leases, &job)? {
                continue;
            }
            // Marked under the lease: a run that begins right now is not there yet, or holds it.
            if let Some(_lease) = Lease::take(&self.leases, &job)? {
                self.write("mark crashed runs", |tx| mark_crashed(tx, &job))?;
            }
        }
        Ok(())
    }

    fn take_key(&self, key: &str, job: &str, run: &str) -> Result<Lease> {
        // A job's name holds one colon: no key is mistaken for one.
        let name = format!("key::{key}");
        if let Some(lease) = Lease::take(&self.leases, &name)? {
            lease.sign(&format!("{job}, run {run}, pid {}", std::process::id()))?;
            return Ok(lease);
        }
        let holder = Lease::holder(&self.leases, &name).unwrap_or_else(|| "one that is just beginning".to_owned());
        let context =
            format!("begin a run of {job}: another run with the concurrency key {key:?} is under way ({holder})");
        Err(Error::new(Kind::Retry, context))
    }

    fn already_running(&self, job: &str) -> Result<Error> {
        let sql = "select id, pid from runs where job = ? and state = 'running' order by id desc";
        let living: Option<(String, u32)> = self
            .lock()
            .query_row(sql, [job], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .during("look up the living run")?;
        let who = living.map_or_else(
            || "a process that is just beginning or ending it".to_owned(),
            |(id, pid)| format!("run {id}, pid {pid}"),
        );
        Ok(Error::new(Kind::Retry, format!("begin a run of {job}: the job is already running ({who})")))
    }
}

/// To be called with the job's lease in hand: whatever is still marked as running is not.
fn mark_crashed(tx: &Transaction<'_>, job: &str) -> rusqlite::Result<()> {
    const ERROR: &str = "its process ended without a result";
    let mut statement = tx.prepare_cached(
        "update runs set state = 'crashed', ended_at = ?, error = ? where job = ? and state = 'running'
         returning id, cause, logical, queue_id, attempt, detail",
    )?;
    let marked: Vec<(String, Value)> = statement
        .query_map((instant::to_text(instant::now()), ERROR, job), |row| {
            // The same as any other end's: a chain of jobs is counted through crashes, too.
            let fields = json!({
                "job": job, "cause": row.get::<_, String>(1)?, "for": row.get::<_, Option<String>>(2)?,
                "queue_id": row.get::<_, Option<i64>>(3)?, "attempt": row.get::<_, u32>(4)?,
                "depth": rows::json(row, 5)?.get("depth"), "error": ERROR, "crashed": true,
            });
            Ok((row.get(0)?, without_nulls(fields)))
        })?
        .collect::<rusqlite::Result<_>>()?;
    for (run, fields) in marked {
        tracing::warn!(job, run, "found a crashed run");
        put_event(tx, "run.failed", Some(&run), &fields)?;
    }
    Ok(())
}

pub(crate) fn without_nulls(mut fields: Value) -> Value {
    if let Value::Object(fields) = &mut fields {
        fields.retain(|_, value| !value.is_null());
    }
    fields
}

/// Events are numbered in the order in which they are committed: one writer at a time.
pub(crate) fn put_event(tx: &Transaction<'_>, name: &str, run: Option<&str>, fields: &Value) -> rusqlite::Result<i64> {
    tx.prepare_cached("insert into events (at, name, run_id, fields) values (?, ?, ?, ?)")?.execute((
        instant::to_text(instant::now()),
        name,
        run,
        fields.to_string(),
    ))?;
    Ok(tx.last_insert_rowid())
}

pub(crate) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
