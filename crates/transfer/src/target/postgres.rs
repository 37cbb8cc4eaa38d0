//! PostgreSQL as a target: rows go over as the source's own binary COPY, undecoded, into a
//! staging table; one transaction then puts them in place together with the position.

use std::sync::Arc;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Transaction};

use crate::error::{Context, Error, Result};
use crate::late::Position;
use crate::plan::{Cursor, TablePlan};
use crate::postgres::wire::Wire;
use crate::postgres::{Endpoint, literal, quote};
use crate::read::{Reading, pieces};
use crate::target::lake::Written;

/// Staging tables live here, and positions: a schema that users can drop when they leave.
const SCHEMA: &str = "wattlake";

const PREPARE: &str = "CREATE SCHEMA IF NOT EXISTS wattlake; \
     CREATE TABLE IF NOT EXISTS wattlake.positions (transfer text, source_table text, high bigint, low bigint, \
     xid bigint, run text NOT NULL, committed_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (transfer, source_table))";

/// Makes what the target needs of ours.
pub async fn prepare(client: &Client) -> Result<()> {
    // Two transfers may start at once, and IF NOT EXISTS alone does not keep them apart.
    let locked = format!(
        "SELECT pg_advisory_lock(hashtext('wattlake')); {PREPARE}; SELECT pg_advisory_unlock(hashtext('wattlake'))"
    );
    client.batch_execute(&locked).await.context("prepare the target's schema wattlake")
}

pub async fn position(client: &Client, transfer: &str, plan: &TablePlan) -> Result<Option<Position>> {
    let sql =
        "SELECT high, low, xid FROM wattlake.positions WHERE transfer = $1 AND source_table = $2 AND high IS NOT NULL";
    let row = client.query_opt(sql, &[&transfer, &plan.source.display()]).await.context("read the position")?;
    if row.is_none() || present_columns(client, plan).await?.is_empty() {
        return Ok(None);
    }
    Ok(row.map(|row| Position { high: row.get(0), low: row.get(1), xid: row.get(2) }))
}

async fn keep(
    transaction: &Transaction<'_>,
    transfer: &str,
    plan: &TablePlan,
    run: &str,
    position: Option<Position>,
) -> Result<()> {
    let sql = "INSERT INTO wattlake.positions VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (transfer, source_table) \
         DO UPDATE SET high = excluded.high, low = excluded.low, xid = excluded.xid, run = excluded.run, committed_at = now()";
    let (high, low, xid) = (position.map(|p| p.high), position.map(|p| p.low), position.and_then(|p| p.xid));
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
        [&transfer, &plan.source.display(), &high, &low, &xid, &run];
    transaction.execute(sql, &values).await.context("keep the position")?;
    Ok(())
}

fn target(plan: &TablePlan) -> String {
    format!("{}.{}", quote(&plan.target.schema), quote(&plan.target.table))
}

/// A name of its own for each target: two names may be as long as PostgreSQL allows and differ at the end.
fn staging_name(plan: &TablePlan) -> String {
    format!("staging_{:032x}", xxhash_rust::xxh3::xxh3_128(plan.target.to_string().as_bytes()))
}

fn staging(plan: &TablePlan) -> String {
    format!("{SCHEMA}.{}", staging_name(plan))
}

fn definition(plan: &TablePlan) -> String {
    plan.columns.iter().map(|c| format!("{} {}", quote(&c.name), c.type_name)).collect::<Vec<_>>().join(", ")
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ")
}

/// The queries that read all of a table in the form that the target takes.
pub fn whole(plan: &TablePlan, server_version: u32, streams: usize) -> (Vec<String>, usize) {
    let pieces = pieces(&plan.source, server_version, streams as u64);
    let queries: Vec<String> = pieces.iter().map(|(from, range)| plan.select_plain(from, range.as_deref())).collect();
    let streams = streams.min(queries.len()).max(1);
    (queries, streams)
}

