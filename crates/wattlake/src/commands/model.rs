use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use base::text;
use clap::{Args, Subcommand};
use jobs::flows::training;
use jobs::model_host;
use jobs::runs::RunRequest;
use jobs::system::{MODEL_VERSIONS, TRAINING_JOBS};
use jobs::warehouse::{Warehouse, unknown};
use ledger::{ModelVersionRow, TrainingState};
use model::{APPROVED, PENDING_APPROVAL};
use serde_json::{Value, json};

use crate::program::open_warehouse;
use crate::report;

/// The alias that a promotion points without another name.
const CHAMPION: &str = "champion";

/// Models: training jobs, and the registry of their versions
#[derive(Debug, Subcommand)]
pub enum Model {
    Train(Train),
    Stop(Stop),
    Jobs(Jobs),
    Register(Register),
    List(List),
    Show(Show),
    Promote(Promote),
    Reject(Reject),
    Compare(Compare),
}

impl Model {
    /// Opens the warehouse and runs the subcommand.
    pub async fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = open_warehouse(root)?;
        training::settle_killed(&warehouse.ledger)?;
        match self {
            Model::Train(command) => command.run(&warehouse).await,
            Model::Stop(command) => command.run(&warehouse),
            Model::Jobs(command) => command.run(&warehouse),
            Model::Register(command) => command.run(&warehouse),
            Model::List(command) => command.run(&warehouse),
            Model::Show(command) => command.run(&warehouse),
            Model::Promote(command) => command.run(&warehouse),
            Model::Reject(command) => command.run(&warehouse),
            Model::Compare(command) => command.run(&warehouse),
        }
    }
}

