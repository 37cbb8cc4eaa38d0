//! A session of a worker whose messages go to a handler. Each shard has its own order, and waits for none of the others.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stream::{Delivery, Lag, StartPosition};
use tokio::task::JoinSet;

use super::end::{ConsumeEnd, SessionEnd};
use super::handler::{BatchOutcome, HandlerSettings};
use super::quarantine::{Quarantine, QuarantinedMessage};
use super::replay::record_name;
use super::shard_record::ShardRecord;
use super::shard_task::ShardTask;
use super::worker_part::WorkerPart;
use super::workers::HEARTBEAT;
use crate::changes::{ShardStatus, StreamStatus};
use crate::error::{Error, Result};

const POLL: Duration = Duration::from_millis(50);
const RETRY_WAIT: Duration = Duration::from_millis(500);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(60);
/// Between two writes of a record of a shard that has no messages.
const RECORD_INTERVAL: Duration = Duration::from_secs(10);
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// A shard whose messages go to a handler.
pub struct HandledShard {
    /// Its name.
    pub id: String,
    /// Up to where it is done.
    pub record: ShardRecord,
    /// Reads it.
    pub task: ShardTask,
    waiting: VecDeque<Delivery>,
    lag: Lag,
    recorded_at: Instant,
    is_caught_up: bool,
    is_end: bool,
}

impl HandledShard {
    /// A shard that begins at a position.
    pub fn new(id: String, record: ShardRecord, task: ShardTask, start: &StartPosition) -> HandledShard {
        let record = match start {
            StartPosition::After { position, sequence, .. } => {
                ShardRecord { position: *position, sequence: sequence.clone(), ..record }
            }
            StartPosition::From(_) => record,
        };
        HandledShard {
            id,
            record,
            task,
            waiting: VecDeque::new(),
            lag: Lag::default(),
            recorded_at: Instant::now(),
            is_caught_up: false,
            is_end: false,
        }
    }
}

/// What the shards of a session have in common.
pub struct HandlerOptions {
    /// The worker's part.
    pub part: WorkerPart,
    /// What is called.
    pub settings: HandlerSettings,
}

/// Calls the handler with the messages of the shards until the session ends.
pub async fn run(options: Arc<HandlerOptions>, shards: Vec<HandledShard>) -> Result<SessionEnd> {
    let own: Vec<String> = shards.iter().map(|shard| shard.id.clone()).collect();
    let (ends, ended) = tokio::sync::watch::channel(false);
    let (statuses, mut reported) = tokio::sync::mpsc::unbounded_channel::<ShardStatus>();
    let mut running = JoinSet::new();
    for shard in shards {
        running.spawn(handle(Arc::clone(&options), shard, ended.clone(), statuses.clone()));
    }
    drop(statuses);
    let (mut beaten_at, mut reported_at) = (Instant::now(), Instant::now() - REPORT_INTERVAL);
    let mut state: std::collections::BTreeMap<String, ShardStatus> = std::collections::BTreeMap::new();
    let mut others: Vec<ShardStatus> = Vec::new();
    let mut outcome: Result<SessionEnd> = Ok(SessionEnd::Stopped);
    loop {
        while let Ok(status) = reported.try_recv() {
            state.insert(status.id.clone(), status);
        }
        if reported_at.elapsed() >= REPORT_INTERVAL || running.is_empty() {
            reported_at = Instant::now();
            let shards = state.values().chain(&others).cloned().collect();
            options.part.observer.report(&StreamStatus { shards, ..StreamStatus::default() });
        }
        tokio::select! {
            ended = running.join_next() => match ended {
                None => return outcome,
                Some(Ok(Ok(SessionEnd::Stopped))) => {}
                // The others finish their batch.
                Some(Ok(Ok(SessionEnd::Changed))) => {
                    outcome = outcome.map(|_| SessionEnd::Changed);
                    ends.send_replace(true);
                }
                Some(Ok(Err(error))) => {
                    outcome = outcome.and(Err(error));
                    ends.send_replace(true);
                }
                Some(Err(error)) => {
                    outcome = outcome.and(Err(Error::bug("handle the messages of a shard").because(error)));
                    ends.send_replace(true);
                }
            },
            () = tokio::time::sleep(POLL) => {
                if options.part.observer.should_stop() {
                    ends.send_replace(true);
                }
                if beaten_at.elapsed() >= HEARTBEAT {
                    beaten_at = Instant::now();
                    call_resent(&options, &own).await?;
                    others = options.part.other_shards(&own).await?;
                    if options.part.has_changed(&own).await? {
                        outcome = outcome.map(|_| SessionEnd::Changed);
                        ends.send_replace(true);
                    }
                }
            }
        }
    }
}

