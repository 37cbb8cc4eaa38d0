//! The beginning of an instant's bucket, computed for columns. It is fast because consecutive rows of a series are
//! mostly in the same bucket, and between two clock changes all have the same offset.

use std::sync::Arc;

use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;

use super::calendar::{first_day, month_of_day};
use super::width::{HOUR, SECOND, Width};
use super::zone::{Instants, Span, Zone};

/// 2000-01-03, a Monday, in seconds since 1970: the default origin of buckets of weeks and of all other fixed widths.
const MONDAY: i64 = 946_857_600;
const DAY: i64 = 86_400;

/// When a bucket begins whose beginning occurs twice or not at all on the local clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClockChanges {
    /// As `time_bucket`: a bucket begins with its first instant. When the clock is put back, the hour that occurs twice
    /// has separate buckets of an hour and less; a longer bucket has both.
    TimeBucket,
    /// As PostgreSQL's `date_trunc`: hours and less keep the row's own offset; a day whose midnight occurs twice begins
    /// with the second one.
    DateTrunc,
}

/// Computes beginnings of buckets. All its times are in ticks, the unit of the column.
#[derive(Debug, Clone)]
pub(crate) struct Floor {
    zone: Arc<Zone>,
    clock_changes: ClockChanges,
    per_second: i64,
    rule: Rule,
    /// Whether a bucket's beginning has the row's own offset.
    keeps_offset: bool,
    span: Span,
    /// The last bucket: instants from `.0` to before `.1` are in the bucket that begins at `.2`.
    known: (i64, i64, i64),
    out_of_range: bool,
}

#[derive(Debug, Clone, Copy)]
enum Rule {
    /// The origin is in local ticks.
    Fixed { width: i64, origin: i64 },
    /// The origin is in months since the year 0.
    Months { count: i64, origin: i64 },
}

impl Floor {
    /// `origin` is a local time in ticks at which a bucket begins; `per_second` is the number of ticks in a second.
    ///
    /// # Errors
    /// Where the width is no multiple of a tick, or the origin of buckets of months is not a month's beginning.
    pub(crate) fn new(
        width: Width,
        zone: Arc<Zone>,
        per_second: i64,
        origin: Option<i64>,
        clock_changes: ClockChanges,
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
                    return plan_err!(
                        "buckets of months begin at midnight of a month's first day, and so must their origin"
                    );
                }
                let origin = if origin.is_some() { month } else { 2000 * 12 };
                (Rule::Months { count, origin }, false)
            }
        };
        let span = Span { from: 0, to: 0, offset: 0 };
        Ok(Floor {
            zone,
            clock_changes,
            per_second,
            rule,
            keeps_offset: short,
            span,
            known: (0, 0, 0),
            out_of_range: false,
        })
    }

    /// The beginning of the bucket in which `instant` is.
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
        let inside = match (self.keeps_offset, self.clock_changes) {
            (true, ClockChanges::DateTrunc) => true,
            (true, ClockChanges::TimeBucket) => start >= from,
            (false, ClockChanges::TimeBucket) => start.saturating_sub(day) >= from,
            // The beginning may occur twice: the second time is after the next change.
            (false, ClockChanges::DateTrunc) => start.saturating_sub(day) >= from && start.saturating_add(day) < to,
        };
        let start = if inside { start } else { self.across_change(begin) };
        self.known = (begin.saturating_sub(offset).max(from), end.saturating_sub(offset).min(to), start);
        start
    }

    /// The beginning of a bucket that may have begun before the last clock change. Where the clock was put back past
    /// the bucket's end, later buckets have begun since, and instants must not return to an earlier one: a short bucket
    /// then begins with the change, and a long one is the last bucket from before the change.
    fn across_change(&self, begin: i64) -> i64 {
        let Span { from, offset, .. } = self.span;
        let before = self.zone.span(from.div_euclid(self.per_second).saturating_sub(1)).offset * self.per_second;
        let (old_local, new_local) = (from.saturating_add(before), from.saturating_add(offset));
        if self.clock_changes == ClockChanges::TimeBucket && old_local > new_local && begin < new_local {
            let last = self.local_bucket(old_local.saturating_sub(1)).0;
            if last > begin {
                return if self.keeps_offset { from } else { self.instant(last) };
            }
        }
        self.instant(begin)
    }

    /// An error where a bucket began before the first instant of the column's type; `function` names the caller.
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
        match (self.zone.instants(second), self.clock_changes) {
            (Instants::One(instant), _) => instant.saturating_mul(self.per_second).saturating_add(rest),
            (Instants::Two { first, .. }, ClockChanges::TimeBucket) => {
                first.saturating_mul(self.per_second).saturating_add(rest)
            }
            (Instants::Two { second, .. }, ClockChanges::DateTrunc) => {
                second.saturating_mul(self.per_second).saturating_add(rest)
            }
            (Instants::None { change, .. }, ClockChanges::TimeBucket) => change.saturating_mul(self.per_second),
            (Instants::None { before, .. }, ClockChanges::DateTrunc) => {
                before.saturating_mul(self.per_second).saturating_add(rest)
            }
        }
    }

    fn turn_to(&mut self, instant: i64) {
        if instant < self.span.from || instant >= self.span.to {
            self.span = in_ticks(self.zone.span(instant.div_euclid(self.per_second)), self.per_second);
        }
    }

    /// The beginning and the end of a local time's bucket, as local times.
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

/// A span of seconds as one of ticks.
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

    use super::{ClockChanges, Floor, SECOND, Width};
    use crate::zone::Zone;

    /// Plans rely on buckets being in the order of their instants.
    #[test]
    fn buckets_never_go_back() {
        let minutes = [5, 7, 13, 20, 35, 45, 50, 59, 61, 90, 100, 135, 149, 240, 1000, 1440, 2880, 10_080];
        for zone in ["Europe/Paris", "Australia/Lord_Howe", "America/St_Johns", "America/New_York", "Africa/Casablanca"]
        {
            let zone = Arc::new(Zone::named(zone).unwrap());
            for minutes in minutes {
                let width = Width::Fixed(minutes * 60 * SECOND);
                let mut floor = Floor::new(width, Arc::clone(&zone), 1, None, ClockChanges::TimeBucket).unwrap();
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