/// Run a training job of trainings/, and register what it leaves as a version of its model
///
/// What it prints is printed to standard error while it runs, and is the log of its run.
#[derive(Debug, Args)]
pub struct Train {
    /// The file of trainings/
    #[arg(required_unless_present = "created")]
    name: Option<String>,
    /// A training job that was created by SageMaker's API
    #[arg(long, hide = true, conflicts_with = "name")]
    created: Option<String>,
    /// Read the lake as of this instant, RFC 3339
    #[arg(long)]
    as_of: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Train {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let mut request = RunRequest::by_hand();
        if let Some(as_of) = &self.as_of {
            request.parameters["as_of"] = json!(as_of);
        }
        let figures = match (&self.created, &self.name) {
            (Some(created), _) => training::run_created(warehouse, created).await?,
            (None, name) => {
                let output = Arc::new(|line: &str| eprintln!("{line}"));
                training::run(warehouse, &request, name.as_deref().unwrap_or_default(), output).await?
            }
        };
        print_training(&figures, self.json);
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints the figures of a run of a training job.
pub fn print_training(figures: &Value, json: bool) {
    if json {
        println!("{figures}");
        return;
    }
    let text = |key: &str| figures[key].as_str().unwrap_or_default();
    let seconds = figures["seconds"].as_f64().unwrap_or_default();
    let metrics = metrics_text(&figures["metrics"]);
    let (job, model, version) = (text("training_job"), text("model"), &figures["version"]);
    if version.is_null() {
        println!("{job}: artifact {} after {seconds:.1} s{metrics}", text("artifact"));
    } else {
        let approval = approval_text(text("approval"));
        println!("{job}: version {version} of model {model} after {seconds:.1} s, {approval}{metrics}");
    }
}

fn approval_text(approval: &str) -> &str {
    match approval {
        PENDING_APPROVAL => "pending approval",
        APPROVED => "approved",
        _ => "rejected",
    }
}

/// `: mae 0.5, rmse 1.25`; nothing without metrics.
fn metrics_text(metrics: &Value) -> String {
    let metrics = metrics.as_object().into_iter().flatten();
    let shown: Vec<String> = metrics.map(|(name, value)| format!("{name} {value}")).collect();
    if shown.is_empty() { String::new() } else { format!(": {}", shown.join(", ")) }
}

/// Stop a training job
///
/// Its program gets SIGTERM, and has two minutes to save its model.
#[derive(Debug, Args)]
pub struct Stop {
    /// The training job
    name: String,
}

impl Stop {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let jobs = warehouse.ledger.trainings(usize::MAX)?;
        let names: Vec<String> = jobs.into_iter().map(|job| job.name).collect();
        if !names.contains(&self.name) {
            return Err(unknown("training job", &self.name, "the warehouse", &names));
        }
        match warehouse.ledger.stop_training(&self.name)? {
            true => println!("training job {} is stopping", self.name),
            false => println!("training job {} has ended already", self.name),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// List training jobs, the newest first
#[derive(Debug, Args)]
pub struct Jobs {
    /// How many
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Print one JSON object for each
    #[arg(long)]
    json: bool,
}

impl Jobs {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        for job in warehouse.ledger.trainings(self.limit)? {
            if self.json {
                println!("{}", TRAINING_JOBS.json(&job));
                continue;
            }
            println!("{}: {}{}", job.name, job.state.name(), metrics_text(&job.metrics));
            if let Some(why) = job.failure.filter(|_| job.state == TrainingState::Failed) {
                println!("  {}", why.replace('\n', "\n  "));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Register a file as a version of a model
#[derive(Debug, Args)]
pub struct Register {
    /// The model
    model: String,
    /// A model.tar.gz, or a single file
    file: PathBuf,
    /// The image that serves it
    #[arg(long)]
    image: String,
    /// Let it be served without an approval
    #[arg(long)]
    approve: bool,
}

impl Register {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        if !model::is_name(&self.model) {
            let hint = "a name has up to 63 letters, digits and -, and begins and ends with a letter or a digit";
            return Err(report::input(format!("{:?} is not a model's name", self.model), hint));
        }
        let resources = model_host::resources(warehouse)?;
        let artifact = resources.artifacts.put(&self.file)?;
        let approval = if self.approve { APPROVED } else { PENDING_APPROVAL };
        let content = json!({"image": self.image, "file": self.file});
        let version = warehouse.ledger.register_model(&self.model, &artifact, None, approval, &content, &json!({}))?;
        println!("version {version} of model {}: {}", self.model, approval_text(approval));
        Ok(ExitCode::SUCCESS)
    }
}

/// List the versions of models
#[derive(Debug, Args)]
pub struct List {
    /// One model; all by default
    model: Option<String>,
    /// Print one JSON object for each
    #[arg(long)]
    json: bool,
}

impl List {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let versions = warehouse.ledger.model_versions(self.model.as_deref())?;
        if let Some(model) = self.model.filter(|_| versions.is_empty()) {
            return Err(unknown_model(warehouse, &model)?);
        }
        if versions.is_empty() && !self.json {
            println!("there is no version of a model; `wattlake model train` makes one");
        }
        for row in versions {
            if self.json {
                println!("{}", MODEL_VERSIONS.json(&row));
                continue;
            }
            println!("{}{}", title(&row), metrics_text(&row.metrics));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn title(row: &ModelVersionRow) -> String {
    let aliases = if row.aliases.is_empty() { String::new() } else { format!(" ({})", row.aliases.join(", ")) };
    format!("{} {}{aliases}: {}", row.model, row.version, approval_text(&row.approval))
}

fn unknown_model(warehouse: &Warehouse, name: &str) -> Result<anyhow::Error> {
    let mut known: Vec<String> = warehouse.ledger.model_versions(None)?.into_iter().map(|row| row.model).collect();
    known.dedup();
    Ok(unknown("model", name, "the registry", &known))
}

fn version(warehouse: &Warehouse, model: &str, qualifier: &str) -> Result<ModelVersionRow> {
    if let Some(found) = warehouse.ledger.model_version(model, qualifier)? {
        return Ok(found);
    }
    match warehouse.ledger.model_versions(Some(model))?.last() {
        None => Err(unknown_model(warehouse, model)?),
        Some(newest) => {
            let what = format!("model {model} has no version or alias {qualifier:?}");
            Err(report::input(what, format!("its newest version is {}", newest.version)))
        }
    }
}

/// Show a version of a model: what it was trained from, and its metrics
#[derive(Debug, Args)]
pub struct Show {
    /// The model
    model: String,
    /// A version's number, or an alias
    version: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Show {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let row = version(warehouse, &self.model, &self.version)?;
        if self.json {
            println!("{}", MODEL_VERSIONS.json(&row));
            return Ok(ExitCode::SUCCESS);
        }
        println!("{}", title(&row));
        println!("image          {}", row.content["image"].as_str().unwrap_or_default());
        println!("artifact       {}", row.artifact);
        println!("training job   {}", row.training_job.as_deref().unwrap_or("none"));
        for (name, value) in row.metrics.as_object().into_iter().flatten() {
            println!("metric         {name} {value}");
        }
        let lineage = &row.content["lineage"];
        for (name, value) in lineage["hyperparameters"].as_object().into_iter().flatten() {
            println!("hyperparameter {name} = {}", value.as_str().unwrap_or_default());
        }
        for (name, channel) in lineage["channels"].as_object().into_iter().flatten() {
            let rows = channel["rows"].as_u64().map(|rows| format!(", {} rows", text::count(rows))).unwrap_or_default();
            let from = channel["query"].as_str().or(channel["url"].as_str()).unwrap_or_default();
            println!("channel        {name}: sha256 {}{rows}: {from}", channel["sha256"].as_str().unwrap_or_default());
        }
        if let Some(as_of) = lineage["as_of"].as_str() {
            println!("as of          {as_of}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Approve a version of a model, and point an alias at it
#[derive(Debug, Args)]
pub struct Promote {
    /// The model
    model: String,
    /// A version's number, or another alias
    version: String,
    /// The alias
    #[arg(long, default_value = CHAMPION)]
    alias: String,
}

impl Promote {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        if !model::is_name(&self.alias) || self.alias.parse::<i64>().is_ok() {
            return Err(report::input(format!("{:?} is not an alias", self.alias), "use letters, digits and -"));
        }
        let row = version(warehouse, &self.model, &self.version)?;
        let (model, number) = (&row.model, row.version);
        warehouse.ledger.approve_model(model, number, APPROVED)?;
        warehouse.ledger.point_model_alias(model, &self.alias, number)?;
        println!("{model} {number} is approved, and {} points at it", self.alias);
        let url = format!("{}{model}/{}", model::REGISTRY_SCHEME, self.alias);
        let uses =
            |one: &&model::EndpointDefinition| one.variants.iter().any(|variant| variant.data.as_ref() == Some(&url));
        for endpoint in warehouse.config.endpoints.values().filter(uses) {
            println!("endpoint {} serves it after: wattlake endpoint apply {}", endpoint.name, endpoint.name);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Reject a version of a model, so that it can't be served
#[derive(Debug, Args)]
pub struct Reject {
    /// The model
    model: String,
    /// A version's number
    version: String,
}

impl Reject {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let row = version(warehouse, &self.model, &self.version)?;
        if !row.aliases.is_empty() {
            let what = format!("{} {} has aliases: {}", row.model, row.version, row.aliases.join(", "));
            return Err(report::input(what, "promote another version first"));
        }
        warehouse.ledger.approve_model(&row.model, row.version, model::REJECTED)?;
        println!("{} {} is rejected", row.model, row.version);
        Ok(ExitCode::SUCCESS)
    }
}

/// Compare two versions of a model: metrics, hyperparameters and channels
#[derive(Debug, Args)]
pub struct Compare {
    /// The model
    model: String,
    /// A version's number, or an alias
    first: String,
    /// A version's number, or an alias
    second: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Compare {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let first = version(warehouse, &self.model, &self.first)?;
        let second = version(warehouse, &self.model, &self.second)?;
        let differences = differences(&first, &second);
        if self.json {
            println!("{}", json!(differences.iter().map(|(what, a, b)| json!([what, a, b])).collect::<Vec<_>>()));
            return Ok(ExitCode::SUCCESS);
        }
        println!("{:<30} {:>24} {:>24}", self.model, first.version, second.version);
        for (what, a, b) in &differences {
            println!("{what:<30} {:>24} {:>24}", shown(a), shown(b));
        }
        if differences.is_empty() {
            println!("the two versions do not differ");
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn shown(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if value.is_null() { "-".to_owned() } else { text.chars().take(24).collect() }
}

/// What differs, by name: metrics first.
fn differences(first: &ModelVersionRow, second: &ModelVersionRow) -> Vec<(String, Value, Value)> {
    let channels = |row: &ModelVersionRow| {
        let all = row.content["lineage"]["channels"].as_object().into_iter().flatten();
        Value::Object(all.map(|(name, channel)| (name.clone(), channel["sha256"].clone())).collect())
    };
    let parameters = |row: &ModelVersionRow| row.content["lineage"]["hyperparameters"].clone();
    let code = |row: &ModelVersionRow| json!({"container": row.content["lineage"]["container"]["code"], "script": row.content["lineage"]["code"]});
    let parts = [
        ("metric", first.metrics.clone(), second.metrics.clone()),
        ("hyperparameter", parameters(first), parameters(second)),
        ("channel", channels(first), channels(second)),
        ("code", code(first), code(second)),
    ];
    let mut found = Vec::new();
    for (kind, a, b) in parts {
        let names = [&a, &b].into_iter().filter_map(Value::as_object).flatten().map(|(name, _)| name.clone());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names.dedup();
        for name in names.into_iter().filter(|name| a[name] != b[name]) {
            found.push((format!("{kind} {name}"), a[&name].clone(), b[&name].clone()));
        }
    }
    found
}
