//! Cron patterns in a time zone, and the slots that are due. The effect of clock changes is decided here
//! only: a slot whose local time is in the gap of spring runs at the gap's end, a slot whose local time
//! occurs twice in autumn runs once, and a pattern that runs throughout the hour (`*`, `*/15`) or at all
//! hours of the day runs in both of the repeated hours, and has no slots in the gap.

use std::collections::BTreeSet;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};
use schemars::JsonSchema;
use serde::Deserialize;

use base::{Error, Kind, Result};

/// What a cron pattern looks like, for hints.
const FIELDS: &str = "its fields are minute, hour, day of month, month and weekday: \"15 2 * * *\" is at 02:15, \
                      \"0 6 L * *\" at 06:00 on a month's last day";

/// A slot that is found up to this late, such as on a busy machine or after a restart, is on time: it runs whatever
/// the catch-up rule is.
pub const ON_TIME: TimeDelta = TimeDelta::seconds(60);
/// The number of slots that [`due_slots`] returns at most; its next call returns the following ones.
const SLOTS_MAX: usize = 1000;
/// The number of times of the day that one pattern may list and still be split into one pattern for each.
const TIMES_MAX: usize = 96;

/// A cron pattern in a time zone.
#[derive(Clone, Debug)]
pub struct Cron {
    /// One pattern for each time of the day that the pattern lists. The library runs a single time such as
    /// "0 2 * * *" once on each day, but would run the 02:00 of "0 2,14 * * *" twice in autumn and not in spring.
    patterns: Vec<croner::Cron>,
    zone: Tz,
}

/// An instant at which a schedule is due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The instant.
    pub at: DateTime<Utc>,
    /// The local time with its offset, such as "2026-03-29T03:00:00+02:00"; unique within the schedule.
    pub local: String,
}

/// What happens with slots that passed while no server ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Catchup {
    /// They are skipped.
    None,
    /// The newest of them runs.
    #[default]
    One,
    /// Each runs, the oldest first.
    All,
}

impl Cron {
    /// Parses a pattern of five fields, or of six with the seconds first, and the IANA name of a time zone. `L` as the
    /// day is the last day of the month.
    ///
    /// # Errors
    /// [`Kind::FixInput`] where the pattern or the zone can't be parsed, or where no day ever matches.
    pub fn parse(spec: &str, zone: &str) -> Result<Cron> {
        let tz = Tz::from_str(zone).map_err(|_| {
            let context =
                format!("read time zone {zone:?}: the IANA database has no zone of this name; one is \"Europe/Paris\"");
            Error::new(Kind::FixInput, context)
        })?;
        // Where both the day of the month and the weekday are given, either is enough, as in crontab(5).
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let whole = parser.parse(spec).map_err(|error| {
            // The library's messages are sentences with a full stop.
            let cause = error.to_string();
            let context = format!("read cron pattern {spec:?}: {}", cause.trim_end_matches('.'));
            Error::new(Kind::FixInput, context).hint(FIELDS)
        })?;
        let patterns = match times_of_day(spec) {
            Some(single) => single.iter().filter_map(|spec| parser.parse(spec).ok()).collect(),
            None => vec![whole],
        };
        let cron = Cron { patterns, zone: tz };
        if cron.after(DateTime::UNIX_EPOCH).is_none() {
            let context = format!("read cron pattern {spec:?}: no day ever matches it");
            return Err(Error::new(Kind::FixInput, context));
        }
        Ok(cron)
    }

    /// The time zone.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The first slot after an instant, not at it.
    pub fn after(&self, instant: DateTime<Utc>) -> Option<Slot> {
        self.patterns.iter().filter_map(|pattern| self.first_of(pattern, instant)).min()
    }

    fn first_of(&self, pattern: &croner::Cron, after: DateTime<Utc>) -> Option<Slot> {
        let next = pattern.find_next_occurrence(&after.with_timezone(&self.zone), false).ok()?;
        Some(Slot { at: next.to_utc(), local: next.format("%Y-%m-%dT%H:%M:%S%:z").to_string() })
    }

    /// The last slot after `after`, up to `to`. It is searched from `to` backwards, since a pattern of every second may
    /// have missed years of slots.
    fn newest_in(&self, after: DateTime<Utc>, to: DateTime<Utc>) -> Option<Slot> {
        let newest_of = |pattern: &croner::Cron| {
            let previous = pattern.find_previous_occurrence(&to.with_timezone(&self.zone), true).ok()?;
            let slot = self.first_of(pattern, previous.to_utc() - TimeDelta::seconds(1))?;
            (slot.at > after && slot.at <= to).then_some(slot)
        };
        self.patterns.iter().filter_map(newest_of).max()
    }
}

/// One pattern for each time of the day that the pattern lists: "0 2 * * *" and "0 14 * * *" for "0 2,14 * * *". None
/// where it lists a single time or no times, all hours of the day, or more than [`TIMES_MAX`]. The pattern is valid.
fn times_of_day(spec: &str) -> Option<Vec<String>> {
    let fields: Vec<&str> = spec.split_whitespace().collect();
    let clock = fields.len().checked_sub(3).filter(|clock| (2..=3).contains(clock))?;
    let listed: Vec<Vec<u8>> = fields[..clock].iter().map(|field| listed_values(field)).collect::<Option<_>>()?;
    let times: usize = listed.iter().map(Vec::len).product();
    if !(2..=TIMES_MAX).contains(&times) || listed.last().is_some_and(|hours| hours.len() == 24) {
        return None;
    }
    let mut specs = vec![String::new()];
    for values in &listed {
        specs = specs.iter().flat_map(|spec| values.iter().map(move |value| format!("{spec}{value} "))).collect();
    }
    let days = fields[clock..].join(" ");
    Some(specs.into_iter().map(|clock| clock + &days).collect())
}

/// The values of a field: 1, 3, 4 and 5 for "1,3-5". None for a field that is no list, such as `*` or `*/15`.
fn listed_values(field: &str) -> Option<Vec<u8>> {
    let mut values = BTreeSet::new();
    for part in field.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u8, u8) = (first.parse().ok()?, last.parse().ok()?);
        if first > last {
            return None;
        }
        values.extend(first..=last);
    }
    Some(values.into_iter().collect())
}

/// The slots after `seen_to`, up to `now`, that are to run by the catch-up rule, oldest first; and the instant up to
/// which slots were considered, which is before `now` where there are too many slots for one call.
pub fn due_slots(
    cron: &Cron,
    seen_to: DateTime<Utc>,
    now: DateTime<Utc>,
    catchup: Catchup,
) -> (Vec<Slot>, DateTime<Utc>) {
    let from = match catchup {
        Catchup::All => seen_to,
        Catchup::None | Catchup::One => seen_to.max(now - ON_TIME),
    };
    let mut slots = BTreeSet::new();
    let mut place = from;
    while let Some(slot) = cron.after(place).filter(|slot| slot.at <= now) {
        if slots.len() == SLOTS_MAX {
            return (slots.into_iter().collect(), place);
        }
        place = slot.at;
        slots.insert(slot);
    }
    if catchup == Catchup::One && from > seen_to {
        // After a downtime one slot runs, and not each of the last minute too.
        let newest = slots.pop_last().or_else(|| cron.newest_in(seen_to, from));
        return (newest.into_iter().collect(), now);
    }
    (slots.into_iter().collect(), now)
}
