//! What a run is for: its period on the warehouse's clock, and the instant as of which it looks at
//! the world. A rerun as of the same instant sees the same.

use anyhow::{Context, Result, bail};
use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};
use ledger::schedule::Period;

use crate::config::holes;
use crate::jobs::Asked;
use crate::warehouse::Warehouse;

/// Where a run's instant is among what was given along.
pub const AS_OF: &str = "as_of";

pub struct Moment {
    pub period: Option<Period>,
    bounds: Option<(DateTime<Utc>, DateTime<Utc>)>,
    pub as_of: DateTime<Utc>,
}

impl Moment {
    pub fn of(warehouse: &Warehouse, asked: &Asked) -> Result<Moment> {
        let as_of = match asked.given.get(AS_OF).and_then(serde_json::Value::as_str) {
            Some(text) => DateTime::parse_from_rfc3339(text).with_context(|| format!("read as_of {text:?}"))?.to_utc(),
            None => Utc::now().trunc_subsecs(3),
        };
        let zone = &warehouse.config.serve.timezone;
        let bounds = match asked.period {
            Some(period) => {
                let zone = zone.parse().with_context(|| format!("read the time zone {zone:?}"))?;
                let bounds: Option<(DateTime<Utc>, DateTime<Utc>)> = period.bounds(zone);
                Some(bounds.with_context(|| format!("{period} is beyond what can be told"))?)
            }
            None => None,
        };
        Ok(Moment { period: asked.period, bounds, as_of })
    }

    /// Its period's first instant.
    pub fn from(&self) -> Option<DateTime<Utc>> {
        self.bounds.map(|(from, _)| from)
    }

    pub fn as_of(&self) -> String {
        written(self.as_of)
    }

    /// `{period}`, `{from}`, `{to}`, `{as_of}`, and what else is `known`.
    pub fn fill(&self, text: &str, known: &dyn Fn(&str) -> Option<String>) -> Result<String> {
        if self.period.is_none()
            && let Some(word) = ["period", "from", "to"].into_iter().find(|word| holes::has(text, word))
        {
            bail!("{{{word}}} is asked for, and the run is for no period: name one with --for 2026-09");
        }
        let (from, to) = self.bounds.unzip();
        Ok(holes::fill(text, &|word| match word {
            "period" => self.period.map(|period| period.to_string()).unwrap_or_default(),
            "from" => from.map(written).unwrap_or_default(),
            "to" => to.map(written).unwrap_or_default(),
            "as_of" => self.as_of(),
            other => known(other).unwrap_or_else(|| format!("{{{other}}}")),
        }))
    }
}

pub fn written(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
