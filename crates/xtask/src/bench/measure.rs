//! Measures one run of a program by bench/measure.py, the same way for all programs.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::programs::Programs;
use crate::project::{command_text, output};

/// The measurements of one run.
#[derive(Clone, Debug)]
pub struct Run {
    pub contender: &'static str,
    /// "measures", "wide", or "both" where a whole database is copied.
    pub table: &'static str,
    pub round: u32,
    pub wall_s: f64,
    /// User and system time of the program and its children; None where a server does the work.
    pub cpu_s: Option<f64>,
    /// The peak memory of the largest process.
    pub rss_max_mib: Option<f64>,
    /// The time of the copy as the program itself measured it, without its start.
    pub inside_s: Option<f64>,
    /// The size of the copy.
    pub bytes: Option<u64>,
    pub rows: Option<u64>,
}

impl Run {
    /// A line for the terminal.
    pub fn line(&self) -> String {
        let part = |value: Option<f64>, unit: &str| value.map_or(String::new(), |v| format!("  {v:.2} {unit}"));
        format!(
            "round {}  {:<9} {:<16} {:>8.2} s{}{}{}",
            self.round,
            self.table,
            self.contender,
            self.wall_s,
            part(self.cpu_s, "CPU-s"),
            part(self.rss_max_mib, "MiB"),
            part(self.bytes.map(|b| b as f64 / 1e6), "MB"),
        )
    }

    /// All measurements as JSON.
    pub fn json(&self) -> Value {
        json!({
            "contender": self.contender, "table": self.table, "round": self.round, "wall_s": self.wall_s,
            "cpu_s": self.cpu_s, "rss_max_mib": self.rss_max_mib, "inside_s": self.inside_s,
            "bytes": self.bytes, "rows": self.rows,
        })
    }
}

/// Runs a command and measures it. Its output goes to `log`; the error of a failure has the last lines of it.
pub fn measure(programs: &Programs, command: &Command, log: &Path) -> Result<Run> {
    let mut runner = Command::new(&programs.python);
    runner.arg(programs.script("measure.py")).arg(log).arg(command.get_program()).args(command.get_args());
    let measured: Value = serde_json::from_str(&output(&mut runner)?).context("parse the output of measure.py")?;
    let output_text = fs::read_to_string(log).unwrap_or_default();
    if measured["exit"] != 0 {
        let lines: Vec<&str> = output_text.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        bail!("{}: exit {}\n{tail}", command_text(command), measured["exit"]);
    }
    let number = |key: &str| measured[key].as_f64().with_context(|| format!("measure.py printed no {key}"));
    Ok(Run {
        contender: "",
        table: "",
        round: 0,
        wall_s: number("wall_s")?,
        cpu_s: Some(number("user_s")? + number("sys_s")?),
        rss_max_mib: Some(number("rss_max_mib")?),
        inside_s: output_text.lines().find_map(|l| l.strip_prefix("inside_s ")?.parse().ok()),
        bytes: None,
        rows: None,
    })
}
