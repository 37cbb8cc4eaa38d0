//! **control**: queries whose rows are findings. Each has a severity and a tolerance; a finding that
//! somebody has waived, with a reason and for a time, does not count. All results and findings are
//! kept in tables of the lake.
//!
//! A control with the severity `block` that fails ends the run as failed, so that no job that depends
//! on it begins. A control whose query fails does the same: what was not checked is not accepted.

mod inputs;
mod tables;
mod waivers;

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::Result;
use base::text;
use config::flow::{Control, Holds};
use config::{Controls, Job, placeholders};
use ledger::{Outcome, Run};
use serde_json::{Map, Value, json};

use crate::failure;
use crate::flows::columns::Columns;
use crate::flows::moment::{AS_OF, Moment};
use crate::flows::rows;
use crate::runs::{self, FlowOutcome, RunRequest};
use crate::warehouse::Warehouse;

pub use inputs::TEXT as INPUTS_CHANGED_TEXT;
pub use tables::{instants, texts};
pub use waivers::{Waiver, revoke, waive, waivers};

/// How many findings of one control are kept; all are counted.
const FINDINGS_MAX: usize = 1000;
/// How many findings of one control are printed.
const FINDINGS_SHOWN: usize = 3;

/// How a control ended in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has no more findings than it allows.
    Passed,
    /// It has more findings than it allows, and enough of them are waived.
    Waived,
    /// It has more findings that are not waived than it allows.
    Failed,
    /// Its query failed.
    Broken,
}

impl State {
    /// The word for it in `controls.results`.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Passed => "passed",
            State::Waived => "waived",
            State::Failed => "failed",
            State::Broken => "broken",
        }
    }
}

/// What the findings of a control hold back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// The statements of these producers; of none where it is empty.
    Producers(BTreeSet<String>),
    /// The statements of all producers.
    All,
}

/// The result of one control in one run.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The control's name in its set.
    pub control: String,
    /// True for the severity `block`, false for `warn`.
    pub blocks: bool,
    pub state: State,
    /// What a finding of this control means, from the control's file.
    pub text: String,
    pub hint: Option<String>,
    /// How many findings it has, waived ones included.
    pub rows: u64,
    /// How many of the findings are waived.
    pub waived: u64,
    /// What its findings that are not waived hold back.
    pub held: Held,
    /// The first findings, each with the id of the waiver that covers it.
    pub findings: Vec<(Map<String, Value>, Option<String>)>,
    /// Why the query failed, where it did.
    pub error: Option<String>,
}

/// The results of all controls of a set in one run.
#[derive(Debug, Default)]
pub struct ControlReport {
    pub verdicts: Vec<Verdict>,
}

impl ControlReport {
    /// The controls that stop the jobs that depend on the set.
    pub fn blocking(&self) -> Vec<&Verdict> {
        self.verdicts.iter().filter(|verdict| verdict.stops()).collect()
    }
}

impl Verdict {
    /// True where the jobs that depend on the set must not run.
    pub fn stops(&self) -> bool {
        self.state == State::Broken || (self.state == State::Failed && self.blocks)
    }

