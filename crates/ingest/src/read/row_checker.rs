//! Converts rows of cells to rows of values and checks them: each row by itself, then against the other
//! rows, and at the end the file as a whole. Rows without faults are passed on in batches.

use std::collections::BTreeSet;

use base::text;

use super::Sink;
use super::batch::BatchBuilder;
use super::cell::Cell;
use super::derived::FileTexts;
use super::fault::{Fault, FaultKind, Faults};
use super::keys::{self, RepeatedTimes, RowKeys, TooManyRows};
use super::series::SeriesCheck;
use super::totals::Totals;
use super::value::{self, Value};
use super::verdict::{ReadReport, SUBJECTS_MAX, verdict};
use crate::layout::{Ambiguous, Column, Layout, Stamp, Step, Trailer, Type};
use crate::{Error, Kind, Result};

/// Checks the rows of one file.
pub struct RowChecker<'a> {
    /// The layout of the file.
    pub layout: &'a Layout,
    /// The faults so far.
    pub faults: Faults,
    batch: BatchBuilder,
    every_column: Vec<usize>,
    keys: RowKeys,
    repeated_times: RepeatedTimes,
    /// The columns that identify a series, for times whose meaning depends on the order of the rows.
    series_by: Vec<usize>,
    series_check: SeriesCheck,
    totals: Totals<'a>,
    rows: u64,
    rows_quarantined: u64,
    has_too_many_rows: bool,
    subjects: BTreeSet<Vec<String>>,
    file_texts: FileTexts,
    each: Sink<'a>,
}

