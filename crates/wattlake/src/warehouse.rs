//! An opened warehouse: its checked configuration, its lake and its ledger.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use ledger::Ledger;
use pgserver::Binaries;
use transfer::postgres::Endpoint;

use crate::config;

/// A warehouse whose configuration is valid. The lake is opened when it is needed.
pub struct Warehouse {
    pub config: config::Warehouse,
    pub ledger: Ledger,
}

/// The folder of a warehouse for all that Wattlake itself writes there, except the lake.
pub const STATE: &str = ".wattlake";

impl Warehouse {
    /// Opens the warehouse in a folder, with the variables of the environment.
    ///
    /// # Errors
    /// [`Problems`], where the configuration has any; the ledger can't be opened.
    pub fn open(root: &Path) -> Result<Warehouse> {
        Warehouse::open_with(root, &|name| std::env::var(name).ok())
    }

    /// Like [`Warehouse::open`], with the variables that `env` returns.
    pub fn open_with(root: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Warehouse> {
        let config = config::Warehouse::load(root, env).map_err(Problems)?;
        let ledger = Ledger::open(&config.root.join(STATE).join("ledger.sqlite")).context("open the ledger")?;
        Ok(Warehouse { config, ledger })
    }

    /// The transfer of this name.
    pub fn transfer(&self, name: &str) -> Result<&config::Transfer> {
        self.config.transfers.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.config.transfers.keys().map(String::as_str).collect();
            anyhow!("there is no transfer {name:?} in transfers/; there are: {}", known.join(", "))
        })
    }

    /// The mart of this name.
    pub fn mart(&self, name: &str) -> Result<&config::Mart> {
        self.config.marts.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.config.marts.keys().map(String::as_str).collect();
            anyhow!("there is no mart {name:?} in marts/; there are: {}", known.join(", "))
        })
    }

    /// The function of this name.
    pub fn function(&self, name: &str) -> Result<&config::Function> {
        self.config.functions.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.config.functions.keys().map(String::as_str).collect();
            anyhow!("there is no function {name:?} in functions/; there are: {}", known.join(", "))
        })
    }

    /// The ingest of this name.
    pub fn ingest(&self, name: &str) -> Result<&config::Ingest> {
        self.config.ingests.get(name).ok_or_else(|| anyhow!("there is no ingest {name:?} in ingests/"))
    }

    /// The load of this name.
    pub fn load(&self, name: &str) -> Result<&config::Load> {
        self.config.loads.get(name).ok_or_else(|| anyhow!("there is no load {name:?} in loads/"))
    }

    /// The statement job of this name.
    pub fn statement(&self, name: &str) -> Result<&config::Statement> {
        self.config.statements.get(name).ok_or_else(|| anyhow!("there is no statement {name:?} in statements/"))
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
        let connection = self
            .config
            .connections
            .get(connection)
            .ok_or_else(|| anyhow!("there is no connection {connection:?} in wattlake.toml"))?;
        Ok(connection.url()?.reveal().to_owned())
    }

    /// Opens the lake.
    pub async fn lake(&self) -> Result<lake::Lake> {
        open_lake(&self.config).await
    }

    /// PostgreSQL's programs, for base backups.
    pub fn postgres(&self) -> Result<Binaries> {
        Ok(Binaries::find(self.config.postgres_bin_dir.as_ref().map_err(config::UnsetVariables::clone)?.as_deref())?)
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

async fn open_lake(config: &config::Warehouse) -> Result<lake::Lake> {
    let lake = config.lake.as_ref().map_err(config::UnsetVariables::clone)?;
    let url = &lake.url;
    let mut options: HashMap<String, String> = HashMap::new();
    if url.contains("://") && !url.starts_with("file://") {
        // The variables that all tools of these clouds read; options of wattlake.toml take precedence.
        let known = |name: &str| ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|prefix| name.starts_with(prefix));
        options
            .extend(std::env::vars().filter(|(name, _)| known(name)).map(|(name, value)| (name.to_lowercase(), value)));
    }
    options.extend(lake.options().into_iter().map(|(name, value)| (name.to_lowercase(), value)));
    Ok(lake::Lake::open(url, options).await?)
}
