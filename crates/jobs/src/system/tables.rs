//! The declarations of the system tables.

use anyhow::{Context, Result};
use config::Mart;
use ledger::{EventRow, LogRow, QueueRow, RunRow, ScheduleRow, TransferTableRow};
use serde_json::{Map, Value, json};

use super::column::{Column, ColumnValue};
use super::{Selection, Sources, SystemTable};
use crate::flows::mart::{Status, status};
use ColumnValue::{Boolean, Count, Instant, Integer, Json, Number, Text};

/// How many of the newest runs `system.logs` covers.
const LOGGED_RUNS: usize = 1000;

/// The states of a run.
pub const RUN_STATES: [&str; 5] = ["running", "succeeded", "failed", "cancelled", "crashed"];
/// The states of an entry of the queue.
pub const QUEUE_STATES: [&str; 5] = ["waiting", "running", "succeeded", "failed", "cancelled"];

/// Runs of jobs.
pub static RUNS: SystemTable<RunRow> = SystemTable {
    name: "runs",
    documentation: "A run of a job, the newest first.",
    filter: Some("job"),
    read: |from, selection| Ok(from.ledger.runs(selection.limit, selection.only)?),
    columns: &[
        column("id", "A UUID of version 7: ids sort by the beginnings of their runs.", Text(|r| some(&r.id))),
        column("job", "The job's full name, such as `transfer:platform`.", Text(|r| some(&r.job))),
        column(
            "cause",
            "`hand`, `backfill`, `demo`, `waiver`, or the trigger, such as `cron 0 2 * * *`.",
            Text(|r| some(&r.cause)),
        ),
        column("state", "`running`, `succeeded`, `failed`, `cancelled` or `crashed`.", Text(|r| some(&r.state))),
        column("started_at", "When the run began.", Instant(|r| Some(r.started_at))),
        column("ended_at", "When it ended; for a crashed run, when that was found.", Instant(|r| r.ended_at)),
        column("seconds", "How long it took.", Number(|r| r.ended_at.map(|end| (end - r.started_at).as_seconds_f64()))),
        column(
            "rows",
            "Rows that it carried or wrote, where the job counts them.",
            Integer(|r| r.figures["rows"].as_i64()),
        ),
        column("detail", "The run's parameters, by the kind of job.", Json(|r| r.detail.clone())),
        column("figures", "What the run counted, by the kind of job; null until it ends.", Json(|r| r.figures.clone())),
        column("error", "Why it failed, with all causes.", Text(|r| r.error.clone())),
        column(
            "retryable",
            "For a failed run: whether the same run may succeed later.",
            Boolean(|r| Some(r.retryable)),
        ),
        column("for", "The period that it ran for, such as `2026-09`.", Text(|r| r.logical.clone())),
        column("attempt", "The number of the queue entry's attempt, from 1.", Count(|r| Some(u64::from(r.attempt)))),
        column("inputs", "Hashes of the files and objects that it depended on, by name.", Json(|r| r.inputs.clone())),
        column("queue_id", "The entry of `system.queue` that caused it.", Integer(|r| r.queue_id)),
        column("pid", "Its process.", Count(|r| Some(u64::from(r.pid)))),
    ],
};

