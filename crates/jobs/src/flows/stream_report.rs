//! What a stream reports while it runs, for users and for the ledger.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use ledger::{Run, TableOutcome};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;
use transfer::changes::{self, LogWatcher, ShardStatus, StreamEnd, StreamObserver, StreamStatus};
use transfer::read::Progress;
use transfer::resume::Permission;
use transfer::run::TransferReport;

use crate::flows::transfer::outcome;

/// Between two writes of the tables' states to the ledger.
const RECORD_INTERVAL: Duration = Duration::from_secs(2);

/// From so many bytes of the log on that the source keeps for the slot, an event is recorded; then at each doubling.
const RETAINED_ALARM: i64 = 8 << 30;

/// How a stream is run.
pub struct StreamOptions<'a> {
    /// The transfer's name.
    pub name: &'a str,
    /// How long it runs.
    pub end: StreamEnd,
    /// Tables to read again first, as `schema.table` at the source.
    pub tables: Vec<String>,
    /// Whether they replace those of the lake; with `Resync` and no tables, all are read again.
    pub permission: Permission,
    /// Is informed of the progress of tables that are read.
    pub progress: Arc<dyn Progress>,
    /// Is called with the state about once a second.
    pub on_status: Arc<dyn Fn(&StreamState) + Send + Sync>,
    /// Stops the stream, as a signal does.
    pub stop: CancellationToken,
}

/// The state of a stream, for users.
#[derive(Debug, Clone, Default)]
pub struct StreamState {
    /// What the stream reports.
    pub status: StreamStatus,
    /// The bytes of the source's log that it has not received yet.
    pub lag_bytes: Option<i64>,
    /// The bytes of the log that the source keeps for the slot.
    pub retained_bytes: Option<i64>,
    /// The tables that do not take part in the stream.
    pub refused: Vec<RefusedTable>,
    /// Why the stream is interrupted, until it continues.
    pub interruption: Option<Interruption>,
}

/// An interruption of a stream, which begins again by itself.
#[derive(Debug, Clone)]
pub struct Interruption {
    /// Its cause.
    pub reason: String,
    /// What a user can do about it.
    pub hint: Option<String>,
}

/// A table that does not take part in a stream.
#[derive(Debug, Clone)]
pub struct RefusedTable {
    /// `schema.table` at the source.
    pub source: String,
    /// Why.
    pub reason: String,
    /// What a user can do about it.
    pub hint: Option<String>,
}

impl StreamState {
    /// How many tables do not take part, or do no longer.
    pub fn failed(&self) -> usize {
        self.refused.len() + self.status.tables.iter().filter(|table| table.error.is_some()).count()
    }
}

/// What a stream tells its flow.
pub(super) enum StreamEvent {
    Copied(Vec<TableOutcome>),
    Status(StreamStatus),
    Interrupted(Interruption, Duration),
}

pub(super) struct Observer {
    pub transfer: String,
    /// By a signal, and by the caller.
    pub stops: [CancellationToken; 2],
    pub events: UnboundedSender<StreamEvent>,
}

impl Observer {
    fn send(&self, event: StreamEvent) {
        // The flow ends after the stream, so that it receives everything.
        let _ = self.events.send(event);
    }
}

impl StreamObserver for Observer {
    fn copied(&self, report: &TransferReport) {
        self.send(StreamEvent::Copied(report.tables.iter().map(|table| outcome(&self.transfer, table)).collect()));
    }

    fn report(&self, status: &StreamStatus) {
        self.send(StreamEvent::Status(status.clone()));
    }

    fn interrupted(&self, error: &base::Error, wait: Duration) {
        let interruption = Interruption { reason: base::chain(error), hint: error.hint.clone() };
        self.send(StreamEvent::Interrupted(interruption, wait));
    }

    fn should_stop(&self) -> bool {
        self.stops.iter().any(CancellationToken::is_cancelled)
    }
}

pub(super) fn figures(state: &StreamState) -> Value {
    let tables = &state.status.tables;
    let sum = |of: fn(&changes::ChangeCounts) -> u64| tables.iter().map(|table| of(&table.counts)).sum::<u64>();
    json!({
        "tables": tables.len() + state.refused.len(),
        "failed": state.failed(),
        "rows": sum(|counts| counts.added),
        "inserts": sum(|counts| counts.inserts),
        "updates": sum(|counts| counts.updates),
        "deletes": sum(|counts| counts.deletes),
        "commits": sum(|counts| counts.commits),
        "bytes_read": state.status.bytes,
        "position": state.status.confirmed.to_string(),
    })
}
/// Records what a stream reports.
pub(super) struct Recorder<'a> {
    pub run: &'a Run,
    pub name: &'a str,
    pub on_status: &'a Arc<dyn Fn(&StreamState) + Send + Sync>,
}

