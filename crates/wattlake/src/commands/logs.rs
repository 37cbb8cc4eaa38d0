use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use jobs::system::LOGS;
use ledger::{Ledger, LogRow};
use serde_json::{Map, Value};

use crate::program::open_warehouse;

/// Show the log of a run, or of the newest run of a job
#[derive(Debug, Args)]
pub struct Logs {
    /// A run's id, or a job
    what: String,
    /// At most so many of the newest lines
    #[arg(long, default_value_t = 1000)]
    limit: usize,
    /// Print new lines until the run ends
    #[arg(short, long)]
    follow: bool,
    /// Print one JSON object for each line
    #[arg(long)]
    json: bool,
}

impl Logs {
    /// Prints the log lines.
    pub async fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = open_warehouse(root)?;
        let ledger = &warehouse.ledger;
        let run = match ledger.run(&self.what)? {
            Some(run) => run,
            None => {
                let job = warehouse
                    .job_with_runs(&self.what)
                    .with_context(|| format!("{:?} is neither a run nor a job", self.what))?;
                let Some(run) = ledger.runs(1, Some(&job))?.pop() else {
                    bail!(base::Error::input(format!("{job} has not run yet")))
                };
                if !self.json {
                    eprintln!("run {} of {job}, {}", run.id, run.state);
                }
                run
            }
        };
        let mut seen = self.show(ledger, &run.id, i64::MIN)?;
        while self.follow && ledger.is_run_alive(&run.id)? {
            tokio::time::sleep(Duration::from_millis(300)).await;
            seen = self.show(ledger, &run.id, seen)?;
        }
        self.show(ledger, &run.id, seen)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Prints the lines after the number `seen`; returns the number of the last line.
    fn show(&self, ledger: &Ledger, run: &str, seen: i64) -> Result<i64> {
        let lines: Vec<LogRow> = ledger.logs(run, self.limit)?.into_iter().filter(|line| line.seq > seen).collect();
        for line in &lines {
            if self.json {
                println!("{}", LOGS.json(line));
            } else {
                println!("{} {:5} {}", line.at.format("%Y-%m-%d %H:%M:%S%.3fZ"), line.level, line.line);
            }
        }
        Ok(lines.last().map_or(seen, |line| line.seq))
    }
}

/// Record an event from outside, for triggers that wait for it
#[derive(Debug, Args)]
pub struct Emit {
    /// The event's name, such as file.arrived
    name: String,
    /// Its fields, as key=value: text, or JSON
    fields: Vec<String>,
}

impl Emit {
    /// Records the event and prints its number.
    pub fn run(self, root: &Path) -> Result<ExitCode> {
        let is_name = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b"_-0123456789".contains(&b))
        };
        if !self.name.contains('.') || !self.name.split('.').all(is_name) {
            let hint = "write words of a-z, 0-9, _ and - joined by dots, such as file.arrived";
            bail!(base::Error::input(format!("{:?} is not an event name", self.name)).hint(hint));
        }
        const OWN: [&str; 3] = ["run.", "job.", "chain."];
        if OWN.iter().any(|own| self.name.starts_with(own)) {
            let error = format!("names that begin with {} are reserved for Wattlake", OWN.join(", "));
            bail!(base::Error::input(error).hint("choose another name"));
        }
        let mut fields = Map::new();
        for field in &self.fields {
            let Some((key, value)) = field.split_once('=').filter(|(key, _)| !key.is_empty()) else {
                bail!(base::Error::input(format!("{field:?} is not a field")).hint("write key=value"));
            };
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
            fields.insert(key.to_owned(), value);
        }
        let warehouse = open_warehouse(root)?;
        let seq = warehouse.ledger.event(&self.name, None, Value::Object(fields))?;
        println!("event {seq}");
        Ok(ExitCode::SUCCESS)
    }
}
