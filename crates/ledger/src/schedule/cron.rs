//! Cron patterns in a time zone. What a clock change does to them is decided here and nowhere
//! else: a slot that the spring gap swallows runs at its end, one that the autumn brings twice
//! runs once, and a pattern that runs all through the hour runs all through both hours.

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

#[derive(Clone, Debug)]
pub struct Cron {
    pattern: croner::Cron,
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
        let pattern = parser.parse(spec).map_err(|error| {
            let context = format!(
                "read cron pattern {spec:?}: {error}; it is minute, hour, day of month, month, weekday, \
                 such as \"15 2 * * *\" (at 02:15) or \"0 6 L * *\" (at 06:00 on a month's last day)"
            );
            Error::new(Kind::FixInput, context)
        })?;
        let cron = Cron { pattern, zone: tz };
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
        let next = self.pattern.find_next_occurrence(&instant.with_timezone(&self.zone), false).ok()?;
        Some(Slot { at: next.to_utc(), local: next.format("%Y-%m-%dT%H:%M:%S%:z").to_string() })
    }
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
    if catchup == Catchup::One && slots.is_empty() {
        slots.extend(newest_missed(cron, seen_to, from));
    }
    (slots.into_iter().collect(), now)
}

/// The last slot in a stretch, found from its end: a pattern of every second may have missed years.
fn newest_missed(cron: &Cron, after: DateTime<Utc>, to: DateTime<Utc>) -> Option<Slot> {
    let previous = cron.pattern.find_previous_occurrence(&to.with_timezone(&cron.zone), true).ok()?;
    let slot = cron.after(previous.to_utc() - TimeDelta::seconds(1))?;
    (slot.at > after && slot.at <= to).then_some(slot)
}
