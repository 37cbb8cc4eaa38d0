//! **transfer** from a stream: its workers, the messages that they could not apply, and replays.

use std::sync::Arc;

use anyhow::Result;
use config::Job;
use ledger::Outcome;
use serde_json::{Value, json};
use stream::Reader;
use tokio::runtime::Handle;
use tokio::sync::mpsc::unbounded_channel;
use transfer::changes::{StreamEnd, StreamObserver, StreamStore};
use transfer::consume::{
    self, ConsumeEnd, ConsumeRequest, ConsumeSettings, ConsumeTarget, LeftOut, PostgresTarget, Quarantine,
    QuarantinedMessage, ReplayRecord, ShardRecord,
};

use crate::flows::function_source;
use crate::flows::stream_report::{Observer, Recorder, StreamOptions, StreamState, figures};
use crate::runs::{self, FlowOutcome, RunRequest};
use crate::warehouse::Warehouse;

/// The worker of a transfer's run. There is one at a time, so that the next one has its shards at once.
const FIRST_WORKER: &str = "run";

/// Runs a transfer that reads a stream.
pub(super) async fn consume(
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

/// A name for a further worker.
pub fn new_worker() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Runs a further worker of a transfer that reads a stream, beside the transfer's run: the workers share the shards.
pub async fn work(
    warehouse: &Warehouse,
    name: &str,
    worker: &str,
    end: StreamEnd,
    observer: Arc<dyn StreamObserver>,
) -> Result<()> {
    let config = consumer(warehouse, name)?;
    let request = Arc::new(consume_request(warehouse, config, worker, worker).await?);
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

/// Refuses a transfer that reads a stream, for commands about its source.
pub(super) fn require_source(config: &config::Transfer, command: &str) -> Result<()> {
    if !config.is_consumer() {
        return Ok(());
    }
    let what = format!("{command} {}: it reads a stream, and has no source of its own", config.name);
    Err(base::Error::input(what).hint("name the transfer that publishes into the stream").into())
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
    let settings = ConsumeSettings { start: *start, left_out, ..settings(warehouse, config) };
    let lake = warehouse.lake().await?;
    let target = match &config.target {
        config::Target::Postgres(connection) => {
            let endpoint = warehouse.endpoint(connection)?;
            for source in sources(warehouse, address)? {
                consume::check_target(&config.name, &endpoint, &source).await?;
            }
            let owner = consume::owner(StreamStore::Lake(&lake), &config.name).await?;
            ConsumeTarget::Postgres(Box::new(PostgresTarget::new(endpoint, owner)))
        }
        config::Target::Lake | config::Target::Stream => ConsumeTarget::Lake,
    };
    Ok(ConsumeRequest {
        address: address.clone(),
        credentials: warehouse.aws_credentials(),
        lake,
        target,
        settings,
        run: run.to_owned(),
        worker: worker.to_owned(),
        scratch: warehouse.scratch_folder(),
        handler,
    })
}

/// The databases whose changes transfers of this warehouse publish into a stream.
fn sources(warehouse: &Warehouse, address: &stream::Address) -> Result<Vec<transfer::postgres::Endpoint>> {
    let publishes = |transfer: &&config::Transfer| {
        let stream = transfer.stream.as_ref();
        stream.is_some_and(|stream| stream.address.display() == address.display()) && !transfer.is_consumer()
    };
    let publishers = warehouse.config.transfers.values().filter(publishes);
    publishers.map(|transfer| warehouse.endpoint(&transfer.source)).collect()
}

/// What a transfer that reads a stream has in common for tables and functions.
fn settings(warehouse: &Warehouse, config: &config::Transfer) -> ConsumeSettings {
    let keys = config.tables.iter().filter(|(_, table)| !table.key.is_empty());
    ConsumeSettings {
        name: config.name.clone(),
        program: warehouse.environment.command.clone(),
        into: config.into.clone(),
        include: config.include.clone(),
        exclude: config.exclude.clone(),
        deletes: config.changes.deletes,
        commit_interval: config.changes.commit_interval,
        start: stream::Start::Beginning,
        left_out: LeftOut::default(),
        keys: keys.map(|(name, table)| (name.clone(), table.key.clone())).collect(),
    }
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
        let error = base::Error::input(format!("transfer {name}: no quarantined message {unknown}"));
        let hint = match messages.is_empty() {
            true => "there are none".to_owned(),
            false => "`wattlake transfer quarantine list` shows their ids".to_owned(),
        };
        return Err(error.hint(hint).into());
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

/// Has a transfer read its stream again. What its tables have is applied again, message by message.
pub async fn replay(warehouse: &Warehouse, name: &str, from: &ReplayFrom) -> Result<()> {
    let config = consumer(warehouse, name)?;
    let lake = warehouse.lake().await?;
    let store = StreamStore::Lake(&lake);
    let Some(address) = config.stream.as_ref().map(|stream| &stream.address) else {
        return Err(base::Error::bug("replay a transfer that has no stream").into());
    };
    let reader = Reader::connect(address, &format!("wattlake-{name}-replay"), &warehouse.aws_credentials()).await?;
    let is_kinesis = matches!(address.broker, stream::Broker::Kinesis { .. });
    let mut record = ReplayRecord::read(store, &config.name).await?;
    let shards: Vec<String> = reader.shards().await?.into_iter().map(|shard| shard.id).collect();
    let (identity, mut is_recreated) = (reader.identity().await?, false);
    for shard in &shards {
        let read = ShardRecord::of_replay(store, &config.name, record.epoch, shard).await?;
        let before = read.and_then(|read| read.stream);
        is_recreated |= before.is_some_and(|before| before != identity);
    }
    let without_key = consume::tables_without_key(store, &settings(warehouse, config)).await?;
    if let Some(table) = without_key.first().filter(|_| is_kinesis && !is_recreated) {
        // Positions of Kinesis are counted from where a replay begins.
        let what = format!("replay {name}: {table} has no key, so that its rows can't be told apart");
        return Err(base::Error::input(what).hint("give it a key, or exclude it").into());
    }
    check_replay(name, from, &shards, is_recreated)?;
    (record.passed, record.passed_sequence) = (0, None);
    if let ReplayFrom::Position { shard, .. } = from
        && let Some(read) = ShardRecord::of_replay(store, &config.name, record.epoch, shard).await?
    {
        record.passed = read.position;
        record.passed_sequence = is_kinesis.then_some(read.sequence);
    }
    record.epoch += 1;
    (record.from_micros, record.from_position) = match from {
        ReplayFrom::Beginning => (None, None),
        ReplayFrom::Instant(at) => (Some(at.timestamp_micros()), None),
        ReplayFrom::Position { shard, position, sequence } => {
            (None, Some((shard.clone(), *position, sequence.clone())))
        }
    };
    if *from == ReplayFrom::Beginning {
        record.whole_epoch = record.epoch;
    }
    if is_recreated {
        record.recreated_epoch = record.epoch;
    }
    Ok(record.write(store, &config.name).await?)
}

/// Refuses a replay that would read nothing, or not what was meant.
fn check_replay(name: &str, from: &ReplayFrom, shards: &[String], is_recreated: bool) -> Result<()> {
    let refused =
        |what: String, hint: String| Err(base::Error::input(format!("replay {name}: {what}")).hint(hint).into());
    match from {
        ReplayFrom::Beginning => Ok(()),
        _ if is_recreated => {
            refused("the stream was deleted and created again".to_owned(), "write --from beginning".to_owned())
        }
        ReplayFrom::Instant(at) if *at > chrono::Utc::now() => {
            refused(format!("{at} is in the future"), "write an instant of the past".to_owned())
        }
        ReplayFrom::Position { shard, .. } if !shards.contains(shard) => {
            refused(format!("the stream has no shard {shard:?}"), format!("its shards are {}", shards.join(", ")))
        }
        ReplayFrom::Instant(_) | ReplayFrom::Position { .. } => Ok(()),
    }
}