/// Streams COPY out of the source into COPY on the target.
async fn pipe(
    reading: &Arc<Reading>,
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

fn pipe_stream(reading: &Reading, to: &Endpoint, into: &str, begin: Option<&str>) -> Result<Wire> {
    let mut target = Wire::connect(to)?;
    if let Some(begin) = begin {
        target.batch(begin)?;
    }
    let mut source: Option<Wire> = None;
    while let Some(query) = reading.next() {
        let source = match &mut source {
            Some(source) => source,
            none => {
                let mut wire = Wire::connect(&reading.endpoint)?;
                wire.batch(&reading.join)?;
                none.insert(wire)
            }
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
    Ok(target)
}

/// Copies the table whole and swaps it in.
pub async fn initial(
    to: &Endpoint,
    client: &mut Client,
    reading: &Arc<Reading>,
    streams: usize,
    transfer: &str,
    run: &str,
    position: Option<Position>,
) -> Result<Written> {
    let plan = &reading.plan;
    let staging = staging(plan);
    let create = format!("DROP TABLE IF EXISTS {staging}; CREATE TABLE {staging} ({})", definition(plan));
    client.batch_execute(&create).await.context("create the staging table")?;
    pipe(reading, to, &staging, None, streams).await?;
    if !plan.key.is_empty() {
        let key = format!("ALTER TABLE {staging} ADD PRIMARY KEY ({})", list(&plan.key));
        client.batch_execute(&key).await.context("build the key")?;
    }
    fail::fail_point!("before-commit");
    let mut swapped = swap(client, plan, &staging, transfer, run, position, false).await;
    // Two tables whose long names differ only at the end, put in place at once: PostgreSQL cuts the
    // names of their array types to the same one. By now the other is in place, and is seen.
    if swapped.as_ref().is_err_and(|e| has_code(e, &SqlState::UNIQUE_VIOLATION)) {
        swapped = swap(client, plan, &staging, transfer, run, position, false).await;
    }
    // Views or foreign keys hang on the table: its rows are replaced, the table stays.
    if swapped.as_ref().is_err_and(|e| has_code(e, &SqlState::DEPENDENT_OBJECTS_STILL_EXIST)) {
        swapped = swap(client, plan, &staging, transfer, run, position, true).await;
    }
    swapped?;
    fail::fail_point!("after-commit");
    Ok(Written { rows: reading.rows(), replaced: 0, bytes: reading.bytes(), version: None })
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

async fn swap(
    client: &mut Client,
    plan: &TablePlan,
    staging: &str,
    transfer: &str,
    run: &str,
    position: Option<Position>,
    stays: bool,
) -> Result<()> {
    let target = target(plan);
    let (schema, name) = (quote(&plan.target.schema), quote(&plan.target.table));
    let transaction = client.transaction().await.context("open a transaction on the target")?;
    let statements = if stays {
        let columns = list(&plan.columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>());
        format!(
            "DELETE FROM {target}; INSERT INTO {target} ({columns}) SELECT {columns} FROM {staging}; DROP TABLE {staging}"
        )
    } else {
        let unqualified = staging_name(plan);
        format!(
            "CREATE SCHEMA IF NOT EXISTS {schema}; DROP TABLE IF EXISTS {target}; \
             ALTER TABLE {SCHEMA}.{unqualified} SET SCHEMA {schema}; ALTER TABLE {schema}.{unqualified} RENAME TO {name}"
        )
    };
    transaction.batch_execute(&statements).await.context(format!("put {} in place", plan.target))?;
    keep(&transaction, transfer, plan, run, position).await?;
    transaction.commit().await.context(format!("commit {}", plan.target))
}

/// Adds what is new, in one transaction of the stream's own connection.
pub async fn increment(
    to: &Endpoint,
    client: &Client,
    reading: &Arc<Reading>,
    transfer: &str,
    run: &str,
    after: Position,
) -> Result<Written> {
    let plan = Arc::clone(&reading.plan);
    let target = target(&plan);
    let alter = alter(client, &plan).await?;
    let names: Vec<String> = plan.columns.iter().map(|c| c.name.clone()).collect();
    let begin = format!(
        "BEGIN; {alter} CREATE TEMP TABLE wattlake_new ON COMMIT DROP AS SELECT {} FROM {target} WITH NO DATA",
        list(&names)
    );
    let mut wires = pipe(reading, to, "pg_temp.wattlake_new", Some(&begin), 1).await?;
    let Some(wire) = wires.pop() else { return Ok(Written::default()) };
    let set: Vec<String> =
        names.iter().filter(|n| !plan.key.contains(n)).map(|n| format!("{0} = excluded.{0}", quote(n))).collect();
    // The rule of the lake: the same key with the same cursor is the same version of a row.
    let action = match &plan.cursor {
        Some(cursor) if !plan.key.contains(&cursor.name) => {
            let cursor = quote(&cursor.name);
            format!("DO UPDATE SET {} WHERE old.{cursor} IS DISTINCT FROM excluded.{cursor}", set.join(", "))
        }
        _ => "DO NOTHING".to_owned(),
    };
    let insert = format!(
        "INSERT INTO {target} AS old ({0}) SELECT {0} FROM pg_temp.wattlake_new ON CONFLICT ({1}) {action}",
        list(&names),
        list(&plan.key),
    );
    let finish = format!(
        "INSERT INTO wattlake.positions VALUES ({}, {}, {}, '{}'::bigint, {}, {}) ON CONFLICT (transfer, source_table) \
         DO UPDATE SET high = excluded.high, low = excluded.low, xid = excluded.xid, run = excluded.run, committed_at = now(); \
         COMMIT",
        literal(transfer),
        literal(&plan.source.display()),
        after.high,
        after.low,
        after.xid.map_or_else(|| "NULL".to_owned(), |xid| xid.to_string()),
        literal(run),
    );
    fail::fail_point!("before-commit");
    let commit = move || {
        let mut wire = wire;
        let rows = wire.execute(&insert)?;
        wire.batch(&finish).map(|()| rows)
    };
    let rows =
        tokio::task::spawn_blocking(commit).await.map_err(|e| Error::bug("commit on the target").because(e))??;
    fail::fail_point!("after-commit");
    Ok(Written { rows, replaced: 0, bytes: reading.bytes(), version: None })
}

async fn present_columns(client: &Client, plan: &TablePlan) -> Result<Vec<(String, String)>> {
    let sql = "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a \
         WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped";
    let rows = client.query(sql, &[&target(plan)]).await.context("read the target's columns")?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Statements that make the target fit a source that has changed.
async fn alter(client: &Client, plan: &TablePlan) -> Result<String> {
    let present = present_columns(client, plan).await?;
    let target = target(plan);
    let mut statements = String::new();
    for column in &plan.columns {
        let (name, is) = (quote(&column.name), column.type_name.as_str());
        match present.iter().find(|(n, _)| *n == column.name) {
            None => statements.push_str(&format!("ALTER TABLE {target} ADD COLUMN {name} {is}; ")),
            Some((_, was)) if was == is => {}
            Some((_, was)) if widens(was, is) => {
                statements.push_str(&format!("ALTER TABLE {target} ALTER COLUMN {name} TYPE {is}; "));
            }
            Some((_, was)) => {
                let context =
                    format!("carry {}: column {:?} was {was} and is {is} now", plan.source.display(), column.name);
                return Err(Error::input(context).mend(format!(
                    "change the column back, or read the table anew: wattlake transfer run NAME --mode initial --table {}",
                    plan.source.display()
                )));
            }
        }
    }
    Ok(statements)
}

/// Whether each value of a PostgreSQL type is one of the other.
fn widens(was: &str, is: &str) -> bool {
    let rank = |name: &str| ["smallint", "integer", "bigint", "numeric"].iter().position(|n| *n == name);
    let sized = |name: &str| -> Option<(String, Vec<i64>)> {
        let (base, rest) = name.split_once('(')?;
        let numbers = rest.trim_end_matches(')').split(',').map(|n| n.trim().parse().ok()).collect::<Option<_>>()?;
        Some((base.to_owned(), numbers))
    };
    match (rank(was), rank(is)) {
        (Some(was), Some(is)) => return is > was,
        _ if (was, is) == ("real", "double precision") => return true,
        _ => {}
    }
    match (sized(was), sized(is)) {
        (Some((a, from)), Some((b, to))) if a == b && from.len() == to.len() => {
            match (from.as_slice(), to.as_slice()) {
                ([p1, s1], [p2, s2]) => s2 >= s1 && p2 - s2 >= p1 - s1,
                ([n1], [n2]) => n2 >= n1,
                _ => false,
            }
        }
        (Some((base, _)), None) => {
            matches!((base.as_str(), is), ("numeric", "numeric") | ("character varying", "text" | "character varying"))
        }
        (None, None) => (was, is) == ("character varying", "text"),
        _ => false,
    }
}

/// The greatest cursor under the snapshot, asked of the source.
pub async fn greatest(client: &Client, plan: &TablePlan, cursor: &Cursor) -> Result<Option<i64>> {
    let filter = plan.filter.as_ref().map_or_else(String::new, |f| format!(" WHERE {f}"));
    let max = cursor.as_integer(&format!("max({})", quote(&cursor.column)));
    let sql = format!("SELECT {max} FROM {}{filter}", plan.source.rows());
    let row = client.query_one(&sql, &[]).await.context(format!("read the cursor of {}", plan.source.display()))?;
    Ok(row.get(0))
}

#[cfg(test)]
mod tests;
