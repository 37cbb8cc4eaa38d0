//! PostgreSQL as a target: the rows of the source's binary COPY are written, without decoding them, to a
//! staging table. One transaction then moves them to their table and writes the position.

pub mod columns;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::legacy;
use crate::checkpoint::{Checkpoint, Origin, Position};
use crate::destination::increment::RowMatching;
use crate::destination::lake::{CheckpointUpdate, WriteSummary};
use crate::error::{Context, Error, Result};
use crate::lsn::Lsn;
use crate::plan::TablePlan;
use crate::postgres::wire::Wire;
use crate::postgres::{Endpoint, literal, quote};
use crate::read::{TableReader, page_ranges};
use crate::resume::TargetState;
use columns::{alter, list, present_columns, target};

/// The schema of staging tables and checkpoints in the target. Users can drop it when they stop using Wattlake.
const SCHEMA: &str = "wattlake";

const PREPARE: &str = "CREATE SCHEMA IF NOT EXISTS wattlake; \
     CREATE TABLE IF NOT EXISTS wattlake.checkpoints (target_schema text, target_table text, origin text, position \
     text, \
     run text NOT NULL, committed_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (target_schema, target_table)); \
     ALTER TABLE wattlake.checkpoints ADD COLUMN IF NOT EXISTS stream bigint; \
     CREATE TABLE IF NOT EXISTS wattlake.records (name text PRIMARY KEY, body text NOT NULL)";

/// Creates the schema and the table of checkpoints in the target, where they do not exist.
pub async fn prepare(client: &Client) -> Result<()> {
    // Two transfers may do this at the same time, and IF NOT EXISTS alone does not prevent a conflict.
    let locked = format!(
        "SELECT pg_advisory_lock(hashtext('wattlake')); {PREPARE}; SELECT pg_advisory_unlock(hashtext('wattlake'))"
    );
    client.batch_execute(&locked).await.context("prepare the target's schema wattlake")
}

/// The state of the table in the target.
pub async fn target_state(client: &Client, transfer: &str, plan: &TablePlan) -> Result<TargetState> {
    if present_columns(client, plan).await?.is_empty() {
        return Ok(TargetState::default());
    }
    let rows = client.query_one(&format!("SELECT EXISTS (SELECT FROM {})", target(plan)), &[]).await;
    let has_rows = rows.context("look at the target's table")?.get(0);
    let sql = "SELECT origin, position FROM wattlake.checkpoints WHERE target_schema = $1 AND target_table = $2";
    let row = client.query_opt(sql, &[&plan.target.schema, &plan.target.table]).await.context("read the checkpoint")?;
    let checkpoint = match row {
        None => legacy::postgres_position(client, transfer, plan)
            .await?
            .map(|position| Checkpoint { origin: None, position: Some(position) }),
        Some(row) => Some(Checkpoint { origin: parsed(row.get(0))?, position: parsed(row.get(1))? }),
    };
    Ok(TargetState { checkpoint, has_rows })
}

fn parsed<T: serde::de::DeserializeOwned>(text: Option<String>) -> Result<Option<T>> {
    let parse = |text: String| {
        serde_json::from_str::<Option<T>>(&text).map_err(|e| Error::setup("read the checkpoint").because(e))
    };
    Ok(text.map(parse).transpose()?.flatten())
}

/// The SQL that writes the checkpoint.
fn checkpoint_sql(plan: &TablePlan, update: &CheckpointUpdate<'_>, position: Option<&Position>) -> Result<String> {
    let text = |value: serde_json::Result<String>| value.map_err(|e| Error::bug("write the checkpoint").because(e));
    Ok(format!(
        "INSERT INTO wattlake.checkpoints (target_schema, target_table, origin, position, run, stream) \
         VALUES ({}, {}, {}, {}, {}, {}) ON CONFLICT (target_schema, target_table) \
         DO UPDATE SET origin = excluded.origin, position = excluded.position, run = excluded.run, \
         stream = excluded.stream, committed_at = now()",
        literal(&plan.target.schema),
        literal(&plan.target.table),
        literal(&text(serde_json::to_string(&update.origin))?),
        literal(&text(serde_json::to_string(&position))?),
        literal(update.run),
        update.stream.map_or_else(|| "NULL".to_owned(), |position| position.to_i64().to_string()),
    ))
}