    fn severity(&self) -> &'static str {
        if self.blocks { "block" } else { "warn" }
    }

    /// The result as a JSON object, for `--json`.
    pub fn json(&self) -> Value {
        let findings: Vec<Value> =
            self.findings.iter().map(|(row, waiver)| json!({"row": row, "waiver": waiver})).collect();
        json!({
            "control": self.control, "severity": self.severity(), "state": self.state.as_str(), "rows": self.rows,
            "waived": self.waived, "held": self.held.json(), "text": self.text, "hint": self.hint, "error": self.error, "findings": findings,
        })
    }

    /// Whether it holds back a producer's statement.
    pub fn holds(&self, producer_id: &str) -> bool {
        self.stops()
            && match &self.held {
                Held::All => true,
                Held::Producers(producers) => producers.contains(producer_id),
            }
    }

    /// The result for people: one line, and more lines for findings and the hint.
    pub fn summary(&self) -> String {
        let mut text = format!("{:<7} {}", self.state.as_str(), self.control);
        match (self.state, &self.error) {
            (State::Passed, _) => return text,
            (_, Some(error)) => return format!("{text}: {error}"),
            _ => {}
        }
        text.push_str(&format!(" ({}): {}: {}", self.severity(), self.text, text::quantity(self.rows, "row")));
        if self.waived > 0 {
            text.push_str(&format!(", {} of them waived", text::count(self.waived)));
        }
        let open = self.findings.iter().filter(|(_, waiver)| waiver.is_none());
        for (row, _) in open.take(FINDINGS_SHOWN) {
            let cells = row.iter().map(|(name, value)| match value {
                Value::String(text) => format!("{name} {}", without_zeros(text)),
                other => format!("{name} {other}"),
            });
            text.push_str(&format!("\n          {}", cells.collect::<Vec<_>>().join(", ")));
        }
        let more = (self.rows - self.waived).saturating_sub(FINDINGS_SHOWN as u64);
        if more > 0 {
            text.push_str(&format!("\n          and {} more in controls.findings", text::count(more)));
        }
        if let (Some(hint), State::Failed) = (&self.hint, self.state) {
            text.push_str(&format!("\n          {hint}"));
        }
        text
    }
}

