//! The tables of the ledger, and their migration in numbered steps: `user_version` is the number of steps that a file
//! has. The SQL of a step is never edited; changes are new steps.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use crate::Result;
use crate::error::{Error, ErrorContext, Kind};

const BUSY_MAX: Duration = Duration::from_secs(10);

const STEPS: [&str; 9] = [CORE, SCHEDULES, COUNTS, FUNCTIONS, HINTS, RETRYABLE, CHANGES, VALIDATIONS, MODELS];

const CORE: &str = "
create table runs (
    id text primary key not null,
    job text not null,
    cause text not null,
    state text not null check (state in ('running', 'succeeded', 'failed', 'cancelled', 'crashed')),
    detail text not null,
    figures text,
    error text,
    pid integer not null,
    started_at text not null,
    ended_at text,
    check ((state = 'running') = (ended_at is null))
) strict;
create index runs_by_job on runs (job, id);
create index runs_living on runs (job) where state = 'running';

create table events (
    seq integer primary key autoincrement,
    at text not null,
    name text not null,
    run_id text references runs (id),
    fields text not null
) strict;
create index events_by_name on events (name, seq);
create index events_by_run on events (run_id) where run_id is not null;

create table transfer_tables (
    transfer text not null,
    source_table text not null,
    target_table text not null,
    state text not null,
    mode text not null,
    rows integer not null,
    bytes_read integer not null,
    bytes_written integer not null,
    seconds real not null,
    position text,
    reason text,
    mend text,
    run_id text not null references runs (id),
    updated_at text not null,
    primary key (transfer, source_table)
) strict, without rowid;

create table run_tables (
    seq integer primary key autoincrement,
    transfer text not null,
    source_table text not null,
    target_table text not null,
    state text not null,
    mode text not null,
    rows integer not null,
    bytes_read integer not null,
    bytes_written integer not null,
    seconds real not null,
    position text,
    reason text,
    mend text,
    run_id text not null references runs (id),
    updated_at text not null
) strict;
create index run_tables_by_run on run_tables (run_id, seq);
";

const SCHEDULES: &str = "
alter table runs add column logical text;
alter table runs add column inputs text not null default '{}';
alter table runs add column queue_id integer;
alter table runs add column attempt integer not null default 1;

create table queue (
    id integer primary key autoincrement,
    job text not null,
    key text not null unique,
    cause text not null,
    logical text,
    detail text not null,
    state text not null check (state in ('waiting', 'running', 'succeeded', 'failed', 'cancelled')),
    attempts integer not null default 0,
    not_before text not null,
    created_at text not null,
    started_at text,
    ended_at text,
    run_id text,
    error text,
    cancel_requested integer not null default 0
) strict;
create index queue_open on queue (state, not_before) where state in ('waiting', 'running');
create index queue_by_job on queue (job, id);

create table schedules (
    name text primary key not null,
    job text not null,
    spec text not null,
    zone text not null,
    seen_to text not null,
    last_slot text,
    next_at text,
    paused integer not null default 0
) strict, without rowid;

create table followers (
    name text primary key not null,
    seq integer not null
) strict, without rowid;

create table logs (
    run_id text not null,
    seq integer not null,
    at text not null,
    level text not null,
    line text not null,
    primary key (run_id, seq)
) strict, without rowid;
";

/// An index for the counts of metrics, every few seconds, which then do not read the rows of runs.
const COUNTS: &str = "
create index runs_by_state on runs (job, state, id, started_at, ended_at);
";

/// Deployments and the queue of events for functions. Triggers maintain the queue's totals, so that the limits of the
/// queue can be checked without counting, and no statement can leave the totals wrong.
const FUNCTIONS: &str = "
create table functions (
    number integer primary key autoincrement,
    name text not null unique,
    latest integer,
    policy text not null,
    revision integer not null default 1,
    deployed_at text not null
) strict;

create table function_versions (
    function text not null references functions (name),
    version integer not null,
    content text not null,
    code text not null,
    layers text not null,
    settings text not null,
    code_bytes integer not null,
    created_at text not null,
    deleted_at text,
    primary key (function, version),
    unique (function, content)
) strict, without rowid;

create table function_aliases (
    function text not null,
    name text not null,
    version integer not null,
    updated_at text not null,
    primary key (function, name),
    foreign key (function, version) references function_versions (function, version)
) strict, without rowid;