/// The SQL that writes another origin into a checkpoint.
pub fn origin_sql(plan: &TablePlan, origin: &Origin) -> Result<String> {
    let text = serde_json::to_string(&Some(origin)).map_err(|e| Error::bug("write the checkpoint").because(e))?;
    Ok(format!(
        "UPDATE wattlake.checkpoints SET origin = {} WHERE target_schema = {} AND target_table = {}",
        literal(&text),
        literal(&plan.target.schema),
        literal(&plan.target.table)
    ))
}

/// The position in the source's log that a table was read at; `None` where it was not read for a stream.
pub async fn stream_position(client: &Client, plan: &TablePlan) -> Result<Option<Lsn>> {
    let sql = "SELECT stream FROM wattlake.checkpoints WHERE target_schema = $1 AND target_table = $2";
    let row = client.query_opt(sql, &[&plan.target.schema, &plan.target.table]).await.context("read the checkpoint")?;
    Ok(row.and_then(|row| row.get::<_, Option<i64>>(0)).map(Lsn::from_i64))
}

/// A record of a stream; `None` where there is none.
pub async fn record(client: &Client, name: &str) -> Result<Option<Vec<u8>>> {
    let context = "read a record of the stream";
    let sql = "SELECT to_regclass('wattlake.records') IS NOT NULL";
    if !client.query_one(sql, &[]).await.context(context)?.get::<_, bool>(0) {
        return Ok(None);
    }
    let sql = "SELECT body FROM wattlake.records WHERE name = $1";
    let row = client.query_opt(sql, &[&name]).await.context(context)?;
    Ok(row.map(|row| row.get::<_, String>(0).into_bytes()))
}

/// The SQL that writes a record of a stream.
pub fn record_sql(name: &str, body: &str) -> String {
    format!(
        "INSERT INTO wattlake.records VALUES ({}, {}) ON CONFLICT (name) DO UPDATE SET body = excluded.body",
        literal(name),
        literal(body)
    )
}

/// Writes a checkpoint without rows, which names another transfer or another source from now on.
pub async fn hand_over(client: &Client, run: &str, plan: &TablePlan, checkpoint: &Checkpoint) -> Result<()> {
    let Some(origin) = checkpoint.origin.clone() else { return Ok(()) };
    let update = CheckpointUpdate { run, origin, before: None, stream: None, history: None };
    let sql = checkpoint_sql(plan, &update, checkpoint.position.as_ref())?;
    client.batch_execute(&sql).await.context("write the checkpoint")
}

/// Writes a position with a refusal, without rows.
pub async fn write_position(client: &Client, plan: &TablePlan, position: &Position) -> Result<()> {
    let text = serde_json::to_string(&Some(position)).map_err(|e| Error::bug("write the checkpoint").because(e))?;
    let sql = "UPDATE wattlake.checkpoints SET position = $3 WHERE target_schema = $1 AND target_table = $2";
    let written = client.execute(sql, &[&plan.target.schema, &plan.target.table, &text]).await;
    written.map(drop).context("write the position")
}

/// A schema with the names of the target's columns; its types have no meaning.
pub async fn name_schema(client: &Client, plan: &TablePlan) -> Result<Schema> {
    let columns = present_columns(client, plan).await?;
    Ok(Schema::new(columns.into_iter().map(|(name, _)| Field::new(name, DataType::Utf8, true)).collect::<Vec<_>>()))
}

/// The name of the table's staging table. It is a hash, since PostgreSQL could truncate a prefix with a long name to
/// the name of another table's.
fn staging_name(plan: &TablePlan) -> String {
    format!("staging_{:032x}", xxhash_rust::xxh3::xxh3_128(target(plan).as_bytes()))
}

fn staging(plan: &TablePlan) -> String {
    format!("{SCHEMA}.{}", staging_name(plan))
}

fn definition(plan: &TablePlan) -> String {
    plan.columns.iter().map(|c| format!("{} {}", quote(&c.name), c.type_name)).collect::<Vec<_>>().join(", ")
}

/// The queries that read the whole table for a target in PostgreSQL, and the number of streams for them.
pub fn read_queries(plan: &TablePlan, server_version: u32, streams: usize) -> (Vec<String>, usize) {
    let pieces = page_ranges(&plan.source, server_version, streams as u64);
    let queries: Vec<String> =
        pieces.iter().map(|(from, range)| plan.select_for_postgres(from, range.as_deref())).collect();
    let streams = streams.min(queries.len()).max(1);
    (queries, streams)
}

