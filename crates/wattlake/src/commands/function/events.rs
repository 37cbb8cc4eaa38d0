//! Asynchronous events: their list, and what becomes of dead letters.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use base::text;
use clap::Args;
use jobs::warehouse::Warehouse;
use uuid::Uuid;

use super::check_name;
use crate::report;

/// How a user finds dead letters.
const DEAD_LETTERS: &str = "`wattlake function events --state dead` lists the dead letters";
/// More dead letters than a queue holds.
const ALL: usize = 1_000_000;

/// List asynchronous events, the newest first
#[derive(Debug, Args)]
pub struct Events {
    /// Only events of this function
    name: Option<String>,
    /// Only events in this state
    #[arg(long, value_parser = ["waiting", "running", "succeeded", "failed", "dead", "resent", "dropped"])]
    state: Option<String>,
    /// At most so many of the newest events
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Print one JSON object for each line
    #[arg(long)]
    json: bool,
}

impl Events {
    pub fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        if let Some(name) = &self.name {
            check_name(warehouse, name)?;
        }
        let events = warehouse.ledger.invocations(self.limit, self.name.as_deref(), self.state.as_deref())?;
        if self.json {
            for event in &events {
                println!("{}", serde_json::to_string(event).context("write an event")?);
            }
            return Ok(ExitCode::SUCCESS);
        }
        let rows: Vec<Vec<String>> = events
            .into_iter()
            .map(|event| {
                let error = event.error.unwrap_or_default();
                let at = event.created_at.format("%Y-%m-%d %H:%M:%S").to_string();
                vec![event.request_id, event.function, event.state, event.attempts.to_string(), at, error]
            })
            .collect();
        print!("{}", text::table(&["event", "function", "state", ">attempts", "at", "error"], &rows));
        Ok(ExitCode::SUCCESS)
    }
}

/// Print the payload of a pending event or a dead letter
#[derive(Debug, Args)]
pub struct Event {
    /// The event's id
    event: String,
}

impl Event {
    pub fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let Some(payload) = warehouse.ledger.invocation_payload(&self.event)? else {
            let what = match warehouse.ledger.invocation(&self.event)? {
                Some(event) => format!("event {} is {}: its payload is not kept", self.event, event.state),
                None => format!("there is no event {}", self.event),
            };
            return Err(report::input(what, "`wattlake function events` lists the events"));
        };
        std::io::stdout().write_all(&payload).context("print the payload")?;
        println!();
        Ok(ExitCode::SUCCESS)
    }
}

/// Which dead letters a command is for.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Letters {
    /// The events' ids
    events: Vec<String>,
    /// All dead letters of all functions
    #[arg(long)]
    all: bool,
    /// All dead letters of this function
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
}

impl Letters {
    fn ids(self, warehouse: &Warehouse) -> Result<Vec<String>> {
        if !self.all && self.function.is_none() {
            return Ok(self.events);
        }
        if let Some(name) = &self.function {
            check_name(warehouse, name)?;
        }
        let mut dead = warehouse.ledger.invocations(ALL, self.function.as_deref(), Some("dead"))?;
        // In the order in which they came.
        dead.reverse();
        Ok(dead.into_iter().map(|event| event.request_id).collect())
    }
}

/// Put dead letters into the queue again
#[derive(Debug, Args)]
pub struct Resend {
    #[command(flatten)]
    letters: Letters,
}

impl Resend {
    pub fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        for event in self.letters.ids(warehouse)? {
            let new = Uuid::now_v7().to_string();
            if !warehouse.ledger.resend_invocation(&event, &new)? {
                return Err(report::input(format!("{event} is not a dead letter"), DEAD_LETTERS));
            }
            println!("{new}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Drop dead letters: their payloads are removed, they stay in the list of events
#[derive(Debug, Args)]
pub struct Drop {
    #[command(flatten)]
    letters: Letters,
}

impl Drop {
    pub fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        for event in self.letters.ids(warehouse)? {
            if !warehouse.ledger.drop_invocation(&event)? {
                return Err(report::input(format!("{event} is not a dead letter"), DEAD_LETTERS));
            }
            println!("{event}");
        }
        Ok(ExitCode::SUCCESS)
    }
}
