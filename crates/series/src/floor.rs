//! Where the bucket of an instant begins, for columns: fast because consecutive rows of a series
//! mostly share their bucket, and all share their offset but for two hours a year.

use std::sync::Arc;

use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;

use super::calendar::{first_day, month_of_day};
use super::width::{HOUR, SECOND, Width};
use super::zone::{Instants, Span, Zone};

/// 2000-01-03, a Monday, in seconds since 1970: weeks begin on it, and so does all else.
const MONDAY: i64 = 946_857_600;
const DAY: i64 = 86_400;

/// What happens where a bucket's beginning on the local clock came twice or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// A bucket begins with its first instant. Those of an hour and less stay apart when the clock
    /// is put back, longer ones hold both passes.
    Bucket,
    /// As PostgreSQL's date_trunc: hours and less keep the row's own offset; a day whose midnight
    /// comes twice begins with the second.
    Truncated,
}

/// All in ticks: the unit of the column.
#[derive(Debug, Clone)]
pub(crate) struct Floor {
    zone: Arc<Zone>,
    manner: Manner,
    per_second: i64,
    rule: Rule,
    /// Whether the row's own offset is the beginning's too.
    keeps_offset: bool,
    span: Span,
    /// Instants from `.0` to before `.1` begin at `.2`.
    known: (i64, i64, i64),
    out_of_range: bool,
}

#[derive(Debug, Clone, Copy)]
enum Rule {
    /// Origin in local ticks.
    Fixed { width: i64, origin: i64 },
    /// Origin in months since the year 0.
    Months { count: i64, origin: i64 },
}

impl Floor {
    /// `origin` is a local time in ticks at which some bucket begins.
    pub(crate) fn new(
        width: Width,
        zone: Arc<Zone>,
        per_second: i64,
        origin: Option<i64>,
        manner: Manner,
    ) -> Result<Floor> {
        let per_day = DAY * per_second;
        let (rule, short) = match width {
            Width::Fixed(nanos) => {
                let tick = SECOND / per_second;
                if nanos % tick != 0 {
                    return plan_err!("the width is finer than the column's instants");
                }
                let origin = origin.unwrap_or(MONDAY * per_second);
                (Rule::Fixed { width: nanos / tick, origin }, nanos <= HOUR)
            }
            Width::Months(count) => {
                let day = origin.map_or(0, |origin| origin.div_euclid(per_day));
                let month = month_of_day(day);
                if origin.is_some_and(|origin| origin != first_day(month) * per_day) {
                    return plan_err!("buckets of months begin at the first midnight of a month: so must their origin");
                }
                let origin = if origin.is_some() { month } else { 2000 * 12 };
                (Rule::Months { count, origin }, false)
            }
        };
        let span = Span { from: 0, to: 0, offset: 0 };
        Ok(Floor { zone, manner, per_second, rule, keeps_offset: short, span, known: (0, 0, 0), out_of_range: false })
    }

    /// The beginning of the bucket that holds `instant`.
    #[inline]
    pub(crate) fn of(&mut self, instant: i64) -> i64 {
        let (from, to, start) = self.known;
        if from <= instant && instant < to { start } else { self.look_up(instant) }
    }

    fn look_up(&mut self, instant: i64) -> i64 {
        self.turn_to(instant);
        let Span { from, to, offset } = self.span;
        let day = DAY * self.per_second;
        let (begin, end) = self.local_bucket(instant.saturating_add(offset));
        self.out_of_range |= begin == i64::MIN;
        let start = begin.saturating_sub(offset);
        let inside = match (self.keeps_offset, self.manner) {
            (true, Manner::Truncated) => true,
            (true, Manner::Bucket) => start >= from,
            (false, Manner::Bucket) => start.saturating_sub(day) >= from,
            // The beginning may come twice: its second time is after the next change.
            (false, Manner::Truncated) => start.saturating_sub(day) >= from && start.saturating_add(day) < to,
        };
        let start = if inside { start } else { self.across_change(begin) };
        self.known = (begin.saturating_sub(offset).max(from), end.saturating_sub(offset).min(to), start);
        start
    }