/// Copies the rows from the source's COPY to the target's, in several streams. Returns the connections to the target,
/// in which `begin` was executed before.
async fn pipe(
    reading: &Arc<TableReader>,
    to: &Endpoint,
    into: &str,
    begin: Option<&str>,
    streams: usize,
) -> Result<Vec<Wire>> {
    let tasks: Vec<_> = (0..streams)
        .map(|_| {
            let (reading, to, into) = (Arc::clone(reading), to.clone(), into.to_owned());
            let begin = begin.map(str::to_owned);
            tokio::task::spawn_blocking(move || {
                let outcome = pipe_stream(&reading, &to, &into, begin.as_deref());
                if outcome.is_err() {
                    reading.stop();
                }
                outcome
            })
        })
        .collect();
    let (mut wires, mut failed) = (Vec::new(), None);
    for task in tasks {
        match task.await {
            Ok(Ok(wire)) => wires.push(wire),
            Ok(Err(error)) => failed = failed.or(Some(error)),
            Err(error) => failed = failed.or(Some(Error::bug("run a stream").because(error))),
        }
    }
    failed.map_or(Ok(wires), Err)
}

fn pipe_stream(reading: &TableReader, to: &Endpoint, into: &str, begin: Option<&str>) -> Result<Wire> {
    let mut target = Wire::connect(to)?;
    if let Some(begin) = begin {
        target.batch(begin)?;
    }
    let mut source: Option<Wire> = None;
    while let Some(query) = reading.next() {
        let source = match &mut source {
            Some(source) => source,
            none => none.insert(reading.open()?),
        };
        fail::fail_point!("mid-copy");
        target.copy_in(&format!("COPY {into} FROM STDIN (FORMAT binary)"))?;
        let mut pending = 0;
        let mut received = 0;
        source.copy_out(&format!("COPY ({query}) TO STDOUT (FORMAT binary)"), |message| {
            pending += message.len() as u64;
            if pending > 1 << 20 {
                reading.count(0, pending);
                pending = 0;
            }
            received += message.len();
            target.copy_data(message)
        })?;
        let rows = target
            .copy_done()
            .map_err(|e| e.within(format!("write {} rows to the target", reading.plan.source.display())))?;
        reading.count(rows, pending);
    }
    if let Some(source) = source {
        reading.close(source)?;
    }
    Ok(target)
}

/// Copies the source's table whole and replaces the target's table in one transaction. A crash before its commit leaves
/// the target's table unchanged.
pub async fn replace(
    to: &Endpoint,
    client: &mut Client,
    reading: &Arc<TableReader>,
    streams: usize,
    update: &CheckpointUpdate<'_>,
    position: Option<&Position>,
) -> Result<WriteSummary> {
    let plan = &reading.plan;
    let checkpoint = checkpoint_sql(plan, update, position)?;
    let staging = staging(plan);
    let create = format!("DROP TABLE IF EXISTS {staging}; CREATE TABLE {staging} ({})", definition(plan));
    client.batch_execute(&create).await.context("create the staging table")?;
    pipe(reading, to, &staging, None, streams).await?;
    if !plan.key.is_empty() {
        let key = format!("ALTER TABLE {staging} ADD PRIMARY KEY ({})", list(&plan.key));
        client.batch_execute(&key).await.context("build the key")?;
    }
    fail::fail_point!("before-commit");
    let mut swapped = swap(client, plan, &staging, &checkpoint, false).await;
    // Two tables whose long names differ at the end only may be renamed at the same time: PostgreSQL truncates the
    // names of their array types to the same name. Now the other table is committed, and another name is chosen.
    if swapped.as_ref().is_err_and(|e| has_code(e, &SqlState::UNIQUE_VIOLATION)) {
        swapped = swap(client, plan, &staging, &checkpoint, false).await;
    }
    // Views or foreign keys depend on the table: its rows are replaced, and the table is kept.
    if swapped.as_ref().is_err_and(|e| has_code(e, &SqlState::DEPENDENT_OBJECTS_STILL_EXIST)) {
        swapped = swap(client, plan, &staging, &checkpoint, true).await;
    }
    swapped?;
    fail::fail_point!("after-commit");
    Ok(WriteSummary { rows: reading.rows(), replaced: 0, bytes: reading.bytes(), version: None })
}

