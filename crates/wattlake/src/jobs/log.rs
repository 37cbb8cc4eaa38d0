//! What a run says is kept with it. A process has one run at a time, so that its log is the run's.
//! Lines wait here until there are enough of them, or a second has passed: a run that talks much
//! does not wait for the disk at each word.

use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use ledger::Ledger;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

const LINES: usize = 100;
const WAIT: Duration = Duration::from_secs(1);

type Line = (DateTime<Utc>, String, String);

struct Kept {
    ledger: Ledger,
    run: String,
    lines: Vec<Line>,
    written_at: Instant,
}

static KEPT: Mutex<Option<Kept>> = Mutex::new(None);

fn kept() -> MutexGuard<'static, Option<Kept>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The layer that hears what is logged.
pub struct FollowRun;

impl<S: Subscriber> Layer<S> for FollowRun {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if kept().is_none() {
            return;
        }
        let mut line = Text::default();
        event.record(&mut line);
        add(event.metadata().level().as_str(), line.0);
    }
}

fn add(level: &str, line: String) {
    let mut held = kept();
    let Some(kept) = held.as_mut() else { return };
    kept.lines.push((Utc::now(), level.to_owned(), line));
    if kept.lines.len() < LINES && kept.written_at.elapsed() < WAIT {
        return;
    }
    let (ledger, run, lines) = (kept.ledger.clone(), kept.run.clone(), std::mem::take(&mut kept.lines));
    kept.written_at = Instant::now();
    // Writing may log something itself.
    drop(held);
    write(&ledger, &run, &lines);
}

fn write(ledger: &Ledger, run: &str, lines: &[Line]) {
    if let Err(error) = ledger.log(run, lines) {
        // To where people look: the log itself is what can't be written.
        eprintln!("the log of run {run} is not kept: {error}");
    }
}

/// The message, then the fields.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String can't fail.
        let _ = match field.name() {
            "message" => {
                let fields = std::mem::take(&mut self.0);
                write!(self.0, "{value:?}{fields}")
            }
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

/// Until it ends or is dropped, what is logged belongs to the run.
pub struct Log {
    has_ended: bool,
}

pub fn keep_log_of(ledger: &Ledger, run: &str) -> Log {
    let (ledger, run) = (ledger.clone(), run.to_owned());
    *kept() = Some(Kept { ledger, run, lines: Vec::new(), written_at: Instant::now() });
    Log { has_ended: false }
}

impl Log {
    pub fn line(&self, level: &str, line: String) {
        add(level, line);
    }

    pub fn end(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        self.has_ended = true;
        let taken = kept().take();
        if let Some(kept) = taken {
            write(&kept.ledger, &kept.run, &kept.lines);
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if !self.has_ended {
            self.finish();
        }
    }
}
