//! What CHANGES needs at the source: the server's settings, the tables' replica identities, the publication and the
//! slot. Publications and slots that this program creates are also removed by it.

use std::collections::{BTreeMap, HashMap};

use tokio_postgres::Client;

use super::stream_record::PublicationState;
use crate::error::{Context, Error, Result};
use crate::lsn::Lsn;
use crate::plan::{RefusedTable, Settings, TablePlan, TransferPlan, name_selector};
use crate::postgres::{Endpoint, TableKind, quote};
use crate::settings::ChangesSettings;

/// The columns by which the log identifies the rows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// These columns, none of which is NULL.
    Columns(Vec<String>),
    /// All columns.
    Full,
    /// Updates and deletes are not in the log.
    Nothing,
}

/// The state of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotState {
    /// The position up to which changes were confirmed; they are not sent again.
    pub confirmed: Lsn,
    /// The process that uses it.
    pub active_pid: Option<i32>,
    /// Why the server has invalidated it; `None` where it can be used.
    pub lost: Option<String>,
}

/// Checks the settings of a server for logical decoding.
///
/// # Errors
/// With the command that corrects the setting.
pub async fn check_server(client: &Client, version: u32) -> Result<()> {
    let row = client
        .query_one("SELECT current_setting('wal_level'), pg_is_in_recovery()", &[])
        .await
        .context("read the server's settings")?;
    let (level, is_standby): (String, bool) = (row.get(0), row.get(1));
    if level != "logical" {
        return Err(Error::setup(format!("stream changes: wal_level of the source is {level}"))
            .state("wal-level")
            .hint("ALTER SYSTEM SET wal_level = logical; then restart the server"));
    }
    if is_standby && version < 160_000 {
        return Err(Error::setup("stream changes: a standby can decode its log from PostgreSQL 16 on")
            .hint("transfer from the primary"));
    }
    Ok(())
}

/// Gives each table the key of its replica identity, and refuses those whose changes are not in the log.
pub async fn plan_identities(client: &Client, plan: &mut TransferPlan) -> Result<HashMap<u32, ReplicaIdentity>> {
    let oids: Vec<u32> = plan.tables.iter().flat_map(TablePlan::relations).collect();
    let rows = client.query(IDENTITIES, &[&oids]).await.context("read the replica identities")?;
    let mut identities: HashMap<u32, ReplicaIdentity> = HashMap::new();
    for row in rows {
        let columns: Option<Vec<String>> = row.get(2);
        let identity = match (row.get::<_, i8>(1) as u8, columns) {
            (b'f', _) => ReplicaIdentity::Full,
            (b'd' | b'i', Some(columns)) => ReplicaIdentity::Columns(columns),
            _ => ReplicaIdentity::Nothing,
        };
        identities.insert(row.get(0), identity);
    }
    let tables = std::mem::take(&mut plan.tables);
    for mut table in tables {
        match identity_of(&table, &identities).and_then(|identity| key_of(&table, &identity).map(|key| (identity, key)))
        {
            Ok((identity, key)) => {
                table.key = key;
                identities.insert(table.source.oid, identity);
                plan.tables.push(table);
            }
            Err(error) => plan.refused.push(RefusedTable { table: table.source.display(), error }),
        }
    }
    Ok(identities)
}

/// The replica identity of a table, which is that of its partitions.
fn identity_of(table: &TablePlan, identities: &HashMap<u32, ReplicaIdentity>) -> Result<ReplicaIdentity> {
    let (source, name) = (&table.source, table.source.display());
    let refused = |what: &str| Error::setup(format!("stream changes of {name}: {what}")).state("not-in-the-log");
    if !matches!(source.kind, TableKind::Table | TableKind::Partitioned) {
        return Err(refused("only the changes of tables are in the log")
            .hint("exclude it, or carry it by a transfer with mode = \"initial\""));
    }
    if source.unlogged {
        return Err(refused("it is unlogged").hint("ALTER TABLE ... SET LOGGED, or exclude it"));
    }
    if source.has_children {
        return Err(refused("other tables inherit from it, and the log has their rows as rows of their own")
            .hint("exclude it, or carry it by a transfer with mode = \"incremental\""));
    }
    let of = |oid: u32| identities.get(&oid).cloned().unwrap_or(ReplicaIdentity::Nothing);
    let leaves: Vec<u32> = source.leaves.iter().map(|leaf| leaf.oid).collect();
    let identity = match (source.kind, leaves.first()) {
        (TableKind::Partitioned, Some(first)) => of(*first),
        _ => of(source.oid),
    };
    if let Some(leaf) = source.leaves.iter().find(|leaf| of(leaf.oid) != identity) {
        return Err(refused("its partitions differ in their replica identity").hint(format!(
            "give {} the identity of the other partitions: ALTER TABLE {} REPLICA IDENTITY ...",
            leaf.name, leaf.name
        )));
    }
    Ok(identity)
}