fn has_code(error: &Error, code: &SqlState) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<tokio_postgres::Error>() {
            return error.code() == Some(code);
        }
        source = inner.source();
    }
    false
}

async fn swap(client: &mut Client, plan: &TablePlan, staging: &str, checkpoint: &str, is_kept: bool) -> Result<()> {
    let target = target(plan);
    let (schema, name) = (quote(&plan.target.schema), quote(&plan.target.table));
    // New columns must exist before the rows are inserted.
    let alter = if is_kept { alter(&present_columns(client, plan).await?, plan)? } else { String::new() };
    let transaction = client.transaction().await.context("open a transaction on the target")?;
    let statements = if is_kept {
        format!("{alter}{}; DROP TABLE {staging}", replace_rows(plan, staging))
    } else {
        let unqualified = staging_name(plan);
        format!(
            "CREATE SCHEMA IF NOT EXISTS {schema}; DROP TABLE IF EXISTS {target}; \
             ALTER TABLE {SCHEMA}.{unqualified} SET SCHEMA {schema}; ALTER TABLE {schema}.{unqualified} RENAME TO \
             {name}; {}",
            rename_key(plan, &unqualified)
        )
    };
    transaction.batch_execute(&statements).await.context(format!("replace {}", plan.target))?;
    transaction.batch_execute(checkpoint).await.context("write the checkpoint")?;
    transaction.commit().await.context(format!("commit {}", plan.target))
}

/// SQL that gives the key of a table that was a staging table the name that PostgreSQL would give it, where no other
/// relation has that name.
fn rename_key(plan: &TablePlan, staging: &str) -> String {
    if plan.key.is_empty() {
        return String::new();
    }
    let target = target(plan);
    format!(
        "DO $wattlake$ DECLARE was text; wanted text := left({table}, 58) || '_pkey'; BEGIN \
             SELECT conname INTO was FROM pg_constraint WHERE conrelid = {relation}::regclass AND contype = 'p' AND \
             conname LIKE {prefix}; \
             IF was IS NOT NULL AND to_regclass(format('%I.%I', {schema}, wanted)) IS NULL THEN \
             EXECUTE format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', {relation}, was, wanted); END IF; END $wattlake$",
        table = literal(&plan.target.table),
        schema = literal(&plan.target.schema),
        relation = literal(&target),
        prefix = literal(&format!("{}%", &staging[..20])),
    )
}

/// SQL that replaces the rows of a table that is kept. Rows of the same key are updated, so that rows that refer to
/// them by foreign keys are not affected; rows that the source no longer has are deleted.
fn replace_rows(plan: &TablePlan, staging: &str) -> String {
    let target = target(plan);
    let names: Vec<String> = plan.columns.iter().map(|c| c.name.clone()).collect();
    let columns = list(&names);
    let insert = format!("INSERT INTO {target} ({columns}) SELECT {columns} FROM {staging}");
    if plan.key.is_empty() {
        return format!("DELETE FROM {target}; {insert}");
    }
    let same: Vec<String> = plan.key.iter().map(|name| format!("new.{0} = old.{0}", quote(name))).collect();
    let sets: Vec<String> = names
        .iter()
        .filter(|name| !plan.key.contains(name))
        .map(|name| format!("{0} = excluded.{0}", quote(name)))
        .collect();
    let action = if sets.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", sets.join(", ")) };
    format!(
        "DELETE FROM {target} AS old WHERE NOT EXISTS (SELECT FROM {staging} AS new WHERE {}); \
         {insert} ON CONFLICT ({}) DO {action}",
        same.join(" AND "),
        list(&plan.key)
    )
}

/// The changes to the rows of a table to which rows are added.
pub struct RowChanges {
    /// How the rows that are read are matched with the table's.
    pub matching: RowMatching,
    /// The columns that are set to NULL in all of the table's rows.
    pub cleared: Vec<String>,
}

