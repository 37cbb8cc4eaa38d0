//! Finds PostgreSQL's programs.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;
use crate::error::{Error, ErrorContext};

/// A folder with the programs `postgres`, `initdb`, `pg_ctl`, `pg_controldata`, `pg_basebackup` and `psql`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// The absolute path of the folder.
    pub dir: PathBuf,
}

impl Binaries {
    /// The folder `explicit`, or without it the newest PostgreSQL of Debian's or Red Hat's packages.
    ///
    /// # Errors
    /// Where the folder has no program `postgres`, or no package is installed.
    pub fn find(explicit: Option<&Path>) -> Result<Self> {
        if let Some(dir) = explicit {
            return with_server(dir).ok_or_else(|| {
                Error::input(format!("find PostgreSQL in {}: the folder has no program `postgres`", dir.display()))
            });
        }
        packaged().into_iter().max_by_key(|(version, _)| *version).map(|(_, found)| found).ok_or_else(|| {
            Error::setup(
                "find PostgreSQL: it is not in /usr/lib/postgresql/*/bin or /usr/pgsql-*/bin; \
                     install it, or name the folder of its programs",
            )
        })
    }

    /// As `find(None)`, else the first folder of `path` with a server; `path` has the form of the variable PATH.
    pub fn find_on(path: &OsStr) -> Result<Self> {
        Self::find(None).or_else(|error| std::env::split_paths(path).find_map(|dir| with_server(&dir)).ok_or(error))
    }

    /// The path of one of the programs.
    pub fn path(&self, tool: &str) -> PathBuf {
        self.dir.join(tool)
    }

    /// The major version of the server program: 15 for 15.14.
    pub fn major_version(&self) -> Result<u32> {
        let doing = || format!("read the version of {}", self.path("postgres").display());
        let output = Command::new(self.path("postgres"))
            .arg("--version")
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .during(doing)?;
        let text = String::from_utf8_lossy(&output.stdout);
        parse_major(&text).ok_or_else(|| Error::setup(format!("{}: unexpected output {:?}", doing(), text.trim())))
    }
}

/// The major version by the output of `postgres --version`, such as "postgres (PostgreSQL) 15.14 (Debian
/// 15.14-0+deb12u1)" or "postgres (PostgreSQL) 18beta1".
pub(crate) fn parse_major(text: &str) -> Option<u32> {
    let version = text.split_once("(PostgreSQL)")?.1.trim_start();
    let digits = version.find(|c: char| !c.is_ascii_digit());
    version[..digits.unwrap_or(version.len())].parse().ok()
}

fn with_server(dir: &Path) -> Option<Binaries> {
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
                Some((version, with_server(&entry.path().join("bin"))?))
            })
        })
        .collect()
}
