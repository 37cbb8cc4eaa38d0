//! What would go wrong, found before anything runs, each with its mend.

use lake::Lake;
use tokio_postgres::Client;

use crate::error::{Context, Result};
use crate::late;
use crate::plan::{CursorKind, Mode, Settings, TablePlan, plan};
use crate::postgres::{Catalog, Endpoint, TableKind, quote};
use crate::target::evolve::evolve;
use crate::target::lake::schema_of;

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
    pub mend: Option<String>,
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
    pub findings: Vec<Finding>,
}

impl Preflight {
    fn say(&mut self, severity: Severity, subject: impl Into<String>, what: impl Into<String>, mend: Option<String>) {
        self.findings.push(Finding { severity, subject: subject.into(), what: what.into(), mend });
    }
}

pub async fn check(settings: &Settings, source: &Endpoint, way: Way, lake: Option<&Lake>) -> Result<Preflight> {
    let client = source.connect().await?;
    let catalog = Catalog::read(&client).await?;
    let mut preflight = Preflight::default();
    check_server(&client, &catalog, source, way, &mut preflight).await?;
    let plan = plan(&client, &catalog, settings).await?;
    for refused in plan.refused {
        let mend = refused.error.mend.clone();
        preflight.say(Severity::Error, refused.table, chain(&refused.error), mend);
    }
    for rule in plan.idle_rules {
        let mend = Some("correct the rule's names, or remove it".to_owned());
        preflight.say(Severity::Warning, settings.name.clone(), rule, mend);
    }
    if plan.tables.is_empty() {
        let mend = Some("look at include and exclude; `*` stands for any run of characters".to_owned());
        preflight.say(Severity::Error, settings.name.clone(), "the transfer takes no table", mend);
    }
    let tables: Vec<&TablePlan> = plan.tables.iter().collect();
    for table in &tables {
        preflight.tables += 1;
        preflight.columns += table.columns.len();
        preflight.rows_estimate += table.source.rows_estimate;
        check_table(&client, table, settings, &mut preflight).await?;
        if let Some(lake) = lake {
            check_target(lake, table, settings, &mut preflight).await?;
        }
    }
    let late::Marks { marks, failed } = late::mark(&client, &tables).await?;
    for table in &tables {
        if let Some(error) = failed.get(&table.source.oid) {
            preflight.say(Severity::Error, table.source.display(), chain(error), error.mend.clone());
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
            let mend = Some("give the standby's address, or set via = \"direct\"".to_owned());
            preflight.say(Severity::Error, &subject, "via = \"replica\", and the server is no standby", mend);
        }
        Way::Basebackup => {
            if !replication {
                let mend = Some(format!("ALTER ROLE {} REPLICATION", quote(source.user())));
                preflight.say(Severity::Error, &subject, "the user may not take a base backup", mend);
            }
            if senders < 2 {
                let mend = Some("ALTER SYSTEM SET max_wal_senders = 10; and restart".to_owned());
                preflight.say(Severity::Error, &subject, "no room for the two connections of a base backup", mend);
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
        let mend = Some(format!("[tables.{name:?}] key = [...] where some columns identify a row"));
        preflight.say(Severity::Warning, &name, what, mend);
    }
    if settings.mode == Mode::Incremental && table.cursor.is_none() {
        let what = format!(
            "{}: it is read whole each time, and rows purged at the source leave it",
            table.no_cursor.as_deref().unwrap_or("it has no cursor")
        );
        preflight.say(Severity::Warning, &name, what, None);
    }
    if let (Mode::Incremental, Some(cursor)) = (settings.mode, &table.cursor) {
        if !has_index(client, table, &cursor.column).await? {
            let what = format!(
                "no index starts with its cursor {:?}: each run reads the whole table at the source",
                cursor.column
            );
            let mend =
                Some(format!("CREATE INDEX CONCURRENTLY ON {} ({})", table.source.qualified(), quote(&cursor.column)));
            preflight.say(Severity::Warning, &name, what, mend);
        }
        if cursor.kind == CursorKind::Integer {
            let what = format!(
                "its cursor {:?} is a number: new rows are seen, later changes to old rows are not",
                cursor.column
            );
            preflight.say(Severity::Note, &name, what, None);
        }
    }
    if table.source.kind == TableKind::Table && table.source.replica_identity == 'n' {
        let mend = Some(format!("ALTER TABLE {} REPLICA IDENTITY DEFAULT", table.source.qualified()));
        preflight.say(
            Severity::Note,
            &name,
            "its replica identity is nothing: CHANGES could not carry its updates",
            mend,
        );
    }
    for column in table.columns.iter().filter(|c| c.kind == crate::carried::Kind::NumericText) {
        let what = format!("column {:?} is a {}: it is carried as its exact text", column.name, column.type_name);
        let mend = Some(format!("[tables.{name:?}.columns.{:?}] as = \"decimal(38,9)\" or \"double\"", column.name));
        preflight.say(Severity::Note, &name, what, mend);
    }
    Ok(())
}

async fn has_index(client: &Client, table: &TablePlan, column: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
         WHERE i.indrelid = $1 AND i.indisvalid AND i.indpred IS NULL AND a.attname = $2)";
    let row = client.query_one(sql, &[&table.source.oid, &column]).await.context("look for an index")?;
    Ok(row.get(0) || table.source.is_view())
}

async fn check_target(lake: &Lake, table: &TablePlan, settings: &Settings, preflight: &mut Preflight) -> Result<()> {
    let Some(present) = lake.table(&table.target).await.context("look at the lake")? else { return Ok(()) };
    if settings.mode == Mode::Incremental {
        let schema = present.schema().context("look at the lake")?;
        if let Err(error) = evolve(&table.source.display(), &schema, &schema_of(table)) {
            let mend = error.mend.clone();
            preflight.say(Severity::Error, table.source.display(), error.context, mend);
        }
    }
    Ok(())
}
