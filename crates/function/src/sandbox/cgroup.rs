//! A control group for each sandbox, where this machine gives one: memory and processes are then
//! bounded together, for all that a function starts, and a kill for want of memory can be told
//! from any other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::Limits;

const MOUNT: &str = "/sys/fs/cgroup";
const OURS: &str = "wattlake";

#[derive(Debug)]
pub(super) struct Cgroup {
    /// Version 2: one folder. Version 1: one for memory, one for processes.
    memory: PathBuf,
    processes: Option<PathBuf>,
    unified: bool,
}

impl Cgroup {
    /// None where this user may make none.
    pub fn make(name: &str) -> Option<Cgroup> {
        let mount = Path::new(MOUNT);
        if mount.join("cgroup.controllers").exists() { unified(mount, name) } else { split(mount, name) }
    }

    pub fn bound(&self, limits: Limits) -> io::Result<()> {
        let bytes = (limits.memory_mb << 20).to_string();
        if self.unified {
            fs::write(self.memory.join("memory.max"), bytes)?;
            let _ = fs::write(self.memory.join("memory.swap.max"), "0");
        } else {
            fs::write(self.memory.join("memory.limit_in_bytes"), &bytes)?;
            let _ = fs::write(self.memory.join("memory.memsw.limit_in_bytes"), bytes);
        }
        let processes = if self.unified { Some(&self.memory) } else { self.processes.as_ref() };
        processes.map_or(Ok(()), |folder| fs::write(folder.join("pids.max"), limits.processes.to_string()))
    }

    pub fn add(&self, process: u32) -> io::Result<()> {
        for folder in std::iter::once(&self.memory).chain(&self.processes) {
            fs::write(folder.join("cgroup.procs"), process.to_string())?;
        }
        Ok(())
    }

    /// Whether it bounds how many processes there are in it.
    pub fn bounds_processes(&self) -> bool {
        self.unified || self.processes.is_some()
    }

    /// Whether the kernel has killed in it for want of memory.
    pub fn ran_out_of_memory(&self) -> bool {
        let file = if self.unified { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.memory.join(file)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(|n| n.parse::<u64>().ok());
        count.is_some_and(|count| count > 0)
    }

    pub fn memory_peak_bytes(&self) -> Option<u64> {
        let file = if self.unified { "memory.peak" } else { "memory.max_usage_in_bytes" };
        fs::read_to_string(self.memory.join(file)).ok()?.trim().parse().ok()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in std::iter::once(&self.memory).chain(&self.processes) {
            // Its last process may still be ending.
            for _ in 0..50 {
                if fs::remove_dir(folder).is_ok() || !folder.exists() {
                    break;
                }
                sleep(Duration::from_millis(2));
            }
        }
    }
}

/// Removes what hosts that were killed have left: their numbers stand before the names. A group
/// that still holds a process stays.
pub(super) fn sweep() {
    let mount = Path::new(MOUNT);
    for folder in [mount.join(OURS), mount.join("memory").join(OURS), mount.join("pids").join(OURS)] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let host = name.to_str().and_then(|name| name.split_once('-')?.0.parse::<u32>().ok());
            if host.is_some_and(|host| !Path::new("/proc").join(host.to_string()).exists()) {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

fn unified(mount: &Path, name: &str) -> Option<Cgroup> {
    let ours = mount.join(OURS);
    fs::create_dir_all(&ours).ok()?;
    // Refused where the parent holds processes of its own; the folder then has no such files.
    let _ = fs::write(mount.join("cgroup.subtree_control"), "+memory +pids");
    let _ = fs::write(ours.join("cgroup.subtree_control"), "+memory +pids");
    let folder = ours.join(name);
    fs::create_dir(&folder).ok()?;
    let group = Cgroup { memory: folder, processes: None, unified: true };
    // Dropped, it is removed.
    group.memory.join("memory.max").exists().then_some(group)
}

fn split(mount: &Path, name: &str) -> Option<Cgroup> {
    let folder = |controller: &str| {
        let folder = mount.join(controller).join(OURS).join(name);
        fs::create_dir_all(&folder).ok().map(|()| folder)
    };
    let mut group = Cgroup { memory: folder("memory")?, processes: None, unified: false };
    group.memory.join("memory.limit_in_bytes").exists().then_some(())?;
    group.processes = folder("pids").filter(|folder| folder.join("pids.max").exists());
    Some(group)
}
