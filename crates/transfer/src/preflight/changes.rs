//! The checks of mode CHANGES: what the source must allow before its log can be followed.

use tokio_postgres::Client;

use crate::error::{Context, Result};
use crate::plan::{Settings, TablePlan};
use crate::postgres::{Catalog, Endpoint, quote};

/// A standby can decode its log from this version on.
const STANDBY_DECODES: u32 = 160_000;

/// What the source lacks.
pub struct Lack {
    /// The server or the transfer.
    pub subject: String,
    /// What it is, for users.
    pub what: String,
    /// What a user can do about it.
    pub hint: String,
}

/// Finds what the server, its settings and the user's rights lack.
pub async fn check_changes(
    client: &Client,
    catalog: &Catalog,
    source: &Endpoint,
    settings: &Settings,
    tables: &[TablePlan],
) -> Result<Vec<Lack>> {
    let changes = &settings.changes;
    let mut lacks = Vec::new();
    let row = client.query_one(STATE, &[&changes.slot]).await.context("read the server's replication settings")?;
    let (level, is_standby, may_replicate): (String, bool, bool) = (row.get(0), row.get(1), row.get(2));
    let (slots_free, senders, has_slot): (i64, i32, bool) = (row.get(3), row.get(4), row.get(5));
    let subject = source.display();
    let user = quote(&catalog.user);
    let mut error = |what: String, hint: String| lacks.push(Lack { subject: subject.clone(), what, hint });
    if level != "logical" {
        let hint = "ALTER SYSTEM SET wal_level = logical; then restart the server";
        error(format!("wal_level is {level}, and mode \"changes\" needs logical"), hint.to_owned());
    }
    if is_standby && catalog.server_version < STANDBY_DECODES {
        let what = "a standby can decode its log from PostgreSQL 16 on";
        error(what.to_owned(), "transfer from the primary".to_owned());
    }
    if !may_replicate {
        error("the user may not read the log".to_owned(), format!("ALTER ROLE {user} REPLICATION"));
    }
    if !has_slot && slots_free < 2 {
        let what = format!("{slots_free} replication slots are free, and the transfer needs 2 while it reads tables");
        error(what, "raise max_replication_slots, and restart the server".to_owned());
    }
    if senders < 2 {
        let what = format!("max_wal_senders is {senders}, and the transfer needs 2 while it reads tables");
        error(what, "raise max_wal_senders, and restart the server".to_owned());
    }
    check_publication(client, settings, &user, tables, &mut lacks).await?;
    Ok(lacks)
}

/// Reports a publication that can't be made or changed, or that lacks tables.
async fn check_publication(
    client: &Client,
    settings: &Settings,
    user: &str,
    tables: &[TablePlan],
    lacks: &mut Vec<Lack>,
) -> Result<()> {
    let mut add = |what: String, hint: String| lacks.push(Lack { subject: settings.name.clone(), what, hint });
    let name = &settings.changes.publication;
    let oids: Vec<u32> = tables.iter().map(|table| table.source.oid).collect();
    let row = client.query_one(PUBLICATION, &[name, &oids]).await.context("read the publications")?;
    let (exists, may_create, foreign, missing): (bool, bool, Vec<String>, Vec<String>) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    if !exists && !settings.changes.manages_publication {
        let what = format!("the source has no publication {name}");
        let hint = format!("CREATE PUBLICATION {} FOR TABLE ... WITH (publish_via_partition_root = true)", quote(name));
        add(what, hint);
    }
    if !exists && settings.changes.manages_publication && !may_create {
        let hint = format!("GRANT CREATE ON DATABASE ... TO {user}; or set `publication` to one of your own");
        add("the user may not create a publication".to_owned(), hint);
    }
    let are_added = settings.changes.manages_publication || exists;
    if are_added && !missing.is_empty() && !foreign.is_empty() {
        let what = format!("the user does not own {}, which are to be published", foreign.join(", "));
        let hint = format!(
            "publish them as their owner, and set `publication` of the transfer: ALTER PUBLICATION {} ADD TABLE {}",
            quote(name),
            foreign.join(", ")
        );
        add(what, hint);
    }
    Ok(())
}

const STATE: &str = "SELECT current_setting('wal_level'), pg_is_in_recovery(), \
     COALESCE((SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user), false), \
     current_setting('max_replication_slots')::bigint - (SELECT count(*) FROM pg_replication_slots), \
     current_setting('max_wal_senders')::int, EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)";

/// Whether the publication exists, whether the user may create one, the tables that the user does not own, and those that
/// are not published yet.
const PUBLICATION: &str = "WITH missing AS (SELECT c.oid, c.relowner FROM pg_class c WHERE c.oid = ANY ($2) \
         AND NOT EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid \
             WHERE p.pubname = $1 AND r.prrelid = c.oid) \
         AND NOT EXISTS (SELECT FROM pg_publication_tables t JOIN pg_namespace n ON n.nspname = t.schemaname \
             WHERE t.pubname = $1 AND t.tablename = c.relname AND n.oid = c.relnamespace) \
         AND NOT EXISTS (SELECT FROM pg_publication p WHERE p.pubname = $1 AND p.puballtables)) \
     SELECT EXISTS (SELECT FROM pg_publication WHERE pubname = $1), \
         has_database_privilege(current_database(), 'CREATE'), \
         ARRAY(SELECT oid::regclass::text FROM missing WHERE NOT pg_has_role(relowner, 'USAGE') ORDER BY 1), \
         ARRAY(SELECT oid::regclass::text FROM missing ORDER BY 1)";
