//! What would go wrong, found before anything runs, each with its hint.

use lake::Lake;
use tokio_postgres::Client;

use crate::checkpoint::Origin;
use crate::cursor::{Cursor, CursorColumn, CursorKind};
use crate::error::{Context, Result};
use crate::late;
use crate::plan::{Mode, Settings, TablePlan, plan};
use crate::postgres::{Catalog, Endpoint, Identity, TableKind, quote};
use crate::resume::{Action, OrderState, Permission, Resumption, changed_expressions, keep_names};
use crate::run::Target;
use crate::target::evolve::evolve;
use crate::target::lake::{schema_of, target_state};
use crate::timeline::Log;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
    Note,
}

#[derive(Debug, Clone)]
pub struct Finding {
    pub severity: Severity,
    /// A table, a column, or the connection.
    pub subject: String,
    pub what: String,
    pub hint: Option<String>,
    pub shared: Option<Shared>,
}

/// What is often found of many tables at once, so that it can be told once for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    /// An error without `on_no_cursor = "reload"`.
    NoCursor,
    /// The same with it.
    Reloaded,
    NoKey,
}

/// Which way the rows will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Direct,
    Replica,
    Basebackup,
}

/// Twelve is the oldest whose catalogue has all that is asked of it.
const OLDEST: u32 = 120_000;
const HAS_SNAPSHOT_TYPE: u32 = 130_000;

/// What was looked at and what was found.
#[derive(Debug, Default)]
pub struct Preflight {
    pub tables: usize,
    pub columns: usize,
    pub rows_estimate: u64,
    pub server: String,
    /// Who reads the source.
    pub user: String,
    pub findings: Vec<Finding>,
}

impl Preflight {
    fn say(&mut self, severity: Severity, subject: impl Into<String>, what: impl Into<String>, hint: Option<String>) {
        self.findings.push(Finding { severity, subject: subject.into(), what: what.into(), hint, shared: None });
    }

    /// Marks what was said last.
    fn share(&mut self, shared: Shared) {
        if let Some(last) = self.findings.last_mut() {
            last.shared = Some(shared);
        }
    }
}

pub async fn check(settings: &Settings, source: &Endpoint, way: Way, target: Option<&Target>) -> Result<Preflight> {
    let client = source.connect().await?;
    let catalog = Catalog::read(&client).await?;
    let mut preflight = Preflight { user: catalog.user.clone(), ..Preflight::default() };
    check_server(&client, &catalog, source, way, &mut preflight).await?;
    let plan = plan(&client, &catalog, settings).await?;
    for refused in plan.refused {
        let hint = refused.error.hint.clone();
        let has_no_cursor = hint.as_ref().is_some_and(|hint| hint.contains("on_no_cursor"));
        preflight.say(Severity::Error, refused.table, chain(&refused.error), hint);
        if has_no_cursor {
            preflight.share(Shared::NoCursor);
        }
    }
    check_database(catalog.identity, target, &mut preflight).await?;
    if plan.tables.is_empty() {
        let hint = Some("look at include and exclude; `*` stands for any run of characters".to_owned());
        preflight.say(Severity::Error, settings.name.clone(), "the transfer takes no table", hint);
    }
    let log = Log::of(&client).await?;
    let tables: Vec<&TablePlan> = plan.tables.iter().collect();
    for table in &tables {
        preflight.tables += 1;
        preflight.columns += table.columns.len();
        preflight.rows_estimate += table.source.rows_estimate;
        check_table(&client, table, settings, &mut preflight).await?;
        if table.source.unlogged && settings.mode == Mode::Incremental {
            let what = "it is unlogged: a crash of the source empties it, and ids may begin again without a trace";
            preflight.say(Severity::Warning, table.source.display(), what, None);
        }
        if table.source.unlogged && way != Way::Direct {
            let what = "it is unlogged: a base backup has it empty, and a standby can't read it";
            preflight.say(
                Severity::Error,
                table.source.display(),
                what,
                Some("exclude it, or set via = \"direct\"".into()),
            );
        }
        if let Some(Target::Lake(lake)) = target {
            let (identity, log) = (catalog.identity, log.as_ref());
            let resumption = Resumption { settings, permission: Permission::File, identity, log };
            check_target(lake, table, &resumption, &mut preflight).await?;
        }
    }
    check_subscription(&client, settings, &tables, &mut preflight).await?;
    for name in plan.unmatched {
        let hint = Some(format!("correct or remove {name:?} in exclude"));
        preflight.say(
            Severity::Warning,
            &settings.name,
            format!("exclude names {name:?}, and the source has no table of that name"),
            hint,
        );
    }
    let late::Marks { marks, failed } = late::mark(&client, &tables).await?;
    for table in &tables {
        if let Some(error) = failed.get(&table.source.oid) {
            preflight.say(Severity::Error, table.source.display(), chain(error), error.hint.clone());
        }
    }
    for table in tables {
        if settings.mode == Mode::Incremental && marks.get(&table.source.oid).is_some_and(|mark| !mark.is_settled) {
            let what =
                "a long transaction writes to it: the next run reads the whole table once for rows committed late";
            preflight.say(Severity::Note, table.source.display(), what, None);
        }
    }
    Ok(preflight)
}