impl Recorder<'_> {
    /// Records events until the stream has ended, and returns its last state.
    pub async fn follow(
        &self,
        mut events: UnboundedReceiver<StreamEvent>,
        mut log: Option<LogWatcher>,
    ) -> Result<StreamState> {
        let mut state = StreamState::default();
        let mut recorded_at: Option<Instant> = None;
        let mut alarm_at = RETAINED_ALARM;
        while let Some(event) = events.recv().await {
            match event {
                StreamEvent::Copied(tables) => {
                    self.run.tables(&tables)?;
                    let refused = tables.iter().filter_map(|table| {
                        let (source, hint) = (table.source_table.clone(), table.hint.clone());
                        table.reason.clone().map(|reason| RefusedTable { source, reason, hint })
                    });
                    state.refused = refused.collect();
                    let failed = state.refused.len();
                    let rows: u64 = tables.iter().map(|table| table.rows).sum();
                    let fields = json!({"transfer": self.name, "tables": tables.len(), "failed": failed, "rows": rows});
                    self.run.event("stream.copied", fields)?;
                }
                StreamEvent::Interrupted(interruption, wait) => {
                    let (error, wait) = (&interruption.reason, wait.as_secs_f64());
                    let fields = json!({"transfer": self.name, "error": error, "wait_seconds": wait});
                    self.run.event("stream.interrupted", fields)?;
                    self.run.interrupt_tables(self.name, error, interruption.hint.as_deref())?;
                    state.interruption = Some(interruption);
                    recorded_at = None;
                }
                StreamEvent::Status(status) => {
                    state.status = status;
                    state.interruption = None;
                    let is_last = events.is_empty() && events.is_closed();
                    if is_last || recorded_at.is_none_or(|at| at.elapsed() >= RECORD_INTERVAL) {
                        recorded_at = Some(Instant::now());
                        let log = match &mut log {
                            Some(log) => log.state().await,
                            None => None,
                        };
                        if let Some(log) = log {
                            let received = state.status.received.to_i64();
                            state.lag_bytes = Some(log.end.to_i64().saturating_sub(received).max(0));
                            state.retained_bytes = log.retained;
                            alarm_at = self.alarm(log.retained.unwrap_or_default(), alarm_at)?;
                        }
                        self.run.update_tables(&self.outcomes(&state))?;
                    }
                    (self.on_status)(&state);
                }
            }
        }
        if recorded_at.is_some() && state.interruption.is_none() {
            self.run.update_tables(&self.outcomes(&state))?;
        }
        Ok(state)
    }

    /// Records that the source keeps much of its log. Returns the size at which the next event is due.
    fn alarm(&self, retained: i64, at: i64) -> Result<i64> {
        if retained < RETAINED_ALARM / 2 {
            return Ok(RETAINED_ALARM);
        }
        if retained < at {
            return Ok(at);
        }
        tracing::warn!("the source keeps {retained} bytes of its log, until the lake has them");
        self.run.event("stream.log_retained", json!({"transfer": self.name, "bytes": retained}))?;
        Ok(retained.saturating_mul(2))
    }

    fn outcomes(&self, state: &StreamState) -> Vec<TableOutcome> {
        let outcome = |table: &changes::TableStatus| {
            let (counts, error) = (&table.counts, table.error.as_ref());
            let behind = state.status.received.to_i64().saturating_sub(table.durable.to_i64()).max(0);
            TableOutcome {
                transfer: self.name.to_owned(),
                source_table: table.source.clone(),
                target_table: table.target.clone(),
                state: match error {
                    None => "streaming".to_owned(),
                    Some((_, state, _)) => state.unwrap_or("errored").to_owned(),
                },
                mode: "changes".to_owned(),
                rows: counts.added,
                bytes_read: 0,
                bytes_written: counts.bytes,
                seconds: 0.0,
                position: Some(table.durable.to_string()),
                reason: error.map(|(reason, ..)| reason.clone()),
                hint: error.and_then(|(.., hint)| hint.clone()),
                changes: json!({
                    "inserts": counts.inserts, "updates": counts.updates, "deletes": counts.deletes,
                    "truncates": counts.truncates, "ddls": counts.ddls, "commits": counts.commits,
                    "removed": counts.removed, "lag_seconds": table.lag_seconds,
                    "lag_bytes": state.lag_bytes.map(|lag| lag + behind), "retained_bytes": state.retained_bytes,
                }),
            }
        };
        let shard = |shard: &ShardStatus| TableOutcome {
            transfer: self.name.to_owned(),
            source_table: format!("shard {}", shard.id),
            target_table: String::new(),
            state: "streaming".to_owned(),
            mode: "shard".to_owned(),
            rows: 0,
            bytes_read: 0,
            bytes_written: 0,
            seconds: 0.0,
            position: Some(shard.position.to_string()),
            reason: None,
            hint: None,
            changes: json!({
                "lag_messages": shard.lag_messages,
                "lag_seconds": shard.lag_millis.map(|millis| millis as f64 / 1e3),
                "worker": shard.worker,
            }),
        };
        state.status.tables.iter().map(outcome).chain(state.status.shards.iter().map(shard)).collect()
    }
}
