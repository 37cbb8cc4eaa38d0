//! Parses dates, times and durations, and resolves local times in their zones. A local time that the
//! clocks skip or show twice is never guessed.

use chrono::format::{Parsed, StrftimeItems, parse};
use chrono::{DateTime, Datelike, FixedOffset, LocalResult, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Timelike};
use chrono_tz::Tz;

use super::fault::FaultKind;
use crate::layout::{Ambiguous, Zone};

/// A time as it is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ParsedTime {
    /// A time with an offset, as microseconds since 1970-01-01, UTC.
    Instant(i64),
    /// A time without an offset.
    Local(NaiveDateTime),
}

/// A local time resolved in its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolvedTime {
    /// Microseconds since 1970-01-01, UTC.
    Instant(i64),
    /// One of two instants; which one depends on the order of the rows.
    InOrder {
        /// The local time.
        local: NaiveDateTime,
        /// The earlier instant, in microseconds.
        first: i64,
        /// The later instant, in microseconds.
        second: i64,
    },
}

/// Why a local time can't be resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneError {
    /// The kind of fault.
    pub kind: FaultKind,
    /// What was expected, in words.
    pub expected: String,
    /// What to do about it.
    pub hint: String,
}

/// The years that are accepted: a year written with two digits would be read as one of the first century, and "no end"
/// is often written as 9999.
const YEARS: std::ops::RangeInclusive<i32> = 1900..=9999;

/// Parses a date, in ISO 8601 where there is no format.
pub fn parse_date(text: &str, format: Option<&str>) -> Option<NaiveDate> {
    let date = NaiveDate::parse_from_str(text, format.unwrap_or("%Y-%m-%d")).ok()?;
    YEARS.contains(&date.year()).then_some(date)
}

/// Parses a time, in ISO 8601 where there is no format; `None` also where digits below the microsecond would be lost.
pub fn parse_time(text: &str, format: Option<&str>) -> Option<ParsedTime> {
    match format {
        Some(format) => parsed(text, format),
        None => iso(text),
    }
}

/// Parses a time that is the end of a step: a day may end at 24:00.
pub fn parse_end(text: &str, format: Option<&str>) -> Option<ParsedTime> {
    if let Some(time) = parse_time(text, format) {
        return Some(time);
    }
    let (_, after) = text.split_once("24:00")?;
    // 24:00, or 24:00:00.
    if after.starts_with(':') && !after.starts_with(":00") {
        return None;
    }
    let midnight = parse_time(&text.replacen("24:00", "00:00", 1), format)?;
    let day = TimeDelta::days(1);
    match midnight {
        ParsedTime::Local(at) => at.checked_add_signed(day).map(ParsedTime::Local),
        ParsedTime::Instant(at) => at.checked_add(day.num_microseconds()?).map(ParsedTime::Instant),
    }
}

/// Splits `01/10/2026 02:00 (CEST)` into its time and the abbreviation of the zone's time.
pub fn split_abbreviation(text: &str) -> Option<(&str, &str)> {
    let (time, name) = text.strip_suffix(')')?.rsplit_once('(')?;
    (!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic())).then(|| (time.trim_end(), name))
}

/// The instant of a local time in summer or winter time, by its abbreviation; `None` where there is none.
pub fn resolve_named(local: NaiveDateTime, zone: Tz, name: &str) -> Option<i64> {
    use chrono_tz::OffsetName;
    let found = zone.from_local_datetime(&local);
    let candidates = [found.earliest(), found.latest()].into_iter().flatten();
    let mut named = candidates.filter(|at| at.offset().abbreviation() == Some(name));
    named.next().map(|at| at.timestamp_micros())
}

fn iso(text: &str) -> Option<ParsedTime> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return instant(at);
    }
    // Without seconds, without an offset, or with an abbreviated one.
    let time = text.get(10..)?.strip_prefix(['T', ' '])?;
    let joined = format!("{}T{time}", &text[..10]);
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z"]
        .iter()
        .find_map(|format| parsed(&joined, format))
}