    /// The beginning of a bucket that may have begun before the clock was changed. Where the clock was put back and the
    /// local bucket had ended before, rows have gone into later buckets since: instants would go back to it. A short bucket
    /// begins with the change then, and a long one is the last from before it.
    fn across_change(&self, begin: i64) -> i64 {
        let Span { from, offset, .. } = self.span;
        let before = self.zone.span(from.div_euclid(self.per_second).saturating_sub(1)).offset * self.per_second;
        let (old_local, new_local) = (from.saturating_add(before), from.saturating_add(offset));
        if self.manner == Manner::Bucket && old_local > new_local && begin < new_local {
            let last = self.local_bucket(old_local.saturating_sub(1)).0;
            if last > begin {
                return if self.keeps_offset { from } else { self.instant(last) };
            }
        }
        self.instant(begin)
    }

    /// An error where some bucket began before the first instant that the column's unit can say.
    pub(crate) fn checked(&self, function: &str) -> Result<()> {
        if self.out_of_range {
            return exec_err!("{function}: the bucket begins before the first instant that the column's type can hold");
        }
        Ok(())
    }

    /// The beginning of the bucket after the one that begins at `start`.
    pub(crate) fn next(&mut self, start: i64) -> i64 {
        match self.rule {
            Rule::Months { .. } => {
                self.turn_to(start);
                let end = self.local_bucket(start.saturating_add(self.span.offset)).1;
                self.instant(end)
            }
            Rule::Fixed { width, .. } => {
                // A bucket may last longer than its width when the clock is put back.
                let mut probe = start.saturating_add(width);
                while self.of(probe) <= start && probe < i64::MAX {
                    probe = probe.saturating_add(width);
                }
                self.of(probe)
            }
        }
    }

    /// The instant of a local time in ticks.
    fn instant(&self, local: i64) -> i64 {
        let second = local.div_euclid(self.per_second);
        let rest = local.rem_euclid(self.per_second);
        match (self.zone.instants(second), self.manner) {
            (Instants::One(instant), _) => instant.saturating_mul(self.per_second).saturating_add(rest),
            (Instants::Two { first, .. }, Manner::Bucket) => first.saturating_mul(self.per_second).saturating_add(rest),
            (Instants::Two { second, .. }, Manner::Truncated) => {
                second.saturating_mul(self.per_second).saturating_add(rest)
            }
            (Instants::None { change, .. }, Manner::Bucket) => change.saturating_mul(self.per_second),
            (Instants::None { before, .. }, Manner::Truncated) => {
                before.saturating_mul(self.per_second).saturating_add(rest)
            }
        }
    }

    fn turn_to(&mut self, instant: i64) {
        if instant < self.span.from || instant >= self.span.to {
            self.span = in_ticks(self.zone.span(instant.div_euclid(self.per_second)), self.per_second);
        }
    }

    /// From and to, on the local clock.
    fn local_bucket(&self, local: i64) -> (i64, i64) {
        match self.rule {
            Rule::Fixed { width, origin } => {
                let begin = local.saturating_sub(local.wrapping_sub(origin).rem_euclid(width));
                (begin, begin.saturating_add(width))
            }
            Rule::Months { count, origin } => {
                let per_day = DAY * self.per_second;
                let month = month_of_day(local.div_euclid(per_day));
                let begin = month - (month - origin).rem_euclid(count);
                (first_day(begin).saturating_mul(per_day), first_day(begin + count).saturating_mul(per_day))
            }
        }
    }
}

pub(crate) fn in_ticks(span: Span, per_second: i64) -> Span {
    Span {
        from: span.from.saturating_mul(per_second),
        to: span.to.saturating_mul(per_second),
        offset: span.offset * per_second,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Floor, Manner, SECOND, Width};
    use crate::zone::Zone;

    /// The plan trusts that buckets are in the order of their instants.
    #[test]
    fn buckets_never_go_back() {
        let minutes = [5, 7, 13, 20, 35, 45, 50, 59, 61, 90, 100, 135, 149, 240, 1000, 1440, 2880, 10_080];
        for zone in ["Europe/Paris", "Australia/Lord_Howe", "America/St_Johns", "America/New_York", "Africa/Casablanca"]
        {
            let zone = Arc::new(Zone::named(zone).unwrap());
            for minutes in minutes {
                let width = Width::Fixed(minutes * 60 * SECOND);
                let mut floor = Floor::new(width, Arc::clone(&zone), 1, None, Manner::Bucket).unwrap();
                let mut last = i64::MIN;
                // Two years and a half from 2025 on, in steps that no width is a multiple of.
                for instant in (1_735_689_600..1_815_000_000).step_by(211) {
                    let start = floor.of(instant);
                    assert!(last <= start && start <= instant, "{minutes} minutes at {instant}: {start} after {last}");
                    last = start;
                }
            }
        }
    }
}
