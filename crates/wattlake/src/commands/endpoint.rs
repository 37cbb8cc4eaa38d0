use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use jobs::model_host;
use jobs::warehouse::{SERVER_LOCK, Warehouse, unknown};
use ledger::{EndpointRow, EndpointState};
use model::template::{self, TemplateParameters};
use model::{EndpointDefinition, Resources};
use serde_json::json;

use crate::program::open_warehouse;
use crate::report;

/// Between two looks whether an endpoint is in service.
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// Endpoints, which answer with models as on SageMaker: endpoints/NAME.toml
#[derive(Debug, Subcommand)]
pub enum Endpoint {
    Apply(Apply),
    List(List),
    Logs(Logs),
    Delete(Delete),
}

impl Endpoint {
    /// Opens the warehouse and runs the subcommand.
    pub async fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = open_warehouse(root)?;
        match self {
            Endpoint::Apply(command) => command.run(&warehouse).await,
            Endpoint::List(command) => command.run(&warehouse),
            Endpoint::Logs(command) => command.run(&warehouse),
            Endpoint::Delete(command) => command.run(&warehouse).await,
        }
    }
}

/// Bring endpoints to what their files declare
///
/// Shows the plan first: which models, configurations and endpoints are created or updated. An update starts the new
/// models beside the old ones, and goes back by itself where one of them does not answer.
#[derive(Debug, Args)]
pub struct Apply {
    /// Names of endpoints/; all by default
    names: Vec<String>,
    /// An AWS CloudFormation template, in YAML or JSON, in place of endpoints/
    #[arg(long, value_name = "FILE", conflicts_with = "names")]
    template: Option<PathBuf>,
    /// A value of a parameter of the template
    #[arg(long = "parameter", value_name = "NAME=VALUE", requires = "template")]
    parameters: Vec<String>,
    /// The name from which endpoints without one get theirs; the file's name by default
    #[arg(long, requires = "template")]
    stack: Option<String>,
    /// Show the plan only
    #[arg(long)]
    dry_run: bool,
    /// Do not wait until the endpoints are in service
    #[arg(long)]
    no_wait: bool,
}

impl Apply {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let resources = model_host::resources(warehouse)?;
        let mut plans = Vec::new();
        for definition in self.declared(warehouse)? {
            let plan = resources.plan(&definition)?;
            println!("{plan}");
            plans.push(plan);
        }
        if self.dry_run {
            return Ok(ExitCode::SUCCESS);
        }
        for plan in &plans {
            resources.carry_out(plan)?;
        }
        let changed = plans.iter().filter(|plan| !plan.is_unchanged());
        let changed: Vec<&str> = changed.map(|plan| plan.endpoint.as_str()).collect();
        if changed.is_empty() || self.no_wait {
            return Ok(ExitCode::SUCCESS);
        }
        if !is_served(warehouse)? {
            println!("the endpoints are started by the next `wattlake serve`");
            return Ok(ExitCode::SUCCESS);
        }
        let mut failed = false;
        for name in changed {
            failed |= !wait(&resources, name).await?;
        }
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

impl Apply {
    /// The endpoints to apply: of a template, or of the warehouse.
    fn declared(&self, warehouse: &Warehouse) -> Result<Vec<EndpointDefinition>> {
        if let Some(file) = &self.template {
            return self.of_template(file);
        }
        let declared = &warehouse.config.endpoints;
        if declared.is_empty() && self.names.is_empty() {
            return Err(report::input("endpoints/ has no endpoint", "write endpoints/NAME.toml"));
        }
        let names: Vec<&String> = match &self.names[..] {
            [] => declared.keys().collect(),
            names => names.iter().collect(),
        };
        let find = |name: &String| {
            let found = declared.get(name).cloned();
            found.ok_or_else(|| unknown("endpoint", name, "endpoints/", declared.keys()))
        };
        names.into_iter().map(find).collect()
    }