fn parsed(text: &str, format: &str) -> Option<ParsedTime> {
    let mut fields = Parsed::new();
    parse(&mut fields, text, StrftimeItems::new(format)).ok()?;
    if fields.offset().is_some() || fields.timestamp().is_some() {
        return instant(fields.to_datetime().ok()?);
    }
    // A format of days alone means their beginning.
    let is_day = fields.hour_mod_12().is_none() && fields.minute().is_none();
    let local = match is_day {
        true => fields.to_naive_date().ok()?.and_time(chrono::NaiveTime::MIN),
        false => fields.to_naive_datetime_with_offset(0).ok()?,
    };
    is_storable(&local).then_some(ParsedTime::Local(local))
}

fn instant(at: DateTime<FixedOffset>) -> Option<ParsedTime> {
    is_storable(&at.naive_local()).then(|| ParsedTime::Instant(at.timestamp_micros()))
}

/// Whether a time can be stored exactly: within the accepted years, not a leap second, nothing below the microsecond.
fn is_storable(at: &NaiveDateTime) -> bool {
    YEARS.contains(&at.year()) && at.nanosecond() < 1_000_000_000 && at.nanosecond().is_multiple_of(1000)
}

/// The instant of a local time in its zone.
pub fn resolve(local: NaiveDateTime, zone: Zone) -> Result<ResolvedTime, ZoneError> {
    let tz = zone.zone;
    let micros = |at: DateTime<Tz>| at.timestamp_micros();
    match (tz.from_local_datetime(&local), zone.ambiguous) {
        (LocalResult::Single(at), _) => Ok(ResolvedTime::Instant(micros(at))),
        (LocalResult::Ambiguous(first, _), Ambiguous::First) => Ok(ResolvedTime::Instant(micros(first))),
        (LocalResult::Ambiguous(_, second), Ambiguous::Second) => Ok(ResolvedTime::Instant(micros(second))),
        (LocalResult::Ambiguous(first, second), Ambiguous::InOrder) => {
            Ok(ResolvedTime::InOrder { local, first: micros(first), second: micros(second) })
        }
        (LocalResult::Ambiguous(first, second), Ambiguous::Refuse) => Err(ZoneError {
            kind: FaultKind::AmbiguousHour,
            expected: format!(
                "a time that occurs once on {} in {tz}; this one is both {} and {}",
                local.date(),
                first.format("%H:%M%:z"),
                second.format("%H:%M%:z")
            ),
            hint: "write the offset, or set `ambiguous` to \"in-order\", \"first\" or \"second\"".to_owned(),
        }),
        (LocalResult::None, _) => Err(ZoneError {
            kind: FaultKind::SkippedHour,
            expected: match skipped(local, tz) {
                Some((from, to)) => format!(
                    "a time that exists: on {} in {tz} the clocks go from {} to {}",
                    local.date(),
                    from.format("%H:%M"),
                    to.format("%H:%M")
                ),
                None => format!("a time that exists in {tz}"),
            },
            hint: "a day of 23 hours has no such time; have the times written in UTC, or with their offset".to_owned(),
        }),
    }
}

/// The first skipped local time of the gap that a time is in, and the first time after the gap.
fn skipped(local: NaiveDateTime, tz: Tz) -> Option<(NaiveDateTime, NaiveDateTime)> {
    let near = |minutes: i64| tz.from_local_datetime(&(local + TimeDelta::minutes(minutes))).single();
    let before = (1..=180).find_map(|minutes| near(-minutes))?;
    let after = (1..=180).find_map(near)?;
    let gap = i64::from(after.offset_seconds() - before.offset_seconds());
    // Gaps end on a whole minute, so the end is the first existing time in steps of a minute.
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

/// The first instant of a local day: midnight, or the end of the gap where the clocks skip midnight.
pub fn day_start(date: NaiveDate, tz: Tz) -> Option<DateTime<Tz>> {
    let midnight = date.and_hms_opt(0, 0, 0)?;
    (0..=240).find_map(|minutes| tz.from_local_datetime(&(midnight + TimeDelta::minutes(minutes))).earliest())
}

/// The seconds of an ISO 8601 duration of hours, minutes and seconds, such as `PT60M` or `PT1H30M`. Days, months and
/// years are refused, since they have no fixed length.
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
