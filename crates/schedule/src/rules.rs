//! The rules of a job: what starts it, how often it is retried, how long it may take.

use std::time::Duration;

use chrono::{DateTime, Datelike, FixedOffset, Months, SubsecRound, TimeDelta, Timelike};

use crate::{Backoff, Catchup, Cron, EventPattern, Period};

/// When and how a job runs.
#[derive(Debug, Clone)]
pub struct JobRules {
    /// What starts it; several may.
    pub triggers: Vec<Trigger>,
    /// Attempts after the first.
    pub retries: u32,
    /// How long each retry waits.
    pub backoff: Backoff,
    /// How long a run may take; without one it may take any time.
    pub timeout: Option<Duration>,
    /// Jobs with the same key never run at the same time.
    pub concurrency: Option<String>,
}

impl Default for JobRules {
    fn default() -> JobRules {
        JobRules { triggers: Vec::new(), retries: 3, backoff: Backoff::default(), timeout: None, concurrency: None }
    }
}

/// What starts a job.
#[derive(Debug, Clone)]
pub enum Trigger {
    /// The clock.
    Cron(Box<CronTrigger>),
    /// The success of another job.
    After(AfterTrigger),
    /// An event of the ledger.
    On(EventPattern),
}

/// A cron pattern and what its slots are for.
#[derive(Debug, Clone)]
pub struct CronTrigger {
    /// The pattern as it is written.
    pub spec: String,
    /// The pattern and its time zone.
    pub cron: Cron,
    /// Which of the slots run that passed while no server ran.
    pub catchup: Catchup,
    /// The period that a slot's run is for.
    pub period: Option<RelativePeriod>,
}

/// The job that another one follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AfterTrigger {
    /// Such as "transfer:platform".
    pub job: String,
    /// The line of the name in its file, from 1; 0 where it follows from a query.
    pub line: usize,
    /// The column of the name, from 1.
    pub column: usize,
}

/// A period by its distance from a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RelativePeriod {
    /// The hour that the slot lies in.
    ThisHour,
    /// The hour before it.
    LastHour,
    /// The day that the slot lies in.
    Today,
    /// The day before it.
    Yesterday,
    /// The month that the slot lies in.
    ThisMonth,
    /// The month before it.
    LastMonth,
    /// The year that the slot lies in.
    ThisYear,
    /// The year before it.
    LastYear,
}

impl RelativePeriod {
    /// The period for a slot, which is given in local time with its offset: "2026-03-29T02:00:00+01:00".
    pub fn of(self, slot: &str) -> Option<Period> {
        let local = DateTime::<FixedOffset>::parse_from_rfc3339(slot).ok()?.naive_local().trunc_subsecs(0);
        let (date, hour) = (local.date(), local.with_minute(0)?.with_second(0)?);
        let month = date.with_day(1)?;
        Some(match self {
            RelativePeriod::ThisHour => Period::Hour(hour),
            RelativePeriod::LastHour => Period::Hour(hour - TimeDelta::hours(1)),
            RelativePeriod::Today => Period::Day(date),
            RelativePeriod::Yesterday => Period::Day(date.pred_opt()?),
            RelativePeriod::ThisMonth => Period::Month(month),
            RelativePeriod::LastMonth => Period::Month(month.checked_sub_months(Months::new(1))?),
            RelativePeriod::ThisYear => Period::Year(date.year()),
            RelativePeriod::LastYear => Period::Year(date.year() - 1),
        })
    }
}