/// The tables of transfers.
pub static TRANSFERS: SystemTable<TransferTableRow> = SystemTable {
    name: "transfers",
    documentation: "A table of a transfer, as its last run left it.",
    filter: Some("transfer"),
    read: |from, selection| {
        let mut rows = from.ledger.transfer_tables(selection.only)?;
        rows.truncate(selection.limit);
        Ok(rows)
    },
    columns: &[
        column("transfer", "The transfer's name.", Text(|r| some(&r.transfer))),
        column("source_table", "The table at the source, as `schema.table`.", Text(|r| some(&r.source_table))),
        column(
            "target_table",
            "The table in the target, as `schema.table`; empty where the table was refused.",
            Text(|r| some(&r.target_table)),
        ),
        column(
            "state",
            "`copied`: all its rows were carried; `streaming`: it follows the source's log; `interrupted`: its stream retries; `errored`: see `reason`; or a \
             state of docs/transfer.md.",
            Text(|r| some(&r.state)),
        ),
        column("mode", "`initial`, `incremental`, `reload`, `resync` or `changes`.", Text(|r| some(&r.mode))),
        column("rows", "Rows that the run wrote.", Count(|r| Some(r.rows))),
        column("bytes_read", "Bytes that the run received from the source.", Count(|r| Some(r.bytes_read))),
        column("bytes_written", "Bytes that the run wrote to the target.", Count(|r| Some(r.bytes_written))),
        column("seconds", "How long the table took.", Number(|r| Some(r.seconds))),
        column(
            "position",
            "Up to where it is carried, for people: the position that counts is in the target.",
            Text(|r| r.position.clone()),
        ),
        column("reason", "Why it was refused or failed.", Text(|r| r.reason.clone())),
        column("hint", "What a user can do about the reason.", Text(|r| r.hint.clone())),
        column("run_id", "The run that recorded this.", Text(|r| some(&r.run_id))),
        column("updated_at", "When it did.", Instant(|r| Some(r.updated_at))),
        column("inserts", "Inserts in the log since the stream began.", Integer(|r| r.changes["inserts"].as_i64())),
        column("updates", "Updates in the log since the stream began.", Integer(|r| r.changes["updates"].as_i64())),
        column("deletes", "Deletes in the log since the stream began.", Integer(|r| r.changes["deletes"].as_i64())),
        column(
            "truncates",
            "TRUNCATEs in the log since the stream began.",
            Integer(|r| r.changes["truncates"].as_i64()),
        ),
        column(
            "ddls",
            "Changes of the table's columns since the stream began.",
            Integer(|r| r.changes["ddls"].as_i64()),
        ),
        column(
            "lag_seconds",
            "The age of the oldest change that was received and is not in the target.",
            Number(|r| r.changes["lag_seconds"].as_f64()),
        ),
        column(
            "lag_bytes",
            "Bytes of the source's log after the table's position.",
            Integer(|r| r.changes["lag_bytes"].as_i64()),
        ),
        column(
            "lag_messages",
            "Of a shard of a stream: messages that were not received yet, where the stream tells.",
            Integer(|r| r.changes["lag_messages"].as_i64()),
        ),
        column(
            "worker",
            "Of a shard of a stream: the worker that reads it.",
            Text(|r| r.changes["worker"].as_str().filter(|worker| !worker.is_empty()).map(str::to_owned)),
        ),
        column(
            "retained_bytes",
            "Bytes of the log that the source keeps for the transfer's slot.",
            Integer(|r| r.changes["retained_bytes"].as_i64()),
        ),
        column(
            "validation_state",
            "The result of the last `wattlake transfer validate`: `validated`, `differs` or `failed`.",
            Text(|r| r.validation.as_ref().map(|validation| validation.state.clone())),
        ),
        column("validated_at", "When it ended.", Instant(|r| r.validation.as_ref().map(|validation| validation.at))),
        column(
            "validated_position",
            "The position in the source's log at which both sides were compared, where a stream ran.",
            Text(|r| r.validation.as_ref().and_then(|validation| validation.position.clone())),
        ),
        column(
            "validation",
            "What was counted: rows at the source and in the lake, and rows that are lost, differ, doubled, purged or pending.",
            Json(|r| r.validation.as_ref().map_or(serde_json::Value::Null, |validation| validation.figures.clone())),
        ),
    ],
};

/// Events.
pub static EVENTS: SystemTable<EventRow> = SystemTable {
    name: "events",
    documentation: "Something that happened, the newest first; triggers with `on` wait for events.",
    filter: Some("name"),
    read: |from, selection| Ok(from.ledger.events(selection.limit, selection.only)?),
    columns: &[
        column(
            "seq",
            "Ascending in the order of the commits, without gaps that are filled later.",
            Integer(|r| Some(r.seq)),
        ),
        column("at", "When it was recorded.", Instant(|r| Some(r.at))),
        column("name", "Such as `transfer.finished`.", Text(|r| some(&r.name))),
        column("run_id", "The run that recorded it.", Text(|r| r.run_id.clone())),
        column("fields", "An object, by the kind of event.", Json(|r| r.fields.clone())),
    ],
};

/// The queue.
pub static QUEUE: SystemTable<QueueRow> = SystemTable {
    name: "queue",
    documentation: "A run that a trigger or a user asked for, the newest first.",
    filter: Some("state"),
    read: |from, selection| Ok(from.ledger.queue(selection.limit, selection.only)?),
    columns: &[
        column("id", "The number that `wattlake cancel` takes.", Integer(|r| Some(r.id))),
        column("job", "The job to run.", Text(|r| some(&r.job))),
        column("cause", "The trigger, `hand` or `backfill`.", Text(|r| some(&r.cause))),
        column("for", "The period to run for.", Text(|r| r.logical.clone())),
        column("state", "`waiting`, `running`, `succeeded`, `failed` or `cancelled`.", Text(|r| some(&r.state))),
        column("attempts", "Attempts that began so far.", Count(|r| Some(u64::from(r.attempts)))),
        column("not_before", "The earliest time of the next attempt.", Instant(|r| Some(r.not_before))),
        column("created_at", "When it was queued.", Instant(|r| Some(r.created_at))),
        column("started_at", "When its last attempt began.", Instant(|r| r.started_at)),
        column("ended_at", "When it succeeded, failed or was cancelled.", Instant(|r| r.ended_at)),
        column("run_id", "The run of its last attempt.", Text(|r| r.run_id.clone())),
        column("error", "Why its last attempt failed.", Text(|r| r.error.clone())),
        column("detail", "The run's parameters.", Json(|r| r.detail.clone())),
    ],
};

