//! Runs a stream of changes by hand, or as a service, and prints its state.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use base::text;
use jobs::flows::stream::{RefusedTable, StreamOptions, StreamState, run};
use jobs::runs::RunRequest;
use jobs::warehouse::Warehouse;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use transfer::changes::{StreamEnd, TableStatus};
use transfer::resume::Permission;

use super::transfer::RunOptions;
use crate::progress::ProgressBars;
use crate::report;

/// A line is printed for each so many reports, which come once a second.
const REPORTS_PER_LINE: u64 = 5;

/// Runs the stream until it is stopped, or has caught up; the exit code tells whether a table has failed.
pub async fn run_stream(
    warehouse: &Warehouse,
    request: &RunRequest,
    name: &str,
    options: RunOptions,
    json: bool,
) -> Result<ExitCode> {
    if options.mode.is_some() {
        let error = base::Error::input(format!("transfer {name}: its mode is \"changes\", which --mode can't replace"));
        return Err(error.hint("resync reads its tables again; for another mode, write another transfer").into());
    }
    let tables = options.tables.clone();
    if tables.is_empty() && options.permission == Some(Permission::Replace) {
        let error = base::Error::input(format!("transfer {name}: --replace needs the tables to replace"));
        return Err(error.hint("add --table SCHEMA.TABLE").into());
    }
    let bars = Arc::new(ProgressBars::new());
    let (shown, reports) = (Arc::clone(&bars), AtomicU64::new(0));
    // Tables that are read again are what the user asked for: the stream goes on as a service.
    let end = if tables.is_empty() { options.until } else { StreamEnd::CaughtUp };
    let is_watched = end == StreamEnd::Never && request.queued.is_none();
    let on_status = move |state: &StreamState| {
        shown.clear();
        if is_watched && reports.fetch_add(1, Ordering::Relaxed) % REPORTS_PER_LINE == 0 {
            println!("{}", if json { json_of(state).to_string() } else { line_of(state) });
        }
    };
    let options = StreamOptions {
        name,
        end,
        tables,
        permission: options.permission.unwrap_or_default(),
        progress: bars.clone(),
        on_status: Arc::new(on_status),
        stop: CancellationToken::new(),
    };
    let outcome = run(warehouse, request, options).await;
    bars.clear();
    let state = outcome?;
    if json {
        println!("{}", json_of(&state));
    } else {
        print!("{}", table_of(&state));
    }
    Ok(if state.failed() > 0 { ExitCode::from(report::code::FAILED) } else { ExitCode::SUCCESS })
}

fn changes_of(table: &TableStatus) -> u64 {
    table.counts.inserts + table.counts.updates + table.counts.deletes
}

fn lag_of(state: &StreamState) -> f64 {
    state.status.tables.iter().map(|table| table.lag_seconds).fold(0.0, f64::max)
}

fn line_of(state: &StreamState) -> String {
    let tables = &state.status.tables;
    let failed = state.failed();
    let changes: u64 = tables.iter().map(changes_of).sum();
    let mut line = format!(
        "{}  {} in {}  lag {}",
        state.status.received,
        text::quantity(changes, "change"),
        text::quantity(tables.len() as u64, "table"),
        text::seconds(lag_of(state))
    );
    if let Some(bytes) = state.lag_bytes.filter(|bytes| *bytes > 1 << 20) {
        line.push_str(&format!("  {} of the log to receive", text::bytes(bytes.unsigned_abs())));
    }
    if failed > 0 {
        line.push_str(&format!("  {} failed", text::quantity(failed as u64, "table")));
    }
    line
}

fn json_of(state: &StreamState) -> serde_json::Value {
    let table = |table: &TableStatus| {
        let counts = &table.counts;
        json!({
            "source": table.source, "target": table.target, "position": table.durable.to_string(),
            "inserts": counts.inserts, "updates": counts.updates, "deletes": counts.deletes,
            "truncates": counts.truncates, "ddls": counts.ddls, "commits": counts.commits, "rows": counts.added,
            "removed": counts.removed, "bytes_written": counts.bytes, "lag_seconds": table.lag_seconds,
            "state": table.error.as_ref().map_or(Some("streaming"), |(_, state, _)| *state),
            "error": table.error.as_ref().map(|(error, ..)| error),
            "hint": table.error.as_ref().and_then(|(.., hint)| hint.clone()),
        })
    };
    let refused = |table: &RefusedTable| json!({"source": table.source, "error": table.reason, "hint": table.hint});
    json!({
        "refused": state.refused.iter().map(refused).collect::<Vec<_>>(),
        "received": state.status.received.to_string(), "confirmed": state.status.confirmed.to_string(),
        "lag_seconds": lag_of(state), "lag_bytes": state.lag_bytes, "retained_bytes": state.retained_bytes,
        "tables": state.status.tables.iter().map(table).collect::<Vec<_>>(),
    })
}

fn table_of(state: &StreamState) -> String {
    let mut tables: Vec<&TableStatus> = state.status.tables.iter().collect();
    tables.sort_by(|a, b| a.source.cmp(&b.source));
    let row = |table: &&TableStatus| {
        vec![
            table.source.clone(),
            if table.error.is_some() { "failed" } else { "streaming" }.to_owned(),
            text::count(table.counts.inserts),
            text::count(table.counts.updates),
            text::count(table.counts.deletes),
            text::count(table.counts.commits),
            table.durable.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = tables.iter().map(row).collect();
    let header = ["table", "state", ">inserts", ">updates", ">deletes", ">commits", "position"];
    let mut text = text::table(&header, &rows);
    let failed = tables
        .iter()
        .filter_map(|table| table.error.as_ref().map(|(error, _, hint)| (&table.source, error, hint.as_ref())));
    let refused = state.refused.iter().map(|table| (&table.source, &table.reason, table.hint.as_ref()));
    for (source, error, hint) in failed.chain(refused) {
        text.push_str(&format!("\n{source}: {error}\n"));
        if let Some(hint) = hint {
            text.push_str(&format!("  hint: {hint}\n"));
        }
    }
    text
}
