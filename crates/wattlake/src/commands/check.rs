mod flow;
mod group;
mod misplaced;
mod unfilled;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use base::text;
use clap::Args;
use config::{Mart, UnsetVariables, Via};
use jobs::flows::mart::{check_order, schema_of};
use jobs::flows::transfer::{settings, source, target};
use jobs::system::LedgerTables;
use jobs::unfilled_tables::UnfilledTables;
use jobs::warehouse::Warehouse;
use lake::TableName;
use owo_colors::{OwoColorize, Stream};
use serde_json::json;
use sql::Session;
use transfer::preflight::{self, Finding, PreflightReport, ReadPath, Severity};

use crate::report;

use crate::program::open_warehouse;
use unfilled::UnfilledQueries;

/// Check the whole configuration before anything runs
///
/// Reads every file, connects to every source, and looks at versions, permissions, keys, types,
/// cursors and indexes. Each finding comes with a hint. Exits with 4 where a run would fail.
#[derive(Debug, Args)]
pub struct Check {
    /// Print one JSON object for each finding
    #[arg(long)]
    json: bool,
}

impl Check {
    /// Prints the findings and returns the exit code.
    pub async fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = open_warehouse(root)?;
        let mut errors = self.check_unset(&warehouse);
        for finding in misplaced::findings(&warehouse.config) {
            self.print("lake", &finding);
        }
        let probed = async { anyhow::Ok(warehouse.lake().await?.check_store().await?) };
        if let Err(error) = probed.await {
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
            println!("no errors found");
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Prints the variables that are not set; the parts that need them are not checked further. Returns their number.
    fn check_unset(&self, warehouse: &Warehouse) -> usize {
        let unset = warehouse.config.unset();
        let problems = unset.iter().flat_map(|(part, unset)| unset.0.iter().map(move |problem| (part, problem)));
        let mut errors = 0;
        for (part, problem) in problems {
            errors += 1;
            let subject = format!("{}:{}:{}", problem.file.display(), problem.line, problem.column);
            let (what, hint) = (problem.what.clone(), problem.hint.clone());
            self.print(part, &Finding { severity: Severity::Error, subject, what, hint, common: None });
        }
        errors
    }

    async fn check_transfer(&self, warehouse: &Warehouse, name: &str) -> usize {
        match check_stream(warehouse, name).await {
            Ok(None) => {}
            Ok(Some(state)) => {
                if !self.json {
                    println!("{name}: {state}");
                }
                if warehouse.transfer(name).is_ok_and(config::Transfer::is_consumer) {
                    return 0;
                }
            }
            Err(error) => return self.failed(name, &error),
        }
        let preflight = match check(warehouse, name).await {
            Ok(preflight) => preflight,
            Err(error) => return self.failed(name, &error),
        };
        if self.json {
            preflight.findings.iter().for_each(|finding| self.print(name, finding));
        } else {
            let file = format!("transfers/{name}.toml");
            group::group_findings(&preflight.findings, &file).iter().for_each(|finding| self.print(name, finding));
            println!(
                "{name}: {}, {}, {}, about {}",
                preflight.server,
                text::quantity(preflight.tables as u64, "table"),
                text::quantity(preflight.columns as u64, "column"),
                text::quantity(preflight.rows_estimate, "row")
            );
        }
        preflight.findings.iter().filter(|finding| finding.severity == Severity::Error).count()
    }

    /// Prints an error, and returns 1; 0 where a variable is not set, since [`Check::check_unset`] has printed it.
    fn failed(&self, about: &str, error: &anyhow::Error) -> usize {
        if error.chain().any(|cause| cause.is::<UnsetVariables>()) {
            return 0;
        }
        self.print(about, &finding(error));
        1
    }

    /// Plans each query against the present tables of the lake.
    async fn check_queries(&self, warehouse: &Warehouse, lake: &lake::Lake) -> usize {
        let unfilled = match UnfilledTables::of(&warehouse.config, lake).await {
            Ok(tables) => UnfilledQueries::new(tables),
            Err(error) => {
                self.print("lake", &finding(&error.into()));
                return 1;
            }
        };
        let errors =
            self.check_marts(warehouse, lake, &unfilled).await + self.check_flow(warehouse, lake, &unfilled).await;
        if let Some(note) = unfilled.finding() {
            self.print("queries", &note);
        }
        errors
    }

    async fn check_marts(&self, warehouse: &Warehouse, lake: &lake::Lake, unfilled: &UnfilledQueries<'_>) -> usize {
        let mut errors = 0;
        for mart in warehouse.config.marts_in_order() {
            if unfilled.add(&mart.sql) {
                continue;
            }
            match plan_mart(warehouse, lake, mart).await {
                Ok(()) if self.json => {}
                Ok(()) => println!("mart {}: {}", mart.name, mart.kind.as_str()),
                Err(error) => {
                    errors += 1;
                    self.print(&format!("mart {}", mart.name), &finding(&error));
                }
            }
        }
        errors
    }

    async fn check_flow(&self, warehouse: &Warehouse, lake: &lake::Lake, unfilled: &UnfilledQueries<'_>) -> usize {
        let found = match flow::findings(warehouse, lake, unfilled).await {
            Ok(found) => found,
            Err(error) => vec![("functions".to_owned(), finding(&error))],
        };
        for (about, finding) in &found {
            self.print(about, finding);
        }
        found.iter().filter(|(_, finding)| finding.severity == Severity::Error).count()
    }

    fn print(&self, about: &str, finding: &Finding) {
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
        // A finding about the whole transfer has the transfer's name as its subject: it is not printed twice.
        let subject = if finding.subject == about { String::new() } else { format!("{}: ", finding.subject) };
        println!("{label}: {about}: {subject}{}", finding.what);
        if let Some(hint) = &finding.hint {
            println!("       {hint}");
        }
    }
}

/// The state of a transfer's stream; `None` where it has none.
async fn check_stream(warehouse: &Warehouse, name: &str) -> Result<Option<String>> {
    let Some(stream) = &warehouse.transfer(name)?.stream else { return Ok(None) };
    let (address, credentials) = (&stream.address, warehouse.aws_credentials());
    let reader = match stream::Reader::connect(address, "wattlake-check", &credentials).await {
        Ok(reader) => reader,
        // The first run of the transfer that publishes creates it.
        Err(error) if error.state == Some("missing") => {
            return Ok(Some(format!("{}: there is no such stream yet", address.display())));
        }
        Err(error) => return Err(error.into()),
    };
    let shards = reader.shards().await?.len() as u64;
    Ok(Some(format!("{}: {}", address.display(), text::quantity(shards, "shard"))))
}

async fn check(warehouse: &Warehouse, name: &str) -> Result<PreflightReport> {
    let config = warehouse.transfer(name)?;
    let path = match config.via {
        Via::Direct => ReadPath::Direct,
        Via::Replica => ReadPath::Replica,
        Via::Basebackup => ReadPath::Basebackup,
    };
    if path == ReadPath::Basebackup {
        warehouse.postgres()?;
    }
    let target = target(warehouse, config).await?;
    let source = source(warehouse, config)?;
    Ok(preflight::check(&settings(warehouse, config), &source, path, Some(&target)).await?)
}

/// Plans a mart's query. A mart whose table no refresh has written yet is planned as a view.
async fn plan_mart(warehouse: &Warehouse, lake: &lake::Lake, mart: &Mart) -> Result<()> {
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
        what: base::chain(error.as_ref()),
        hint,
        common: None,
    }
}
