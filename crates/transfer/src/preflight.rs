//! Checks of a transfer before it runs: findings about the server, the tables and the target, with hints.

use lake::Lake;
use tokio_postgres::Client;

use crate::changes::source::plan_identities;
use crate::checkpoint::Origin;
use crate::cursor::{Cursor, CursorColumn, CursorKind};
use crate::destination::evolve::evolve;
use crate::destination::evolve::schema_of;
use crate::destination::lake::target_state;
use crate::error::{Context, Result};
use crate::late;
use crate::plan::{Mode, PlanColumn, Settings, TablePlan, plan};
use crate::postgres::{Catalog, Endpoint, Identity, TableKind, quote};
use crate::publish::check_plan;
use crate::resume::{Action, OrderState, Permission, Resumption, keep_names};
use crate::run::Target;
use crate::timeline::Log;

mod changes;

use changes::check_changes;

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// A run would fail, or refuse the table.
    Error,
    /// A run would work, with a result that a user may not expect.
    Warning,
    /// Something that is worth knowing.
    Note,
}

/// One thing that the check reports.
#[derive(Debug, Clone)]
pub struct Finding {
    /// How serious it is.
    pub severity: Severity,
    /// What it is about: a table, the server or the transfer.
    pub subject: String,
    /// The finding, for users.
    pub what: String,
    /// What a user can do about it.
    pub hint: Option<String>,
    /// The kind of a finding that can be reported once for several tables.
    pub common: Option<CommonFinding>,
}

/// A kind of finding that many tables often have, so that it can be reported once for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommonFinding {
    /// The table has no cursor and is refused.
    NoCursor,
    /// The table has no cursor and is read whole by each run, by `on_no_cursor = "reload"`.
    Reloaded,
    /// The table has no key.
    NoKey,
}

/// Where a transfer reads its rows from, `via` in the transfer's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadPath {
    /// From the source itself.
    Direct,
    /// From a standby of the source.
    Replica,
    /// From a base backup of the source.
    Basebackup,
}

/// PostgreSQL 12 is the oldest version whose catalogue has all columns that are read.
const OLDEST_CATALOG: u32 = 120_000;
/// PostgreSQL 13 is the oldest version with the type `pg_snapshot`.
const HAS_SNAPSHOT_TYPE: u32 = 130_000;

/// The result of [`check`].
#[derive(Debug, Default)]
pub struct PreflightReport {
    /// The number of tables that can be transferred.
    pub tables: usize,
    /// The number of their columns.
    pub columns: usize,
    /// The number of their rows, by the source's statistics.
    pub rows_estimate: u64,
    /// The source's version and address, for users.
    pub server: String,
    /// The user that reads the source.
    pub user: String,
    /// The findings.
    pub findings: Vec<Finding>,
}

impl PreflightReport {
    fn add(&mut self, severity: Severity, subject: impl Into<String>, what: impl Into<String>, hint: Option<String>) {
        self.findings.push(Finding { severity, subject: subject.into(), what: what.into(), hint, common: None });
    }

    /// Marks the last finding as one of a common kind.
    fn mark_common(&mut self, common: CommonFinding) {
        if let Some(last) = self.findings.last_mut() {
            last.common = Some(common);
        }
    }
}

