use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use ledger::{Ledger, LogRow};
use serde_json::{Map, Value};

use crate::jobs;
use crate::warehouse::Warehouse;

/// Show what a run said: a run by its id, or the newest run of a job
#[derive(Debug, Args)]
pub struct Logs {
    /// A run's id, or a job
    what: String,
    /// The newest lines
    #[arg(long, default_value_t = 1000)]
    limit: usize,
    /// Go on while the run lives
    #[arg(short, long)]
    follow: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

impl Logs {
    pub async fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = Warehouse::open(root)?;
        let ledger = &warehouse.ledger;
        let run = match ledger.run(&self.what)? {
            Some(run) => run,
            None => {
                let job = jobs::find(&warehouse, &self.what)?.full_name();
                let Some(run) = ledger.runs(1, Some(&job))?.pop() else { bail!("{job} has not run yet") };
                if !self.json {
                    eprintln!("run {} of {job}, {}", run.id, run.state);
                }
                run
            }
        };
        let mut seen = self.show(ledger, &run.id, i64::MIN)?;
        while self.follow && ledger.alive(&run.id)? {
            tokio::time::sleep(Duration::from_millis(300)).await;
            seen = self.show(ledger, &run.id, seen)?;
        }
        self.show(ledger, &run.id, seen)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Lines after one; returns the last.
    fn show(&self, ledger: &Ledger, run: &str, seen: i64) -> Result<i64> {
        let lines: Vec<LogRow> = ledger.logs(run, self.limit)?.into_iter().filter(|line| line.seq > seen).collect();
        for line in &lines {
            if self.json {
                println!("{}", serde_json::to_string(line)?);
            } else {
                println!("{} {:5} {}", line.at.format("%Y-%m-%d %H:%M:%S%.3fZ"), line.level, line.line);
            }
        }
        Ok(lines.last().map_or(seen, |line| line.seq))
    }
}

/// Note that something happened outside, for jobs that wait for it
#[derive(Debug, Args)]
pub struct Emit {
    /// Such as file.arrived
    name: String,
    /// Its fields, as key=value: text, or JSON
    fields: Vec<String>,
}

impl Emit {
    pub fn run(self, root: &Path) -> Result<ExitCode> {
        let is_name = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b"_-0123456789".contains(&b))
        };
        if !self.name.contains('.') || !self.name.split('.').all(is_name) {
            bail!(
                "an event is called as in file.arrived, not {:?}: words in a-z, 0-9, _ and -, with dots between them",
                self.name
            );
        }
        const OWN: [&str; 3] = ["run.", "job.", "chain."];
        if OWN.iter().any(|own| self.name.starts_with(own)) {
            bail!("events that begin with {} are Wattlake's own; call it otherwise", OWN.join(", "));
        }
        let mut fields = Map::new();
        for field in &self.fields {
            let Some((key, value)) = field.split_once('=').filter(|(key, _)| !key.is_empty()) else {
                bail!("{field:?} is no field: write key=value");
            };
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
            fields.insert(key.to_owned(), value);
        }
        let warehouse = Warehouse::open(root)?;
        let seq = warehouse.ledger.event(&self.name, None, Value::Object(fields))?;
        println!("event {seq}");
        Ok(ExitCode::SUCCESS)
    }
}