/// The columns of the target by which the rows of the log are matched; none where they are matched by all columns.
fn key_of(table: &TablePlan, identity: &ReplicaIdentity) -> Result<Vec<String>> {
    let name = table.source.display();
    if let ReplicaIdentity::Columns(columns) = identity
        && let Some(column) = table.source.columns.iter().find(|c| c.generated.is_some() && columns.contains(&c.name))
    {
        let what = format!("stream changes of {name}: column {:?} of its identity is generated", column.name);
        return Err(Error::setup(what).state("not-in-the-log").hint("set REPLICA IDENTITY FULL for it"));
    }
    let target_of = |column: &String| {
        let planned = table.columns.iter().find(|c| c.source.as_ref().is_some_and(|source| source.name == *column));
        planned.map(|planned| planned.name.clone())
    };
    match identity {
        ReplicaIdentity::Full => Ok(table.key.clone()),
        ReplicaIdentity::Columns(columns) => columns.iter().map(target_of).collect::<Option<_>>().ok_or_else(|| {
            Error::setup(format!("stream changes of {name}: its identity ({}) is not transferred", columns.join(", ")))
                .state("not-in-the-log")
                .hint("carry these columns without a change, or set REPLICA IDENTITY FULL")
        }),
        ReplicaIdentity::Nothing => {
            let hint = match table.source.key.is_empty() {
                true => format!("ALTER TABLE {} REPLICA IDENTITY FULL", table.source.qualified()),
                false => format!(
                    "ALTER TABLE {} ADD PRIMARY KEY ({}), or REPLICA IDENTITY USING INDEX with its unique index",
                    table.source.qualified(),
                    table.source.key.iter().map(|column| quote(column)).collect::<Vec<_>>().join(", ")
                ),
            };
            let what = format!("stream changes of {name}: it has no replica identity");
            Err(Error::setup(what).state("no-identity").hint(hint))
        }
    }
}

/// What was done so that the tables are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// They were published.
    Unchanged,
    /// The publication did not exist: the log before it can't be read by it.
    New,
    /// These tables, by their names, were not published, or not with all operations.
    Changed(Vec<String>),
}

/// Creates the publication with the tables, or adds the tables that it lacks.
///
/// # Errors
/// Where the user may not do so, or a publication of the user's own lacks a table, with the statement to execute.
pub async fn ensure_publication(
    client: &Client,
    settings: &ChangesSettings,
    tables: &[TablePlan],
    version: u32,
) -> Result<Published> {
    let name = &settings.publication;
    let sql = "SELECT p.pubviaroot, p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate, p.puballtables \
               FROM pg_publication p WHERE p.pubname = $1";
    let present = client.query_opt(sql, &[name]).await.context("read the publications")?;
    let listed =
        |tables: &[&TablePlan]| tables.iter().map(|table| table.source.qualified()).collect::<Vec<_>>().join(", ");
    let all: Vec<&TablePlan> = tables.iter().collect();
    let Some(row) = present else {
        // Where no table can be streamed, each is refused with its reason.
        let of_tables = if all.is_empty() { String::new() } else { format!(" FOR TABLE {}", listed(&all)) };
        let create = format!("CREATE PUBLICATION {}{of_tables} WITH (publish_via_partition_root = true)", quote(name));
        execute(client, &create, name).await?;
        return Ok(Published::New);
    };
    let names = |tables: &[&TablePlan]| tables.iter().map(|table| table.source.display()).collect::<Vec<_>>();
    let mut changed = Vec::new();
    let (via_root, publishes_all, is_for_all): (bool, bool, bool) = (row.get(0), row.get(1), row.get(2));
    if !publishes_all || !via_root {
        let set = format!(
            "ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)",
            quote(name)
        );
        if !settings.manages_publication {
            let what = format!("stream changes: the publication {name} does not publish all operations by the root");
            return Err(Error::setup(what).state("publication").hint(set));
        }
        execute(client, &set, name).await?;
        changed = names(&all);
    }
    let done = |changed: Vec<String>| match changed.is_empty() {
        true => Published::Unchanged,
        false => Published::Changed(changed),
    };
    if is_for_all {
        return Ok(done(changed));
    }
    changed.extend(add_tables(client, settings, tables, version).await?);
    Ok(done(changed))
}

