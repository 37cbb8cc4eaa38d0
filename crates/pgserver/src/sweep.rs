//! What a killed process or a dead machine left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::error::{Error, Kind};
use crate::folder::Folder;
use crate::server::Signals;
use crate::{Binaries, Result};

/// How long programs may take to end: more than the patience of their supervisor.
const END_MAX: Duration = Duration::from_secs(15);

/// Stops the server that still runs on the private folder `dir`, if any, waits until the programs
/// of a process that was killed have ended there, and removes the folder. True if there was something to remove. A folder that is not a private server's stays untouched.
///
/// It can't tell a left-over server from one in use: the caller holds the lease of the job that
/// the folder belongs to.
pub fn sweep(bin: &Binaries, dir: &Path) -> Result<bool> {
    let Some(folder) = Folder::find(dir)? else {
        return Ok(false);
    };
    if let Some(pid) = living_postmaster(&folder) {
        let signals = Signals { account: Account::current()?, pg_ctl: bin.path("pg_ctl"), cwd: PathBuf::from("/") };
        tracing::info!(pid, dir = %folder.path.display(), "stop left-over private server");
        stop(&signals, &folder, pid)?;
    }
    wait_for_programs(&folder)?;
    folder.remove()?;
    Ok(true)
}

fn stop(signals: &Signals, folder: &Folder, pid: u32) -> Result<()> {
    for signal in ["QUIT", "KILL"] {
        if let Err(error) = signals.send(pid, signal) {
            tracing::warn!(%error, signal, "signal a left-over server");
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if !works_in(pid, &folder.data()) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    Err(Error::new(Kind::Retry, format!("stop left-over server {pid}: it does not end")))
}

/// Their supervisor ends them, within seconds. Before that they could write into a folder that is
/// made anew in the same place.
fn wait_for_programs(folder: &Folder) -> Result<()> {
    let deadline = Instant::now() + END_MAX;
    while let Some(pid) = program_in(folder) {
        if Instant::now() > deadline {
            let doing = format!("remove {}", folder.path.display());
            return Err(Error::new(Kind::Retry, format!("{doing}: process {pid} works in it and does not end")));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Tools work in the folder itself, a server and its backends in the data folder.
fn program_in(folder: &Folder) -> Option<u32> {
    let pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.into_iter().find(|pid| works_in(*pid, &folder.path) || works_in(*pid, &folder.data()))
}

fn living_postmaster(folder: &Folder) -> Option<u32> {
    let text = fs::read_to_string(folder.data().join("postmaster.pid")).ok()?;
    let pid = text.lines().next()?.trim().parse().ok()?;
    works_in(pid, &folder.data()).then_some(pid)
}

/// Pids are used again: only a process whose working folder is this data folder, where every
/// PostgreSQL process stays, is ours. A zombie has none, so it counts as ended.
fn works_in(pid: u32, data: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data)
}
