mod events;

use std::collections::BTreeSet;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use base::text;
use bytes::Bytes;
use clap::{Args, Subcommand};
use function::definition::{Finding, refused_by_aws};
use function::host::{Answer, Event, EventFiles, Input};
use function::registry::{DeploymentResult, FunctionVersion, LATEST};
use jobs::flows::function::{failure_text, latest_answer, open_answer, refusal_error};
use jobs::function_host::{self, FunctionCall, Host};
use jobs::warehouse::{Warehouse, unknown};
use ledger::Invocation;
use schedule::Period;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::program::open_warehouse;
use crate::report;

/// How a user finds what is deployed.
const DEPLOYED: &str = "`wattlake function list` shows what is deployed";

/// Refuses a name that neither a deployed function nor one of functions/ has.
fn check_name(warehouse: &Warehouse, name: &str) -> Result<()> {
    let deployed = function_host::registry(warehouse)?.list()?.into_iter().map(|found| found.name);
    let known: BTreeSet<String> = deployed.chain(warehouse.config.functions.keys().cloned()).collect();
    if known.contains(name) { Ok(()) } else { Err(unknown("function", name, "the warehouse", &known)) }
}

/// Functions that run as on AWS Lambda: functions/NAME/
#[derive(Debug, Subcommand)]
pub enum Function {
    Deploy(Deploy),
    List(List),
    Invoke(Invoke),
    Answer(PrintAnswer),
    Logs(Logs),
    Events(events::Events),
    Event(events::Event),
    Resend(events::Resend),
    Drop(events::Drop),
    Delete(Delete),
}

impl Function {
    /// Opens the warehouse and runs the subcommand.
    pub async fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = open_warehouse(root)?;
        match self {
            Function::Deploy(command) => command.run(&warehouse),
            Function::List(command) => command.run(&warehouse),
            Function::Invoke(command) => command.run(&warehouse).await,
            Function::Answer(command) => command.run(&warehouse).await,
            Function::Logs(command) => command.run(&warehouse),
            Function::Events(command) => command.run(&warehouse),
            Function::Event(command) => command.run(&warehouse),
            Function::Drop(command) => command.run(&warehouse),
            Function::Resend(command) => command.run(&warehouse),
            Function::Delete(command) => command.run(&warehouse),
        }
    }
}

/// Deploy functions with their layers
///
/// A new version is made only where the content has changed. Prints what AWS Lambda would refuse.
#[derive(Debug, Args)]
pub struct Deploy {
    /// Folders of functions/; all by default
    names: Vec<String>,
    /// Point this alias at the version
    #[arg(long)]
    alias: Option<String>,
    /// Print one JSON object for each function
    #[arg(long)]
    json: bool,
}

