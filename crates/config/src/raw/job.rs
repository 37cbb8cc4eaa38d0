//! Triggers, retries and hooks of jobs as TOML types: the same keys in every job's file.

use std::collections::BTreeMap;

use schedule::{Catchup, RelativePeriod};
use schemars::JsonSchema;
use toml::Spanned;

use super::Field;

/// What starts a job: one of `cron`, `after` and `on`.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["cron"] }, { "required": ["after"] }, { "required": ["on"] }]))]
pub struct Trigger {
    /// Minute, hour, day of the month, month, weekday: `15 2 * * *` at 02:15, `0 6 L * *` at 06:00 on a month's
    /// last day. Six fields have seconds first.
    #[schemars(length(min = 1))]
    pub cron: Field<String>,
    /// The zone of a cron pattern's clock: `Europe/Paris`; `serve.timezone` by default.
    #[schemars(length(min = 1))]
    pub timezone: Field<String>,
    /// What to do with slots that passed while no server ran.
    #[schemars(extend("default" = "one"))]
    pub catchup: Field<Catchup>,
    /// The period of a slot's run, relative to the slot's local time.
    #[serde(rename = "for")]
    pub period: Field<RelativePeriod>,
    /// Runs after each success of this job, for the same period: `transfer:platform`.
    #[schemars(length(min = 1))]
    pub after: Field<String>,
    /// Runs at each event of this name; `*` is any run of characters: `file.stored`.
    #[schemars(length(min = 1))]
    pub on: Field<String>,
    /// Only events with these fields, by dotted path, as patterns: `{ source = "meters*" }`.
    #[serde(rename = "where")]
    pub fields: BTreeMap<String, String>,
}

/// Retries and limits of a job's runs.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunSettings {
    /// Further attempts after a failure that may be temporary: a server that did not answer, a crash, a time limit.
    #[schemars(range(min = 0, max = 100), extend("default" = 3))]
    pub retries: Field<u32>,
    /// The wait before the second attempt; doubled before each one after it.
    #[schemars(extend("default" = "1min", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub backoff: Field<String>,
    /// The longest of these waits.
    #[schemars(extend("default" = "1h", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub backoff_max: Field<String>,
    /// How long a run may take; without a limit by default.
    #[schemars(extend("pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub timeout: Field<String>,
    /// A name that jobs share; of all jobs with the same name, one runs at a time.
    #[schemars(length(min = 1))]
    pub concurrency: Field<String>,
}

/// An action on a job's failure or recovery, on a control's findings or on an issued statement: a `command` or a `webhook`.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["command"] }, { "required": ["webhook"] }]))]
pub struct Hook {
    /// When it is called; on failure and recovery by default.
    #[schemars(with = "Vec<HookEvent>", length(min = 1))]
    pub on: Field<Vec<HookEvent>>,
    /// The jobs that it is called for, as patterns: `transfer:*`. All by default.
    #[schemars(with = "Vec<String>", length(min = 1), inner(length(min = 1)))]
    pub jobs: Field<Vec<Spanned<String>>>,
    /// A program and its arguments, without a shell; it reads the event as JSON from its standard input.
    #[schemars(with = "Vec<String>", length(min = 1), inner(length(min = 1)))]
    pub command: Field<Vec<String>>,
    /// A URL that takes the event as JSON by POST; best as `"${VARIABLE}"`.
    #[schemars(length(min = 1))]
    pub webhook: Field<String>,
}

/// When a hook is called.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HookEvent {
    /// The last attempt of a scheduled run failed.
    Failure,
    /// A scheduled run succeeded, the first one after a failure.
    Recovery,
    /// A control that warns had findings in a run that was not by hand.
    Finding,
    /// A statement was issued.
    Issue,
}

/// Maintenance of the lake and the ledger by the job `upkeep:lake`.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Upkeep {
    /// What starts it; every day at 03:30 by default, nothing with an empty list.
    #[schemars(with = "Vec<Trigger>")]
    pub triggers: Field<Vec<Spanned<Trigger>>>,
    /// Retries and limits of its runs.
    pub run: RunSettings,
    /// How long a table's older versions can be read.
    #[schemars(extend("default" = "30d", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub versions: Field<String>,
    /// How long runs, events and logs are kept.
    #[schemars(extend("default" = "400d", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub history: Field<String>,
}
