//! Prepares the programs of a benchmark: Python packages in a virtual environment, pgcopydb from the system's packages,
//! Wattlake built with the whole workspace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::servers::Servers;
use crate::project::{Project, is_installed, output, run};

/// A profile of Cargo.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    Dev,
    Release,
}

impl Profile {
    /// The profile's name for Cargo.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
        }
    }
}

/// Which programs a benchmark needs beside Python.
pub struct Selection {
    /// Whether pgcopydb takes part.
    pub pgcopydb: bool,
    /// The profile of the binary; None where Wattlake does not take part.
    pub wattlake: Option<Profile>,
}

/// The programs of a benchmark.
pub struct Programs {
    scripts: PathBuf,
    /// Python of the virtual environment.
    pub python: PathBuf,
    /// The binary; None where Wattlake does not take part.
    pub wattlake: Option<PathBuf>,
}

impl Programs {
    /// Installs and builds the selected programs.
    pub fn prepare(project: &Project, work: &Path, selection: &Selection) -> Result<Self> {
        let scripts = project.root.join("bench");
        let python = python(project, &scripts, &work.join("venv"))?;
        if selection.pgcopydb {
            pgcopydb(project)?;
        }
        let wattlake = selection.wattlake.map(|profile| wattlake(project, profile)).transpose()?;
        Ok(Self { scripts, python, wattlake })
    }

    /// The path of a script in `bench/`.
    pub fn script(&self, name: &str) -> PathBuf {
        self.scripts.join(name)
    }

    /// A command that runs psql; errors stop it.
    pub fn psql(&self, servers: &Servers, url: &str) -> Command {
        let mut psql = Command::new(servers.bin.path("psql"));
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url]);
        psql
    }

    /// The one value that a query returns, as text; empty where it returns none.
    pub fn query(&self, servers: &Servers, url: &str, sql: &str) -> Result<String> {
        Ok(output(self.psql(servers, url).args(["-A", "-t", "-c", sql]))?.trim().to_owned())
    }

    /// The versions of Python packages, and of Wattlake where it takes part.
    pub fn packages(&self, names: &[&str]) -> Result<Value> {
        let packages = output(Command::new(&self.python).args(["-m", "pip", "list", "--format", "json"]))?;
        let packages: Vec<Value> = serde_json::from_str(&packages).context("read what pip lists")?;
        let mut all = json!({});
        for name in names {
            let package = packages.iter().find(|p| p["name"] == *name);
            all[*name] = package.map_or(Value::Null, |p| p["version"].clone());
        }
        if let Some(wattlake) = &self.wattlake {
            all["wattlake"] = output(Command::new(wattlake).arg("--version"))?.trim().into();
        }
        Ok(all)
    }

    /// The versions of all programs of `bench copy`.
    pub fn versions(&self, servers: &Servers) -> Result<Value> {
        let mut all = self.packages(&["duckdb", "connectorx", "deltalake", "pyarrow"])?;
        all["postgresql"] = self.query(servers, &servers.source_url(), "SHOW server_version")?.into();
        if let Ok(text) = output(Command::new("pgcopydb").args(["version"])) {
            let version = text.lines().find_map(|l| l.strip_prefix("pgcopydb version "));
            all["pgcopydb"] = version.map_or(Value::Null, Value::from);
        }
        Ok(all)
    }
}

/// Makes the virtual environment, again where the list of packages has changed.
pub fn python(project: &Project, scripts: &Path, venv: &Path) -> Result<PathBuf> {
    let python = venv.join("bin/python");
    let wanted = fs::read_to_string(scripts.join("requirements.txt")).context("read the list of Python packages")?;
    let installed = venv.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|list| list == wanted) {
        return Ok(python);
    }
    eprintln!("bench: install the Python packages");
    run(project.command("python3").args(["-m", "venv", "--clear"]).arg(venv))?;
    let mut pip = Command::new(&python);
    run(pip
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(scripts.join("requirements.txt")))?;
    fs::write(&installed, wanted).context("note what is installed")?;
    Ok(python)
}

fn pgcopydb(project: &Project) -> Result<()> {
    if is_installed(&mut Command::new("pgcopydb")) {
        return Ok(());
    }
    ensure!(
        output(project.command("id").arg("-u"))?.trim() == "0",
        "pgcopydb is missing: install it (Debian: apt-get install pgcopydb), or leave it out by --only"
    );
    eprintln!("bench: install pgcopydb");
    output(project.command("apt-get").arg("update"))?;
    output(project.command("apt-get").args(["install", "-y", "--no-install-recommends", "pgcopydb"]))?;
    Ok(())
}

/// Builds the binary with `--workspace`: `-p wattlake` would select other features, and build Arrow again.
fn wattlake(project: &Project, profile: Profile) -> Result<PathBuf> {
    let mut cargo = project.cargo()?;
    run(cargo.args(["build", "--workspace", "--bin", "wattlake", "--profile", profile.name()]))?;
    let folder = match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    };
    let binary = project.target_dir()?.join(folder).join("wattlake");
    if !binary.is_file() {
        bail!("build wattlake: no binary {}", binary.display());
    }
    Ok(binary)
}