/// Reads rows and adds them in one transaction, on the connection that receives them: a row whose key the table has
/// replaces the earlier version.
pub async fn add(
    to: &Endpoint,
    client: &Client,
    reading: &Arc<TableReader>,
    update: &CheckpointUpdate<'_>,
    after: Option<&Position>,
    changes: &RowChanges,
) -> Result<WriteSummary> {
    let matching = &changes.matching;
    let plan = Arc::clone(&reading.plan);
    let alter = alter(&present_columns(client, &plan).await?, &plan)?;
    let names: Vec<String> = plan.columns.iter().map(|c| c.name.clone()).collect();
    let begin = format!(
        "BEGIN; {alter} CREATE TEMP TABLE wattlake_new ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA",
        list(&names),
        target(&plan)
    );
    let mut wires = pipe(reading, to, "pg_temp.wattlake_new", Some(&begin), 1).await?;
    let Some(wire) = wires.pop() else { return Ok(WriteSummary::default()) };
    let statements =
        [clear(&plan, &changes.cleared), change_key(&plan, matching, update), Some(insert(&plan, matching, &names))];
    let finish = format!("{}; COMMIT", checkpoint_sql(&plan, update, after)?);
    fail::fail_point!("before-commit");
    let commit = move || {
        let mut wire = wire;
        let mut rows = 0;
        for statement in statements.into_iter().flatten() {
            rows = wire.execute(&statement)?;
        }
        wire.batch(&finish).map(|()| rows)
    };
    let rows =
        tokio::task::spawn_blocking(commit).await.map_err(|e| Error::bug("commit on the target").because(e))??;
    fail::fail_point!("after-commit");
    Ok(WriteSummary { rows, replaced: 0, bytes: reading.bytes(), version: None })
}

fn clear(plan: &TablePlan, columns: &[String]) -> Option<String> {
    let sets: Vec<String> = columns.iter().map(|name| format!("{} = NULL", quote(name))).collect();
    (!sets.is_empty()).then(|| format!("UPDATE {} SET {}", target(plan), sets.join(", ")))
}

/// SQL for a table that is read again with another key: deletes the rows that are read again, and replaces the table's
/// key. None where the key has not changed.
fn change_key(plan: &TablePlan, matching: &RowMatching, update: &CheckpointUpdate<'_>) -> Option<String> {
    if matching.cursor.is_some() || matching.key.is_empty() {
        return None;
    }
    let target = target(plan);
    let same: Vec<String> = matching.key.iter().map(|name| format!("old.{0} = new.{0}", quote(name))).collect();
    let delete = format!("DELETE FROM {target} AS old USING pg_temp.wattlake_new AS new WHERE {}", same.join(" AND "));
    // With the same key, rows that are read again are updated.
    if update.before.is_none_or(|before| before.key == plan.key) {
        return None;
    }
    // Rows that the source no longer has may lack columns of the new key, which a primary key does not allow.
    let drop = format!(
        "DO $wattlake$ DECLARE name text; BEGIN \
             SELECT conname INTO name FROM pg_constraint WHERE conrelid = {}::regclass AND contype = 'p'; \
             IF name IS NOT NULL THEN EXECUTE format('ALTER TABLE {} DROP CONSTRAINT %I', name); END IF; END \
             $wattlake$",
        literal(&target),
        target.replace('\'', "\'\'").replace('%', "%%")
    );
    Some(format!("{drop}; CREATE UNIQUE INDEX ON {target} ({}); {delete}", list(&plan.key)))
}

fn insert(plan: &TablePlan, matching: &RowMatching, names: &[String]) -> String {
    let insert = format!("INSERT INTO {} AS old ({1}) SELECT {1} FROM pg_temp.wattlake_new", target(plan), list(names));
    if plan.key.is_empty() {
        return insert;
    }
    let set: Vec<String> =
        names.iter().filter(|n| !plan.key.contains(n)).map(|n| format!("{0} = excluded.{0}", quote(n))).collect();
    let set = set.join(", ");
    let versions = matching.cursor.as_ref().map(|cursor| cursor.names());
    // As in the lake: a row of the same key with the same values of the cursor is the same version.
    let action = match versions {
        _ if set.is_empty() => "DO NOTHING".to_owned(),
        // The key does not tell a row's version: the row that is read replaces the target's.
        Some(names) if names.iter().all(|name| plan.key.contains(name)) => format!("DO UPDATE SET {set}"),
        Some(names) => {
            let of = |row: &str| names.iter().map(|n| format!("{row}.{}", quote(n))).collect::<Vec<_>>().join(", ");
            format!("DO UPDATE SET {set} WHERE ({}) IS DISTINCT FROM ({})", of("old"), of("excluded"))
        }
        None => format!("DO UPDATE SET {set}"),
    };
    format!("{insert} ON CONFLICT ({}) {action}", list(&plan.key))
}

#[cfg(test)]
mod tests;
