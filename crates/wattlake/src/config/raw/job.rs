//! When and how a job runs, as it is written: the same words in every job's file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use toml::Spanned;

use super::Given;

/// What makes a job run by itself: one of `cron`, `after` and `on`.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["cron"] }, { "required": ["after"] }, { "required": ["on"] }]))]
pub struct Trigger {
    /// Minute, hour, day of the month, month, weekday: `15 2 * * *` at 02:15, `0 6 L * *` at 06:00 on a month's
    /// last day. Six fields have seconds first.
    #[schemars(length(min = 1))]
    pub cron: Given<String>,
    /// The zone of a cron pattern's clock: `Europe/Paris`; `serve.timezone` by default.
    #[schemars(length(min = 1))]
    pub timezone: Given<String>,
    /// What becomes of slots that passed while no server ran.
    #[schemars(extend("default" = "one"))]
    pub catchup: Given<Catchup>,
    /// The period that a slot's run is for, by the slot's own clock.
    #[serde(rename = "for")]
    pub period: Given<Periods>,
    /// After each success of this job: `transfer:platform`. It is for the same period.
    #[schemars(length(min = 1))]
    pub after: Given<String>,
    /// At each event of this name; `*` is any run of characters: `file.stored`.
    #[schemars(length(min = 1))]
    pub on: Given<String>,
    /// Only events with these fields, by dotted path, as patterns: `{ source = "meters*" }`.
    #[serde(rename = "where")]
    pub fields: BTreeMap<String, String>,
}

#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Catchup {
    /// They are passed over.
    None,
    /// The newest of them runs.
    One,
    /// Each runs, the oldest first.
    All,
}

#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Periods {
    ThisHour,
    LastHour,
    Today,
    Yesterday,
    ThisMonth,
    LastMonth,
    ThisYear,
    LastYear,
}

/// How a job's runs are treated.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Further attempts after a failure that may pass: a server that did not answer, a crash, a time limit.
    #[schemars(range(min = 0, max = 100), extend("default" = 3))]
    pub retries: Given<u32>,
    /// The wait before the second attempt; doubled before each one after it.
    #[schemars(extend("default" = "1min", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub backoff: Given<String>,
    /// The longest of these waits.
    #[schemars(extend("default" = "1h", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub backoff_max: Given<String>,
    /// How long a run may take; without end by default.
    #[schemars(extend("pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub timeout: Given<String>,
    /// Of all jobs with the same key, one runs at a time.
    #[schemars(length(min = 1))]
    pub concurrency: Given<String>,
}

/// Who is told of a job's failure or recovery: a `command` or a `webhook`.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["command"] }, { "required": ["webhook"] }]))]
pub struct Hook {
    /// What it is told; both by default.
    #[schemars(with = "Vec<Told>", length(min = 1))]
    pub on: Given<Vec<Told>>,
    /// Which jobs' ends, as patterns: `transfer:*`. All by default.
    #[schemars(with = "Vec<String>", length(min = 1), inner(length(min = 1)))]
    pub jobs: Given<Vec<Spanned<String>>>,
    /// A program and its arguments, without a shell; it reads the event as JSON from its standard input.
    #[schemars(with = "Vec<String>", length(min = 1), inner(length(min = 1)))]
    pub command: Given<Vec<String>>,
    /// A URL that takes the event as JSON by POST; best as `"${VARIABLE}"`.
    #[schemars(length(min = 1))]
    pub webhook: Given<String>,
}

#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Told {
    /// The last attempt of a scheduled run failed.
    Failure,
    /// The first scheduled run after it that succeeded.
    Recovery,
}

/// How the lake and the ledger are kept in shape, by the job `upkeep:lake`.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Upkeep {
    /// What makes it run; every day at 03:30 by default, never with an empty list.
    #[schemars(with = "Vec<Trigger>")]
    pub triggers: Given<Vec<Spanned<Trigger>>>,
    /// How its runs are treated.
    pub run: Rules,
    /// How long a table's older versions can be read.
    #[schemars(extend("default" = "30d", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub versions: Given<String>,
    /// How long runs, events and logs are remembered.
    #[schemars(extend("default" = "400d", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub history: Given<String>,
}
