use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use base::text;
use clap::{Args, Subcommand, ValueEnum};
use config::{Mart as MartConfig, MartKind};
use jobs::flows::mart::{refresh, status};
use jobs::runs::RunRequest;
use jobs::warehouse::Warehouse;
use serde_json::{Value, json};

use crate::program::open_warehouse;
use crate::report;

/// Named queries as views or tables: marts/NAME.sql
#[derive(Debug, Subcommand)]
pub enum Mart {
    List(List),
    Refresh(Refresh),
    Graph(Graph),
}

impl Mart {
    /// Opens the warehouse and runs the subcommand.
    pub async fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = open_warehouse(root)?;
        match self {
            Mart::List(command) => command.run(&warehouse).await,
            Mart::Refresh(command) => command.run(&warehouse).await,
            Mart::Graph(command) => command.run(&warehouse),
        }
    }
}

/// List the marts, and whether each is up to date
#[derive(Debug, Args)]
pub struct List {
    /// Print one JSON object for each mart
    #[arg(long)]
    json: bool,
}

impl List {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let lake = warehouse.lake().await?;
        let mut rows = Vec::new();
        for mart in warehouse.config.marts_in_order() {
            let status = status(&warehouse.config, &lake, &warehouse.ledger, mart).await?;
            if self.json {
                let inputs = status.inputs.iter().map(|(name, version)| (name.to_string(), json!(version)));
                let shown = json!({
                    "mart": mart.name, "table": format!("{}.{}", mart.schema, mart.table),
                    "kind": mart.kind.as_str(), "description": mart.description,
                    "state": status.state.as_str(), "why": status.state.why(),
                    "rows": status.rows, "version": status.version,
                    "refreshed_at": status.refreshed_at.map(|at| at.to_rfc3339()),
                    "inputs": inputs.collect::<serde_json::Map<_, _>>(), "stands_on": mart.depends_on,
                    "refreshed_after": warehouse.config.jobs_before(mart),
                });
                println!("{shown}");
                continue;
            }
            rows.push(vec![
                mart.name.clone(),
                mart.kind.as_str().to_owned(),
                status.state.as_str().to_owned(),
                status.rows.map(text::count).unwrap_or_default(),
                status.refreshed_at.map(|at| at.format("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default(),
                status.state.why().or(mart.description.as_deref()).unwrap_or_default().to_owned(),
            ]);
        }
        if !self.json {
            print!("{}", text::table(&["mart", "kind", "state", ">rows", "refreshed (UTC)", ""], &rows));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Refresh a mart's table from the present tables of the lake
///
/// Does nothing where nothing changed. With `since`, computes only the part that may differ.
#[derive(Debug, Args)]
pub struct Refresh {
    /// Only this mart, without those that it depends on
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    name: Option<String>,
    /// All tables, each after those that it depends on
    #[arg(long)]
    all: bool,
    /// Compute everything again
    #[arg(long)]
    full: bool,
    /// Print one JSON object for each mart
    #[arg(long)]
    json: bool,
}

impl Refresh {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        if let Some(name) = &self.name {
            let figures = refresh(warehouse, &RunRequest::by_hand(), name, self.full).await?;
            print_refresh(name, &figures, self.json);
            return Ok(ExitCode::SUCCESS);
        }
        let mut failed: BTreeSet<&str> = BTreeSet::new();
        let mut code = ExitCode::SUCCESS;
        for mart in warehouse.config.marts_in_order() {
            if let Some(input) = mart.depends_on.iter().find(|input| failed.contains(input.as_str())) {
                failed.insert(&mart.name);
                if mart.kind == MartKind::Table {
                    eprintln!("{}: not refreshed, since {input} failed", mart.name);
                }
                continue;
            }
            if mart.kind == MartKind::View {
                continue;
            }
            match refresh(warehouse, &RunRequest::by_hand(), &mart.name, self.full).await {
                Ok(figures) => print_refresh(&mart.name, &figures, self.json),
                // Marts that do not depend on it are still refreshed; the first failure gives the exit code.
                Err(error) => {
                    let failure = report::failure(&error);
                    if failed.is_empty() {
                        code = failure;
                    }
                    failed.insert(&mart.name);
                }
            }
        }
        Ok(code)
    }
}

/// Prints the result of a refresh from the figures of its run.
pub fn print_refresh(name: &str, figures: &Value, json: bool) {
    if json {
        let mut figures = figures.clone();
        figures["mart"] = json!(name);
        println!("{figures}");
        return;
    }
    let count = |key: &str| text::count(figures[key].as_u64().unwrap_or_default());
    let took = text::seconds(figures["seconds"].as_f64().unwrap_or_default());
    match (figures["how"].as_str(), figures["why"].as_str()) {
        (Some("pending"), why) => println!("{name}: pending, {}", why.unwrap_or_default()),
        (Some("nothing"), _) => println!("{name}: up to date ({took})"),
        (Some("part"), _) => {
            println!("{name}: {} rows replace {} ({took})", count("rows"), count("replaced"));
        }
        (_, why) => println!("{name}: {} rows, computed in full: {} ({took})", count("rows"), why.unwrap_or_default()),
    }
}

/// Show which tables and marts each mart reads
#[derive(Debug, Args)]
pub struct Graph {
    #[arg(long, default_value = "text")]
    format: GraphFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum GraphFormat {
    Text,
    /// For Graphviz
    Dot,
    Mermaid,
}

impl Graph {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        if warehouse.config.marts.is_empty() {
            return Err(report::input("there are no marts", "write one as marts/NAME.sql"));
        }
        let marts = warehouse.config.marts_in_order();
        match self.format {
            GraphFormat::Text => {
                for mart in marts {
                    println!("{} ({})", mart.name, mart.kind.as_str());
                    inputs(&warehouse.config, mart).iter().for_each(|input| println!("  {input}"));
                }
            }
            GraphFormat::Dot => {
                println!("digraph marts {{\n  rankdir=LR;");
                for mart in marts {
                    let shape = if mart.kind == MartKind::Table { "box" } else { "ellipse" };
                    println!("  {:?} [shape={shape}];", mart.name);
                    inputs(&warehouse.config, mart)
                        .iter()
                        .for_each(|input| println!("  {input:?} -> {:?};", mart.name));
                }
                println!("}}");
            }
            GraphFormat::Mermaid => {
                println!("graph LR");
                for mart in marts {
                    let (open, close) = if mart.kind == MartKind::Table { ("[", "]") } else { ("([", "])") };
                    println!("  {0}{open}\"{0}\"{close}", mart.name);
                    inputs(&warehouse.config, mart).iter().for_each(|input| println!("  {input} --> {}", mart.name));
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What a mart reads: names of marts, and names of other tables as the query has them.
fn inputs(config: &config::Warehouse, mart: &MartConfig) -> BTreeSet<String> {
    let named = |read: &sql::Reference| {
        let input =
            mart.depends_on.iter().filter_map(|name| config.marts.get(name)).find(|input| input.may_be_named_by(read));
        match (input, &read.schema) {
            (Some(input), _) => input.name.clone(),
            (None, Some(schema)) => format!("{schema}.{}", read.table),
            (None, None) => read.table.clone(),
        }
    };
    mart.reads.iter().map(named).collect()
}
