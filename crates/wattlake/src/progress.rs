//! Progress of a transfer on standard error: a bar for each table on a terminal, else a line for each slow table.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base::text;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use transfer::read::Progress;

/// The progress bars of one transfer; they are hidden where standard error is no terminal.
pub struct ProgressBars {
    all: MultiProgress,
    tables: Mutex<HashMap<String, Bar>>,
    notes: ProgressBar,
    shown: bool,
}

struct Bar {
    bar: ProgressBar,
    bytes: u64,
    started: Instant,
}

impl ProgressBars {
    /// Bars for no table yet.
    pub fn new() -> ProgressBars {
        let shown = std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        let all = MultiProgress::with_draw_target(target);
        let notes = all.add(ProgressBar::new_spinner());
        ProgressBars { all, tables: Mutex::default(), notes, shown }
    }

    /// Removes all bars from the terminal.
    pub fn clear(&self) {
        self.notes.finish_and_clear();
        let _ = self.all.clear();
    }
}

fn style() -> ProgressStyle {
    let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let _ = write!(out, "{} rows/s", text::count(state.per_sec() as u64));
    };
    let position = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let _ = write!(out, "{}", text::count(state.pos()));
    };
    ProgressStyle::with_template("{prefix:32!} {bar:24} {position:>12} rows  {rate:>18}  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rate", rate)
        .with_key("position", position)
        .progress_chars("━╸─")
}

impl Progress for ProgressBars {
    fn started(&self, table: &str, rows_expected: u64) {
        let bar = self.all.add(ProgressBar::new(rows_expected.max(1)).with_style(style()));
        bar.set_prefix(table.to_owned());
        let bar = Bar { bar, bytes: 0, started: Instant::now() };
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).insert(table.to_owned(), bar);
    }

    fn advanced(&self, table: &str, rows: u64, bytes: u64) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(bar) = tables.get_mut(table) else { return };
        bar.bytes += bytes;
        bar.bar.inc(rows);
        // The expected count is an estimate of the source's statistics: a bar must not reach its end early.
        if bar.bar.position() > bar.bar.length().unwrap_or(0) {
            bar.bar.set_length(bar.bar.position() * 5 / 4);
        }
        bar.bar.set_message(text::bytes(bar.bytes));
    }

    fn finished(&self, table: &str, failed: bool) {
        let Some(bar) = self.tables.lock().unwrap_or_else(PoisonError::into_inner).remove(table) else { return };
        bar.bar.set_length(bar.bar.position());
        if failed {
            bar.bar.abandon_with_message("failed");
        } else {
            bar.bar.finish_and_clear();
        }
        if !self.shown && bar.started.elapsed() > Duration::from_secs(10) {
            eprintln!(
                "{table}: {} rows in {}",
                text::count(bar.bar.position()),
                text::seconds(bar.started.elapsed().as_secs_f64())
            );
        }
    }

    fn note(&self, text: &str) {
        self.notes.enable_steady_tick(Duration::from_millis(120));
        self.notes.set_message(text.to_owned());
    }
}