fn chain(error: &crate::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    text
}

/// Rows that logical replication brings keep the values of their cursor, and come in the order of the publisher's commits.
async fn check_subscription(
    client: &Client,
    settings: &Settings,
    tables: &[&TablePlan],
    preflight: &mut Preflight,
) -> Result<()> {
    if settings.mode != Mode::Incremental {
        return Ok(());
    }
    let sql = "SELECT DISTINCT srrelid FROM pg_subscription_rel";
    let rows = client.query(sql, &[]).await.context("ask for subscriptions")?;
    let subscribed: Vec<u32> = rows.iter().map(|row| row.get(0)).collect();
    for table in tables {
        let has_own_order = table.cursor.as_ref().is_some_and(|cursor| !cursor.is_transaction());
        if has_own_order && table.relations().any(|oid| subscribed.contains(&oid)) {
            let name = table.source.display();
            let what = "its rows come by logical replication, in the order of the publisher's commits: rows may come below the \
                        position";
            let hint = Some(format!("[tables.{name:?}] cursor = \"xmin\", or carry it from the publisher"));
            preflight.say(Severity::Warning, name, what, hint);
        }
    }
    Ok(())
}

async fn check_server(
    client: &Client,
    catalog: &Catalog,
    source: &Endpoint,
    way: Way,
    preflight: &mut Preflight,
) -> Result<()> {
    let row = client.query_one(SERVER, &[]).await.context("ask the server about itself")?;
    let (version, in_recovery, replication, wal_level, senders): (String, bool, bool, String, i32) =
        (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
    let subject = source.display();
    preflight.server = format!("PostgreSQL {version} at {subject}");
    if catalog.server_version < OLDEST.max(HAS_SNAPSHOT_TYPE) {
        let what = format!("PostgreSQL {version} is older than 13, the oldest that is carried");
        preflight.say(
            Severity::Error,
            &subject,
            what,
            Some("upgrade the source, or transfer from a newer replica".into()),
        );
    }
    match way {
        Way::Replica if !in_recovery => {
            let hint = Some("give the standby's address, or set via = \"direct\"".to_owned());
            preflight.say(Severity::Error, &subject, "via = \"replica\", and the server is no standby", hint);
        }
        Way::Basebackup => {
            if !replication {
                let hint = Some(format!("ALTER ROLE {} REPLICATION", quote(source.user())));
                preflight.say(Severity::Error, &subject, "the user may not take a base backup", hint);
            }
            if senders < 2 {
                let hint = Some("ALTER SYSTEM SET max_wal_senders = 10; and restart".to_owned());
                preflight.say(Severity::Error, &subject, "no room for the two connections of a base backup", hint);
            }
        }
        _ => {}
    }
    if wal_level != "logical" {
        let what = format!("wal_level is {wal_level}: enough for INITIAL and INCREMENTAL, CHANGES would need logical");
        preflight.say(Severity::Note, &subject, what, None);
    }
    Ok(())
}

const SERVER: &str = "SELECT current_setting('server_version'), pg_is_in_recovery(), \
     COALESCE((SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user), false), \
     current_setting('wal_level'), current_setting('max_wal_senders')::int";

async fn check_table(client: &Client, table: &TablePlan, settings: &Settings, preflight: &mut Preflight) -> Result<()> {
    let name = table.source.display();
    if table.key.is_empty() && !table.source.is_view() {
        let what = "it has no key: rows can't be told apart, so validate compares counts and sums only";
        let hint = Some(format!("[tables.{name:?}] key = [...] where some columns identify a row"));
        preflight.say(Severity::Warning, &name, what, hint);
        preflight.share(Shared::NoKey);
    }
    if settings.mode == Mode::Incremental && table.cursor.is_none() {
        let what = format!(
            "{}: it is read whole each time, and rows purged at the source leave it",
            table.no_cursor.as_deref().unwrap_or("it has no cursor")
        );
        preflight.say(Severity::Warning, &name, what, None);
        preflight.share(Shared::Reloaded);
    }
    if let (Mode::Incremental, Some(cursor)) = (settings.mode, &table.cursor) {
        check_cursor(client, table, cursor, preflight).await?;
    }
    if table.source.kind == TableKind::Table && table.source.replica_identity == 'n' {
        let hint = Some(format!("ALTER TABLE {} REPLICA IDENTITY DEFAULT", table.source.qualified()));
        preflight.say(
            Severity::Note,
            &name,
            "its replica identity is nothing: CHANGES could not carry its updates",
            hint,
        );
    }
    for column in table.columns.iter().filter(|c| c.kind == crate::carried::Kind::NumericText) {
        let what = format!("column {:?} is a {}: it is carried as its exact text", column.name, column.type_name);
        let hint = Some(format!("[tables.{name:?}.columns.{:?}] as = \"decimal(38,9)\" or \"double\"", column.name));
        preflight.say(Severity::Note, &name, what, hint);
    }
    Ok(())
}

async fn check_cursor(client: &Client, table: &TablePlan, cursor: &Cursor, preflight: &mut Preflight) -> Result<()> {
    let name = table.source.display();
    let Some(first) = cursor.columns.first() else { return Ok(()) };
    if cursor.is_transaction() {
        let what =
            "its cursor is \"xmin\": each run reads the whole table at the source, and carries what is new or changed";
        preflight.say(Severity::Note, &name, what, None);
        return Ok(());
    }
    if !has_index(client, table, &first.column).await? {
        let what =
            format!("no index starts with its cursor {:?}: each run reads the whole table at the source", first.column);
        let hint =
            Some(format!("CREATE INDEX CONCURRENTLY ON {} ({})", table.source.qualified(), quote(&first.column)));
        preflight.say(Severity::Warning, &name, what, hint);
    }
    if cursor.is_key {
        let what =
            format!("its cursor {:?} is its key: new rows are seen, later changes to old rows are not", first.column);
        preflight.say(Severity::Note, &name, what, None);
    }
    for column in &cursor.columns {
        if column.nullable {
            let what = format!(
                "its cursor {:?} may be NULL: such rows are read by each run, and their changes are not seen",
                column.column
            );
            preflight.say(Severity::Note, &name, what, None);
        }
        check_order(table, column, preflight);
    }
    Ok(())
}

/// Orders in which values that come later may lie below those that came before.
fn check_order(table: &TablePlan, column: &CursorColumn, preflight: &mut Preflight) {
    let name = table.source.display();
    let sequence = table.source.columns.iter().find(|c| c.name == column.column).and_then(|c| c.sequence);
    if let Some(cache) = sequence.map(|sequence| sequence.cache).filter(|cache| *cache > 1)
        && column.kind == CursorKind::Integer
        && table.overlap < cache
    {
        let what = format!(
            "the sequence of its cursor {:?} has CACHE {cache}: sessions hold ids back, and rows that come with them later are not seen",
            column.column
        );
        let hint =
            Some(format!("[tables.{name:?}] overlap = {}, for so many sessions as write at a time", cache * 100));
        preflight.say(Severity::Warning, &name, what, hint);
    }
    if column.kind == CursorKind::Integer && sequence.is_some_and(|sequence| sequence.grows && !sequence.readable) {
        let what = format!(
            "the user may not read the sequence of its cursor {:?}: a value by hand far ahead of all others hides rows that come \
             after it, and a sequence that was restarted shows in the run only",
            column.column
        );
        let hint = Some(format!(
            "GRANT SELECT ON ALL SEQUENCES IN SCHEMA {} TO {}",
            quote(&table.source.schema),
            quote(&preflight.user)
        ));
        preflight.say(Severity::Warning, &name, what, hint);
    }
    let hour = 3_600_000_000;
    if column.kind == (CursorKind::Instant { utc: false }) && table.overlap < hour {
        let what = format!(
            "its cursor {:?} has no time zone: where it is local time, the hour that autumn repeats lies behind what was carried",
            column.column
        );
        let hint = Some(format!("[tables.{name:?}] overlap = \"1h\", or a cursor of type timestamptz"));
        preflight.say(Severity::Warning, &name, what, hint);
    }
    if column.kind == CursorKind::Text {
        let what = format!("its cursor {:?} is a text: it must sort as time passes, as ISO 8601 does", column.column);
        preflight.say(Severity::Note, &name, what, None);
    }
}

/// The target must not be the source, whatever name it is reached by.
async fn check_database(identity: Identity, target: Option<&Target>, preflight: &mut Preflight) -> Result<()> {
    let Some(Target::Postgres(endpoint)) = target else { return Ok(()) };
    let client = endpoint.connect().await?;
    if Identity::of(&client).await? == identity {
        let hint = Some("give the target a database of its own".to_owned());
        preflight.say(Severity::Error, endpoint.display(), "the target is the database of the source", hint);
    }
    Ok(())
}

async fn has_index(client: &Client, table: &TablePlan, column: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
         WHERE i.indrelid = $1 AND i.indisvalid AND i.indpred IS NULL AND a.attname = $2)";
    let row = client.query_one(sql, &[&table.source.oid, &column]).await.context("look for an index")?;
    Ok(row.get(0) || table.source.is_view())
}