    fn of_template(&self, file: &Path) -> Result<Vec<EndpointDefinition>> {
        let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let mut parameters = TemplateParameters {
            stack: match &self.stack {
                Some(stack) => stack.clone(),
                None => file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            },
            ..TemplateParameters::default()
        };
        for written in &self.parameters {
            let split = written.split_once('=');
            let (name, value) =
                split.ok_or_else(|| report::input(format!("{written:?} is no parameter"), "write NAME=VALUE"))?;
            parameters.values.insert(name.to_owned(), value.to_owned());
        }
        template::read(file, &text, &parameters).map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(|problem| format!("  {problem}")).collect();
            base::Error::input(format!("the template can't be applied:\n{}", lines.join("\n"))).into()
        })
    }
}

/// Whether a server runs on the warehouse.
fn is_served(warehouse: &Warehouse) -> Result<bool> {
    Ok(warehouse.ledger.take_lease(SERVER_LOCK)?.is_none())
}

/// Waits until a change of an endpoint has ended, and prints how. False where it has failed.
async fn wait(resources: &Resources, name: &str) -> Result<bool> {
    let began = Instant::now();
    loop {
        let Some(row) = resources.ledger().endpoint(name)? else { bail!("endpoint {name} was deleted meanwhile") };
        if !row.state.is_pending() {
            let seconds = began.elapsed().as_secs_f64();
            return Ok(match &row.failure {
                None => {
                    println!("endpoint {name} is in service after {seconds:.1} s");
                    true
                }
                Some(why) if row.state == EndpointState::InService => {
                    println!("endpoint {name} was not updated, and serves {} as before: {why}", row.config);
                    false
                }
                Some(why) => {
                    println!("endpoint {name} has failed: {why}");
                    false
                }
            });
        }
        tokio::time::sleep(LOOK_PERIOD).await;
    }
}

/// List endpoints with their states
#[derive(Debug, Args)]
pub struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl List {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let rows = warehouse.ledger.endpoints()?;
        if self.json {
            let all: Vec<_> = rows.iter().map(|row| jobs::system::ENDPOINTS.json(row)).collect();
            println!("{}", json!(all));
            return Ok(ExitCode::SUCCESS);
        }
        if rows.is_empty() {
            println!("there is no endpoint; declare one in endpoints/NAME.toml");
        }
        for EndpointRow { name, state, config, failure, .. } in rows {
            println!("{name}: {}, {config}", state.name());
            if let Some(why) = failure {
                println!("  {}", why.replace('\n', "\n  "));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Print what the models of an endpoint have printed
#[derive(Debug, Args)]
pub struct Logs {
    /// The endpoint
    name: String,
    /// How many of the last lines
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

impl Logs {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        known(warehouse, &self.name)?;
        for line in model_host::journal(warehouse)?.lines(&self.name, None, self.limit)? {
            println!("{} {} {}", line.at, line.version, line.text);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Delete an endpoint
///
/// Its models and its configurations stay.
#[derive(Debug, Args)]
pub struct Delete {
    /// The endpoint
    name: String,
}

impl Delete {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        known(warehouse, &self.name)?;
        warehouse.ledger.delete_endpoint(&self.name).context("delete the endpoint")?;
        let name = &self.name;
        if !is_served(warehouse)? {
            println!("endpoint {name} is removed by the next `wattlake serve`");
            return Ok(ExitCode::SUCCESS);
        }
        while warehouse.ledger.endpoint(name)?.is_some() {
            tokio::time::sleep(LOOK_PERIOD).await;
        }
        println!("endpoint {name} is deleted");
        Ok(ExitCode::SUCCESS)
    }
}

fn known(warehouse: &Warehouse, name: &str) -> Result<()> {
    let rows = warehouse.ledger.endpoints()?;
    let names: Vec<String> = rows.into_iter().map(|row| row.name).collect();
    match names.iter().any(|known| known == name) {
        true => Ok(()),
        false => Err(unknown("endpoint", name, "the warehouse", &names)),
    }
}
