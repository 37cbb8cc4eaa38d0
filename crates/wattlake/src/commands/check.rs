mod awaited;
mod flow;
mod misplaced;
mod shared;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use lake::TableName;
use owo_colors::{OwoColorize, Stream};
use serde_json::json;
use sql::Session;
use transfer::preflight::{self, Finding, Preflight, Severity, Way};

use crate::config::{Mart, Unset, Via};
use crate::flows::mart::{check_order, schema_of};
use crate::flows::transfer::{settings, source, target};
use crate::report;
use crate::system::LedgerTables;
use crate::text;
use crate::warehouse::Warehouse;

use awaited::Awaited;

/// Prove the whole configuration before anything runs
///
/// Reads every file, connects to every source, and looks at versions, permissions, keys, types,
/// cursors and indexes. What is wrong is said with its hint. Exits with 4 where a run would fail.
#[derive(Debug, Args)]
pub struct Check {
    /// One JSON object a finding
    #[arg(long)]
    json: bool,
}

impl Check {
    pub async fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = Warehouse::open(root)?;
        let mut errors = self.check_unset(&warehouse);
        for finding in misplaced::findings(&warehouse.config) {
            self.say("lake", &finding);
        }
        if let Err(error) = warehouse.lake().await {
            errors += self.failed("lake", &error);
        }
        for name in warehouse.config.transfers.keys() {
            errors += self.check_transfer(&warehouse, name).await;
        }
        if let Ok(lake) = warehouse.lake().await {
            errors += self.check_queries(&warehouse, &lake).await;
        }
        if errors > 0 {
            return Ok(ExitCode::from(report::code::FIX_SETUP));
        }
        if !self.json {
            println!("nothing stands in the way");
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The variables that parts lack; what needs them is not looked at further.
    fn check_unset(&self, warehouse: &Warehouse) -> usize {
        let unset = warehouse.config.unset();
        let problems = unset.iter().flat_map(|(part, unset)| unset.0.iter().map(move |problem| (part, problem)));
        let mut errors = 0;
        for (part, problem) in problems {
            errors += 1;
            let subject = format!("{}:{}:{}", problem.file.display(), problem.line, problem.column);
            let (what, hint) = (problem.what.clone(), problem.hint.clone());
            self.say(part, &Finding { severity: Severity::Error, subject, what, hint, shared: None });
        }
        errors
    }

    async fn check_transfer(&self, warehouse: &Warehouse, name: &str) -> usize {
        let preflight = match check(warehouse, name).await {
            Ok(preflight) => preflight,
            Err(error) => return self.failed(name, &error),
        };
        if self.json {
            preflight.findings.iter().for_each(|finding| self.say(name, finding));
        } else {
            let file = format!("transfers/{name}.toml");
            shared::together(&preflight.findings, &file).iter().for_each(|finding| self.say(name, finding));
            println!(
                "{name}: {}, {} tables, {} columns, about {} rows",
                preflight.server,
                preflight.tables,
                text::count(preflight.columns as u64),
                text::count(preflight.rows_estimate)
            );
        }
        preflight.findings.iter().filter(|finding| finding.severity == Severity::Error).count()
    }

    /// Returns how many errors it is: none where a variable is not set, which is said already.
    fn failed(&self, about: &str, error: &anyhow::Error) -> usize {
        if error.chain().any(|cause| cause.is::<Unset>()) {
            return 0;
        }
        self.say(about, &finding(error));
        1
    }

    /// Plans each query against the lake as it is.
    async fn check_queries(&self, warehouse: &Warehouse, lake: &lake::Lake) -> usize {
        let awaited = match Awaited::of(&warehouse.config, lake).await {
            Ok(awaited) => awaited,
            Err(error) => {
                self.say("lake", &finding(&error.into()));
                return 1;
            }
        };
        let errors =
            self.check_marts(warehouse, lake, &awaited).await + self.check_flow(warehouse, lake, &awaited).await;
        if let Some(note) = awaited.finding() {
            self.say("queries", &note);
        }
        errors
    }

    async fn check_marts(&self, warehouse: &Warehouse, lake: &lake::Lake, awaited: &Awaited<'_>) -> usize {
        let mut errors = 0;
        for mart in warehouse.config.marts_in_order() {
            if awaited.has(&mart.sql) {
                continue;
            }
            match prove(warehouse, lake, mart).await {
                Ok(()) if self.json => {}
                Ok(()) => println!("mart {}: {}", mart.name, mart.kind.as_str()),
                Err(error) => {
                    errors += 1;
                    self.say(&format!("mart {}", mart.name), &finding(&error));
                }
            }
        }
        errors
    }

    async fn check_flow(&self, warehouse: &Warehouse, lake: &lake::Lake, awaited: &Awaited<'_>) -> usize {
        let found = match flow::findings(warehouse, lake, awaited).await {
            Ok(found) => found,
            Err(error) => vec![("functions".to_owned(), finding(&error))],
        };
        for (about, finding) in &found {
            self.say(about, finding);
        }
        found.iter().filter(|(_, finding)| finding.severity == Severity::Error).count()
    }

    fn say(&self, about: &str, finding: &Finding) {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        if self.json {
            let value = json!({
                "transfer": about, "severity": severity, "subject": finding.subject,
                "what": finding.what, "hint": finding.hint,
            });
            println!("{value}");
            return;
        }
        let label = match finding.severity {
            Severity::Error => severity.if_supports_color(Stream::Stdout, |t| t.red()).to_string(),
            Severity::Warning => severity.if_supports_color(Stream::Stdout, |t| t.yellow()).to_string(),
            Severity::Note => severity.if_supports_color(Stream::Stdout, |t| t.dimmed()).to_string(),
        };
        // What is of the transfer as a whole has its name as the subject.
        let subject = if finding.subject == about { String::new() } else { format!("{}: ", finding.subject) };
        println!("{label}: {about}: {subject}{}", finding.what);
        if let Some(hint) = &finding.hint {
            println!("       {hint}");
        }
    }
}

async fn check(warehouse: &Warehouse, name: &str) -> Result<Preflight> {
    let config = warehouse.transfer(name)?;
    let way = match config.via {
        Via::Direct => Way::Direct,
        Via::Replica => Way::Replica,
        Via::Basebackup => Way::Basebackup,
    };
    if way == Way::Basebackup {
        warehouse.postgres()?;
    }
    let target = target(warehouse, config).await?;
    let source = source(warehouse, config)?;
    Ok(preflight::check(&settings(warehouse, config), &source, way, Some(&target)).await?)
}

/// Tables that no refresh has made yet are taken for views.
async fn prove(warehouse: &Warehouse, lake: &lake::Lake, mart: &Mart) -> Result<()> {
    let tables = lake.tables().await?;
    let mut views = warehouse.config.views().as_ref().clone();
    for other in warehouse.config.marts.values() {
        let name = TableName::new(&other.schema, &other.table);
        if !tables.contains(&name) {
            views.insert(name, other.sql.clone());
        }
    }
    let session = Session::new(lake.clone(), Arc::new(LedgerTables::of(&warehouse.ledger)), None)?;
    let query = session.with_views(Arc::new(views)).prepare(&mart.sql).await?;
    let schema = schema_of(&query.schema())?;
    if let Some(since) = &mart.since {
        query.check_since(since)?;
    }
    Ok(check_order(&mart.order, &schema)?)
}

fn finding(error: &anyhow::Error) -> Finding {
    let hint = error.chain().find_map(|e| e.downcast_ref::<transfer::Error>().and_then(|e| e.hint.clone()));
    Finding {
        severity: Severity::Error,
        subject: "setup".into(),
        what: report::chain(error.as_ref()),
        hint,
        shared: None,
    }
}
