//! Points that have a position in a period in place of a time. The rules are those of ENTSO-E's market documents
//! (Introduction of different time series possibilities, curve types): in a curve of type A01 each position has a
//! point; in A03 a position that is left out has the value of the one before it, until the end of the period.

use super::super::cell::Cell;
use super::super::fault::{Fault, FaultKind};
use super::super::row_checker::RowChecker;
use super::super::timestamp::{ParsedTime, parse_time};
use super::Stop;
use super::tree::{self, Tree, cells};
use crate::layout::{Points, ValuePath};
use crate::read::duration_seconds;

/// The curve whose positions may be left out.
const VARIABLE_BLOCKS: &str = "A03";
/// A day of seconds is less; more is a mistake of the period or of the step.
const POSITIONS_MAX: i64 = 100_000;

/// The points of one period.
pub struct PeriodPoints<'r, 't, 'a> {
    format: &'r Points,
    parents: Vec<&'t Tree<'a>>,
    points: Vec<Point<'t, 'a>>,
}

struct Point<'t, 'a> {
    number: u64,
    row: &'t Tree<'a>,
}

/// When a period's positions begin.
struct Clock {
    start: i64,
    step: i64,
    positions: i64,
    fills: bool,
}

impl<'r, 't, 'a> PeriodPoints<'r, 't, 'a> {
    pub fn new(format: &'r Points) -> Self {
        PeriodPoints { format, parents: Vec::new(), points: Vec::new() }
    }

    /// Adds a point. The first one of another period ends the period before it.
    pub fn add(
        &mut self,
        number: u64,
        row: &'t Tree<'a>,
        parents: &[&'t Tree<'a>],
        paths: &[Vec<ValuePath>],
        checker: &mut RowChecker<'_>,
    ) -> Result<(), Stop> {
        let is_same = match (self.parents.last(), parents.last()) {
            (Some(before), Some(now)) => std::ptr::eq(*before, *now),
            _ => false,
        };
        if !is_same {
            self.finish(paths, checker)?;
            self.parents = parents.to_vec();
        }
        self.points.push(Point { number, row });
        Ok(())
    }

    /// Passes on the rows of the period.
    pub fn finish(&mut self, paths: &[Vec<ValuePath>], checker: &mut RowChecker<'_>) -> Result<(), Stop> {
        let points = std::mem::take(&mut self.points);
        let Some(first) = points.first() else { return Ok(()) };
        let clock = match self.clock(first) {
            Ok(clock) => clock,
            Err(fault) => {
                points.iter().for_each(|_| checker.reject_row(fault.clone()));
                return Ok(());
            }
        };
        let mut next = 1;
        let mut before: Option<&Point<'t, 'a>> = None;
        for point in &points {
            let position = self.position(point).filter(|position| (next..=clock.positions).contains(position));
            let Some(position) = position else {
                let text = tree::at(point.row, &self.parents, &self.format.position).shown();
                let expected = format!("a position from {next} to {}", clock.positions);
                checker.reject_row(Fault::at(FaultKind::Form, point.number, &text, expected, "positions rise by 1"));
                continue;
            };
            self.fill(&clock, before, next..position, paths, checker)?;
            self.emit(&clock, point, position, paths, checker)?;
            next = position + 1;
            before = Some(point);
        }
        self.fill(&clock, before, next..clock.positions + 1, paths, checker)
    }

    fn clock(&self, point: &Point<'t, 'a>) -> Result<Clock, Fault> {
        let cell = |path: &ValuePath| tree::at(point.row, &self.parents, path).shown();
        let wrong = |path: &ValuePath, expected: &str| {
            Fault::at(FaultKind::Form, point.number, &cell(path), expected, "").in_column(&path.names.join("/"))
        };
        let instant = |path: &ValuePath| match parse_time(&cell(path), None) {
            Some(ParsedTime::Instant(at)) => Ok(at),
            _ => Err(wrong(path, "a time with its offset, such as 2026-10-01T22:00Z")),
        };
        let (start, end) = (instant(&self.format.start)?, instant(&self.format.end)?);
        let seconds = duration_seconds(&cell(&self.format.resolution)).filter(|seconds| *seconds > 0);
        let seconds = seconds.ok_or_else(|| wrong(&self.format.resolution, "a step such as PT15M"))?;
        let step = seconds.saturating_mul(1_000_000);
        let positions = (end - start) / step;
        if end <= start || (end - start) % step != 0 || positions > POSITIONS_MAX {
            return Err(wrong(&self.format.end, "an end that is a whole number of steps after the start"));
        }
        let curve = self.format.curve.as_ref().map(cell);
        Ok(Clock { start, step, positions, fills: curve.as_deref() == Some(VARIABLE_BLOCKS) })
    }

    fn position(&self, point: &Point<'t, 'a>) -> Option<i64> {
        tree::at(point.row, &self.parents, &self.format.position).shown().trim().parse().ok()
    }

    /// Passes on the rows of positions that were left out, with the values of the point before them.
    fn fill(
        &self,
        clock: &Clock,
        before: Option<&Point<'t, 'a>>,
        positions: std::ops::Range<i64>,
        paths: &[Vec<ValuePath>],
        checker: &mut RowChecker<'_>,
    ) -> Result<(), Stop> {
        if positions.is_empty() {
            return Ok(());
        }
        let Some(point) = before.filter(|_| clock.fills) else {
            let expected = format!("positions {} to {} too", positions.start, positions.end - 1);
            let hint = match clock.fills {
                true => "the first position of a curve of type A03 can't be left out",
                false => "only a curve of type A03 may leave out positions",
            };
            let line = before.map_or(0, |point| point.number);
            checker.faults.add(Fault::at(FaultKind::MissingSteps, line, "", expected, hint));
            return Ok(());
        };
        for position in positions {
            self.emit(clock, point, position, paths, checker)?;
        }
        Ok(())
    }

    fn emit(
        &self,
        clock: &Clock,
        point: &Point<'t, 'a>,
        position: i64,
        paths: &[Vec<ValuePath>],
        checker: &mut RowChecker<'_>,
    ) -> Result<(), Stop> {
        let mut row = cells(point.row, &self.parents, paths);
        row[self.format.time] = Cell::Instant(clock.start + (position - 1) * clock.step);
        Ok(checker.row(point.number, &row)?)
    }
}
