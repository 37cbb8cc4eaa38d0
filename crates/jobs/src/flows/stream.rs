//! **transfer** by CHANGES: a stream that runs until it is stopped. Its run in the ledger is running as long; the state
//! of each table is recorded every few seconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use config::Job;
use ledger::{Outcome, Run, TableOutcome};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use transfer::changes::StreamStore;
use transfer::changes::{self, LogWatcher, RereadRequest, ShardStatus, StreamEnd, StreamObserver, StreamStatus};
use transfer::consume::{
    self, ConsumeEnd, ConsumeRequest, ConsumeSettings, LeftOut, Quarantine, QuarantinedMessage, ReplayRecord,
};
use transfer::read::Progress;
use transfer::resume::Permission;
use transfer::run::{Request, TransferReport};

use crate::flows::function_source;
use crate::flows::transfer::{outcome, request as request_of, target};
use crate::runs::{self, FlowOutcome, RunRequest};
use crate::warehouse::Warehouse;

/// Between two writes of the tables' states to the ledger.
const RECORD_INTERVAL: Duration = Duration::from_secs(2);

/// From so many bytes of the log on that the source keeps for the slot, an event is recorded; then at each doubling.
const RETAINED_ALARM: i64 = 8 << 30;

/// The worker of a transfer's run. There is one at a time, so that the next one has its shards at once.
const FIRST_WORKER: &str = "run";

/// How a stream is run.
pub struct StreamOptions<'a> {
    /// The transfer's name.
    pub name: &'a str,
    /// How long it runs.
    pub end: StreamEnd,
    /// Tables to read again first, as `schema.table` at the source.
    pub tables: Vec<String>,
    /// Whether tables that are read again replace those of the lake.
    pub replaces: bool,
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
enum StreamEvent {
    Copied(Vec<TableOutcome>),
    Status(StreamStatus),
    Interrupted(Interruption, Duration),
}