/// Adds the tables that the publication lacks, and returns their names.
async fn add_tables(
    client: &Client,
    settings: &ChangesSettings,
    tables: &[TablePlan],
    version: u32,
) -> Result<Vec<String>> {
    let name = &settings.publication;
    let filters = if version >= 150_000 { "prqual IS NOT NULL OR prattrs IS NOT NULL" } else { "false" };
    let sql = format!(
        "SELECT prrelid, {filters} FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = $1"
    );
    let rows = client.query(&sql, &[name]).await.context("read the publication's tables")?;
    let mut has: HashMap<u32, bool> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    // Those of whole schemas, too.
    for row in client.query(PUBLISHED, &[name]).await.context("read the publication's tables")? {
        has.entry(row.get(0)).or_insert(false);
    }
    if let Some(table) = tables.iter().find(|table| has.get(&table.source.oid) == Some(&true)) {
        let what = format!("stream changes: the publication {name} has a filter on {}", table.source.display());
        let hint = "publish the whole table; a table mapping selects rows and columns";
        return Err(Error::setup(what).state("publication").hint(hint));
    }
    let missing: Vec<&TablePlan> = tables.iter().filter(|table| !has.contains_key(&table.source.oid)).collect();
    if !missing.is_empty() {
        let add = format!("ALTER PUBLICATION {} ADD TABLE {}", quote(name), listed(&missing));
        // Before 17.5, 16.9 and their kin, a transaction that writes to the table while it is added makes the server
        // leave out later changes, too: no transaction may.
        let lock = format!("BEGIN; LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE; {add}; COMMIT", listed(&missing));
        if !settings.manages_publication && !may_alter(client, name).await? {
            let what = format!("stream changes: the publication {name} misses {}", listed(&missing));
            return Err(Error::setup(what).state("publication").hint(add));
        }
        if let Err(error) = execute(client, &lock, name).await {
            client.batch_execute("ROLLBACK").await.context("set up the publication")?;
            return Err(error.hint(add));
        }
    }
    Ok(missing.iter().map(|table| table.source.display()).collect())
}

/// The state of a publication.
pub async fn publication_state(client: &Client, name: &str) -> Result<PublicationState> {
    let context = "read the publication";
    let own = "SELECT oid::text || '/' || xmin::text FROM pg_publication WHERE pubname = $1";
    let own = client.query_opt(own, &[&name]).await.context(context)?;
    let tables = "SELECT r.prrelid, r.oid::text || '/' || r.xmin::text FROM pg_publication_rel r \
                  JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = $1";
    let tables = client.query(tables, &[&name]).await.context(context)?;
    Ok(PublicationState {
        publication: own.map_or_else(String::new, |row| row.get(0)),
        tables: tables.iter().map(|row| (row.get(0), row.get(1))).collect(),
    })
}

/// A position in the log: the transactions that were committed at the source before the instant are before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogMark {
    /// The position.
    pub position: Lsn,
    /// The instant, in microseconds since 1970; `None` where a standby has not replayed any transaction.
    pub at_micros: Option<i64>,
}