/// Calls the handler with messages that a user has sent again, one at a time.
async fn call_resent(options: &HandlerOptions, own: &[String]) -> Result<()> {
    if options.part.readable.first() != own.first() {
        return Ok(());
    }
    let quarantine = Quarantine::new(options.part.store(), options.part.transfer());
    for message in quarantine.resent().await? {
        let delivery = Delivery {
            position: message.position,
            sequence: message.sequence.clone(),
            stored_at: message.stored_at,
            partition_key: message.partition_key.clone(),
            data: message.content().into(),
        };
        match options.settings.handler.call(&message.shard, &[delivery]).await? {
            BatchOutcome::Done => {}
            BatchOutcome::Failed(reason) => quarantine.add(&QuarantinedMessage { reason, ..message.clone() }).await?,
            BatchOutcome::FailedFrom(_) => quarantine.add(&message).await?,
        }
        quarantine.finish(&message.id()).await?;
    }
    Ok(())
}

/// Handles the messages of one shard.
async fn handle(
    options: Arc<HandlerOptions>,
    mut shard: HandledShard,
    ended: tokio::sync::watch::Receiver<bool>,
    statuses: tokio::sync::mpsc::UnboundedSender<ShardStatus>,
) -> Result<SessionEnd> {
    let mut end = SessionEnd::Stopped;
    while !*ended.borrow() {
        fill(&options, &mut shard, &ended).await?;
        let count = shard.waiting.len().min(options.settings.batch_size);
        if count > 0 {
            let batch: Vec<Delivery> = shard.waiting.drain(..count).collect();
            if !deliver(&options, &shard, &batch, &ended).await? {
                break;
            }
            if let Some(last) = batch.last() {
                (shard.record.position, shard.record.sequence) = (last.position, last.sequence.clone());
                write(&options, &mut shard).await?;
            }
        } else if shard.is_end {
            shard.record.is_finished = true;
            end = SessionEnd::Changed;
            break;
        } else if shard.is_caught_up && options.part.ends_when_caught_up() {
            break;
        }
        let status = ShardStatus {
            id: shard.id.clone(),
            position: shard.record.position,
            lag_messages: shard.lag.messages,
            lag_millis: shard.lag.millis,
            worker: shard.record.worker.clone(),
        };
        // Where the session has ended, nobody receives it.
        let _ = statuses.send(status);
    }
    shard.record.worker = String::new();
    write(&options, &mut shard).await?;
    Ok(end)
}

async fn write(options: &HandlerOptions, shard: &mut HandledShard) -> Result<()> {
    (shard.record.lag_messages, shard.record.lag_millis) = (shard.lag.messages, shard.lag.millis);
    shard.record.at_micros = chrono::Utc::now().timestamp_micros();
    shard.recorded_at = Instant::now();
    let name = record_name(options.part.replay.epoch, &shard.id);
    shard.record.write(options.part.store(), options.part.transfer(), &name).await?;
    shard.task.acknowledge(shard.record.position);
    Ok(())
}