create table layers (
    name text not null,
    version integer not null,
    code text not null,
    bytes integer not null,
    created_at text not null,
    deleted_at text,
    primary key (name, version),
    unique (name, code)
) strict, without rowid;

create table invocations (
    id integer primary key autoincrement,
    request_id text not null unique,
    function text not null,
    qualifier text not null,
    payload blob,
    client_context text,
    cause text not null,
    depth integer not null default 0,
    state text not null check (state in ('waiting', 'running', 'succeeded', 'failed', 'dead', 'resent', 'dropped')),
    attempts integer not null default 0,
    throttles integer not null default 0,
    interruptions integer not null default 0,
    not_before text not null,
    created_at text not null,
    ended_at text,
    executed_version text,
    error text,
    check ((payload is null) = (state in ('succeeded', 'failed', 'resent', 'dropped')))
) strict;
create index invocations_due on invocations (function, not_before, id) where state = 'waiting';
create index invocations_next on invocations (not_before) where state = 'waiting';
create index invocations_running on invocations (id) where state = 'running';
create index invocations_dead on invocations (id) where state = 'dead';
create index invocations_ended on invocations (ended_at) where ended_at is not null;

create table deliveries (
    id integer primary key autoincrement,
    folder text not null,
    name text not null,
    body blob not null,
    attempts integer not null default 0,
    not_before text not null,
    error text
) strict;

create table invocation_totals (
    only integer primary key check (only = 1),
    kept integer not null,
    bytes integer not null
) strict;
insert into invocation_totals values (1, 0, 0);
create trigger invocations_put after insert on invocations when new.payload is not null begin
    update invocation_totals set kept = kept + 1, bytes = bytes + length(new.payload);
end;
create trigger invocations_done after update of payload on invocations
when new.payload is null and old.payload is not null begin
    update invocation_totals set kept = kept - 1, bytes = bytes - length(old.payload);
end;
create trigger invocations_gone after delete on invocations when old.payload is not null begin
    update invocation_totals set kept = kept - 1, bytes = bytes - length(old.payload);
end;
create trigger deliveries_put after insert on deliveries begin
    update invocation_totals set kept = kept + 1, bytes = bytes + length(new.body);
end;
create trigger deliveries_gone after delete on deliveries begin
    update invocation_totals set kept = kept - 1, bytes = bytes - length(old.body);
end;
";

/// Renames a column: what a user can do about a refused table is called a hint in all other places.
const HINTS: &str = "
alter table transfer_tables rename column mend to hint;
alter table run_tables rename column mend to hint;
";

/// Whether a failed run may succeed when it is retried: a column, where it was an entry of the figures.
const RETRYABLE: &str = "
alter table runs add column retryable integer not null default 0;
update runs set retryable = 1 where json_extract(figures, '$.may_pass') = 1;
update runs set figures = json_remove(figures, '$.may_pass') where json_type(figures, '$.may_pass') is not null;
";

/// What a table's stream of changes has counted, as JSON.
const CHANGES: &str = "
alter table transfer_tables add column changes text;
alter table run_tables add column changes text;
";

/// The last comparison of each transferred table with its source.
const VALIDATIONS: &str = "
create table validations (
    transfer text not null,
    source_table text not null,
    state text not null,
    position text,
    figures text not null,
    at text not null,
    primary key (transfer, source_table)
) strict, without rowid;
";

/// Models, endpoint configurations and endpoints; training jobs with their metrics, and the versions that they make;
/// requests to the APIs; and the number of all changes of endpoints, by which processes notice them.
const MODELS: &str = "
create table models (
    name text primary key not null,
    content text not null,
    created_at text not null
) strict, without rowid;

create table endpoint_configs (
    name text primary key not null,
    content text not null,
    created_at text not null
) strict, without rowid;

create table endpoints (
    name text primary key not null,
    state text not null check (state in ('Creating', 'Updating', 'InService', 'Failed', 'Deleting')),
    config text not null,
    pending_config text,
    weights text not null,
    failure text,
    revision integer not null,
    created_at text not null,
    updated_at text not null
) strict, without rowid;

create table training_jobs (
    name text primary key not null,
    state text not null check (state in ('InProgress', 'Completed', 'Failed', 'Stopping', 'Stopped')),
    run_id text,
    request text not null,
    lineage text not null,
    metrics text not null,
    artifact text,
    failure text,
    created_at text not null,
    started_at text,
    ended_at text
) strict, without rowid;
create index training_jobs_by_time on training_jobs (created_at);

