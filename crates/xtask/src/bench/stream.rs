//! A warehouse whose transfer follows the log of the benchmarks' source, its stream as a process, and the commits that it
//! has made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::programs::Programs;
use super::servers::Servers;
use crate::project::run;

/// A warehouse with the transfer `bench`, in mode `changes`.
pub struct StreamWarehouse {
    program: PathBuf,
    folder: PathBuf,
}

impl StreamWarehouse {
    /// Writes the warehouse, in place of an earlier run's, and reads the tables of the schema `public`.
    pub fn create(programs: &Programs, servers: &Servers, folder: PathBuf) -> Result<StreamWarehouse> {
        let doing = || format!("write a warehouse in {}", folder.display());
        if folder.exists() {
            fs::remove_dir_all(&folder).context("remove an earlier run's lake")?;
        }
        let main = format!("[lake]\nurl = \"lake\"\n\n[connections.bench]\nurl = \"{}\"\n", servers.source_url());
        fs::create_dir_all(folder.join("transfers")).with_context(doing)?;
        fs::write(folder.join("wattlake.toml"), main).with_context(doing)?;
        let transfer = "source = \"bench\"\nmode = \"changes\"\ninclude = [\"public.*\"]\n";
        fs::write(folder.join("transfers/bench.toml"), transfer).with_context(doing)?;
        let program = programs.wattlake.clone().context("build wattlake")?;
        let warehouse = StreamWarehouse { program, folder };
        run(&mut warehouse.command(&["transfer", "run", "bench", "--until-caught-up"])).context("begin a stream")?;
        Ok(warehouse)
    }

    /// A command of Wattlake on the warehouse.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-C").arg(&self.folder).args(arguments);
        command
    }

    /// Starts the stream.
    pub fn start(&self) -> Result<Stream> {
        let mut command = self.command(&["transfer", "run", "bench"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Stream(command.spawn().context("start a stream")?))
    }

    /// The commits to a table of the schema `public`.
    pub fn commits(&self, table: &str) -> CommitLog {
        CommitLog(self.folder.join("lake/public").join(table).join("_delta_log"))
    }
}

/// A stream that is killed when it is dropped.
pub struct Stream(Child);

impl Stream {
    /// The most memory that it has had, in MiB.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn memory_peak_mib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).context("read a stream's memory")?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the stream has ended")?;
        let kib: f64 = peak.trim().trim_end_matches(" kB").parse().context("read a stream's memory")?;
        Ok(kib / 1024.0)
    }

    /// Ends it.
    ///
    /// # Errors
    /// Where it has ended by itself.
    pub fn stop(mut self) -> Result<()> {
        ensure!(self.0.try_wait()?.is_none(), "the stream has ended");
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Delta's log of a table.
pub struct CommitLog(PathBuf);

/// A commit of changes: when it was made, in milliseconds since 1970, and its actions.
pub struct ChangeCommit {
    pub at_ms: i64,
    pub rows_added: u64,
    pub actions: Vec<Value>,
}

impl CommitLog {
    /// The number of the newest version.
    pub fn newest(&self) -> Result<u64> {
        let entries = fs::read_dir(&self.0).with_context(|| format!("read {}", self.0.display()))?;
        let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".json")?.parse().ok());
        Ok(numbers.max().unwrap_or(0))
    }

    /// The commits of changes after a version.
    pub fn changes_after(&self, version: u64) -> Result<Vec<ChangeCommit>> {
        let commits = (version + 1..=self.newest()?).map(|version| read(&self.0.join(format!("{version:020}.json"))));
        commits.filter_map(Result::transpose).collect()
    }
}

fn read(path: &Path) -> Result<Option<ChangeCommit>> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let actions: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let Some(info) = actions.iter().find_map(|action| action.get("commitInfo")) else { return Ok(None) };
    if info["wattlakeOperation"] != "changes" {
        return Ok(None);
    }
    let at_ms = info["timestamp"].as_i64().context("a commit has no time")?;
    let rows_added = info["rowsAdded"].as_u64().unwrap_or(0);
    Ok(Some(ChangeCommit { at_ms, rows_added, actions }))
}
