//! What a run is for: its period, and the instant as of which its queries read. A rerun as of the
//! same instant reads the same.

use anyhow::{Context, Result};
use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};
use config::placeholders;
use schedule::Period;

use crate::runs::RunRequest;
use crate::warehouse::Warehouse;

/// The key of a run's instant among its parameters and its figures.
pub const AS_OF: &str = "as_of";

/// The period and the instant of one run.
pub struct Moment {
    pub period: Option<Period>,
    /// The period's first instant, and the first one after it.
    bounds: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// The parameter `as_of`, or the time at which the run began.
    pub as_of: DateTime<Utc>,
}

impl Moment {
    /// The period and the instant that a run was requested for.
    ///
    /// # Errors
    /// `as_of` is not an instant of RFC 3339 or is in the future, or the period is out of the range of instants.
    pub fn of(warehouse: &Warehouse, request: &RunRequest) -> Result<Moment> {
        let as_of = match request.parameters.get(AS_OF).and_then(serde_json::Value::as_str) {
            Some(text) => {
                let at = DateTime::parse_from_rfc3339(text).with_context(|| format!("read as_of {text:?}"))?.to_utc();
                // What will be known then can't be read yet, and the result would be taken for the latest one.
                if at > Utc::now() {
                    let error = base::Error::input(format!("{} is in the future", instant_text(at)));
                    return Err(error.hint("a run reads what is known now, or was known before").into());
                }
                at
            }
            None => Utc::now().trunc_subsecs(3),
        };
        let zone = &warehouse.config.serve.timezone;
        let bounds = match request.period {
            Some(period) => {
                let zone = zone.parse().with_context(|| format!("read the time zone {zone:?}"))?;
                let bounds: Option<(DateTime<Utc>, DateTime<Utc>)> = period.bounds(zone);
                Some(bounds.with_context(|| format!("{period} is out of the range of instants"))?)
            }
            None => None,
        };
        Ok(Moment { period: request.period, bounds, as_of })
    }

    /// The first instant of the period, in the warehouse's time zone.
    pub fn from(&self) -> Option<DateTime<Utc>> {
        self.bounds.map(|(from, _)| from)
    }

    /// The first instant after the period.
    pub fn to(&self) -> Option<DateTime<Utc>> {
        self.bounds.map(|(_, to)| to)
    }

    /// `as_of` as RFC 3339, in UTC.
    pub fn as_of(&self) -> String {
        instant_text(self.as_of)
    }

    /// Replaces `{period}`, `{from}`, `{to}`, `{as_of}`, and each other `{word}` that `known` has a text for.
    ///
    /// # Errors
    /// The text has a hole for the period, and the run is for no period.
    pub fn fill(&self, text: &str, known: &dyn Fn(&str) -> Option<String>) -> Result<String> {
        if self.period.is_none()
            && let Some(word) = ["period", "from", "to"].into_iter().find(|word| placeholders::has(text, word))
        {
            let error = base::Error::input(format!("{{{word}}} needs a period, and the run has none"));
            return Err(error.hint("name a period, such as --for 2026-09").into());
        }
        let (from, to) = self.bounds.unzip();
        Ok(placeholders::fill(text, &|word| match word {
            "period" => self.period.map(|period| period.to_string()).unwrap_or_default(),
            "from" => from.map(instant_text).unwrap_or_default(),
            "to" => to.map(instant_text).unwrap_or_default(),
            "as_of" => self.as_of(),
            other => known(other).unwrap_or_else(|| format!("{{{other}}}")),
        }))
    }
}

/// An instant as RFC 3339, in UTC.
pub fn instant_text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