impl Deploy {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let names: Vec<&str> = match &self.names[..] {
            [] => warehouse.config.functions.keys().map(String::as_str).collect(),
            names => names.iter().map(String::as_str).collect(),
        };
        if names.is_empty() {
            return Err(report::input("functions/ has no function", "write functions/NAME/function.toml"));
        }
        let registry = function_host::registry(warehouse)?;
        for name in names {
            let definition = &warehouse.function(name)?.definition;
            let deployed = registry.deploy(definition)?;
            if let Some(alias) = &self.alias {
                registry.point_alias(name, alias, deployed.version)?;
            }
            self.print(name, &deployed, &refused_by_aws(definition, &deployed.sizes));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn print(&self, name: &str, deployed: &DeploymentResult, findings: &[Finding]) {
        if self.json {
            let findings: Vec<Value> = findings.iter().map(|f| json!({"what": f.what, "hint": f.hint})).collect();
            let layers: Vec<String> = deployed.layers.iter().map(ToString::to_string).collect();
            let shown = json!({
                "function": name, "version": deployed.version, "new": deployed.new, "alias": self.alias,
                "content": deployed.content.to_string(), "code": deployed.code.to_string(), "layers": layers,
                "code_bytes": deployed.sizes.code_zip_bytes, "unpacked_bytes": deployed.sizes.unpacked_bytes,
                "refused_by_aws": findings,
            });
            println!("{shown}");
            return;
        }
        let what = if deployed.new { "deployed" } else { "is unchanged" };
        let (code, unpacked) = (deployed.sizes.code_zip_bytes, deployed.sizes.unpacked_bytes);
        println!(
            "{name}: version {} {what}: code {}, {} layers, {} unpacked",
            deployed.version,
            text::bytes(code),
            deployed.layers.len(),
            text::bytes(unpacked)
        );
        for finding in findings {
            let hint = finding.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
            eprintln!("AWS Lambda would refuse {name}: {}{hint}", finding.what);
        }
    }
}

/// List deployed functions
#[derive(Debug, Args)]
pub struct List {
    /// List all versions of this function
    name: Option<String>,
    /// Print one JSON object for each version
    #[arg(long)]
    json: bool,
}

impl List {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let registry = function_host::registry(warehouse)?;
        let found = match &self.name {
            Some(name) => registry.versions(name)?,
            None => registry.list()?,
        };
        if self.name.is_some() && found.is_empty() {
            let what = format!("no function {:?} is deployed", self.name.unwrap_or_default());
            return Err(report::input(what, DEPLOYED));
        }
        let mut rows = Vec::new();
        for found in &found {
            let aliases = registry.aliases(&found.name)?;
            let aliases = aliases.into_iter().filter(|alias| alias.version == found.version);
            let aliases: Vec<String> = aliases.map(|alias| alias.name).collect();
            if self.json {
                let mut shown = serde_json::to_value(found).context("write a version")?;
                shown["aliases"] = json!(aliases);
                println!("{shown}");
            } else {
                rows.push(row(found, &aliases));
            }
        }
        if !self.json {
            let header = ["function", ">version", "aliases", "handler", ">memory", "timeout", ">layers", "modified"];
            print!("{}", text::table(&header, &rows));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn row(found: &FunctionVersion, aliases: &[String]) -> Vec<String> {
    vec![
        found.name.clone(),
        found.version.to_string(),
        aliases.join(", "),
        found.settings.handler.clone(),
        format!("{} MB", found.settings.memory_mb),
        text::duration(found.settings.timeout),
        found.layers.len().to_string(),
        found.modified_at.clone(),
    ]
}

/// Run a function in its sandbox and print its answer
///
/// The function's log goes to standard error. Exits with 1 where the function fails.
#[derive(Debug, Args)]
pub struct Invoke {
    name: String,
    /// The event: JSON, @FILE, or - for standard input
    #[arg(long, default_value = "{}")]
    event: String,
    /// A version's number, or an alias
    #[arg(long, default_value = LATEST)]
    qualifier: String,
    /// Put the event into the server's queue, print its id and return
    #[arg(long, conflicts_with_all = ["input", "results"])]
    detach: bool,
    /// A file or a folder that the function finds in /inputs; may be repeated
    #[arg(long, value_name = "PATH")]
    input: Vec<PathBuf>,
    /// A folder to create for the files that the function writes to /results
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Print one JSON object with the answer, the log and the figures of the run
    #[arg(long)]
    json: bool,
}

impl Invoke {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let payload = self.payload()?;
        if self.detach {
            return self.queue(warehouse, payload).await;
        }
        let request_id = Uuid::now_v7().to_string();
        let event = Event { request_id: request_id.clone(), payload, files: self.files()?, ..Event::default() };
        let invocation = FunctionCall { function: &self.name, qualifier: &self.qualifier, event, waits: false };
        let execution = match function_host::invoke(warehouse, invocation).await? {
            Ok(execution) => execution,
            Err(function::host::Refusal::Unknown) => return Err(self.unknown(warehouse)),
            Err(refusal) => return Err(refusal_error(&self.name, refusal)),
        };
        let outcome = execution.outcome;
        let (is_success, body) = match &outcome.answer {
            Answer::Response(body) => (true, body.clone()),
            Answer::Error(failure) => (false, failure.body.clone()),
        };
        if self.json {
            let answer: Value = serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body)));
            let results: Vec<Value> =
                outcome.results.iter().map(|file| json!({"name": file.name, "bytes": file.bytes})).collect();
            let shown = json!({
                "request_id": request_id, "version": execution.function_version.version, "failed": !is_success,
                "answer": answer, "milliseconds": outcome.duration.as_secs_f64() * 1e3,
                "init_milliseconds": outcome.init.map(|init| init.as_secs_f64() * 1e3),
                "memory_peak_bytes": outcome.memory_peak_bytes, "log": outcome.log_tail, "results": results,
            });
            println!("{shown}");
        } else {
            outcome.log_tail.lines().for_each(|line| eprintln!("{}", base::text::without_controls(line)));
            match &outcome.answer {
                Answer::Response(body) => print_body(body)?,
                Answer::Error(failure) => {
                    bail!(failure_text(&execution.function_version, &failure.error_type, &failure.body))
                }
            }
        }
        Ok(if is_success { ExitCode::SUCCESS } else { ExitCode::from(report::code::FAILED) })
    }

    fn unknown(&self, warehouse: &Warehouse) -> anyhow::Error {
        let (name, qualifier) = (&self.name, &self.qualifier);
        if let Err(error) = check_name(warehouse, name) {
            return error;
        }
        if warehouse.config.functions.contains_key(name) && qualifier == LATEST {
            let hint = format!("run `wattlake function deploy {name}`");
            return report::input(format!("{name} is not deployed yet"), hint);
        }
        report::input(format!("no version or alias {qualifier} of function {name} is deployed"), DEPLOYED)
    }

    fn payload(&self) -> Result<Bytes> {
        let bytes = match self.event.as_str() {
            "-" => {
                let mut bytes = Vec::new();
                std::io::stdin().lock().read_to_end(&mut bytes).context("read the event")?;
                bytes
            }
            text => match text.strip_prefix('@') {
                Some(file) => std::fs::read(file).map_err(|error| {
                    anyhow::Error::from(base::Error::input(format!("read the event from {file}")).because(error))
                })?,
                None => text.as_bytes().to_vec(),
            },
        };
        serde_json::from_slice::<serde::de::IgnoredAny>(&bytes)
            .map_err(|error| anyhow::Error::from(base::Error::input("read the event as JSON").because(error)))?;
        Ok(bytes.into())
    }

    fn files(&self) -> Result<Option<EventFiles>> {
        if self.input.is_empty() && self.results.is_none() {
            return Ok(None);
        }
        let mut inputs: Vec<Input> = Vec::new();
        for path in &self.input {
            let path = path.canonicalize().map_err(|error| {
                anyhow::Error::from(base::Error::input(format!("find the input {}", path.display())).because(error))
            })?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if inputs.iter().any(|input| input.name == name) {
                let what = format!("two inputs have the name {name:?}, which would be one file in /inputs");
                return Err(report::input(what, "rename one of them, or name a folder with both"));
            }
            inputs.push(Input { name, path });
        }
        // The server has another working folder.
        let results = self.results.as_deref().map(std::path::absolute).transpose().context("find --results")?;
        Ok(Some(EventFiles { inputs, results }))
    }

    async fn queue(&self, warehouse: &Warehouse, payload: Bytes) -> Result<ExitCode> {
        let host = Host::open(warehouse).await?;
        if host.fleet.registry().find(&self.name, &self.qualifier)?.is_none() {
            return Err(self.unknown(warehouse));
        }
        let queue = host.event_queue();
        let request_id = Uuid::now_v7().to_string();
        let invocation = Invocation {
            request_id: request_id.clone(),
            function: self.name.clone(),
            qualifier: self.qualifier.clone(),
            payload: payload.to_vec(),
            client_context: None,
            cause: "hand".to_owned(),
            depth: 0,
        };
        if queue.put(invocation).await? == ledger::PutOutcome::Full {
            let error = base::Error::retry("the queue of events is full");
            return Err(error.hint("`wattlake function events` lists it").into());
        }
        println!("{request_id}");
        Ok(ExitCode::SUCCESS)
    }
}