async fn check_target(
    lake: &Lake,
    table: &TablePlan,
    resumption: &Resumption<'_>,
    preflight: &mut Preflight,
) -> Result<()> {
    let Some(present) = lake.table(&table.target).await.context("look at the lake")? else { return Ok(()) };
    let state = target_state(&present, &resumption.settings.name, table).await?;
    let mut plan = table.clone();
    let origin = state.checkpoint.as_ref().and_then(|kept| kept.origin.as_ref());
    let checked =
        origin.map_or(Ok(()), |origin| keep_names(&mut plan, origin)).and_then(|()| resumption.action(&plan, &state));
    let name = table.source.display();
    match checked {
        Err(error) => preflight.say(Severity::Error, &name, chain(&error), error.hint.clone()),
        Ok(Action::Replace) => {}
        Ok(action) => {
            let schema = present.schema().context("look at the lake")?;
            if let Err(error) = evolve(&name, &schema, &schema_of(&plan), &plan.replace) {
                let hint = error.hint.clone();
                preflight.say(Severity::Error, &name, error.context, hint);
            }
            if let (Action::Increment(position), true) = (&action, plan.cursor.is_some()) {
                let seen = OrderState::default();
                if let Err(error) = resumption.order_holds(&plan, position, &seen) {
                    preflight.say(Severity::Error, &name, chain(&error), error.hint.clone());
                }
            }
            if let Some(origin) = origin {
                check_expressions(resumption.settings, &plan, origin, preflight);
            }
        }
    }
    Ok(())
}

/// A mask that came later leaves the rows that were carried before it as they are.
fn check_expressions(settings: &Settings, plan: &TablePlan, origin: &Origin, preflight: &mut Preflight) {
    for (column, earlier) in changed_expressions(plan, origin) {
        let now = match plan.columns.iter().find(|planned| planned.name == column) {
            Some(planned) => format!("is carried as {} now", planned.expression),
            None => "is not carried any more".to_owned(),
        };
        let what = format!(
            "column {column:?} {now}, and was as {}: rows that were carried before keep their values",
            earlier.join(" and as ")
        );
        let hint = Some(format!(
            "{} writes the rows that the source has anew, and makes the column NULL in those that it no longer has",
            settings.command("resync", &plan.source.display(), " --clear-changed")
        ));
        preflight.say(Severity::Warning, plan.source.display(), what, hint);
    }
}