/// Checks a transfer against its source and, where one is given, its target. Nothing is written.
///
/// # Errors
/// Where the source or the target can't be read, or the settings are wrong as a whole; what is wrong with a single
/// table is a finding.
pub async fn check(
    settings: &Settings,
    source: &Endpoint,
    path: ReadPath,
    target: Option<&Target>,
) -> Result<PreflightReport> {
    let client = source.connect().await?;
    let catalog = Catalog::read(&client).await?;
    let mut preflight = PreflightReport { user: catalog.user.clone(), ..PreflightReport::default() };
    check_server(&client, &catalog, source, path, &mut preflight).await?;
    let mut plan = plan(&client, &catalog, settings).await?;
    if settings.mode == Mode::Changes {
        plan_identities(&client, &mut plan).await?;
        for lack in check_changes(&client, &catalog, source, settings, &plan.tables).await? {
            preflight.add(Severity::Error, lack.subject, lack.what, Some(lack.hint));
        }
    }
    for refused in plan.refused {
        let hint = refused.error.hint.clone();
        let has_no_cursor = hint.as_ref().is_some_and(|hint| hint.contains("on_no_cursor"));
        preflight.add(Severity::Error, refused.table, base::chain(&refused.error), hint);
        if has_no_cursor {
            preflight.mark_common(CommonFinding::NoCursor);
        }
    }
    check_database(catalog.identity, target, &mut preflight).await?;
    if plan.tables.is_empty() {
        let hint = Some("check include and exclude; `*` stands for any characters".to_owned());
        preflight.add(Severity::Error, settings.name.clone(), "the transfer takes no table", hint);
    }
    let log = Log::of(&client).await?;
    let tables: Vec<&TablePlan> = plan.tables.iter().collect();
    for table in &tables {
        preflight.tables += 1;
        preflight.columns += table.columns.len();
        preflight.rows_estimate += table.source.rows_estimate;
        check_table(&client, table, settings, matches!(target, Some(Target::Stream(_))), &mut preflight).await?;
        check_unlogged(table, settings, path, &mut preflight);
        if let Some(Target::Lake(lake)) = target {
            let (identity, log) = (catalog.identity, log.as_ref());
            let resumption = Resumption { settings, permission: Permission::AsConfigured, identity, log };
            check_target(lake, table, &resumption, &mut preflight).await?;
        }
    }
    check_subscription(&client, settings, &tables, &mut preflight).await?;
    for name in plan.unmatched {
        let hint = Some(format!("correct or remove {name:?} in exclude"));
        preflight.add(
            Severity::Warning,
            &settings.name,
            format!("exclude names {name:?}, but the source has no table of that name"),
            hint,
        );
    }
    let late::Marks { marks, failed } = late::read_marks(&client, &tables).await?;
    for table in &tables {
        if let Some(error) = failed.get(&table.source.oid) {
            preflight.add(Severity::Error, table.source.display(), base::chain(error), error.hint.clone());
        }
    }
    for table in tables {
        if settings.mode == Mode::Incremental && marks.get(&table.source.oid).is_some_and(|mark| !mark.writers_ended) {
            let what = "a long transaction writes to it: the next run reads the whole table once, for late rows";
            preflight.add(Severity::Note, table.source.display(), what, None);
        }
    }
    Ok(preflight)
}

/// Reports an unlogged table, whose rows a crash, a base backup and a standby do not have.
fn check_unlogged(table: &TablePlan, settings: &Settings, path: ReadPath, preflight: &mut PreflightReport) {
    if table.source.unlogged && settings.mode == Mode::Incremental {
        let what = "it is unlogged: a crash of the source empties it, and its ids may start again unnoticed";
        preflight.add(Severity::Warning, table.source.display(), what, None);
    }
    if table.source.unlogged && path != ReadPath::Direct {
        let what = "it is unlogged: it is empty in a base backup, and a standby can't read it";
        preflight.add(
            Severity::Error,
            table.source.display(),
            what,
            Some("exclude it, or set via = \"direct\"".into()),
        );
    }
}

/// Warns of tables that logical replication fills: their rows have the publisher's values of the cursor, and are
/// committed in the order of the publisher's commits.
async fn check_subscription(
    client: &Client,
    settings: &Settings,
    tables: &[&TablePlan],
    preflight: &mut PreflightReport,
) -> Result<()> {
    if settings.mode != Mode::Incremental {
        return Ok(());
    }
    let sql = "SELECT DISTINCT srrelid FROM pg_subscription_rel";
    let rows = client.query(sql, &[]).await.context("read the subscriptions")?;
    let subscribed: Vec<u32> = rows.iter().map(|row| row.get(0)).collect();
    for table in tables {
        let has_own_order = table.cursor.as_ref().is_some_and(|cursor| !cursor.is_transaction());
        if has_own_order && table.relations().any(|oid| subscribed.contains(&oid)) {
            let name = table.source.display();
            let what = "logical replication inserts its rows in the order of the publisher's commits: rows below the \
                position may be \
                        inserted later";
            let hint = Some(format!("[tables.{name:?}] cursor = \"xmin\", or transfer it from the publisher"));
            preflight.add(Severity::Warning, name, what, hint);
        }
    }
    Ok(())
}

async fn check_server(
    client: &Client,
    catalog: &Catalog,
    source: &Endpoint,
    path: ReadPath,
    preflight: &mut PreflightReport,
) -> Result<()> {
    let row = client.query_one(SERVER, &[]).await.context("read the server's settings")?;
    let (version, in_recovery, replication, senders): (String, bool, bool, i32) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    let subject = source.display();
    preflight.server = format!("PostgreSQL {version} at {subject}");
    if catalog.server_version < OLDEST_CATALOG.max(HAS_SNAPSHOT_TYPE) {
        let what = format!("PostgreSQL {version} is older than 13, the oldest supported version");
        preflight.add(
            Severity::Error,
            &subject,
            what,
            Some("upgrade the source, or transfer from a newer replica".into()),
        );
    }
    match path {
        ReadPath::Replica if !in_recovery => {
            let hint = Some("give the standby's address, or set via = \"direct\"".to_owned());
            preflight.add(Severity::Error, &subject, "via = \"replica\", but the server is no standby", hint);
        }
        ReadPath::Basebackup => {
            if !replication {
                let hint = Some(format!("ALTER ROLE {} REPLICATION", quote(source.user())));
                preflight.add(Severity::Error, &subject, "the user may not take a base backup", hint);
            }
            if senders < 2 {
                let hint = Some("ALTER SYSTEM SET max_wal_senders = 10; then restart the server".to_owned());
                preflight.add(
                    Severity::Error,
                    &subject,
                    "max_wal_senders is below 2, the number of connections of a base backup",
                    hint,
                );
            }
        }
        _ => {}
    }
    Ok(())
}