/// A decimal without the zeros at its end, which sums and quotients have.
fn without_zeros(text: &str) -> &str {
    let is_decimal = text.split_once('.').is_some_and(|(whole, rest)| {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits(whole.strip_prefix('-').unwrap_or(whole)) && digits(rest) && rest.len() > 4
    });
    if is_decimal { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// Runs all controls of the set `name` as a run of `control:NAME`. The run fails where a control blocks.
pub async fn run(warehouse: &Warehouse, request: &RunRequest, name: &str) -> Result<ControlReport> {
    let set = warehouse.controls(name)?;
    let moment = Moment::of(warehouse, request)?;
    let detail = json!({"controls": name, AS_OF: moment.as_of()});
    runs::run(warehouse, Job::Control(set), request, detail, async |run| {
        let started = Instant::now();
        let report = evaluate(warehouse, run, set, &moment).await?;
        let count = |state: State| report.verdicts.iter().filter(|verdict| verdict.state == state).count();
        let figures = json!({
            "controls": report.verdicts.len(), "passed": count(State::Passed), "waived": count(State::Waived),
            "failed": count(State::Failed), "broken": count(State::Broken), "blocking": report.blocking().len(),
            "rows": report.verdicts.iter().map(|verdict| verdict.rows).sum::<u64>(),
            "seconds": started.elapsed().as_secs_f64(),
        });
        let outcome = match &report.blocking()[..] {
            [] => Outcome::Succeeded,
            blocking => {
                let names: Vec<&str> = blocking.iter().map(|verdict| verdict.control.as_str()).collect();
                let what = if names.len() == 1 {
                    "1 control blocks".to_owned()
                } else {
                    format!("{} controls block", names.len())
                };
                let error = format!("{what} the jobs that depend on it: {}", names.join(", "));
                Outcome::Failed { error, retryable: false }
            }
        };
        Ok(FlowOutcome { output: report, outcome, figures })
    })
    .await
}

/// Evaluates all controls of a set, and records their results and findings under the run.
pub async fn evaluate(warehouse: &Warehouse, run: &Run, set: &Controls, moment: &Moment) -> Result<ControlReport> {
    let lake = warehouse.lake().await?;
    let session = rows::session(warehouse, &lake)?;
    let waivers = waivers::in_force(&session, &set.name, moment).await?;
    let mut report = ControlReport::default();
    let mut judged = Vec::new();
    for control in set.controls.values() {
        judged.push((Judged::by_query(control), run_query(&session, control, moment).await));
    }
    if let Some(control) = &set.inputs_changed {
        judged.push((Judged::by_inputs(control), inputs::changed(warehouse, &lake, &session, control, moment).await));
    }
    for (control, rows) in judged {
        let verdict = verdict(&control, rows, &waivers);
        tracing::info!(
            control = control.name,
            state = verdict.state.as_str(),
            rows = verdict.rows,
            "control evaluated"
        );
        report.verdicts.push(verdict);
    }
    tables::append(&lake, run, &set.name, moment, &report).await?;
    for verdict in report.verdicts.iter().filter(|verdict| matches!(verdict.state, State::Failed | State::Broken)) {
        let fields = json!({
            "job": run.job(), "cause": run.cause(),
            "set": set.name, "control": verdict.control, "severity": verdict.severity(), "rows": verdict.rows,
            "for": moment.period.map(|period| period.to_string()),
        });
        run.event("control.failed", fields)?;
    }
    Ok(report)
}

/// The findings of a control, as values by column name.
type Rows = Vec<Map<String, Value>>;

async fn run_query(session: &sql::Session, control: &Control, moment: &Moment) -> Result<Rows> {
    debug_assert!(placeholders::CONTROL_PLACEHOLDERS.contains(&"tolerance"));
    let tolerance = |word: &str| (word == "tolerance").then(|| control.tolerance.to_string());
    let query = moment.fill(&control.sql, &tolerance)?;
    Columns::of(&rows::query(session, &query).await?)?.objects()
}

/// What a control says of itself.
struct Judged<'a> {
    name: &'a str,
    blocks: bool,
    holds: Holds,
    text: &'a str,
    hint: Option<&'a str>,
    rows_max: u64,
}

impl<'a> Judged<'a> {
    fn by_query(control: &'a Control) -> Judged<'a> {
        Judged {
            name: &control.name,
            blocks: control.blocks,
            holds: control.holds,
            text: &control.text,
            hint: control.hint.as_deref(),
            rows_max: control.rows_max,
        }
    }

    fn by_inputs(control: &'a config::flow::InputsChanged) -> Judged<'a> {
        Judged {
            name: &control.name,
            blocks: control.blocks,
            holds: control.holds,
            text: inputs::TEXT,
            hint: Some(inputs::HINT),
            rows_max: 0,
        }
    }
}

/// The column of findings with the producer whose statement they hold back.
const PRODUCER: &str = "producer_id";

fn verdict(control: &Judged<'_>, rows: Result<Rows>, waivers: &[Waiver]) -> Verdict {
    let mut verdict = Verdict {
        control: control.name.to_owned(),
        blocks: control.blocks,
        state: State::Passed,
        text: control.text.to_owned(),
        hint: control.hint.map(str::to_owned),
        rows: 0,
        waived: 0,
        held: Held::Producers(BTreeSet::new()),
        findings: Vec::new(),
        error: None,
    };
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => {
            (verdict.state, verdict.held) = (State::Broken, Held::All);
            verdict.error = Some(failure::full_text(&error));
            return verdict;
        }
    };
    verdict.rows = rows.len() as u64;
    for row in rows {
        let waiver = waivers.iter().find(|waiver| waiver.covers(control.name, &row));
        verdict.waived += u64::from(waiver.is_some());
        if waiver.is_none() {
            verdict.held.add(control.holds, &row);
        }
        if verdict.findings.len() < FINDINGS_MAX {
            verdict.findings.push((row, waiver.map(|waiver| waiver.id.clone())));
        }
    }
    verdict.state = match verdict.rows - verdict.waived {
        open if open > control.rows_max => State::Failed,
        _ if verdict.rows > control.rows_max => State::Waived,
        _ => State::Passed,
    };
    verdict
}

impl Held {
    fn json(&self) -> Value {
        match self {
            Held::All => json!("all"),
            Held::Producers(producers) => json!(producers),
        }
    }

    /// Adds what a finding holds back.
    fn add(&mut self, holds: Holds, row: &Map<String, Value>) {
        match (self, holds, row.get(PRODUCER).and_then(Value::as_str)) {
            (Held::Producers(producers), Holds::Producer, Some(producer)) => {
                producers.insert(producer.to_owned());
            }
            (held, ..) => *held = Held::All,
        }
    }
}
