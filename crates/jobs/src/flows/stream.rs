//! **transfer** by CHANGES: a stream that runs until it is stopped. Its run in the ledger is running as long; the state
//! of each table is recorded every few seconds.

use std::sync::Arc;

use anyhow::Result;
use config::Job;
use ledger::Outcome;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::mpsc::unbounded_channel;
use transfer::changes::{self, LogWatcher, RereadRequest, StreamObserver};
use transfer::run::Request;

use crate::flows::consumer;
use crate::flows::consumer::require_source;
pub use crate::flows::stream_report::{Interruption, RefusedTable, StreamOptions, StreamState};
use crate::flows::stream_report::{Observer, Recorder, figures};
use crate::flows::transfer::{request as request_of, target};
use crate::runs::{self, FlowOutcome, RunRequest};
use crate::warehouse::Warehouse;

/// Runs a transfer's stream as a run of `transfer:NAME`. Returns its last state.
pub async fn run(warehouse: &Warehouse, request: &RunRequest, options: StreamOptions<'_>) -> Result<StreamState> {
    let config = warehouse.transfer(options.name)?;
    let detail =
        json!({"transfer": options.name, "mode": "changes", "tables": options.tables, "source": config.source});
    if config.is_consumer() {
        return consumer::consume(warehouse, request, &options, detail).await;
    }
    runs::run_service(warehouse, Job::Transfer(config), request, detail, async |run, stop| {
        let slot = config.changes.slot.clone();
        let stream = Arc::new(Request {
            tables: options.tables.clone(),
            permission: options.permission,
            progress: Arc::clone(&options.progress),
            ..request_of(warehouse, config, run).await?
        });
        let endpoint = stream.source.clone();
        let (events, received) = unbounded_channel();
        let observer: Arc<dyn StreamObserver> = Arc::new(Observer {
            transfer: options.name.to_owned(),
            stops: [stop.clone(), options.stop.clone()],
            events,
        });
        run.event("stream.started", json!({"transfer": options.name, "source": config.source, "slot": slot}))?;
        let (end, runtime) = (options.end, Handle::current());
        let streaming = tokio::task::spawn_blocking(move || runtime.block_on(changes::run(&stream, end, &observer)));
        let recorder = Recorder { run, name: options.name, on_status: &options.on_status };
        let state = recorder.follow(received, Some(LogWatcher::new(&endpoint, &slot))).await?;
        streaming.await?.inspect_err(|error| {
            let what = base::chain(error);
            let recorded = run.interrupt_tables(options.name, &what, error.hint.as_deref());
            let fields = json!({"transfer": options.name, "error": what});
            if let Err(error) = recorded.and_then(|()| run.event("stream.failed", fields)) {
                tracing::warn!(%error, "event not recorded");
            }
        })?;
        run.event("stream.stopped", json!({"transfer": options.name, "position": state.status.confirmed.to_string()}))?;
        let failed = state.failed();
        let is_stopped = stop.is_cancelled() || options.stop.is_cancelled();
        let outcome = match (is_stopped, failed) {
            (true, _) => Outcome::Cancelled,
            (false, 0) => Outcome::Succeeded,
            (false, failed) => {
                let error = format!("{failed} of {} tables failed", state.status.tables.len() + state.refused.len());
                Outcome::Failed { error, retryable: false }
            }
        };
        let figures = figures(&state);
        Ok(FlowOutcome { output: state, outcome, figures })
    })
    .await
}

/// Asks the running stream of a transfer to read tables again; all of its tables where `tables` is empty.
pub async fn request_reread(warehouse: &Warehouse, name: &str, tables: Vec<String>) -> Result<Vec<String>> {
    let config = warehouse.transfer(name)?;
    let known: Vec<String> =
        warehouse.ledger.transfer_tables(Some(name))?.into_iter().map(|table| table.source_table).collect();
    if let Some(unknown) = tables.iter().find(|table| !known.contains(table)) {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let error = base::Error::input(format!("transfer {name}: it has no table {unknown}"));
        return Err(error.hint(base::suggestion("table", unknown, &known).unwrap_or_default()).into());
    }
    let tables = if tables.is_empty() { known } else { tables };
    RereadRequest::add(&target(warehouse, config).await?, name, tables.iter().cloned()).await?;
    Ok(tables)
}

/// Drops the slot and the publication that a transfer has at its source. Returns what was dropped.
pub async fn drop_slot(warehouse: &Warehouse, name: &str) -> Result<Vec<String>> {
    let config = warehouse.transfer(name)?;
    require_source(config, "drop-slot")?;
    let detail = json!({"transfer": name, "source": config.source, "slot": config.changes.slot});
    runs::run(warehouse, Job::Transfer(config), &RunRequest::by_hand(), detail, async |run| {
        let request = request_of(warehouse, config, run).await?;
        let dropped = changes::drop_slot(&request).await?;
        run.event("stream.slot_dropped", json!({"transfer": name, "dropped": dropped}))?;
        let figures = json!({"dropped": dropped});
        Ok(FlowOutcome { output: dropped, outcome: Outcome::Succeeded, figures })
    })
    .await
}
