//! One run of one program, measured from outside by bench/measure.py, the same way for all.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::programs::Programs;
use crate::project::{output, shown};

#[derive(Clone, Debug)]
pub struct Run {
    pub contender: &'static str,
    /// "measures", "wide", or "both" where a whole database is copied.
    pub table: &'static str,
    pub round: u32,
    pub wall_s: f64,
    /// User and system time of the program and all that it started; None where the work is a server's.
    pub cpu_s: Option<f64>,
    /// Of the largest process.
    pub rss_max_mib: Option<f64>,
    /// What the program itself says that the copy took, without its own start.
    pub inside_s: Option<f64>,
    /// Of what was written.
    pub bytes: Option<u64>,
    pub rows: Option<u64>,
}

impl Run {
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

    pub fn json(&self) -> Value {
        json!({
            "contender": self.contender, "table": self.table, "round": self.round, "wall_s": self.wall_s,
            "cpu_s": self.cpu_s, "rss_max_mib": self.rss_max_mib, "inside_s": self.inside_s,
            "bytes": self.bytes, "rows": self.rows,
        })
    }
}

/// Runs it to its end; what it wrote goes to `log`, and its last words into the error where it fails.
pub fn measure(programs: &Programs, command: &Command, log: &Path) -> Result<Run> {
    let mut runner = Command::new(&programs.python);
    runner.arg(programs.script("measure.py")).arg(log).arg(command.get_program()).args(command.get_args());
    let measured: Value = serde_json::from_str(&output(&mut runner)?).context("read what measure.py says")?;
    let said = fs::read_to_string(log).unwrap_or_default();
    if measured["exit"] != 0 {
        let lines: Vec<&str> = said.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        bail!("{}: exit {}\n{tail}", shown(command), measured["exit"]);
    }
    let number = |key: &str| measured[key].as_f64().with_context(|| format!("measure.py says no {key}"));
    Ok(Run {
        contender: "",
        table: "",
        round: 0,
        wall_s: number("wall_s")?,
        cpu_s: Some(number("user_s")? + number("sys_s")?),
        rss_max_mib: Some(number("rss_max_mib")?),
        inside_s: said.lines().find_map(|l| l.strip_prefix("inside_s ")?.parse().ok()),
        bytes: None,
        rows: None,
    })
}