const SERVER: &str = "SELECT current_setting('server_version'), pg_is_in_recovery(), \
     COALESCE((SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user), false), \
     current_setting('max_wal_senders')::int";

async fn check_table(
    client: &Client,
    table: &TablePlan,
    settings: &Settings,
    publishes: bool,
    preflight: &mut PreflightReport,
) -> Result<()> {
    let name = table.source.display();
    if publishes && let Err(error) = check_plan(table) {
        preflight.add(Severity::Error, &name, base::chain(&error), error.hint);
    }
    if table.key.is_empty() && !table.source.is_view() {
        let what = "it has no key: rows can't be identified, so validate compares counts and sums only";
        let hint = Some(format!("[tables.{name:?}] key = [...] where some columns identify a row"));
        preflight.add(Severity::Warning, &name, what, hint);
        preflight.mark_common(CommonFinding::NoKey);
    }
    if settings.mode == Mode::Incremental && table.cursor.is_none() {
        let what = format!(
            "{}: it is read whole each time, and rows purged at the source are not kept",
            table.no_cursor_reason.as_deref().unwrap_or("it has no cursor")
        );
        preflight.add(Severity::Warning, &name, what, None);
        preflight.mark_common(CommonFinding::Reloaded);
    }
    if let (Mode::Incremental, Some(cursor)) = (settings.mode, &table.cursor) {
        check_cursor(client, table, cursor, preflight).await?;
    }
    if table.source.kind == TableKind::Table && table.source.replica_identity == 'n' {
        let hint = Some(format!("ALTER TABLE {} REPLICA IDENTITY DEFAULT", table.source.qualified()));
        preflight.add(
            Severity::Note,
            &name,
            "its replica identity is NOTHING: CHANGES could not carry its updates",
            hint,
        );
    }
    // Messages have numbers of any length.
    let texts = |c: &&PlanColumn| !publishes && c.kind == crate::type_map::ColumnKind::NumericText;
    for column in table.columns.iter().filter(texts) {
        let what = format!("column {:?} is a {}: it is carried as its exact text", column.name, column.type_name);
        let hint = Some(format!("[tables.{name:?}.columns.{:?}] as = \"decimal(38,9)\" or \"double\"", column.name));
        preflight.add(Severity::Note, &name, what, hint);
    }
    Ok(())
}

async fn check_cursor(
    client: &Client,
    table: &TablePlan,
    cursor: &Cursor,
    preflight: &mut PreflightReport,
) -> Result<()> {
    let name = table.source.display();
    let Some(first) = cursor.columns.first() else { return Ok(()) };
    if cursor.is_transaction() {
        let what = "its cursor is \"xmin\": each run reads the whole table at the source, and transfers what is new \
            or changed";
        preflight.add(Severity::Note, &name, what, None);
        return Ok(());
    }
    if !has_index(client, table, &first.column).await? {
        let what =
            format!("no index starts with its cursor {:?}: each run reads the whole table at the source", first.column);
        let hint =
            Some(format!("CREATE INDEX CONCURRENTLY ON {} ({})", table.source.qualified(), quote(&first.column)));
        preflight.add(Severity::Warning, &name, what, hint);
    }
    if cursor.is_key {
        let what =
            format!("its cursor {:?} is its key: new rows are found, later changes to old rows are not", first.column);
        preflight.add(Severity::Note, &name, what, None);
    }
    for column in &cursor.columns {
        if column.nullable {
            let what = format!(
                "its cursor {:?} may be NULL: each run reads such rows, and their changes are not found",
                column.column
            );
            preflight.add(Severity::Note, &name, what, None);
        }
        check_order(table, column, preflight);
    }
    Ok(())
}