impl<'a> RowChecker<'a> {
    /// For a file of this name; `each` gets the batches of rows without faults.
    pub fn new(layout: &'a Layout, name: &str, each: Sink<'a>) -> RowChecker<'a> {
        let is_time = |at: &usize| matches!(layout.columns[*at].kind, Type::Timestamp { .. });
        let series_by = match &layout.series {
            Some(series) => series.by.clone(),
            None => layout.key.iter().copied().filter(|at| !is_time(at)).collect(),
        };
        RowChecker {
            layout,
            faults: Faults::default(),
            batch: BatchBuilder::new(layout),
            every_column: (0..layout.columns.len()).collect(),
            keys: RowKeys::default(),
            repeated_times: RepeatedTimes::default(),
            series_by,
            series_check: SeriesCheck::default(),
            totals: Totals::new(layout),
            rows: 0,
            rows_quarantined: 0,
            has_too_many_rows: false,
            subjects: BTreeSet::new(),
            file_texts: FileTexts::new(layout, name),
            each,
        }
    }

    /// Takes the values that are in the lines before the header; false, with a fault added, where one is not there.
    pub fn preamble(&mut self, lines: &[String]) -> bool {
        self.file_texts.add_preamble(self.layout, lines, &mut self.faults)
    }

    /// Adds a row, its cells in the order of the layout's columns.
    pub fn row(&mut self, line: u64, cells: &[Cell<'_>]) -> Result<()> {
        let derived = self.file_texts.derive(self.layout, cells);
        let cells = derived.as_deref().unwrap_or(cells);
        let faults_before = self.faults.total();
        let columns = self.layout.columns.len();
        let (mut row, mut unread) = (vec![None; columns], vec![false; columns]);
        // Powers become energies by the row's step, so they are read after it.
        let is_power = |at: &usize| self.layout.columns[*at].power_over.is_some();
        for at in (0..columns).filter(|at| !is_power(at)).chain((0..columns).filter(is_power)) {
            let (column, cell) = (&self.layout.columns[at], &cells[at]);
            let read = match &column.power_over {
                None => value::value(column, cell, None),
                Some(step) => match bounded_step(step, &row) {
                    Some(seconds) => value::value(column, cell, Some(seconds)),
                    None => {
                        // The step has a fault of its own, or is missing.
                        unread[at] = true;
                        self.faults.add(no_step(line, column, cell, step, &unread));
                        continue;
                    }
                },
            };
            match read {
                Ok(value) => row[at] = value,
                Err(wrong) => {
                    unread[at] = true;
                    let fault = Fault::at(wrong.kind, line, &cell.shown(), wrong.expected, wrong.hint);
                    self.faults.add(fault.in_column(shown_name(column)));
                }
            }
        }
        self.add_subject(&row, cells);
        self.resolve_repeated_times(line, &mut row, &mut unread)?;
        self.begin_steps(line, &mut row, &mut unread, cells);
        let is_doubled = self.is_doubled(line, &row, &unread)?;
        self.totals.add(Some((&row, &unread)));
        if !is_doubled {
            self.add_to_series(line, &row, &unread, cells)?;
        }
        self.rows += 1;
        if self.faults.total() > faults_before {
            self.rows_quarantined += 1;
            return Ok(());
        }
        self.batch.push(line, &row)?;
        if self.batch.is_full() { self.hand_over() } else { Ok(()) }
    }

    /// Whether cells that a layout skips after the header are a row without faults: then the file lacks the skipped line.
    pub fn is_row(&self, cells: &[Cell<'_>]) -> bool {
        let derived = self.file_texts.derive(self.layout, cells);
        let cells = derived.as_deref().unwrap_or(cells);
        let has_value =
            self.layout.columns.iter().zip(cells).any(|(column, cell)| {
                !matches!(column.kind, Type::Text | Type::Enum(_)) && !value::is_empty(column, cell)
            });
        let is_read = |(column, cell)| value::value(column, cell, column.power_over.as_ref().map(|_| 3600)).is_ok();
        has_value && self.layout.columns.iter().zip(cells).all(is_read)
    }

    /// Whether the reading stopped because the file has more rows than can be compared.
    pub fn has_too_many_rows(&self) -> bool {
        self.has_too_many_rows
    }

    /// Adds the fault of a file with too many rows. The error stops the reading, and is not an error of the file's reader.
    fn too_many_rows(&mut self, TooManyRows(setting): TooManyRows) -> Error {
        self.has_too_many_rows = true;
        let expected = format!("at most {} rows to compare", text::count(keys::ROWS_MAX as u64));
        let hint = format!("split the file, or remove {setting} from the layout");
        self.faults.add(Fault::of_file(FaultKind::Unreadable, expected, hint));
        Error::new(Kind::FixInput, "compare the rows: there are too many")
    }

    /// Adds a row that can't be split into its fields, with its fault.
    pub fn reject_row(&mut self, fault: Fault) {
        self.faults.add(fault);
        self.totals.add(None);
        self.series_check.add_unread();
        self.rows += 1;
        self.rows_quarantined += 1;
    }

    /// The index of the first trailer of the layout that `begins` accepts.
    pub fn trailer(&self, begins: impl Fn(&Trailer) -> bool) -> Option<usize> {
        self.layout.trailers.iter().position(begins)
    }

    /// Adds the line of the trailer with this index.
    pub fn add_trailer(&mut self, at: usize, line: u64, fields: &[Cell<'_>]) {
        self.totals.add_trailer(at, line, fields, &mut self.faults);
    }

    fn add_subject(&mut self, row: &[Option<Value<'_>>], cells: &[Cell<'_>]) {
        let subject = &self.layout.subject;
        if subject.is_empty() || self.subjects.len() >= SUBJECTS_MAX || subject.iter().any(|at| row[*at].is_none()) {
            return;
        }
        let values: Vec<String> = subject.iter().map(|at| cells[*at].shown().trim().to_owned()).collect();
        self.subjects.insert(values);
    }

    /// Gives times of the hour that occurs twice their instants, by the order of the rows of their series: the earliest
    /// row first, or the latest.
    fn resolve_repeated_times(&mut self, line: u64, row: &mut [Option<Value<'_>>], unread: &mut [bool]) -> Result<()> {
        // A series is identified by other columns than its times.
        let series = keys::hash(row, unread, &self.series_by);
        for at in 0..row.len() {
            if !is_in_order(&self.layout.columns[at].kind) {
                continue;
            }
            let (local, first, second) = match row[at] {
                Some(Value::InOrder { local, first, second }) => (local, first, second),
                Some(Value::Instant(instant)) => {
                    if let Some(series) = series {
                        self.repeated_times.pass(at, series, instant);
                    }
                    continue;
                }
                _ => continue,
            };
            let instant = match series {
                Some(series) => {
                    let resolved = self.repeated_times.resolve(at, series, local, (first, second));
                    resolved.map_err(|error| self.too_many_rows(error))?
                }
                // The row's series could not be read, so the row has a fault already.
                None => Some(first),
            };
            if instant.is_none() {
                unread[at] = true;
                let expected = "this time at most twice, as the clocks show it twice";
                let text = local.to_string();
                let fault = Fault::at(FaultKind::AmbiguousHour, line, &text, expected, "remove the duplicate row");
                self.faults.add(fault.in_column(shown_name(&self.layout.columns[at])));
            }
            row[at] = instant.map(Value::Instant);
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
        let inserted = self.keys.insert(key, whole, line).map_err(|error| self.too_many_rows(error))?;
        let Some(before) = inserted else { return Ok(false) };
        let names: Vec<&str> = self.layout.key.iter().map(|at| shown_name(&self.layout.columns[*at])).collect();
        let first = before.line;
        self.faults.add(match before.is_same {
            true => Fault::at(
                FaultKind::DoubledRow,
                line,
                "",
                format!("each row once; this one is the same as line {first}"),
                "remove one of them",
            ),
            false => {
                let expected = format!("other values of {} than on line {first}", names.join(", "));
                Fault::at(
                    FaultKind::DoubledKey,
                    line,
                    "",
                    expected,
                    "find out which of the two is right, and remove the other",
                )
            }
        });
        Ok(true)
    }

    /// Gives times that are the end of their step its beginning.
    fn begin_steps(&mut self, line: u64, row: &mut [Option<Value<'_>>], unread: &mut [bool], cells: &[Cell<'_>]) {
        for (at, column) in self.layout.columns.iter().enumerate() {
            let (Stamp::End { step, only_if }, Some(Value::Instant(end))) = (&column.stamp, &row[at]) else { continue };
            if only_if.is_some_and(|at| row[at] != Some(Value::Boolean(true))) {
                continue;
            }
            let start = bounded_step(step, row).and_then(|seconds| end.checked_sub(seconds * 1_000_000));
            if start.is_none() {
                unread[at] = true;
                self.faults.add(no_step(line, column, &cells[at], step, unread));
            }
            row[at] = start.map(Value::Instant);
        }
    }

    /// Adds the row to its series.
    fn add_to_series(
        &mut self,
        line: u64,
        row: &[Option<Value<'_>>],
        unread: &[bool],
        cells: &[Cell<'_>],
    ) -> Result<()> {
        let Some(series) = &self.layout.series else { return Ok(()) };
        let key = keys::hash(row, unread, &series.by);
        let start = match (&row[series.time], key) {
            (Some(Value::Instant(at)), Some(key)) => Some((*at, key)),
            _ => None,
        };
        let seconds = step_seconds(&series.step, row);
        let step = seconds.filter(|seconds| (1..=86_400).contains(seconds)).map(|seconds| seconds * 1_000_000);
        if let (Some(seconds), None, Step::Column(at)) = (seconds, step, &series.step) {
            let fault = Fault::at(FaultKind::Range, line, &format!("PT{seconds}S"), "a step of PT1S to PT24H", "");
            self.faults.add(fault.in_column(shown_name(&self.layout.columns[*at])));
        }
        let (Some((start, key)), Some(step)) = (start, step) else {
            self.series_check.add_unread();
            return Ok(());
        };
        let name = || {
            let one = |at: &usize| format!("{} {}", shown_name(&self.layout.columns[*at]), cells[*at].shown());
            let all: Vec<String> = series.by.iter().map(one).collect();
            if all.is_empty() { String::new() } else { format!(" for {}", all.join(", ")) }
        };
        self.series_check.add(key, name, start, step, line).map_err(|error| self.too_many_rows(error))
    }

    fn hand_over(&mut self) -> Result<()> {
        match self.batch.take()? {
            Some(rows) => (self.each)(rows),
            None => Ok(()),
        }
    }

    /// Makes the checks of the whole file, at its end, and returns the report.
    pub fn finish(mut self) -> Result<ReadReport> {
        self.hand_over()?;
        // A file that was not read to its end can't be checked as a whole, and has the fault that stopped the reading.
        let is_stopped =
            self.faults.counts().keys().any(|kind| matches!(kind, FaultKind::Unreadable | FaultKind::Header));
        if !is_stopped {
            self.totals.check(self.rows, &mut self.faults);
            if let Some(series) = &self.layout.series {
                self.series_check.check(series, &mut self.faults);
            }
        }
        let subjects = self.subjects.into_iter().collect();
        Ok(verdict(self.faults, self.rows, self.rows_quarantined, subjects, self.layout.policy))
    }
}

/// How long the step of a row is, where that is a step: more than nothing, and not more than a day.
fn bounded_step(step: &Step, row: &[Option<Value<'_>>]) -> Option<i64> {
    step_seconds(step, row).filter(|seconds| (1..=86_400).contains(seconds))
}

/// How long the step of a row is.
fn step_seconds(step: &Step, row: &[Option<Value<'_>>]) -> Option<i64> {
    match step {
        Step::Fixed(step) => i64::try_from(step.as_secs()).ok(),
        Step::Column(at) => match row[*at] {
            Some(Value::Whole(seconds)) => Some(seconds),
            _ => None,
        },
    }
}

/// The fault of a value that can't be computed without the row's step.
fn no_step(line: u64, column: &Column, cell: &Cell<'_>, step: &Step, unread: &[bool]) -> Fault {
    let (expected, hint) = match step {
        Step::Column(at) if unread[*at] => ("a row whose step can be read", "correct the step first"),
        _ => ("a row with a step of PT1S to PT24H", "the value is computed from it"),
    };
    Fault::at(FaultKind::Missing, line, &cell.shown(), expected, hint).in_column(shown_name(column))
}

fn is_in_order(kind: &Type) -> bool {
    matches!(kind, Type::Timestamp { zone: Some(zone), .. } if zone.ambiguous == Ambiguous::InOrder)
}

/// The column's name in the file, where it can have only one there; otherwise its name in the layout.
fn shown_name(column: &Column) -> &str {
    match column.headers.as_slice() {
        [header] => header,
        _ => &column.name,
    }
}
