//! Where PostgreSQL's programs are.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;
use crate::error::{During, Error};

/// A folder that holds `postgres`, `initdb`, `pg_ctl`, `pg_controldata`, `pg_basebackup` and `psql`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    pub dir: PathBuf,
}

impl Binaries {
    /// The folder given, else the newest PostgreSQL of Debian's or Red Hat's packages.
    pub fn find(explicit: Option<&Path>) -> Result<Self> {
        if let Some(dir) = explicit {
            return holds_server(dir).ok_or_else(|| {
                Error::input(format!("find PostgreSQL in {}: no program `postgres` there", dir.display()))
            });
        }
        packaged().into_iter().max_by_key(|(version, _)| *version).map(|(_, found)| found).ok_or_else(|| {
            Error::setup(
                "find PostgreSQL: none in /usr/lib/postgresql/*/bin or /usr/pgsql-*/bin; \
                     install it, or say which folder holds its programs",
            )
        })
    }

    /// As `find(None)`, then the folders of `path`, which has the form of the variable PATH.
    pub fn find_on(path: &OsStr) -> Result<Self> {
        Self::find(None).or_else(|error| std::env::split_paths(path).find_map(|dir| holds_server(&dir)).ok_or(error))
    }

    pub fn path(&self, tool: &str) -> PathBuf {
        self.dir.join(tool)
    }

    /// 15 for 15.14.
    pub fn major_version(&self) -> Result<u32> {
        let doing = || format!("ask {} its version", self.path("postgres").display());
        let output = Command::new(self.path("postgres"))
            .arg("--version")
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .during(doing)?;
        let said = String::from_utf8_lossy(&output.stdout);
        parse_major(&said).ok_or_else(|| Error::setup(format!("{}: it said {:?}", doing(), said.trim())))
    }
}

/// From "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", "... 18beta1".
pub(crate) fn parse_major(said: &str) -> Option<u32> {
    let version = said.split_once("(PostgreSQL)")?.1.trim_start();
    let digits = version.find(|c: char| !c.is_ascii_digit());
    version[..digits.unwrap_or(version.len())].parse().ok()
}

fn holds_server(dir: &Path) -> Option<Binaries> {
    let dir = std::path::absolute(dir).ok()?;
    dir.join("postgres").is_file().then_some(Binaries { dir })
}

fn packaged() -> Vec<(u32, Binaries)> {
    [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")]
        .into_iter()
        .flat_map(|(root, prefix)| {
            let entries = fs::read_dir(root).into_iter().flatten().flatten();
            entries.filter_map(move |entry| {
                let name = entry.file_name();
                let version = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
                Some((version, holds_server(&entry.path().join("bin"))?))
            })
        })
        .collect()
}
