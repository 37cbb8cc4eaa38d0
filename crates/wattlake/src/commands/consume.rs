//! Commands about transfers that read a stream: further workers, messages that could not be applied, replays.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use base::text;
use clap::{Args, Subcommand};
use jobs::flows::consumer::{self, ReplayFrom};
use jobs::warehouse::Warehouse;
use serde_json::json;
use transfer::changes::{StreamEnd, StreamObserver, StreamStatus};
use transfer::run::TransferReport;

use crate::report;

/// Run a further worker of a transfer that reads a stream
///
/// The workers of a transfer share its shards, those of other processes and machines too: where one ends, the others
/// take its shards over. `wattlake transfer run` and `wattlake serve` run the first.
#[derive(Debug, Args)]
pub struct Worker {
    name: String,
    /// End when the tables have all messages of the worker's shards
    #[arg(long)]
    until_caught_up: bool,
}

/// Stops by a signal, and prints interruptions.
struct Printer {
    worker: String,
    stopped: Arc<AtomicBool>,
}

impl StreamObserver for Printer {
    fn copied(&self, _: &TransferReport) {}

    fn report(&self, status: &StreamStatus) {
        let own = status.shards.iter().filter(|shard| shard.worker == self.worker);
        let shards: Vec<&str> = own.map(|shard| shard.id.as_str()).collect();
        tracing::info!(shards = shards.join(" "), bytes = status.bytes, "reading");
    }

    fn interrupted(&self, error: &base::Error, wait: Duration) {
        eprintln!("interrupted, again in {}: {}", text::seconds(wait.as_secs_f64()), base::chain(error));
    }

    fn should_stop(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

impl Worker {
    /// Runs the worker until it is stopped.
    pub async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let stopped = Arc::new(AtomicBool::new(false));
        let worker = consumer::new_worker();
        let observer = Arc::new(Printer { worker: worker.clone(), stopped: Arc::clone(&stopped) });
        tokio::spawn(async move {
            jobs::runs::stop_signal().await;
            stopped.store(true, Ordering::Relaxed);
        });
        let end = if self.until_caught_up { StreamEnd::CaughtUp } else { StreamEnd::Never };
        consumer::work(warehouse, &self.name, &worker, end, observer).await?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Messages of a stream that could not be applied
#[derive(Debug, Subcommand)]
pub enum Quarantine {
    /// List them, with their reasons
    List(List),
    /// Have the transfer apply them again, after what was wrong is corrected
    Resend(Settle),
    /// Remove them
    Remove(Settle),
}

#[derive(Debug, Args)]
pub struct List {
    name: String,
    /// Print one JSON object for each message
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct Settle {
    name: String,
    /// A message, by its id in the list; may be repeated
    #[arg(long = "message", value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    messages: Vec<String>,
    /// All messages
    #[arg(long)]
    all: bool,
}

impl Quarantine {
    /// Runs the command.
    pub async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        match self {
            Quarantine::List(command) => command.run(warehouse).await,
            Quarantine::Resend(command) => command.run(warehouse, true).await,
            Quarantine::Remove(command) => command.run(warehouse, false).await,
        }
    }
}

impl List {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let messages = consumer::quarantined(warehouse, &self.name).await?;
        let mut rows = Vec::new();
        for message in &messages {
            let at = chrono::DateTime::from_timestamp_micros(message.stored_at).unwrap_or_default();
            if self.json {
                println!(
                    "{}",
                    json!({"id": message.id(), "shard": message.shard, "position": message.position,
                        "sequence": message.sequence, "stored_at": at.to_rfc3339(), "reason": message.reason,
                        "message": message.message, "bytes": message.bytes})
                );
            }
            rows.push(vec![message.id(), at.format("%Y-%m-%d %H:%M:%S").to_string(), message.reason.clone()]);
        }
        if !self.json {
            print!("{}", text::table(&["message", "stored (UTC)", "reason"], &rows));
        }
        Ok(if messages.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(report::code::FAILED) })
    }
}

impl Settle {
    async fn run(self, warehouse: &Warehouse, resends: bool) -> Result<ExitCode> {
        let messages = consumer::settle_quarantined(warehouse, &self.name, &self.messages, resends).await?;
        let count = text::quantity(messages.len() as u64, "message");
        match resends {
            true => {
                println!("{}: {count} will be applied by the next run, or by the one that runs", self.name);
                println!("each as the newest change of its row, also where later changes were applied since");
            }
            false => println!("{}: removed {count}", self.name),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Read a stream again, from its beginning, an instant or a position
///
/// Messages that the tables have are applied again. The workers that run begin at once, others with their next run.
#[derive(Debug, Args)]
pub struct Replay {
    name: String,
    /// `beginning`, an instant such as 2026-11-30T08:00:00Z, or with --shard the position of a message
    #[arg(long)]
    from: String,
    /// The shard of the position, after which the replay begins
    #[arg(long)]
    shard: Option<String>,
    /// Kinesis: the sequence number of that message
    #[arg(long, requires = "shard")]
    sequence: Option<String>,
}

impl Replay {
    /// Runs the command.
    pub async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let invalid = |what: String| {
            let hint = "write --from beginning, --from 2026-11-30T08:00:00Z, or --shard SHARD --from POSITION";
            base::Error::input(what).hint(hint)
        };
        let from = match (&self.shard, self.from.as_str()) {
            (None, "beginning") => ReplayFrom::Beginning,
            (None, text) => {
                let at = chrono::DateTime::parse_from_rfc3339(text);
                ReplayFrom::Instant(at.map_err(|_| invalid(format!("{text:?} is no instant")))?.into())
            }
            (Some(shard), text) => {
                let position = text.parse().map_err(|_| invalid(format!("{text:?} is no position")))?;
                let sequence = self.sequence.clone().unwrap_or_else(|| text.to_owned());
                ReplayFrom::Position { shard: shard.clone(), position, sequence }
            }
        };
        consumer::replay(warehouse, &self.name, &from).await?;
        println!("{}: the stream is read again from {}", self.name, self.from);
        Ok(ExitCode::SUCCESS)
    }
}
