//! Rows of cells become rows of values: each is looked at on its own, then beside the others. Rows
//! without a fault go on in batches; what the file as a whole says is known at its end.

use super::Sink;
use super::batch::Batch;
use super::cell::Cell;
use super::fault::{Fault, Faults, What};
use super::keys::{self, Keys, Twice};
use super::spans::Spans;
use super::totals::Totals;
use super::value::{self, Value};
use super::verdict::{Report, verdict};
use crate::Result;
use crate::layout::{Column, Layout, Step, Trailer, Type};

pub struct Table<'a> {
    pub layout: &'a Layout,
    pub faults: Faults,
    batch: Batch,
    every_column: Vec<usize>,
    keys: Keys,
    twice: Twice,
    /// The columns that tell one series from another, for what depends on the order of the rows.
    series_by: Vec<usize>,
    spans: Spans,
    totals: Totals<'a>,
    rows: u64,
    rows_aside: u64,
    each: Sink<'a>,
}

impl<'a> Table<'a> {
    pub fn new(layout: &'a Layout, each: Sink<'a>) -> Table<'a> {
        let is_time = |at: &usize| matches!(layout.columns[*at].kind, Type::Timestamp { .. });
        let series_by = match &layout.series {
            Some(series) => series.by.clone(),
            None => layout.key.iter().copied().filter(|at| !is_time(at)).collect(),
        };
        Table {
            layout,
            faults: Faults::default(),
            batch: Batch::new(layout),
            every_column: (0..layout.columns.len()).collect(),
            keys: Keys::default(),
            twice: Twice::default(),
            series_by,
            spans: Spans::default(),
            totals: Totals::new(layout),
            rows: 0,
            rows_aside: 0,
            each,
        }
    }

    /// One row, its cells as the layout's columns.
    pub fn row(&mut self, line: u64, cells: &[Cell<'_>]) -> Result<()> {
        let faults_before = self.faults.total();
        let columns = self.layout.columns.len();
        let (mut row, mut unread) = (Vec::with_capacity(columns), vec![false; columns]);
        for (at, (column, cell)) in self.layout.columns.iter().zip(cells).enumerate() {
            row.push(value::value(column, cell).unwrap_or_else(|wrong| {
                unread[at] = true;
                let fault = Fault::at(wrong.what, line, &cell.shown(), wrong.expected, wrong.hint);
                self.faults.add(fault.in_column(shown_name(column)));
                None
            }));
        }
        self.place(line, &mut row, &mut unread)?;
        let is_doubled = self.is_doubled(line, &row, &unread)?;
        self.totals.add(Some((&row, &unread)));
        if !is_doubled {
            self.step(line, &row, &unread, cells)?;
        }
        self.rows += 1;
        if self.faults.total() > faults_before {
            self.rows_aside += 1;
            return Ok(());
        }
        self.batch.push(line, &row)?;
        if self.batch.is_full() { self.hand_over() } else { Ok(()) }
    }

    /// A row whose cells can't be told apart.
    pub fn misfit(&mut self, fault: Fault) {
        self.faults.add(fault);
        self.totals.add(None);
        self.spans.add_unread();
        self.rows += 1;
        self.rows_aside += 1;
    }

    /// The trailer that a line is, by its place in the layout.
    pub fn trailer(&self, begins: impl Fn(&Trailer) -> bool) -> Option<usize> {
        self.layout.trailers.iter().position(begins)
    }

    pub fn say_total(&mut self, at: usize, line: u64, fields: &[Cell<'_>]) {
        self.totals.say(at, line, fields, &mut self.faults);
    }

    /// Times of the hour that comes twice, by the order of the rows.
    fn place(&mut self, line: u64, row: &mut [Option<Value<'_>>], unread: &mut [bool]) -> Result<()> {
        // A series is not told by its times.
        let series = keys::hash(row, unread, &self.series_by);
        for at in 0..row.len() {
            let Some(Value::InOrder { local, first, second }) = row[at] else { continue };
            let before = match series {
                Some(series) => self.twice.meet(at, series, local)?,
                // The row has a fault anyway.
                None => 0,
            };
            row[at] = match before {
                0 => Some(Value::Instant(first)),
                1 => Some(Value::Instant(second)),
                _ => {
                    unread[at] = true;
                    let expected = "this time twice at most, as the clocks show it twice";
                    let fault =
                        Fault::at(What::AmbiguousHour, line, &local.to_string(), expected, "take the doubled row out");
                    self.faults.add(fault.in_column(shown_name(&self.layout.columns[at])));
                    None
                }
            };
        }
        Ok(())
    }

    fn is_doubled(&mut self, line: u64, row: &[Option<Value<'_>>], unread: &[bool]) -> Result<bool> {
        if self.layout.key.is_empty() {
            return Ok(false);
        }
        let Some(key) = keys::hash(row, unread, &self.layout.key) else { return Ok(false) };
        let none_unread = vec![false; row.len()];
        let whole = keys::hash(row, &none_unread, &self.every_column).unwrap_or_default();
        let Some(before) = self.keys.meet(key, whole, line)? else { return Ok(false) };
        let names: Vec<&str> = self.layout.key.iter().map(|at| shown_name(&self.layout.columns[*at])).collect();
        let first = before.line;
        self.faults.add(match before.is_same {
            true => Fault::at(
                What::DoubledRow,
                line,
                "",
                format!("each row once: this is line {first} again"),
                "take it out",
            ),
            false => {
                let expected = format!("other values of {} than on line {first}", names.join(", "));
                Fault::at(What::DoubledKey, line, "", expected, "ask which of the two is right")
            }
        });
        Ok(true)
    }

    fn step(&mut self, line: u64, row: &[Option<Value<'_>>], unread: &[bool], cells: &[Cell<'_>]) -> Result<()> {
        let Some(series) = &self.layout.series else { return Ok(()) };
        let key = keys::hash(row, unread, &series.by);
        let start = match (&row[series.time], key) {
            (Some(Value::Instant(at)), Some(key)) => Some((*at, key)),
            _ => None,
        };
        let seconds = match &series.step {
            Step::Fixed(step) => i64::try_from(step.as_secs()).ok(),
            Step::Column(at) => match row[*at] {
                Some(Value::Whole(seconds)) => Some(seconds),
                _ => None,
            },
        };
        let step = seconds.filter(|seconds| (1..=86_400).contains(seconds)).map(|seconds| seconds * 1_000_000);
        if let (Some(seconds), None, Step::Column(at)) = (seconds, step, &series.step) {
            let fault = Fault::at(What::Range, line, &format!("PT{seconds}S"), "a step of PT1S to PT24H", "");
            self.faults.add(fault.in_column(shown_name(&self.layout.columns[*at])));
        }
        let (Some((start, key)), Some(step)) = (start, step) else {
            self.spans.add_unread();
            return Ok(());
        };
        let name = || {
            let one = |at: &usize| format!("{} {}", shown_name(&self.layout.columns[*at]), cells[*at].shown());
            let all: Vec<String> = series.by.iter().map(one).collect();
            if all.is_empty() { String::new() } else { format!(" for {}", all.join(", ")) }
        };
        self.spans.add(key, name, start, step, line)
    }

    fn hand_over(&mut self) -> Result<()> {
        match self.batch.take()? {
            Some(rows) => (self.each)(rows),
            None => Ok(()),
        }
    }

    /// At the end of the file.
    pub fn finish(mut self) -> Result<Report> {
        self.hand_over()?;
        // What no row was read for can't be whole; the fault that stopped the reading is told.
        let is_stopped = self.faults.counts().keys().any(|what| matches!(what, What::Unreadable | What::Header));
        if !is_stopped {
            self.totals.check(self.rows, &mut self.faults);
            if let Some(series) = &self.layout.series {
                self.spans.check(series, &mut self.faults);
            }
        }
        Ok(verdict(self.faults, self.rows, self.rows_aside, self.layout.policy))
    }
}

/// As the file calls it, where it has but one name.
fn shown_name(column: &Column) -> &str {
    match column.headers.as_slice() {
        [header] => header,
        _ => &column.name,
    }
}
