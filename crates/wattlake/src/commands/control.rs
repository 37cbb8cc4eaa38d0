use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use base::text;
use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, Subcommand};
use jobs::flows::control::{INPUTS_CHANGED_TEXT, revoke, waive, waivers};
use jobs::warehouse::Warehouse;
use serde_json::json;

use crate::program::open_warehouse;
use crate::report;

/// Queries whose rows are findings: controls/SET/NAME.sql
#[derive(Debug, Subcommand)]
pub enum Control {
    List(List),
    Waive(Waive),
    Waivers(Waivers),
    Revoke(Revoke),
}

impl Control {
    /// Opens the warehouse and runs the subcommand.
    pub async fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = open_warehouse(root)?;
        match self {
            Control::List(command) => command.run(&warehouse),
            Control::Waive(command) => command.run(&warehouse).await,
            Control::Waivers(command) => command.run(&warehouse).await,
            Control::Revoke(command) => command.run(&warehouse).await,
        }
    }
}

/// List the controls of all sets
#[derive(Debug, Args)]
pub struct List {
    /// Print one JSON object for each control
    #[arg(long)]
    json: bool,
}

impl List {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let mut rows = Vec::new();
        for set in warehouse.config.controls.values() {
            for control in set.controls.values() {
                let severity = if control.blocks { "block" } else { "warn" };
                if self.json {
                    let shown = json!({
                        "set": set.name, "control": control.name, "severity": severity, "text": control.text,
                        "tolerance": control.tolerance, "rows_max": control.rows_max, "hint": control.hint,
                    });
                    println!("{shown}");
                } else {
                    let tolerance =
                        if control.tolerance == 0.0 { String::new() } else { control.tolerance.to_string() };
                    let name = format!("{}/{}", set.name, control.name);
                    rows.push(vec![name, severity.to_owned(), tolerance, control.text.clone()]);
                }
            }
            if let Some(control) = &set.inputs_changed {
                let severity = if control.blocks { "block" } else { "warn" };
                if self.json {
                    let shown = json!({
                        "set": set.name, "control": control.name, "severity": severity, "text": INPUTS_CHANGED_TEXT,
                    });
                    println!("{shown}");
                } else {
                    let name = format!("{}/{}", set.name, control.name);
                    rows.push(vec![name, severity.to_owned(), String::new(), INPUTS_CHANGED_TEXT.to_owned()]);
                }
            }
        }
        if !self.json {
            print!("{}", text::table(&["control", "severity", ">tolerance", "text"], &rows));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Waive a control's findings until a given time
#[derive(Debug, Args)]
pub struct Waive {
    /// The control, as SET/CONTROL
    control: String,
    /// Only rows with this value, as column=value; may be repeated
    #[arg(long = "where", value_name = "COLUMN=VALUE")]
    matches: Vec<String>,
    /// Who decides it
    #[arg(long)]
    who: String,
    /// Why
    #[arg(long)]
    why: String,
    /// When the waiver ends: a day, or an instant in RFC 3339
    #[arg(long)]
    until: String,
}

impl Waive {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let Some((set, control)) = self.control.split_once('/') else {
            let what = format!("{:?} is not a control's name", self.control);
            return Err(report::input(what, "write SET/CONTROL; `wattlake control list` lists the controls"));
        };
        let mut matches = BTreeMap::new();
        for pair in &self.matches {
            let Some((column, value)) = pair.split_once('=') else {
                return Err(report::input(format!("{pair:?} is not a condition"), "write COLUMN=VALUE"));
            };
            matches.insert(column.to_owned(), value.to_owned());
        }
        let until = instant(&self.until)?;
        let id = waive(warehouse, (set, control), &matches, (&self.who, &self.why), until).await?;
        println!("{id}");
        Ok(ExitCode::SUCCESS)
    }
}

/// A day means its first instant, UTC.
fn instant(text: &str) -> Result<DateTime<Utc>> {
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(day.and_time(chrono::NaiveTime::MIN).and_utc());
    }
    match DateTime::parse_from_rfc3339(text) {
        Ok(at) => Ok(at.to_utc()),
        Err(_) => {
            let what = format!("{text:?} is neither a day nor an instant");
            Err(report::input(what, "write 2026-05-01 or 2026-05-01T08:00:00Z"))
        }
    }
}

/// List the waivers that are not revoked
#[derive(Debug, Args)]
pub struct Waivers {
    /// Print one JSON object for each waiver
    #[arg(long)]
    json: bool,
}

impl Waivers {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let mut rows = Vec::new();
        for waiver in waivers(warehouse).await? {
            let control = format!("{}/{}", waiver.set, waiver.control);
            if self.json {
                let shown = json!({
                    "id": waiver.id, "control": control, "matches": waiver.matches, "who": waiver.who,
                    "why": waiver.why, "until": waiver.until,
                });
                println!("{shown}");
                continue;
            }
            let matches: Vec<String> = waiver.matches.iter().map(|(column, text)| format!("{column}={text}")).collect();
            rows.push(vec![waiver.id, control, matches.join(" "), waiver.who, waiver.why, waiver.until]);
        }
        if !self.json {
            print!("{}", text::table(&["waiver", "control", "rows", "who", "why", "until"], &rows));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Revoke a waiver
#[derive(Debug, Args)]
pub struct Revoke {
    /// The waiver's id
    waiver: String,
    /// Who revokes it
    #[arg(long)]
    who: String,
    /// Why
    #[arg(long)]
    why: String,
}

impl Revoke {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        revoke(warehouse, &self.waiver, &self.who, &self.why).await?;
        Ok(ExitCode::SUCCESS)
    }
}