/// A transaction takes the time of its commit a moment before it writes it to the log: by so much, transactions may be in
/// another order than their times.
pub const COMMIT_MARGIN_MICROS: i64 = 10_000;

/// The clock before the position is read.
const BEFORE: &str = "(extract(epoch FROM CASE WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp() \
     ELSE clock_timestamp() END) * 1000000)::bigint";

/// The end of the log now; `None` where a standby has replayed nothing.
pub async fn log_mark(client: &Client) -> Result<Option<LogMark>> {
    let end = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END";
    mark_at(client, end).await
}

/// As [`log_mark`], at a position that the stream reaches soon: a message in the log flushes it.
pub async fn write_log_mark(client: &Client) -> Result<LogMark> {
    let context = "mark the end of the log";
    let end = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
               ELSE pg_logical_emit_message(true, 'wattlake', '') END";
    client.batch_execute("SET synchronous_commit = on").await.context(context)?;
    mark_at(client, end).await?.ok_or_else(|| Error::retry(format!("{context}: it has no position")))
}

async fn mark_at(client: &Client, end: &str) -> Result<Option<LogMark>> {
    let context = "read the end of the log";
    let clock = client.query_one(&format!("SELECT {BEFORE}"), &[]).await.context(context)?;
    let row = client.query_one(&format!("SELECT ({end})::text"), &[]).await.context(context)?;
    let position = row.get::<_, Option<String>>(0).and_then(|text| text.parse().ok());
    let at_micros = clock.get::<_, Option<i64>>(0).map(|at| at - COMMIT_MARGIN_MICROS);
    Ok(position.map(|position| LogMark { position, at_micros }))
}

/// Tables by OID, with what decides whether and how they take part in a stream.
pub type SelectedTables = BTreeMap<u32, (String, String)>;

/// The tables that a transfer's file selects, also those that can't be streamed.
pub async fn selected_tables(client: &Client, settings: &Settings) -> Result<SelectedTables> {
    let is_selected = name_selector(settings)?;
    let rows = client.query(SELECTED, &[]).await.context("list the tables")?;
    let tables = rows.iter().map(|row| (row.get::<_, u32>(0), (row.get::<_, String>(1), row.get::<_, String>(2))));
    Ok(tables.filter(|(_, (name, _))| is_selected(name)).collect())
}

/// The replica identity, its indexes and the right to read; NULL where the table was dropped a moment ago.
const SELECTED: &str = "SELECT c.oid, n.nspname || '.' || c.relname, concat_ws('/', c.relreplident::text, \
       c.relpersistence::text, has_any_column_privilege(c.oid, 'SELECT')::text, \
       (SELECT string_agg(i.indexrelid::text, ',' ORDER BY i.indexrelid) FROM pg_index i \
        WHERE i.indrelid = c.oid AND (i.indisprimary OR i.indisreplident))) \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' \
       AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%'";

const PUBLISHED: &str = "SELECT c.oid FROM pg_publication_tables t JOIN pg_namespace n ON n.nspname = t.schemaname \
     JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename WHERE t.pubname = $1";

fn listed(tables: &[&TablePlan]) -> String {
    tables.iter().map(|table| table.source.qualified()).collect::<Vec<_>>().join(", ")
}

async fn may_alter(client: &Client, publication: &str) -> Result<bool> {
    let sql = "SELECT pg_has_role(pubowner, 'USAGE') FROM pg_publication WHERE pubname = $1";
    let row = client.query_opt(sql, &[&publication]).await.context("read the publications")?;
    Ok(row.is_some_and(|row| row.get(0)))
}

async fn execute(client: &Client, statement: &str, publication: &str) -> Result<()> {
    client.batch_execute(statement).await.map_err(|error| {
        let denied = error.code() == Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE);
        let converted: Result<()> = Err(error).context(format!("stream changes: set up the publication {publication}"));
        let error = converted.err().unwrap_or_else(|| Error::bug("set up the publication"));
        if denied { error.state("publication").hint(format!("as the owner of the tables: {statement}")) } else { error }
    })
}

