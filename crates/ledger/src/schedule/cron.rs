//! Cron patterns in a time zone. What a clock change does to them is decided here and nowhere
//! else: a slot that the spring gap swallows runs at its end, one that the autumn brings twice
//! runs once, and a pattern that runs all through the hour (`*`, `*/15`) or through all hours of
//! the day runs all through both hours, and not at all in the gap.

use std::collections::BTreeSet;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};

use crate::Result;
use crate::error::{Error, Kind};

/// A slot that is found so late still counts as on time: a busy machine, a restart.
pub const ON_TIME: TimeDelta = TimeDelta::seconds(60);
/// Slots given at once; the rest follows.
const SLOTS_MAX: usize = 1000;
/// Times of the day that one pattern may list.
const TIMES_MAX: usize = 96;

#[derive(Clone, Debug)]
pub struct Cron {
    /// One for each time of the day that is listed: of "0 2,14 * * *" the library would run 02:00
    /// twice in autumn and not at all in spring, as it does with "0 * * * *"; of "0 2 * * *" it
    /// does not.
    patterns: Vec<croner::Cron>,
    zone: Tz,
}

/// A moment at which a pattern is due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    pub at: DateTime<Utc>,
    /// On the zone's own clock, with its offset: two slots never share it.
    pub local: String,
}

/// What becomes of slots that passed while nobody looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Catchup {
    /// They are passed over.
    None,
    /// The newest of them runs.
    #[default]
    One,
    /// Each runs, the oldest first.
    All,
}

impl Cron {
    /// Five fields, or six with seconds first; `L` is the last day of the month.
    ///
    /// # Errors
    /// What is wrong, with an example.
    pub fn parse(spec: &str, zone: &str) -> Result<Cron> {
        let tz = Tz::from_str(zone).map_err(|_| {
            let context = format!("read time zone {zone:?}: it is none of the IANA database, such as \"Europe/Paris\"");
            Error::new(Kind::FixInput, context)
        })?;
        // A day of the month and a weekday together mean either, as in every crontab.
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let whole = parser.parse(spec).map_err(|error| {
            let context = format!(
                "read cron pattern {spec:?}: {error}; it is minute, hour, day of month, month, weekday, \
                 such as \"15 2 * * *\" (at 02:15) or \"0 6 L * *\" (at 06:00 on a month's last day)"
            );
            Error::new(Kind::FixInput, context)
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

    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The first slot after an instant.
    pub fn after(&self, instant: DateTime<Utc>) -> Option<Slot> {
        self.patterns.iter().filter_map(|pattern| self.first_of(pattern, instant)).min()
    }

    fn first_of(&self, pattern: &croner::Cron, after: DateTime<Utc>) -> Option<Slot> {
        let next = pattern.find_next_occurrence(&after.with_timezone(&self.zone), false).ok()?;
        Some(Slot { at: next.to_utc(), local: next.format("%Y-%m-%dT%H:%M:%S%:z").to_string() })
    }

    /// The last slot in a stretch, found from its end: a pattern of every second may have missed
    /// years.
    fn newest_in(&self, after: DateTime<Utc>, to: DateTime<Utc>) -> Option<Slot> {
        let newest_of = |pattern: &croner::Cron| {
            let previous = pattern.find_previous_occurrence(&to.with_timezone(&self.zone), true).ok()?;
            let slot = self.first_of(pattern, previous.to_utc() - TimeDelta::seconds(1))?;
            (slot.at > after && slot.at <= to).then_some(slot)
        };
        self.patterns.iter().filter_map(newest_of).max()
    }
}

/// The pattern once for each time of the day that it lists ("0 2,14 * * *": "0 2 * * *" and
/// "0 14 * * *"). None where it lists none, or so many that it is one that runs through the hours.
/// To be asked of patterns that can be read.
fn times_of_day(spec: &str) -> Option<Vec<String>> {
    let fields: Vec<&str> = spec.split_whitespace().collect();
    let clock = fields.len().checked_sub(3).filter(|clock| (2..=3).contains(clock))?;
    let listed: Vec<Vec<u8>> = fields[..clock].iter().map(|field| listed(field)).collect::<Option<_>>()?;
    let times: usize = listed.iter().map(Vec::len).product();
    if times < 2 || times > TIMES_MAX || listed.last().is_some_and(|hours| hours.len() == 24) {
        return None;
    }
    let mut specs = vec![String::new()];
    for values in &listed {
        specs = specs.iter().flat_map(|spec| values.iter().map(move |value| format!("{spec}{value} "))).collect();
    }
    let days = fields[clock..].join(" ");
    Some(specs.into_iter().map(|clock| clock + &days).collect())
}

/// "1,3-5" -> 1, 3, 4, 5; None for what is no list, such as `*` or `*/15`.
fn listed(field: &str) -> Option<Vec<u8>> {
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

/// The slots after `seen_to`, up to `now`, that are to run, oldest first; and how far that goes:
/// beyond it there may be more, when there are very many.
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
        // After a downtime one runs, not each second's of the last minute.
        let newest = slots.pop_last().or_else(|| cron.newest_in(seen_to, from));
        return (newest.into_iter().collect(), now);
    }
    (slots.into_iter().collect(), now)
}