/// Waits until a batch is full, or its window is over.
async fn fill(
    options: &HandlerOptions,
    shard: &mut HandledShard,
    ended: &tokio::sync::watch::Receiver<bool>,
) -> Result<()> {
    let mut until: Option<Instant> = (!shard.waiting.is_empty()).then(Instant::now);
    while shard.waiting.len() < options.settings.batch_size && !*ended.borrow() {
        let wait = until.map_or(POLL, |until| until.saturating_duration_since(Instant::now()));
        match tokio::time::timeout(wait, shard.task.batches.recv()).await {
            Ok(Some(batch)) => {
                let batch = batch?;
                shard.lag = batch.lag;
                shard.is_end |= batch.is_end;
                shard.is_caught_up = batch.deliveries.is_empty() && (batch.reached.is_some() || batch.is_end);
                // Where those before have been handled, messages of other shards are passed, too.
                let reached =
                    batch.reached.filter(|reached| shard.waiting.is_empty() && *reached > shard.record.position);
                if let Some(reached) = reached {
                    (shard.record.position, shard.record.sequence) = (reached, reached.to_string());
                    if shard.recorded_at.elapsed() >= RECORD_INTERVAL {
                        write(options, shard).await?;
                    }
                }
                if shard.waiting.is_empty() && !batch.deliveries.is_empty() {
                    until = Some(Instant::now() + options.settings.batch_window);
                }
                shard.waiting.extend(batch.deliveries);
                if shard.is_caught_up && (shard.waiting.is_empty() || options.part.end == ConsumeEnd::CaughtUp) {
                    return Ok(());
                }
            }
            Ok(None) if shard.is_end => return Ok(()),
            Ok(None) => return Err(Error::retry(format!("read shard {}: the task has ended", shard.id))),
            Err(_) if until.is_some() => return Ok(()),
            Err(_) => {}
        }
    }
    Ok(())
}

/// Calls the handler until all messages are done or quarantined. Returns false where the session ends before.
async fn deliver(
    options: &HandlerOptions,
    shard: &HandledShard,
    batch: &[Delivery],
    ended: &tokio::sync::watch::Receiver<bool>,
) -> Result<bool> {
    // Parts in their order, each with the number of attempts.
    let mut parts: VecDeque<(&[Delivery], u32)> = VecDeque::from([(batch, 0)]);
    let mut wait = RETRY_WAIT;
    while let Some((part, attempts)) = parts.pop_front() {
        if part.is_empty() {
            continue;
        }
        let (rest, reason) = match options.settings.handler.call(&shard.id, part).await? {
            BatchOutcome::Done => {
                wait = RETRY_WAIT;
                continue;
            }
            BatchOutcome::FailedFrom(at) => {
                (&part[at.min(part.len() - 1)..], "the function has named it as failed".to_owned())
            }
            BatchOutcome::Failed(reason) => (part, reason),
        };
        let has_progress = rest.len() < part.len();
        let attempts = if has_progress { 0 } else { attempts + 1 };
        let is_exhausted = options.settings.retries_max.is_some_and(|max| attempts > max);
        if rest.len() > 1 && options.settings.bisects && !has_progress {
            let (first, second) = rest.split_at(rest.len() / 2);
            parts.push_front((second, 0));
            parts.push_front((first, 0));
        } else if is_exhausted {
            let quarantine = Quarantine::new(options.part.store(), options.part.transfer());
            for delivery in rest {
                let message = QuarantinedMessage::new(&shard.id, delivery, &reason);
                tracing::warn!(shard = shard.id, position = delivery.position, "a message is quarantined: {reason}");
                quarantine.add(&message).await?;
            }
        } else {
            tracing::warn!(
                shard = shard.id,
                messages = rest.len(),
                "the function has failed, and is called again: {reason}"
            );
            parts.push_front((rest, attempts));
            let until = Instant::now() + wait;
            while Instant::now() < until {
                if *ended.borrow() {
                    return Ok(false);
                }
                tokio::time::sleep(POLL).await;
            }
            wait = (wait * 2).min(RETRY_WAIT_MAX);
        }
    }
    Ok(true)
}
