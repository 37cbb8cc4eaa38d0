//! The handle of the ledger's file: begins runs, records events, and reads runs and events.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, Params, Row, Transaction, TransactionBehavior};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::{Error, ErrorContext, Kind};
use crate::lease::Lease;
use crate::rows::{self, EVENT_COLUMNS, RUN_COLUMNS, TABLE_COLUMNS, VALIDATION_COLUMNS, ValidationRow};
use crate::{EventRow, Result, Run, RunRow, RunStart, RunTableRow, TransferTableRow, instant, schema};

/// An open ledger. Cheap to clone; all clones share their connections. Several processes may open the same file.
#[derive(Clone, Debug)]
pub struct Ledger {
    connection: Arc<Mutex<Connection>>,
    logs: Arc<Mutex<Connection>>,
    reader: Arc<Mutex<Connection>>,
    leases: Arc<PathBuf>,
}

/// A lease that was taken by name. It ends when this is dropped or the process ends, also by a crash.
#[derive(Debug)]
pub struct NamedLease {
    _lease: Lease,
}

impl Ledger {
    /// Opens the file, or creates it and its folders, and migrates it to this program's schema.
    ///
    /// # Errors
    /// [`Kind::FixSetup`] where the file is no database, or a newer program has migrated it.
    pub fn open(path: &Path) -> Result<Self> {
        // The leases are opened at every run, and a change of the working folder must not change their path.
        let path = &std::path::absolute(path).during("open ledger")?;
        if let Some(parent) = path.parent() {
            make_folder(parent).during(format!("make folder {}", parent.display()))?;
        }
        let mut leases = path.as_os_str().to_owned();
        leases.push(".locks");
        let connection = Arc::new(Mutex::new(schema::connect(path)?));
        let logs = Arc::new(Mutex::new(schema::connect_for_logs(path)?));
        let reader = Arc::new(Mutex::new(schema::connect_to_read(path)?));
        // It has payloads of events and logs.
        for more in ["", "-wal", "-shm"] {
            let mut file = path.as_os_str().to_owned();
            file.push(more);
            restrict(Path::new(&file), 0o600).during("open ledger")?;
        }
        Ok(Self { connection, logs, reader, leases: Arc::new(leases.into()) })
    }

    /// The folder that it is in, with the rest of a warehouse's state.
    pub fn folder(&self) -> &Path {
        self.leases.parent().unwrap_or(&self.leases)
    }