/// Schedules.
pub static SCHEDULES: SystemTable<ScheduleRow> = SystemTable {
    name: "schedules",
    documentation: "A trigger of a job, as the last server on this warehouse read it from the configuration.",
    filter: None,
    read: |from, selection| {
        let mut rows = from.ledger.schedules()?;
        rows.truncate(selection.limit);
        Ok(rows)
    },
    columns: &[
        column("name", "The job and the number of the trigger: `transfer:platform#1`.", Text(|r| some(&r.name))),
        column("job", "The job that it starts.", Text(|r| some(&r.job))),
        column("trigger", "The cron pattern, or the text of the event trigger.", Text(|r| some(&r.spec))),
        column(
            "timezone",
            "The zone of a cron pattern.",
            Text(|r| Some(r.zone.clone()).filter(|zone| !zone.is_empty())),
        ),
        column(
            "seen_to",
            "Slots up to here were queued, or skipped by `catchup` or a pause.",
            Instant(|r| Some(r.seen_to)),
        ),
        column("last_slot", "The newest slot that was queued, in local time.", Text(|r| r.last_slot.clone())),
        column("next_at", "The next slot.", Instant(|r| r.next_at)),
        column("paused", "Whether `wattlake pause` holds it.", Boolean(|r| Some(r.paused))),
    ],
};

/// Logs of runs.
pub static LOGS: SystemTable<LogRow> = SystemTable {
    name: "logs",
    documentation: "A line of the log of one of the newest 1,000 runs.",
    filter: Some("run_id"),
    read: logs,
    columns: &[
        column("run_id", "The run.", Text(|r| some(&r.run_id))),
        column("seq", "Ascending within the run, from 1.", Integer(|r| Some(r.seq))),
        column("at", "When it was written.", Instant(|r| Some(r.at))),
        column("level", "`INFO`, `WARN` or `ERROR`.", Text(|r| some(&r.level))),
        column("line", "The text, up to 8 KiB.", Text(|r| some(&r.line))),
    ],
};

/// Marts.
pub static MARTS: SystemTable<(Mart, Status)> = SystemTable {
    name: "marts",
    documentation: "A mart of the configuration.",
    filter: None,
    read: marts,
    columns: &[
        column("schema", "The schema of its table or view.", Text(|(mart, _)| some(&mart.schema))),
        column("table", "The name of its table or view.", Text(|(mart, _)| some(&mart.table))),
        column("mart", "The mart's name.", Text(|(mart, _)| some(&mart.name))),
        column("kind", "`view` or `table`.", Text(|(mart, _)| some(mart.kind.as_str()))),
        column(
            "state",
            "`fresh`, `stale`, `never refreshed`; `pending`: what it reads is not filled yet; `broken`: its query can't be planned.",
            Text(|(_, status)| some(status.state.as_str())),
        ),
        column("why", "Why it is stale, pending or broken.", Text(|(_, status)| status.state.why().map(str::to_owned))),
        column("rows", "The rows of its table.", Count(|(_, status)| status.rows)),
        column("refreshed_at", "When its table was last refreshed.", Instant(|(_, status)| status.refreshed_at)),
        column("inputs", "The tables that its query reads, each with the version it was computed from.", Json(inputs)),
        column("description", "What a row is, from its file.", Text(|(mart, _)| mart.description.clone())),
    ],
};

pub(super) const fn column<T>(name: &'static str, documentation: &'static str, value: ColumnValue<T>) -> Column<T> {
    Column { name, documentation, value }
}

pub(super) fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// The lines of one run, or of the newest runs.
fn logs(from: &Sources, selection: &Selection<'_>) -> Result<Vec<LogRow>> {
    if let Some(run) = selection.only {
        return Ok(from.ledger.logs(run, selection.limit)?);
    }
    let mut rows = Vec::new();
    for run in from.ledger.runs(LOGGED_RUNS, None)? {
        rows.extend(from.ledger.logs(&run.id, selection.limit)?);
        if rows.len() >= selection.limit {
            break;
        }
    }
    Ok(rows)
}

fn marts(from: &Sources, _: &Selection<'_>) -> Result<Vec<(Mart, Status)>> {
    let (config, lake) = from.marts.as_ref().context("system.marts was not set up for this session")?;
    // System tables are read on a thread that may block.
    let runtime = tokio::runtime::Handle::current();
    let with_status = |mart: &Mart| Ok((mart.clone(), runtime.block_on(status(config, lake, &from.ledger, mart))?));
    config.marts.values().map(with_status).collect()
}

fn inputs((_, status): &(Mart, Status)) -> Value {
    let inputs = status.inputs.iter().map(|(name, version)| (name.to_string(), json!(version)));
    Value::Object(inputs.collect::<Map<_, _>>())
}
