//! Dates, times and durations from texts, and local times in their zones. A time that the clocks skip
//! or show twice is never guessed.

use chrono::format::{Parsed, StrftimeItems, parse};
use chrono::{DateTime, Datelike, FixedOffset, LocalResult, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Timelike};
use chrono_tz::Tz;

use super::fault::What;
use crate::layout::{Ambiguous, Zone};

/// What a text says of a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Moment {
    /// With an offset: microseconds since 1970, UTC.
    Instant(i64),
    Local(NaiveDateTime),
}

/// A time in its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    Instant(i64),
    /// The first one met in the file is the first of these.
    InOrder {
        local: NaiveDateTime,
        first: i64,
        second: i64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplaced {
    pub what: What,
    pub expected: String,
    pub hint: String,
}

/// Two digits read as a year would be of the first century; 9999 is how "no end" is written.
const YEARS: std::ops::RangeInclusive<i32> = 1900..=9999;

pub fn date(text: &str, format: Option<&str>) -> Option<NaiveDate> {
    let date = NaiveDate::parse_from_str(text, format.unwrap_or("%Y-%m-%d")).ok()?;
    YEARS.contains(&date.year()).then_some(date)
}

/// `None` too where digits below the microsecond would be lost.
pub fn moment(text: &str, format: Option<&str>) -> Option<Moment> {
    match format {
        Some(format) => parsed(text, format),
        None => iso(text),
    }
}

fn iso(text: &str) -> Option<Moment> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return instant(at);
    }
    // Without seconds, without an offset, or with one that is not written in full.
    let time = text.get(10..)?.strip_prefix(['T', ' '])?;
    let joined = format!("{}T{time}", &text[..10]);
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z"]
        .iter()
        .find_map(|format| parsed(&joined, format))
}

fn parsed(text: &str, format: &str) -> Option<Moment> {
    let mut fields = Parsed::new();
    parse(&mut fields, text, StrftimeItems::new(format)).ok()?;
    if fields.offset().is_some() || fields.timestamp().is_some() {
        return instant(fields.to_datetime().ok()?);
    }
    let local = fields.to_naive_datetime_with_offset(0).ok()?;
    is_kept(&local).then_some(Moment::Local(local))
}

fn instant(at: DateTime<FixedOffset>) -> Option<Moment> {
    is_kept(&at.naive_local()).then(|| Moment::Instant(at.timestamp_micros()))
}

/// No leap second, nothing below the microsecond.
fn is_kept(at: &NaiveDateTime) -> bool {
    YEARS.contains(&at.year()) && at.nanosecond() < 1_000_000_000 && at.nanosecond().is_multiple_of(1000)
}

/// Where a local time is in its zone.
pub fn place(local: NaiveDateTime, zone: Zone) -> Result<Placed, Unplaced> {
    let tz = zone.zone;
    let micros = |at: DateTime<Tz>| at.timestamp_micros();
    match (tz.from_local_datetime(&local), zone.ambiguous) {
        (LocalResult::Single(at), _) => Ok(Placed::Instant(micros(at))),
        (LocalResult::Ambiguous(first, _), Ambiguous::First) => Ok(Placed::Instant(micros(first))),
        (LocalResult::Ambiguous(_, second), Ambiguous::Second) => Ok(Placed::Instant(micros(second))),
        (LocalResult::Ambiguous(first, second), Ambiguous::InOrder) => {
            Ok(Placed::InOrder { local, first: micros(first), second: micros(second) })
        }
        (LocalResult::Ambiguous(first, second), Ambiguous::Refuse) => Err(Unplaced {
            what: What::AmbiguousHour,
            expected: format!(
                "a time that is once on {} in {tz}: this one is {} and {}",
                local.date(),
                first.format("%H:%M%:z"),
                second.format("%H:%M%:z")
            ),
            hint: "have the offset written, or set `ambiguous` to \"in-order\", \"first\" or \"second\"".to_owned(),
        }),
        (LocalResult::None, _) => Err(Unplaced {
            what: What::SkippedHour,
            expected: match skipped(local, tz) {
                Some((from, to)) => format!(
                    "a time that there is: on {} in {tz} the clocks go from {} to {}",
                    local.date(),
                    from.format("%H:%M"),
                    to.format("%H:%M")
                ),
                None => format!("a time that there is in {tz}"),
            },
            hint: "a day of 23 hours has no such row: ask for UTC, or for times with their offset".to_owned(),
        }),
    }
}

/// The last local time before the gap that a time lies in, and the first one after it.
fn skipped(local: NaiveDateTime, tz: Tz) -> Option<(NaiveDateTime, NaiveDateTime)> {
    let near = |minutes: i64| tz.from_local_datetime(&(local + TimeDelta::minutes(minutes))).single();
    let before = (1..=180).find_map(|minutes| near(-minutes))?;
    let after = (1..=180).find_map(near)?;
    let gap = i64::from(after.offset_seconds() - before.offset_seconds());
    // The gap ends on a whole minute: its end is the first time that is there.
    let end =
        (0..=180).map(|m| local + TimeDelta::minutes(m)).find(|at| tz.from_local_datetime(at).single().is_some())?;
    let end = end.with_second(0)?.with_nanosecond(0)?;
    Some((end - TimeDelta::seconds(gap), end))
}

trait Offset {
    fn offset_seconds(&self) -> i32;
}

impl Offset for DateTime<Tz> {
    fn offset_seconds(&self) -> i32 {
        use chrono::Offset;
        self.offset().fix().local_minus_utc()
    }
}

/// A local day's first instant: midnight, or the first time after the clocks skipped it.
pub fn day_start(date: NaiveDate, tz: Tz) -> Option<DateTime<Tz>> {
    let midnight = date.and_hms_opt(0, 0, 0)?;
    (0..=240).find_map(|minutes| tz.from_local_datetime(&(midnight + TimeDelta::minutes(minutes))).earliest())
}

/// ISO 8601 in hours, minutes and seconds: `PT60M`, `PT1H30M`. Days, months and years have no fixed length.
pub fn duration_seconds(text: &str) -> Option<i64> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let mut rest = text.strip_prefix("PT")?;
    let (mut seconds, mut units) = (0_i64, "HMS");
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = rest.get(..digits)?.parse().ok()?;
        let unit = rest[digits..].chars().next()?;
        // Each unit once, in their order.
        let at = units.find(unit)?;
        units = &units[at + 1..];
        let factor = match unit {
            'H' => 3600,
            'M' => 60,
            _ => 1,
        };
        seconds = seconds.checked_add(number.checked_mul(factor)?)?;
        rest = &rest[digits + 1..];
    }
    Some(if negative { -seconds } else { seconds })
}