    /// Begins a run of `job`, such as "transfer:platform", and marks the job's runs whose process has ended without a
    /// result as crashed.
    ///
    /// # Errors
    /// [`Kind::Retry`] while another run of that job, or one with the same concurrency key, is alive in any process.
    /// [`Kind::FixInput`] where the run is for an entry of the queue that was not claimed for this attempt, or whose
    /// attempt has a run already: a process that starts too late must not run the attempt a second time.
    pub fn begin(&self, job: &str, start: RunStart) -> Result<Run> {
        let Some(lease) = Lease::take(&self.leases, job)? else {
            return Err(self.already_running(job)?);
        };
        let id = Uuid::now_v7().to_string();
        let mut leases = vec![lease];
        // Without duplicates: the second lease of the same key would be refused because of the first.
        for key in start.concurrency_keys.iter().collect::<BTreeSet<_>>() {
            leases.push(self.take_key(key, job, &id)?);
        }
        let begun = self.write(&format!("begin a run of {job}"), |tx| {
            mark_crashed(tx, job)?;
            if let Some(entry) = start.queue_entry {
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
                    start.queue_entry,
                    start.attempt,
                ),
            )?;
            Ok(true)
        })?;
        if !begun {
            let context = format!(
                "begin a run of {job}: entry {} of the queue is not claimed for this attempt; only the server begins \
                 entries",
                start.queue_entry.unwrap_or_default()
            );
            return Err(Error::new(Kind::FixInput, context));
        }
        Ok(Run::new(self.clone(), id, job, start, leases))
    }

    /// Whether a run that is alive holds the concurrency key.
    pub fn key_is_held(&self, key: &str) -> Result<bool> {
        Lease::is_held(&self.leases, &format!("key::{key}"))
    }

    /// Whether a run of the job is alive.
    pub fn job_is_running(&self, job: &str) -> Result<bool> {
        Lease::is_held(&self.leases, job)
    }

    /// Takes the lease of something that at most one process does at a time, such as serving the warehouse. None where
    /// another process has it.
    pub fn take_lease(&self, name: &str) -> Result<Option<NamedLease>> {
        Ok(Lease::take(&self.leases, &format!("hold::{name}"))?.map(|lease| NamedLease { _lease: lease }))
    }

    /// Whether some process holds the lease of this name.
    pub fn is_lease_held(&self, name: &str) -> Result<bool> {
        Lease::is_held(&self.leases, &format!("hold::{name}"))
    }

    /// Records an event, such as "snapshot.created"; returns its sequence number.
    ///
    /// # Errors
    /// Where `run` is the id of a run that the ledger does not have.
    pub fn event(&self, name: &str, run: Option<&str>, fields: Value) -> Result<i64> {
        self.write(&format!("record event {name}"), |tx| put_event(tx, name, run, &fields))
    }

    /// Whether the run is running and its process is alive. False for a run that the ledger does not have.
    ///
    /// A crashed run may count as alive for a moment, while a new run of the same job begins. A run that is alive
    /// always counts as alive.
    pub fn is_run_alive(&self, run_id: &str) -> Result<bool> {
        let sql = "select job from runs where id = ? and state = 'running'";
        let job: Option<String> =
            self.lock().query_row(sql, [run_id], |row| row.get(0)).optional().during("look up a run")?;
        job.map_or(Ok(false), |job| Lease::is_held(&self.leases, &job))
    }

    /// The newest `limit` runs, of all jobs or of one, newest first. Runs whose process has ended without a result are
    /// marked as crashed before.
    pub fn runs(&self, limit: usize, job: Option<&str>) -> Result<Vec<RunRow>> {
        self.find_crashed_runs()?;
        let sql = format!("select {RUN_COLUMNS} from runs where ?1 is null or job = ?1 order by id desc limit ?2");
        self.list("list runs", &sql, (job, limit_of(limit)), RunRow::read)
    }

    /// Looks up a run by its id, as [`Ledger::runs`] shows it.
    pub fn run(&self, run_id: &str) -> Result<Option<RunRow>> {
        self.find_crashed_runs()?;
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

    /// The first `limit` events after the sequence number `seq`, oldest first. A reader that passes the last number it
    /// has seen misses no event: events are numbered in the order in which they are committed.
    pub fn events_after(&self, seq: i64, limit: usize) -> Result<Vec<EventRow>> {
        let sql = format!("select {EVENT_COLUMNS} from events where seq > ? order by seq limit ?");
        self.list("list events", &sql, (seq, limit_of(limit)), EventRow::read)
    }

    /// The events of one run, oldest first.
    pub fn run_events(&self, run_id: &str) -> Result<Vec<EventRow>> {
        let sql = format!("select {EVENT_COLUMNS} from events where run_id = ? order by seq");
        self.list("list a run's events", &sql, [run_id], EventRow::read)
    }

    /// The current state of every table, of all transfers or of one, by transfer and source table.
    pub fn transfer_tables(&self, transfer: Option<&str>) -> Result<Vec<TransferTableRow>> {
        let columns: Vec<String> = TABLE_COLUMNS.split(',').map(|column| format!("t.{}", column.trim())).collect();
        let sql = format!(
            "select {}, {VALIDATION_COLUMNS} from transfer_tables t left join validations v
                 on v.transfer = t.transfer and v.source_table = t.source_table
             where ?1 is null or t.transfer = ?1 order by t.transfer, t.source_table",
            columns.join(", ")
        );
        self.list("list transfer tables", &sql, [transfer], TransferTableRow::read_validated)
    }

    /// Records the comparison of a table of a transfer with its source, in place of the one before.
    pub fn record_validation(&self, transfer: &str, source_table: &str, validation: &ValidationRow) -> Result<()> {
        let insert = "insert or replace into validations (transfer, source_table, state, position, figures, at)
                      values (?, ?, ?, ?, ?, ?)";
        let ValidationRow { state, position, figures, at } = validation;
        let values = (transfer, source_table, state, position, figures.to_string(), instant::to_text(*at));
        self.write("record a validation", |tx| tx.execute(insert, values).map(|_| ()))
    }

    /// The states of tables that one run recorded, in the order in which it recorded them.
    pub fn run_tables(&self, run_id: &str) -> Result<Vec<RunTableRow>> {
        let sql = format!("select {TABLE_COLUMNS}, seq from run_tables where run_id = ? order by seq");
        self.list("list a run's tables", &sql, [run_id], RunTableRow::read)
    }

    /// Makes `change` in one short transaction. It takes the write lock at its beginning, so that it waits for other
    /// writers there and does not fail between its statements.
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

    /// Reads all rows of a query.
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

    /// The connection for reads and writes. A poisoned lock is fine: the panic has rolled its transaction back.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection for lines of logs.
    pub(crate) fn lock_logs(&self) -> MutexGuard<'_, Connection> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection for frequent reads, thousands of times a second: it waits for no commit.
    pub(crate) fn lock_reader(&self) -> MutexGuard<'_, Connection> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks runs as crashed that are marked as running and whose lease no process holds.
    pub(crate) fn find_crashed_runs(&self) -> Result<()> {
        let sql = "select distinct job from runs where state = 'running'";
        let jobs = self.list("list running jobs", sql, [], |row| row.get::<_, String>(0))?;
        for job in jobs {
            if Lease::is_held(&self.leases, &job)? {
                continue;
            }
            // Under the lease: a run that begins right now either has no row yet or holds the lease.
            if let Some(_lease) = Lease::take(&self.leases, &job)? {
                self.write("mark crashed runs", |tx| mark_crashed(tx, &job))?;
            }
        }
        Ok(())
    }

    fn take_key(&self, key: &str, job: &str, run: &str) -> Result<Lease> {
        // A job's name has a single colon, so that no key's lease has a job's name.
        let name = format!("key::{key}");
        if let Some(lease) = Lease::take(&self.leases, &name)? {
            lease.write_holder(&format!("{job}, run {run}, pid {}", std::process::id()))?;
            return Ok(lease);
        }
        let holder = Lease::holder(&self.leases, &name).unwrap_or_else(|| "one that is being started".to_owned());
        let context =
            format!("begin a run of {job}: another run with the concurrency key {key:?} is running ({holder})");
        Err(Error::new(Kind::Retry, context))
    }

    fn already_running(&self, job: &str) -> Result<Error> {
        let sql = "select id, pid from runs where job = ? and state = 'running' order by id desc";
        let living: Option<(String, u32)> = self
            .lock()
            .query_row(sql, [job], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .during("look up the running run")?;
        let who = living.map_or_else(
            || "a process that is just starting or ending it".to_owned(),
            |(id, pid)| format!("run {id}, pid {pid}"),
        );
        Ok(Error::new(Kind::Retry, format!("begin a run of {job}: the job is already running ({who})")))
    }
}

/// Marks all runs of the job that are marked as running. The caller holds the job's lease, so that none is alive.
fn mark_crashed(tx: &Transaction<'_>, job: &str) -> rusqlite::Result<()> {
    const ERROR: &str = "its process ended without a result";
    let mut statement = tx.prepare_cached(
        "update runs set state = 'crashed', ended_at = ?, error = ? where job = ? and state = 'running'
         returning id, cause, logical, queue_id, attempt, detail",
    )?;
    let marked: Vec<(String, Value)> = statement
        .query_map((instant::to_text(instant::now()), ERROR, job), |row| {
            // The same fields as of other ends: the depth of a chain of jobs is counted through crashes, too.
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

/// Removes the fields of a JSON object that are null.
pub(crate) fn without_nulls(mut fields: Value) -> Value {
    if let Value::Object(fields) = &mut fields {
        fields.retain(|_, value| !value.is_null());
    }
    fields
}

/// Inserts an event and returns its sequence number. There is one writer at a time, so that events are numbered in the
/// order in which they are committed.
pub(crate) fn put_event(tx: &Transaction<'_>, name: &str, run: Option<&str>, fields: &Value) -> rusqlite::Result<i64> {
    tx.prepare_cached("insert into events (at, name, run_id, fields) values (?, ?, ?, ?)")?.execute((
        instant::to_text(instant::now()),
        name,
        run,
        fields.to_string(),
    ))?;
    Ok(tx.last_insert_rowid())
}

/// A `limit` of SQL.
pub(crate) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Makes the ledger's folder. Others may pass through it, as a server of PostgreSQL that runs as another user has to, and
/// not list it.
fn make_folder(folder: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o711).create(folder)?;
    restrict(folder, 0o711)
}

/// Takes all but these permissions from a file or folder, where it is this user's.
fn restrict(path: &Path, mode: u32) -> std::io::Result<()> {
    let present = match fs::metadata(path) {
        Ok(present) => present,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let wanted = present.mode() & 0o777 & mode;
    if present.mode() & 0o777 != wanted && present.uid() == rustix::process::geteuid().as_raw() {
        fs::set_permissions(path, fs::Permissions::from_mode(wanted))?;
    }
    Ok(())
}
