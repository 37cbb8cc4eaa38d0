//! The period that a run is for: a year, a month, a day or an hour of local time.

use std::fmt;
use std::str::FromStr;

use chrono::{
    DateTime, Datelike, Days, LocalResult, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc,
};
use chrono_tz::Tz;

use base::{Error, Kind, Result};

const PERIODS_MAX: usize = 10_000;

/// An interval of local time. It is written `2026`, `2026-09`, `2026-09-14` or `2026-09-14T08`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// A year.
    Year(i32),
    /// A month, by its first day.
    Month(NaiveDate),
    /// A day.
    Day(NaiveDate),
    /// An hour, by its beginning.
    Hour(NaiveDateTime),
}

impl Period {
    /// Parses one period, `2026-09`, or a range that includes both ends: `2026-01..2026-09`.
    ///
    /// # Errors
    /// [`Kind::FixInput`] where the text is neither, the ends are of different lengths or in the wrong order, or the
    /// range is too long.
    pub fn range(text: &str) -> Result<Vec<Period>> {
        let Some((first, last)) = text.split_once("..") else { return Ok(vec![text.parse()?]) };
        let (first, last): (Period, Period) = (first.trim().parse()?, last.trim().parse()?);
        let wrong = |what: &str| Error::new(Kind::FixInput, format!("read the periods {text:?}: {what}"));
        if std::mem::discriminant(&first) != std::mem::discriminant(&last) {
            return Err(wrong("its two ends are of different kinds; write 2026-01..2026-09 or 2026-01-01..2026-09-30"));
        }
        if last < first {
            return Err(wrong("its end is before its beginning"));
        }
        let mut periods = vec![first];
        while let Some(next) = periods.last().and_then(|last| last.next()).filter(|next| *next <= last) {
            if periods.len() == PERIODS_MAX {
                return Err(wrong(&format!("it has more than {PERIODS_MAX} periods")));
            }
            periods.push(next);
        }
        Ok(periods)
    }

    /// The following period of the same length; None at the end of the calendar.
    pub fn next(self) -> Option<Period> {
        Some(match self {
            Period::Year(year) => Period::Year(year.checked_add(1)?),
            Period::Month(first) => Period::Month(first.checked_add_months(Months::new(1))?),
            Period::Day(day) => Period::Day(day.checked_add_days(Days::new(1))?),
            Period::Hour(hour) => Period::Hour(hour.checked_add_signed(TimeDelta::hours(1))?),
        })
    }

    /// The period's first instant in a time zone, and the first instant after it: a day has 23, 24 or 25 hours.
    pub fn bounds(self, zone: Tz) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        Some((instant(self.begin()?, zone), instant(self.next()?.begin()?, zone)))
    }

    fn begin(self) -> Option<NaiveDateTime> {
        let day = match self {
            Period::Hour(hour) => return Some(hour),
            Period::Year(year) => NaiveDate::from_ymd_opt(year, 1, 1)?,
            Period::Month(day) | Period::Day(day) => day,
        };
        Some(day.and_time(NaiveTime::MIN))
    }
}

/// The instant of a local time. Of a local time that occurs twice, it is the first; of one that does not occur, it is
/// the instant by the offset before the gap, which for the gap's beginning is the gap's end.
fn instant(local: NaiveDateTime, zone: Tz) -> DateTime<Utc> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => at.to_utc(),
        LocalResult::None => {
            let before = zone.from_utc_datetime(&(local - TimeDelta::days(1)));
            let offset = chrono::Offset::fix(before.offset());
            // The local time by the offset before the change.
            (local - offset).and_utc()
        }
    }
}

impl FromStr for Period {
    type Err = Error;

    fn from_str(text: &str) -> Result<Period> {
        let day = |text: &str| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
        let parsed = match text.len() {
            4 => text.parse().ok().filter(|year| (1900..=2200).contains(year)).map(Period::Year),
            7 => day(&format!("{text}-01")).map(Period::Month),
            10 => day(text).map(Period::Day),
            13 | 16 => {
                let text = &text.replace(' ', "T");
                let whole = if text.len() == 13 { format!("{text}:00") } else { text.clone() };
                let hour = NaiveDateTime::parse_from_str(&whole, "%Y-%m-%dT%H:%M").ok();
                hour.filter(|_| whole.ends_with(":00")).map(Period::Hour)
            }
            _ => None,
        };
        parsed.ok_or_else(|| {
            let context = format!("read the period {text:?}: write 2026, 2026-09, 2026-09-14 or 2026-09-14T08");
            Error::new(Kind::FixInput, context)
        })
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Period::Year(year) => write!(f, "{year}"),
            Period::Month(first) => write!(f, "{}-{:02}", first.year(), first.month()),
            Period::Day(day) => write!(f, "{day}"),
            Period::Hour(hour) => write!(f, "{}", hour.format("%Y-%m-%dT%H")),
        }
    }
}