/// Print the answer of a function that ran as a job
#[derive(Debug, Args)]
pub struct PrintAnswer {
    name: String,
    /// The period of the run; the newest run by default
    #[arg(long = "for", value_name = "PERIOD")]
    period: Option<String>,
    /// Print this file of /results in place of the answer
    #[arg(long, value_name = "NAME")]
    file: Option<String>,
}

impl PrintAnswer {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let period = self.period.as_deref().map(str::parse::<Period>).transpose()?.map(|period| period.to_string());
        let lake = warehouse.lake().await?;
        let run = latest_answer(warehouse, &self.name, period.as_deref())?;
        let mut body = Vec::new();
        open_answer(warehouse, &lake, &run, self.file.as_deref())
            .await?
            .read_to_end(&mut body)
            .context("read the answer")?;
        print_body(&body)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints an answer; JSON is indented on a terminal.
fn print_body(body: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match serde_json::from_slice::<Value>(body) {
        Ok(value) if out.is_terminal() => writeln!(out, "{value:#}")?,
        _ => {
            out.write_all(body)?;
            if !body.ends_with(b"\n") {
                writeln!(out)?;
            }
        }
    }
    Ok(())
}

/// Show a function's log, the oldest line first
#[derive(Debug, Args)]
pub struct Logs {
    name: String,
    /// Only the lines of this event
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// At most so many of the newest lines
    #[arg(long, default_value_t = 1000)]
    limit: usize,
    /// Print one JSON object for each line
    #[arg(long)]
    json: bool,
}

impl Logs {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        check_name(warehouse, &self.name)?;
        for line in function_host::journal(warehouse)?.lines(&self.name, self.request.as_deref(), self.limit)? {
            if self.json {
                println!("{}", serde_json::to_string(&line).context("write a line")?);
            } else {
                // A function's output must not control the terminal.
                println!("{} {} {}", line.at, line.version, text::without_controls(&line.text));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Delete a function, one of its versions or one of its aliases; its runs, events and logs are kept
#[derive(Debug, Args)]
pub struct Delete {
    name: String,
    /// Only this version
    #[arg(long, conflicts_with = "alias")]
    version: Option<i64>,
    /// Only this alias
    #[arg(long)]
    alias: Option<String>,
}

impl Delete {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let registry = function_host::registry(warehouse)?;
        let is_deleted = match (self.version, &self.alias) {
            (Some(version), _) => registry.delete_version(&self.name, version)?,
            (None, Some(alias)) => registry.delete_alias(&self.name, alias)?,
            (None, None) => registry.delete(&self.name)?,
        };
        if !is_deleted {
            check_name(warehouse, &self.name)?;
            return Err(report::input("no such function, version or alias is deployed", DEPLOYED));
        }
        let what = match (self.version, &self.alias) {
            (Some(version), _) => format!("version {version} of function {}", self.name),
            (None, Some(alias)) => format!("alias {alias} of function {}", self.name),
            (None, None) => format!("function {}", self.name),
        };
        println!("deleted {what}");
        Ok(ExitCode::SUCCESS)
    }
}