/// The state of a slot; `None` where it does not exist.
pub async fn slot_state(client: &Client, name: &str, version: u32) -> Result<Option<SlotState>> {
    let lost = match version {
        170_000.. => "COALESCE(invalidation_reason, CASE WHEN wal_status = 'lost' THEN 'the log was removed' END)",
        160_000.. => {
            "CASE WHEN conflicting THEN 'a conflict with recovery' WHEN wal_status = 'lost' THEN 'the log was removed' END"
        }
        _ => "CASE WHEN wal_status = 'lost' THEN 'the log was removed' END",
    };
    let sql = format!(
        "SELECT confirmed_flush_lsn::text, active_pid, {lost}, database = current_database() AND plugin = 'pgoutput' \
         FROM pg_replication_slots WHERE slot_name = $1"
    );
    let Some(row) = client.query_opt(&sql, &[&name]).await.context("read the replication slots")? else {
        return Ok(None);
    };
    if row.get::<_, Option<bool>>(3) != Some(true) {
        let what = format!("stream changes: the slot {name} belongs to another database or another plugin");
        return Err(Error::setup(what).state("slot").hint("set `slot` of the transfer to another name"));
    }
    let confirmed = row.get::<_, Option<String>>(0).and_then(|text| text.parse().ok()).unwrap_or_default();
    Ok(Some(SlotState { confirmed, active_pid: row.get(1), lost: row.get(2) }))
}

/// Drops the slot and, where this program manages it, the publication. Returns what was dropped.
pub async fn drop_slot(source: &Endpoint, settings: &ChangesSettings) -> Result<Vec<String>> {
    let client = source.connect().await?;
    let mut dropped = Vec::new();
    let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1";
    let slots = client.query(sql, &[&settings.slot]).await.context(format!("drop the slot {}", settings.slot))?;
    if !slots.is_empty() {
        dropped.push(format!("slot {}", settings.slot));
    }
    let sql = "SELECT 1 FROM pg_publication WHERE pubname = $1";
    let present = client.query(sql, &[&settings.publication]).await.context("read the publications")?;
    if settings.manages_publication && !present.is_empty() {
        let drop = format!("DROP PUBLICATION {}", quote(&settings.publication));
        client.batch_execute(&drop).await.context(format!("drop the publication {}", settings.publication))?;
        dropped.push(format!("publication {}", settings.publication));
    }
    Ok(dropped)
}

/// The state of the source's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogState {
    /// The end of the log.
    pub end: Lsn,
    /// How many bytes of the log the server keeps for the slot; `None` where there is no slot.
    pub retained: Option<i64>,
}

/// Reads the state of the log, over a connection of its own that it opens when it is needed.
pub struct LogWatcher {
    source: Endpoint,
    slot: String,
    client: Option<Client>,
}

impl LogWatcher {
    /// A watcher of the log and of what it keeps for a slot.
    pub fn new(source: &Endpoint, slot: &str) -> Self {
        LogWatcher { source: source.clone(), slot: slot.to_owned(), client: None }
    }

    /// The state of the log; `None` where the source can't be reached.
    pub async fn state(&mut self) -> Option<LogState> {
        let client = match self.client.take() {
            Some(client) => client,
            None => self.source.connect().await.ok()?,
        };
        let row = client.query_one(LOG_STATE, &[&self.slot]).await.ok()?;
        self.client = Some(client);
        let end: Option<String> = row.get(0);
        Some(LogState { end: end?.parse().ok()?, retained: row.get(1) })
    }
}

const LOG_STATE: &str = "SELECT l.lsn::text, (l.lsn - s.restart_lsn)::bigint FROM \
     (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS lsn) l \
     LEFT JOIN pg_replication_slots s ON s.slot_name = $1";

const IDENTITIES: &str = "SELECT c.oid, c.relreplident, \
     (SELECT array_agg(a.attname::text ORDER BY o.at) FROM pg_index i \
        CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY o(num, at) \
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = o.num \
        WHERE i.indrelid = c.oid AND o.at <= i.indnkeyatts AND i.indisvalid AND i.indimmediate \
          AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END) \
     FROM pg_class c WHERE c.oid = ANY ($1)";