struct Observer {
    transfer: String,
    /// By a signal, and by the caller.
    stops: [CancellationToken; 2],
    events: UnboundedSender<StreamEvent>,
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

/// Runs a transfer's stream as a run of `transfer:NAME`. Returns its last state.
pub async fn run(warehouse: &Warehouse, request: &RunRequest, options: StreamOptions<'_>) -> Result<StreamState> {
    let config = warehouse.transfer(options.name)?;
    let detail =
        json!({"transfer": options.name, "mode": "changes", "tables": options.tables, "source": config.source});
    if config.is_consumer() {
        return consume(warehouse, request, &options, detail).await;
    }
    runs::run_service(warehouse, Job::Transfer(config), request, detail, async |run, stop| {
        let slot = config.changes.slot.clone();
        let stream = Arc::new(Request {
            tables: options.tables.clone(),
            permission: if options.replaces { Permission::Replace } else { Permission::AsConfigured },
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

/// Runs a transfer that reads a stream.
async fn consume(
    warehouse: &Warehouse,
    request: &RunRequest,
    options: &StreamOptions<'_>,
    detail: Value,
) -> Result<StreamState> {
    let config = warehouse.transfer(options.name)?;
    if !options.tables.is_empty() {
        let error = base::Error::input(format!("transfer {}: a table of a stream can't be read again", options.name));
        return Err(error.hint("have the transfer that publishes read it again, or replay the stream").into());
    }
    runs::run_service(warehouse, Job::Transfer(config), request, detail, async |run, stop| {
        let consumed = Arc::new(consume_request(warehouse, config, run.id(), FIRST_WORKER).await?);
        let (events, received) = unbounded_channel();
        let observer: Arc<dyn StreamObserver> = Arc::new(Observer {
            transfer: options.name.to_owned(),
            stops: [stop.clone(), options.stop.clone()],
            events,
        });
        run.event("stream.started", json!({"transfer": options.name, "source": config.source}))?;
        let (end, runtime) = (consume_end(options.end), Handle::current());
        let streaming = tokio::task::spawn_blocking(move || runtime.block_on(consume::run(&consumed, end, &observer)));
        let recorder = Recorder { run, name: options.name, on_status: &options.on_status };
        let state = recorder.follow(received, None).await?;
        streaming.await?.inspect_err(|error| {
            let what = base::chain(error);
            let recorded = run.interrupt_tables(options.name, &what, error.hint.as_deref());
            if let Err(error) =
                recorded.and_then(|()| run.event("stream.failed", json!({"transfer": options.name, "error": what})))
            {
                tracing::warn!(%error, "event not recorded");
            }
        })?;
        run.event("stream.stopped", json!({"transfer": options.name}))?;
        let is_stopped = stop.is_cancelled() || options.stop.is_cancelled();
        let outcome = match (is_stopped, state.failed()) {
            (true, _) => Outcome::Cancelled,
            (false, 0) => Outcome::Succeeded,
            (false, failed) => Outcome::Failed { error: format!("{failed} tables failed"), retryable: false },
        };
        let figures = figures(&state);
        Ok(FlowOutcome { output: state, outcome, figures })
    })
    .await
}

/// Runs a further worker of a transfer that reads a stream, beside the transfer's run: the workers share the shards.
pub async fn work(warehouse: &Warehouse, name: &str, end: StreamEnd, observer: Arc<dyn StreamObserver>) -> Result<()> {
    let config = consumer(warehouse, name)?;
    let id = uuid::Uuid::now_v7().to_string();
    let request = Arc::new(consume_request(warehouse, config, &id, &id).await?);
    let (end, runtime) = (consume_end(end), Handle::current());
    tokio::task::spawn_blocking(move || runtime.block_on(consume::run(&request, end, &observer))).await??;
    Ok(())
}

/// The transfer with this name, which reads a stream.
pub fn consumer<'w>(warehouse: &'w Warehouse, name: &str) -> Result<&'w config::Transfer> {
    let config = warehouse.transfer(name)?;
    if config.is_consumer() {
        return Ok(config);
    }
    let error = base::Error::input(format!("transfer {name}: it does not read a stream"));
    Err(error.hint("a transfer that reads a stream has the key stream and no source").into())
}

fn consume_end(end: StreamEnd) -> ConsumeEnd {
    match end {
        StreamEnd::Never => ConsumeEnd::Never,
        StreamEnd::CaughtUp => ConsumeEnd::CaughtUp,
    }
}

async fn consume_request(
    warehouse: &Warehouse,
    config: &config::Transfer,
    run: &str,
    worker: &str,
) -> Result<ConsumeRequest> {
    let (address, start, left_out, handler) = match &config.stream {
        Some(config::Stream { address, role: config::StreamRole::Consume { start, left_out } }) => {
            (address, start, *left_out, None)
        }
        Some(config::Stream { address, role: config::StreamRole::Call { start, call } }) => {
            let handler = function_source::handler(warehouse, address, call)?;
            (address, start, LeftOut::default(), Some(handler))
        }
        _ => return Err(base::Error::bug("read a stream by a transfer that has none").into()),
    };
    let keys = config.tables.iter().filter(|(_, table)| !table.key.is_empty());
    let settings = ConsumeSettings {
        name: config.name.clone(),
        program: warehouse.environment.command.clone(),
        into: config.into.clone(),
        include: config.include.clone(),
        exclude: config.exclude.clone(),
        deletes: config.changes.deletes,
        commit_interval: config.changes.commit_interval,
        start: *start,
        left_out,
        keys: keys.map(|(name, table)| (name.clone(), table.key.clone())).collect(),
    };
    Ok(ConsumeRequest {
        address: address.clone(),
        credentials: warehouse.aws_credentials(),
        lake: warehouse.lake().await?,
        settings,
        run: run.to_owned(),
        worker: worker.to_owned(),
        scratch: warehouse.scratch_folder(),
        handler,
    })
}

/// The messages of a transfer's stream that could not be applied.
pub async fn quarantined(warehouse: &Warehouse, name: &str) -> Result<Vec<QuarantinedMessage>> {
    let config = consumer(warehouse, name)?;
    let lake = warehouse.lake().await?;
    Ok(Quarantine::new(StreamStore::Lake(&lake), &config.name).list().await?)
}

/// Has quarantined messages applied again by the transfer's workers, or removes them. Returns those that were found;
/// all where `ids` is empty.
pub async fn settle_quarantined(
    warehouse: &Warehouse,
    name: &str,
    ids: &[String],
    resends: bool,
) -> Result<Vec<QuarantinedMessage>> {
    let config = consumer(warehouse, name)?;
    let lake = warehouse.lake().await?;
    let quarantine = Quarantine::new(StreamStore::Lake(&lake), &config.name);
    let mut messages = quarantine.list().await?;
    if let Some(unknown) = ids.iter().find(|id| !messages.iter().any(|message| message.id() == **id)) {
        let known: Vec<String> = messages.iter().map(QuarantinedMessage::id).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let error = base::Error::input(format!("transfer {name}: no quarantined message {unknown}"));
        return Err(error.hint(base::suggestion("message", unknown, &known).unwrap_or_default()).into());
    }
    messages.retain(|message| ids.is_empty() || ids.contains(&message.id()));
    for message in &messages {
        match resends {
            true => quarantine.resend(message).await?,
            false => quarantine.remove(&message.id()).await?,
        }
    }
    Ok(messages)
}

/// Where a replay begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayFrom {
    /// With the oldest message that the stream keeps.
    Beginning,
    /// With the first message that was stored at this instant or later.
    Instant(chrono::DateTime<chrono::Utc>),
    /// After a message of one shard.
    Position { shard: String, position: u64, sequence: String },
}

/// Has a transfer read its stream again. What its tables have is applied once more, message by message.
pub async fn replay(warehouse: &Warehouse, name: &str, from: &ReplayFrom) -> Result<()> {
    let config = consumer(warehouse, name)?;
    let lake = warehouse.lake().await?;
    let store = StreamStore::Lake(&lake);
    let mut record = ReplayRecord::read(store, &config.name).await?;
    record.epoch += 1;
    (record.from_micros, record.from_position) = match from {
        ReplayFrom::Beginning => (None, None),
        ReplayFrom::Instant(at) => (Some(at.timestamp_micros()), None),
        ReplayFrom::Position { shard, position, sequence } => {
            (None, Some((shard.clone(), *position, sequence.clone())))
        }
    };
    Ok(record.write(store, &config.name).await?)
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

fn figures(state: &StreamState) -> Value {
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
struct Recorder<'a> {
    run: &'a Run,
    name: &'a str,
    on_status: &'a Arc<dyn Fn(&StreamState) + Send + Sync>,
}

impl Recorder<'_> {
    /// Records events until the stream has ended, and returns its last state.
    async fn follow(
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
            }),
        };
        state.status.tables.iter().map(outcome).chain(state.status.shards.iter().map(shard)).collect()
    }
}
