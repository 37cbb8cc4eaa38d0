//! An opened warehouse: its checked configuration, its lake and its ledger.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use config::Job;
use ledger::Ledger;
use pgserver::Binaries;
use transfer::postgres::Endpoint;

/// A warehouse whose configuration is valid. The lake is opened when it is needed.
pub struct Warehouse {
    pub config: config::Warehouse,
    pub ledger: Ledger,
    pub environment: Environment,
}

/// The folder of a warehouse for all that Wattlake itself writes there, except the lake.
pub const STATE: &str = ".wattlake";

/// The name of the lease that a warehouse's server holds.
pub const SERVER_LOCK: &str = "serve";

/// What the program passes on from its process: this crate reads neither the environment nor the arguments.
#[derive(Clone, Default)]
pub struct Environment {
    /// The environment's variables.
    pub variables: BTreeMap<String, String>,
    /// How a user runs this program on the warehouse, for hints: `wattlake -C warehouse`.
    pub command: String,
    /// This program's own path: runs and sandboxes are processes of it.
    pub executable: PathBuf,
}

impl Environment {
    /// The value of a variable, where it is set.
    pub fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}

impl Warehouse {
    /// Credentials of AWS, by the environment.
    pub fn aws_credentials(&self) -> stream::CredentialsProvider {
        let environment = stream::AwsEnvironment::of(|name| self.environment.variable(name));
        stream::CredentialsProvider::new(environment)
    }

    /// Opens the warehouse in a folder, with the variables of `environment`.
    ///
    /// # Errors
    /// [`Problems`], where the configuration has any; the ledger can't be opened.
    pub fn open(root: &Path, environment: Environment) -> Result<Warehouse> {
        let config = config::Warehouse::load(root, &|name| environment.variable(name)).map_err(Problems)?;
        let ledger = Ledger::open(&config.root.join(STATE).join("ledger.sqlite")).context("open the ledger")?;
        Ok(Warehouse { config, ledger, environment })
    }

    /// The transfer of this name.
    pub fn transfer(&self, name: &str) -> Result<&config::Transfer> {
        find("transfer", name, "transfers/", &self.config.transfers)
    }

    /// The mart of this name.
    pub fn mart(&self, name: &str) -> Result<&config::Mart> {
        find("mart", name, "marts/", &self.config.marts)
    }

    /// The function of this name.
    pub fn function(&self, name: &str) -> Result<&config::Function> {
        find("function", name, "functions/", &self.config.functions)
    }

    /// The ingest of this name.
    pub fn ingest(&self, name: &str) -> Result<&config::Ingest> {
        find("ingest", name, "ingests/", &self.config.ingests)
    }

    /// The collect of this name.
    pub fn collect(&self, name: &str) -> Result<&config::Collect> {
        find("collect", name, "collects/", &self.config.collects)
    }

    /// The load of this name.
    pub fn load(&self, name: &str) -> Result<&config::Load> {
        find("load", name, "loads/", &self.config.loads)
    }

    /// The set of controls of this name.
    pub fn controls(&self, name: &str) -> Result<&config::Controls> {
        find("set of controls", name, "controls/", &self.config.controls)
    }

    /// The statement job of this name.
    pub fn statement(&self, name: &str) -> Result<&config::Statement> {
        find("statement", name, "statements/", &self.config.statements)
    }

    /// The training job of this name.
    pub fn training(&self, name: &str) -> Result<&config::Training> {
        find("training job", name, "trainings/", &self.config.trainings)
    }

    /// The prediction of this name.
    pub fn prediction(&self, name: &str) -> Result<&config::Prediction> {
        find("prediction", name, "predictions/", &self.config.predictions)
    }

