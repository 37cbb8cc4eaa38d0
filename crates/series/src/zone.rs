//! Time zones as tables of offsets. A column of instants is converted to local time with one look-up for consecutive
//! rows between two clock changes, and integer arithmetic for each row.
//!
//! The tables are computed once per zone and process, from chrono-tz, for the years 1830 to 2110. The first and the
//! last offset apply before and after these years.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use chrono::{DateTime, Offset, TimeZone};
use datafusion::arrow::array::timezone::Tz;
use datafusion::common::plan_datafusion_err;
use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::error::Result;

/// 1830-01-01 and 2110-01-01, in seconds since 1970.
const FIRST: i64 = -4_417_977_600;
const LAST: i64 = 4_417_977_600;
/// The distance of instants whose offsets are compared: two clock changes are always farther apart.
const STEP: i64 = 2 * DAY;
const DAY: i64 = 86_400;

/// The time between two clock changes. All times are in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first instant, since 1970 in UTC.
    pub(crate) from: i64,
    /// The instant after the last one.
    pub(crate) to: i64,
    /// What local time is ahead of UTC.
    pub(crate) offset: i64,
}

/// The instants of a local time, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instants {
    /// The local time occurs once.
    One(i64),
    /// The clock was put back: the local time occurs twice.
    Two { first: i64, second: i64 },
    /// The clock was put forward over the local time, which does not occur: `change` is the instant of the change,
    /// `before` the instant that the local time would be without it.
    None { change: i64, before: i64 },
}

/// A time zone.
#[derive(Debug)]
pub(crate) struct Zone {
    spans: Vec<Span>,
}

static KNOWN: LazyLock<RwLock<HashMap<String, Arc<Zone>>>> = LazyLock::new(RwLock::default);

impl Zone {
    /// The zone UTC.
    pub(crate) fn utc() -> Arc<Zone> {
        Arc::new(Zone { spans: vec![Span { from: i64::MIN, to: i64::MAX, offset: 0 }] })
    }

    /// The zone of a name such as `Europe/Paris`, in any case, or of an offset such as `+02:00`.
    pub(crate) fn named(name: &str) -> Result<Arc<Zone>> {
        if let Some(zone) = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(Arc::clone(zone));
        }
        let zone = Arc::new(Zone { spans: spans(parse(name)?) });
        // Names come from queries, in any case: the limit keeps the table from growing without end.
        let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < 2 * chrono_tz::TZ_VARIANTS.len() {
            known.insert(name.to_owned(), Arc::clone(&zone));
        }
        Ok(zone)
    }

    /// The span in which an instant is.
    pub(crate) fn span(&self, second: i64) -> Span {
        self.spans[self.index(second)]
    }

    fn index(&self, second: i64) -> usize {
        self.spans.partition_point(|span| span.to <= second).min(self.spans.len() - 1)
    }

    /// The instants of a local time, which is given in seconds since 1970 as if it were in UTC.
    pub(crate) fn instants(&self, local: i64) -> Instants {
        let near = self.index(local.saturating_sub(DAY))..=self.index(local.saturating_add(DAY));
        let mut found = None;
        for span in &self.spans[near.clone()] {
            let instant = local.saturating_sub(span.offset);
            if span.from <= instant && instant < span.to {
                match found {
                    None => found = Some(instant),
                    Some(first) => return Instants::Two { first, second: instant },
                }
            }
        }
        if let Some(instant) = found {
            return Instants::One(instant);
        }
        let before = self.spans[near].iter().rev().find(|span| local.saturating_sub(span.offset) >= span.to);
        match before {
            Some(span) => Instants::None { change: span.to, before: local - span.offset },
            None => Instants::One(local),
        }
    }
}

fn parse(name: &str) -> Result<Tz> {
    if let Ok(zone) = Tz::from_str(name) {
        return Ok(zone);
    }
    let lower = name.to_lowercase();
    let names = || chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
    if let Some(zone) = names().find(|known| known.to_lowercase() == lower).and_then(|n| Tz::from_str(n).ok()) {
        return Ok(zone);
    }
    let near = names().min_by_key(|known| levenshtein(&lower, &known.to_lowercase())).unwrap_or("UTC");
    Err(plan_datafusion_err!(
        "there is no time zone '{name}'; the nearest is '{near}' (names as in Europe/Paris, or an offset as in +02:00)"
    ))
}

fn spans(zone: Tz) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut open = Span { from: i64::MIN, to: i64::MAX, offset: offset(zone, FIRST) };
    let mut at = FIRST;
    while at < LAST {
        let next = at + STEP;
        let after = offset(zone, next);
        if after != open.offset {
            let change = change(zone, at, next);
            spans.push(Span { to: change, ..open });
            open = Span { from: change, to: i64::MAX, offset: after };
        }
        at = next;
    }
    spans.push(open);
    spans
}

/// The first second of the new offset, which is later than `before` and not later than `after`.
fn change(zone: Tz, mut before: i64, mut after: i64) -> i64 {
    let old = offset(zone, before);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if offset(zone, middle) == old { before = middle } else { after = middle }
    }
    after
}

fn offset(zone: Tz, second: i64) -> i64 {
    let at = DateTime::from_timestamp(second, 0).unwrap_or_default().naive_utc();
    zone.offset_from_utc_datetime(&at).fix().local_minus_utc().into()
}