/// Warns of cursors whose later values may be below earlier ones.
fn check_order(table: &TablePlan, column: &CursorColumn, preflight: &mut PreflightReport) {
    let name = table.source.display();
    let sequence = table.source.columns.iter().find(|c| c.name == column.column).and_then(|c| c.sequence);
    if let Some(cache) = sequence.map(|sequence| sequence.cache).filter(|cache| *cache > 1)
        && column.kind == CursorKind::Integer
        && table.overlap < cache
    {
        let what = format!(
            "the sequence of its cursor {:?} has CACHE {cache}: sessions reserve ids, and rows that get them later \
             are not \
             found",
            column.column
        );
        let hint = Some(format!("[tables.{name:?}] overlap = {}, for 100 sessions that write at a time", cache * 100));
        preflight.add(Severity::Warning, &name, what, hint);
    }
    if column.kind == CursorKind::Integer && sequence.is_some_and(|sequence| sequence.grows && !sequence.readable) {
        let what = format!(
            "the user may not read the sequence of its cursor {:?}: an inserted value far above the sequence hides \
             the rows that \
             follow, and a restarted sequence is found by the run only",
            column.column
        );
        let hint = Some(format!(
            "GRANT SELECT ON ALL SEQUENCES IN SCHEMA {} TO {}",
            quote(&table.source.schema),
            quote(&preflight.user)
        ));
        preflight.add(Severity::Warning, &name, what, hint);
    }
    let hour = 3_600_000_000;
    if column.kind == (CursorKind::Instant { utc: false }) && table.overlap < hour {
        let what = format!(
            "its cursor {:?} has no time zone: where it is local time, the hour that is repeated in autumn is below \
             the position",
            column.column
        );
        let hint = Some(format!("[tables.{name:?}] overlap = \"1h\", or a cursor of type timestamptz"));
        preflight.add(Severity::Warning, &name, what, hint);
    }
    if column.kind == CursorKind::Text {
        let what = format!("its cursor {:?} is a text: it must sort by time, as ISO 8601 does", column.column);
        preflight.add(Severity::Note, &name, what, None);
    }
}

/// Refuses a target that is the source's database, by whatever address it is reached.
async fn check_database(identity: Identity, target: Option<&Target>, preflight: &mut PreflightReport) -> Result<()> {
    let Some(Target::Postgres(endpoint)) = target else { return Ok(()) };
    let client = endpoint.connect().await?;
    if Identity::of(&client).await? == identity {
        let hint = Some("give the target a database of its own".to_owned());
        preflight.add(Severity::Error, endpoint.display(), "the target is the source's database", hint);
    }
    Ok(())
}

async fn has_index(client: &Client, table: &TablePlan, column: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = \
        i.indkey[0] \
         WHERE i.indrelid = $1 AND i.indisvalid AND i.indpred IS NULL AND a.attname = $2)";
    let row = client.query_one(sql, &[&table.source.oid, &column]).await.context("look for an index")?;
    Ok(row.get(0) || table.source.is_view())
}

async fn check_target(
    lake: &Lake,
    table: &TablePlan,
    resumption: &Resumption<'_>,
    preflight: &mut PreflightReport,
) -> Result<()> {
    let Some(present) = lake.table(&table.target).await.context("open the table in the lake")? else { return Ok(()) };
    let state = target_state(&present, &resumption.settings.name, table).await?;
    let mut plan = table.clone();
    let origin = state.checkpoint.as_ref().and_then(|kept| kept.origin.as_ref());
    let checked =
        origin.map_or(Ok(()), |origin| keep_names(&mut plan, origin)).and_then(|()| resumption.action(&plan, &state));
    let name = table.source.display();
    match checked {
        Err(error) => preflight.add(Severity::Error, &name, base::chain(&error), error.hint.clone()),
        Ok(Action::Replace) => {}
        Ok(action) => {
            let schema = present.schema().context("read the table's schema")?;
            if let Err(error) = evolve(&name, &schema, &schema_of(&plan), &plan.replace_command) {
                let hint = error.hint.clone();
                preflight.add(Severity::Error, &name, error.context, hint);
            }
            if let (Action::Increment(position), true) = (&action, plan.cursor.is_some()) {
                let order = OrderState::default();
                if let Err(error) = resumption.check_order(&plan, position, &order) {
                    preflight.add(Severity::Error, &name, base::chain(&error), error.hint.clone());
                }
            }
            if let Some(origin) = origin {
                check_expressions(resumption.settings, &plan, origin, preflight);
            }
        }
    }
    Ok(())
}

/// Warns of columns whose expression has changed, such as by a new mask: rows of earlier runs keep their values.
fn check_expressions(settings: &Settings, plan: &TablePlan, origin: &Origin, preflight: &mut PreflightReport) {
    for (column, earlier) in origin.changed_expressions(plan) {
        let now = match plan.columns.iter().find(|planned| planned.name == column) {
            Some(planned) => format!("is carried as {} now", planned.expression),
            None => "is not carried any more".to_owned(),
        };
        let what = format!(
            "column {column:?} {now}, and was carried as {} before: rows of earlier runs keep their values",
            earlier.join(" and as ")
        );
        let hint = Some(format!(
            "{} writes the source's rows again, and sets the column to NULL in rows that the source no longer has",
            settings.command("resync", &plan.source.display(), " --clear-changed")
        ));
        preflight.add(Severity::Warning, plan.source.display(), what, hint);
    }
}
