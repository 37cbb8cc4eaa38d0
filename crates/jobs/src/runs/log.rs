//! Stores what is logged during a run in the ledger, under the run. A process has one run at a time,
//! so that all of its log lines are the run's. Lines are buffered until there are enough of them, and for a second at
//! most, so that a run with many lines does not wait for the disk at each.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use ledger::Ledger;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines that are written at once.
const LINES: usize = 100;
/// How long a line waits for others.
const WAIT: Duration = Duration::from_secs(1);

type Line = (DateTime<Utc>, String, String);

struct LogBuffer {
    ledger: Ledger,
    run: String,
    lines: Vec<Line>,
    written_at: Instant,
}

static BUFFER: Mutex<Option<LogBuffer>> = Mutex::new(None);

fn buffer() -> MutexGuard<'static, Option<LogBuffer>> {
    BUFFER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tracing layer that sends each log line to the current run's log, where there is a run.
pub struct RunLogLayer;

impl<S: Subscriber> Layer<S> for RunLogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if buffer().is_none() {
            return;
        }
        let mut line = Text::default();
        event.record(&mut line);
        add(event.metadata().level().as_str(), line.0);
    }
}

fn add(level: &str, line: String) {
    let mut guard = buffer();
    let Some(log) = guard.as_mut() else { return };
    log.lines.push((Utc::now(), level.to_owned(), line));
    if log.lines.len() < LINES && log.written_at.elapsed() < WAIT {
        return;
    }
    // Where lines are being written, by this thread too, these are written with the next.
    let Ok(_writing) = WRITING.try_lock() else { return };
    let (ledger, run, lines) = (log.ledger.clone(), log.run.clone(), std::mem::take(&mut log.lines));
    log.written_at = Instant::now();
    // Writing may log something itself, and would wait for this lock.
    drop(guard);
    write(&ledger, &run, &lines);
}

/// Held while lines are taken from the buffer and written: so those of two threads are in their order.
static WRITING: Mutex<()> = Mutex::new(());

fn writing() -> MutexGuard<'static, ()> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(ledger: &Ledger, run: &str, lines: &[Line]) {
    if let Err(error) = ledger.log(run, lines) {
        // On standard error, since the log itself can't be written.
        let _ = writeln!(std::io::stderr(), "lines of the log of run {run} could not be stored: {error}");
    }
}

/// The text of an event: the message, then the fields.
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

/// The log of the current run. Until it is ended or dropped, all log lines of the process belong to the run.
pub struct RunLog {
    has_ended: bool,
}

/// Starts to collect log lines for a run.
pub fn start_run_log(ledger: &Ledger, run: &str) -> RunLog {
    let (ledger, run) = (ledger.clone(), run.to_owned());
    *buffer() = Some(LogBuffer { ledger, run: run.clone(), lines: Vec::new(), written_at: Instant::now() });
    std::thread::spawn(move || {
        while write_waiting(&run) {
            std::thread::sleep(WAIT);
        }
    });
    RunLog { has_ended: false }
}

/// Writes the lines that wait, after which none may come for long. False where the run has ended.
fn write_waiting(run: &str) -> bool {
    let _writing = writing();
    let mut guard = buffer();
    let Some(log) = guard.as_mut().filter(|log| log.run == run) else { return false };
    let (ledger, lines) = (log.ledger.clone(), std::mem::take(&mut log.lines));
    log.written_at = Instant::now();
    drop(guard);
    if !lines.is_empty() {
        write(&ledger, run, &lines);
    }
    true
}

impl RunLog {
    /// Adds a line; `level` is `INFO`, `ERROR` or another of tracing's.
    pub fn line(&self, level: &str, line: String) {
        add(level, line);
    }

    /// Writes the lines that wait, and stops collecting.
    pub fn end(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        self.has_ended = true;
        let _writing = writing();
        let last = buffer().take();
        if let Some(log) = last {
            write(&log.ledger, &log.run, &log.lines);
        }
    }
}

impl Drop for RunLog {
    fn drop(&mut self) {
        if !self.has_ended {
            self.finish();
        }
    }
}