create table training_metrics (
    seq integer primary key autoincrement,
    training_job text not null references training_jobs (name),
    metric text not null,
    at text not null,
    value real not null
) strict;
create index training_metrics_by_job on training_metrics (training_job, seq);

create table model_versions (
    model text not null,
    version integer not null,
    artifact text not null,
    training_job text,
    approval text not null check (approval in ('PendingManualApproval', 'Approved', 'Rejected')),
    content text not null,
    metrics text not null,
    created_at text not null,
    primary key (model, version)
) strict, without rowid;

create table model_aliases (
    model text not null,
    name text not null,
    version integer not null,
    updated_at text not null,
    primary key (model, name),
    foreign key (model, version) references model_versions (model, version)
) strict, without rowid;

create table requests (
    minute text not null,
    api text not null,
    key text not null,
    operation text not null,
    resource text not null,
    status integer not null,
    error text not null,
    requests integer not null,
    seconds real not null,
    seconds_max real not null,
    primary key (minute, api, key, operation, resource, status, error)
) strict, without rowid;

create table endpoint_changes (
    only integer primary key check (only = 1),
    revision integer not null
) strict;
insert into endpoint_changes values (1, 0);
";

/// Opens a connection for reads and writes, after a migration where one is needed. Commits are written with
/// `synchronous = FULL`: a run that was reported as ended is recorded as ended after a power failure, too.
pub(crate) fn connect(path: &Path) -> Result<Connection> {
    let mut connection = open(path, "full")?;
    migrate(&mut connection, path)?;
    Ok(connection)
}

/// Opens a connection that only reads: in WAL mode it waits for no writer.
pub(crate) fn connect_to_read(path: &Path) -> Result<Connection> {
    let connection = open(path, "normal")?;
    connection.pragma_update(None, "query_only", true).during(format!("open ledger {}", path.display()))?;
    Ok(connection)
}

/// Opens a connection for lines of logs: after a power failure the last lines may be missing.
pub(crate) fn connect_for_logs(path: &Path) -> Result<Connection> {
    open(path, "normal")
}

fn open(path: &Path, synchronous: &str) -> Result<Connection> {
    let doing = || format!("open ledger {}", path.display());
    let connection = Connection::open(path).during(doing())?;
    connection.busy_timeout(BUSY_MAX).during(doing())?;
    set_wal(&connection).during(doing())?;
    connection.pragma_update(None, "synchronous", synchronous).during(doing())?;
    connection.pragma_update(None, "foreign_keys", true).during(doing())?;
    Ok(connection)
}

/// Sets WAL mode, with retries: while another process creates the same file, SQLite refuses this at once, without its
/// busy timeout.
fn set_wal(connection: &Connection) -> rusqlite::Result<()> {
    let until = Instant::now() + BUSY_MAX;
    loop {
        let set = connection.pragma_update(None, "journal_mode", "wal");
        let is_busy = |error: &rusqlite::Error| {
            matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
        };
        match set {
            Err(error) if is_busy(&error) && Instant::now() < until => thread::sleep(Duration::from_millis(5)),
            ended => return ended,
        }
    }
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<()> {
    if steps_taken(connection, path)? == STEPS.len() {
        return Ok(());
    }
    let doing = || format!("migrate ledger {}", path.display());
    // Another process may migrate at the same time: the number is read again under the write lock.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).during(doing())?;
    for step in &STEPS[steps_taken(&transaction, path)?..] {
        transaction.execute_batch(step).during(doing())?;
    }
    transaction.pragma_update(None, "user_version", STEPS.len() as i64).during(doing())?;
    transaction.commit().during(doing())
}

/// The number of steps that the file has.
///
/// # Errors
/// [`Kind::FixSetup`] where the file has steps that this program does not know.
fn steps_taken(connection: &Connection, path: &Path) -> Result<usize> {
    let taken: i64 = connection
        .query_row("pragma user_version", [], |row| row.get(0))
        .during(format!("read the version of ledger {}", path.display()))?;
    if let Some(taken) = usize::try_from(taken).ok().filter(|&n| n <= STEPS.len()) {
        return Ok(taken);
    }
    Err(Error::new(
        Kind::FixSetup,
        format!(
            "open ledger {}: a newer version of wattlake has written it (its schema has version {taken}, this \
             program's {}); use the newer version",
            path.display(),
            STEPS.len()
        ),
    ))
}
