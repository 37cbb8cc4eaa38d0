//! **control**: queries that return the rows that offend. Each has a severity and a tolerance;
//! what somebody has waived, with a reason and for a time, does not count. Every result and every
//! offending row is kept, in tables of the lake.
//!
//! A control that blocks ends the run as failed, so that nothing that comes after it begins. So
//! does one whose query fails: what can't be looked at is not in order.

mod tables;
mod waivers;

use std::time::Instant;

use anyhow::{Context, Result};
use ledger::{Outcome, Run};
use serde_json::{Map, Value, json};

use crate::config::flow::Control;
use crate::config::holes;
use crate::flows::columns::Columns;
use crate::flows::moment::{AS_OF, Moment};
use crate::flows::rows;
use crate::jobs::{self, Asked, Ended};
use crate::report;
use crate::text;
use crate::warehouse::Warehouse;

pub use tables::{instants, texts};
pub use waivers::{Waiver, revoke, waive, waivers};

/// Of a control; all are counted.
const FINDINGS_MAX: usize = 1000;
const SHOWN: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Passed,
    /// All that offends is waived.
    Waived,
    Failed,
    /// Its query failed.
    Broken,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Passed => "passed",
            State::Waived => "waived",
            State::Failed => "failed",
            State::Broken => "broken",
        }
    }
}

/// What one control found.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub control: String,
    pub blocks: bool,
    pub state: State,
    pub text: String,
    pub hint: Option<String>,
    pub rows: u64,
    pub waived: u64,
    /// The first of them, with the waiver that covers each.
    pub findings: Vec<(Map<String, Value>, Option<String>)>,
    /// Of a query that failed.
    pub error: Option<String>,
}

#[derive(Debug, Default)]
pub struct Report {
    pub verdicts: Vec<Verdict>,
}

impl Report {
    /// Those that stop what follows.
    pub fn blocking(&self) -> Vec<&Verdict> {
        self.verdicts.iter().filter(|verdict| verdict.stops()).collect()
    }
}

impl Verdict {
    /// What follows.
    pub fn stops(&self) -> bool {
        self.state == State::Broken || (self.state == State::Failed && self.blocks)
    }

    fn severity(&self) -> &'static str {
        if self.blocks { "block" } else { "warn" }
    }

    pub fn json(&self) -> Value {
        let findings: Vec<Value> =
            self.findings.iter().map(|(row, waiver)| json!({"row": row, "waiver": waiver})).collect();
        json!({
            "control": self.control, "severity": self.severity(), "state": self.state.as_str(), "rows": self.rows,
            "waived": self.waived, "text": self.text, "hint": self.hint, "error": self.error, "findings": findings,
        })
    }

    pub fn told(&self) -> String {
        let mut told = format!("{:<7} {}", self.state.as_str(), self.control);
        match (self.state, &self.error) {
            (State::Passed, _) => return told,
            (_, Some(error)) => return format!("{told}: {error}"),
            _ => {}
        }
        told.push_str(&format!(" ({}): {}: {}", self.severity(), self.text, text::of(self.rows, "row")));
        if self.waived > 0 {
            told.push_str(&format!(", {} of them waived", text::count(self.waived)));
        }
        let open = self.findings.iter().filter(|(_, waiver)| waiver.is_none());
        for (row, _) in open.take(SHOWN) {
            let cells = row.iter().map(|(name, value)| match value {
                Value::String(text) => format!("{name} {text}"),
                other => format!("{name} {other}"),
            });
            told.push_str(&format!("\n          {}", cells.collect::<Vec<_>>().join(", ")));
        }
        if let (Some(hint), State::Failed) = (&self.hint, self.state) {
            told.push_str(&format!("\n          {hint}"));
        }
        told
    }
}

pub async fn run(warehouse: &Warehouse, asked: &Asked, name: &str) -> Result<Report> {
    let moment = Moment::of(warehouse, asked)?;
    let detail = json!({"controls": name, AS_OF: moment.as_of()});
    jobs::run(warehouse, &format!("control:{name}"), asked, detail, async |run| {
        let started = Instant::now();
        let report = judge(warehouse, run, name, &moment).await?;
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
                    "1 control stops".to_owned()
                } else {
                    format!("{} controls stop", names.len())
                };
                Outcome::Failed { error: format!("{what} what follows: {}", names.join(", ")) }
            }
        };
        Ok(Ended { shown: report, outcome, figures, may_pass: false })
    })
    .await
}

/// Looks at all of a set, and keeps what it finds as the run's.
pub async fn judge(warehouse: &Warehouse, run: &Run, set: &str, moment: &Moment) -> Result<Report> {
    let set = warehouse.config.controls.get(set).with_context(|| format!("there is no folder controls/{set}"))?;
    let lake = warehouse.lake().await?;
    let session = rows::session(warehouse, &lake)?;
    let waivers = waivers::in_force(&session, &set.name, moment).await?;
    let mut report = Report::default();
    for control in set.controls.values() {
        let found = offending(&session, control, moment).await;
        let verdict = verdict(control, found, &waivers);
        tracing::info!(control = control.name, state = verdict.state.as_str(), rows = verdict.rows, "looked at");
        report.verdicts.push(verdict);
    }
    tables::keep(&lake, run, &set.name, moment, &report).await?;
    for verdict in report.verdicts.iter().filter(|verdict| matches!(verdict.state, State::Failed | State::Broken)) {
        let fields = json!({
            "set": set.name, "control": verdict.control, "severity": verdict.severity(), "rows": verdict.rows,
            "for": moment.period.map(|period| period.to_string()),
        });
        run.event("control.failed", fields)?;
    }
    Ok(report)
}

async fn offending(session: &sql::Session, control: &Control, moment: &Moment) -> Result<Columns> {
    debug_assert!(holes::OF_CONTROLS.contains(&"tolerance"));
    let tolerance = |word: &str| (word == "tolerance").then(|| control.tolerance.to_string());
    let query = moment.fill(&control.sql, &tolerance)?;
    Columns::of(&rows::asked(session, &query).await?)
}

fn verdict(control: &Control, found: Result<Columns>, waivers: &[Waiver]) -> Verdict {
    let mut verdict = Verdict {
        control: control.name.clone(),
        blocks: control.blocks,
        state: State::Passed,
        text: control.text.clone(),
        hint: control.hint.clone(),
        rows: 0,
        waived: 0,
        findings: Vec::new(),
        error: None,
    };
    let columns = match found {
        Ok(columns) => columns,
        Err(error) => {
            verdict.state = State::Broken;
            verdict.error = Some(report::chain(error.as_ref()));
            return verdict;
        }
    };
    verdict.rows = columns.rows() as u64;
    for row in (0..columns.rows()).map(|row| columns.row(row)) {
        let waiver = waivers.iter().find(|waiver| waiver.covers(&control.name, &row));
        verdict.waived += u64::from(waiver.is_some());
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
