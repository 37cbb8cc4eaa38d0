//! Removes the folders that a killed process or a crash of the machine has left.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::error::{Error, Kind};
use crate::folder::Folder;
use crate::server::Signals;
use crate::{Binaries, Result};

/// How long programs may take to end: longer than the grace period of their supervisor.
const END_MAX: Duration = Duration::from_secs(15);

/// Removes the private folder `dir`. Stops a server that still runs there, and waits until the programs of a killed
/// process have ended. Returns whether there was a private folder; a folder of another kind is not changed.
///
/// A server in use is stopped as well: the caller must hold the lease of the job that the folder belongs to.
///
/// # Errors
/// Where a process does not end, with [`Kind::Retry`], or the folder can't be removed.
pub fn sweep(bin: &Binaries, dir: &Path) -> Result<bool> {
    let Some(folder) = Folder::find(dir)? else {
        return Ok(false);
    };
    if let Some(pid) = running_postmaster(&folder) {
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
            if !has_working_folder(pid, &folder.data()) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    Err(Error::new(Kind::Retry, format!("stop the server {pid} that was left running: it does not end")))
}

/// Waits for the programs in the folder, which their supervisor ends within seconds. Until then they could write into a
/// folder that is created again at the same path.
fn wait_for_programs(folder: &Folder) -> Result<()> {
    let deadline = Instant::now() + END_MAX;
    while let Some(pid) = program_in(folder) {
        if Instant::now() > deadline {
            let doing = format!("remove {}", folder.path.display());
            return Err(Error::new(Kind::Retry, format!("{doing}: process {pid} uses it and does not end")));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A process whose working folder is the private folder, as that of tools, or the data folder, as that of a server.
fn program_in(folder: &Folder) -> Option<u32> {
    let pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.into_iter().find(|pid| has_working_folder(*pid, &folder.path) || has_working_folder(*pid, &folder.data()))
}

fn running_postmaster(folder: &Folder) -> Option<u32> {
    let text = fs::read_to_string(folder.data().join("postmaster.pid")).ok()?;
    let pid = text.lines().next()?.trim().parse().ok()?;
    has_working_folder(pid, &folder.data()).then_some(pid)
}

/// Whether a process has this working folder, by which a server's process is told from another one with the same pid: a
/// PostgreSQL process never leaves its data folder. A zombie has no working folder, so it counts as ended.
fn has_working_folder(pid: u32, data: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data)
}