    /// Finds a job by its full name, such as `transfer:platform`, or by its name alone where only one kind has it.
    ///
    /// # Errors
    /// No job has this name, several have it, or it is the name of a view.
    pub fn job(&self, written: &str) -> Result<Job<'_>> {
        let jobs = self.config.jobs();
        if let Some(job) = jobs.get(written) {
            return Ok(*job);
        }
        let named: Vec<&String> = jobs.iter().filter(|(_, job)| job.name() == written).map(|(name, _)| name).collect();
        match named[..] {
            [one] => Ok(jobs[one]),
            [] => {
                let mart = written.strip_prefix("mart:").unwrap_or(written);
                if self.config.marts.contains_key(mart) {
                    let error =
                        base::Error::input(format!("the mart {mart} is a view, so that there is nothing to run"));
                    let hint = "each query computes it; write kind = \"table\" in its file to store it";
                    return Err(error.hint(hint).into());
                }
                let names = jobs.values().map(Job::name);
                match base::nearest(written, names).and_then(|near| jobs.values().find(|job| job.name() == near)) {
                    Some(near) => {
                        let error = base::Error::input(format!("the warehouse has no job {written:?}"));
                        Err(error.hint(format!("nearest job: {:?}", near.full_name())).into())
                    }
                    None => Err(unknown("job", written, "the warehouse", jobs.keys())),
                }
            }
            _ => {
                let names: Vec<&str> = named.iter().map(|name| name.as_str()).collect();
                let error = base::Error::input(format!("{written:?} is the name of several jobs"));
                Err(error.hint(format!("write {}", names.join(" or "))).into())
            }
        }
    }

    /// The full name of a job, also of one that is not in the configuration any more and has runs in the ledger.
    ///
    /// # Errors
    /// As [`Warehouse::job`].
    pub fn job_with_runs(&self, written: &str) -> Result<String> {
        match self.job(written) {
            Ok(job) => Ok(job.full_name()),
            Err(error) => match self.ledger.runs(1, Some(written))?.pop() {
                Some(run) => Ok(run.job),
                None => Err(error),
            },
        }
    }

    /// The lake's objects: files by their hash, which belong to no table.
    pub fn objects(&self, lake: &lake::Lake) -> ingest::objects::Objects {
        ingest::objects::Objects::new(lake.objects(), self.config.root.join(STATE).join("spool"))
    }

    /// The server of a connection of `wattlake.toml`.
    pub fn endpoint(&self, connection: &str) -> Result<Endpoint> {
        let url = self.url(connection)?;
        Endpoint::parse(&url).with_context(|| format!("connection {connection:?} in wattlake.toml"))
    }

    /// The URL of a connection, with its password.
    ///
    /// # Errors
    /// There is no such connection, or its URL names a variable that is not set.
    pub fn url(&self, connection: &str) -> Result<String> {
        let connection = find("connection", connection, "wattlake.toml", &self.config.connections)?;
        Ok(connection.url()?.reveal().to_owned())
    }

    /// Opens the lake.
    pub async fn lake(&self) -> Result<lake::Lake> {
        open_lake(&self.config, &self.environment).await
    }

    /// PostgreSQL's programs, for base backups.
    pub fn postgres(&self) -> Result<Binaries> {
        Ok(Binaries::find(self.config.postgres_bin_dir.as_ref().map_err(config::UnsetVariables::clone)?.as_deref())?)
    }

    /// The folder for what does not fit into memory. Its files have no names.
    pub fn scratch_folder(&self) -> PathBuf {
        self.config.root.join(STATE).join("scratch")
    }

    /// The folder of base backups: it has a folder for each transfer, by its name.
    pub fn backups_folder(&self) -> PathBuf {
        self.config.root.join(STATE).join("basebackup")
    }
}

/// The problems of a configuration; shown as one line each.
#[derive(Debug)]
pub struct Problems(pub Vec<config::Problem>);

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.0.len();
        write!(f, "{count} problem{} in the configuration", if count == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}

async fn open_lake(config: &config::Warehouse, environment: &Environment) -> Result<lake::Lake> {
    let lake = config.lake.as_ref().map_err(config::UnsetVariables::clone)?;
    let url = &lake.url;
    let mut options: HashMap<String, String> = HashMap::new();
    if url.contains("://") && !url.starts_with("file://") {
        // The variables that all tools of these clouds read; options of wattlake.toml take precedence.
        let known = |name: &str| ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|prefix| name.starts_with(prefix));
        let variables = environment.variables.iter().filter(|(name, _)| known(name));
        options.extend(variables.map(|(name, value)| (name.to_lowercase(), value.clone())));
    }
    options.extend(lake.options().into_iter().map(|(name, value)| (name.to_lowercase(), value)));
    if url.starts_with("s3://") || url.starts_with("s3a://") {
        add_profile(&mut options, environment).await?;
    }
    Ok(lake::Lake::open(url, options).await?)
}

/// Adds the keys and the region of `AWS_PROFILE`, where no keys are given. The object store itself knows keys in variables,
/// the container's and the machine's.
async fn add_profile(options: &mut HashMap<String, String>, environment: &Environment) -> Result<()> {
    let provider = stream::CredentialsProvider::new(stream::AwsEnvironment::of(|name| environment.variable(name)));
    let profile = environment.variable("AWS_PROFILE").filter(|profile| !profile.is_empty());
    let is_given = options.contains_key("aws_access_key_id") || options.contains_key("access_key_id");
    let Some(profile) = profile.filter(|_| !is_given) else { return Ok(()) };
    let provider = provider.with_profile(Some(&profile));
    let keys = provider.credentials().await?;
    options.insert("aws_access_key_id".to_owned(), keys.access_key_id);
    options.insert("aws_secret_access_key".to_owned(), keys.secret_access_key);
    options.extend(keys.session_token.map(|token| ("aws_session_token".to_owned(), token)));
    if let Some(region) = provider.region() {
        options.entry("aws_region".to_owned()).or_insert(region);
    }
    Ok(())
}

/// The entry of `known` with this name; `place` is where a user would add one.
fn find<'a, T>(noun: &str, name: &str, place: &str, known: &'a BTreeMap<String, T>) -> Result<&'a T> {
    known.get(name).ok_or_else(|| unknown(noun, name, place, known.keys()))
}

/// The error of a name that nothing has, with the nearest name or all names as its hint.
pub fn unknown<'a>(noun: &str, name: &str, place: &str, known: impl IntoIterator<Item = &'a String>) -> anyhow::Error {
    let known: Vec<&str> = known.into_iter().map(String::as_str).collect();
    let error = base::Error::input(format!("{place} has no {noun} {name:?}"));
    match base::suggestion(noun, name, &known) {
        Some(hint) => error.hint(hint).into(),
        None => error.into(),
    }
}
