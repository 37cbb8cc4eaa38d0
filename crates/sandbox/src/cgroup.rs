//! A control group for each sandbox, where this machine allows one. It limits memory and the number of
//! processes for everything that a function starts together, and it tells a kill by the kernel for lack of
//! memory from any other kill.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::Limits;

const MOUNT: &str = "/sys/fs/cgroup";
const GROUP: &str = "wattlake";

/// A sandbox's own control group. Its folders are removed when it is dropped.
#[derive(Debug)]
pub(super) struct Cgroup {
    /// The folder that limits memory. Cgroup version 2 has one folder for all limits, version 1 has one for each.
    memory: PathBuf,
    /// Version 1 only: the folder that limits processes.
    processes: Option<PathBuf>,
    /// Version 2.
    unified: bool,
}

impl Cgroup {
    /// Creates the group `name`. `None` where this user is not allowed to.
    pub fn make(name: &str) -> Option<Cgroup> {
        let mount = Path::new(MOUNT);
        if mount.join("cgroup.controllers").exists() { unified(mount, name) } else { split(mount, name) }
    }

    /// Limits the memory, without swap, and the number of processes of the group.
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

    /// Moves a process into the group. What it starts afterwards is in the group too.
    pub fn add(&self, process: u32) -> io::Result<()> {
        for folder in std::iter::once(&self.memory).chain(&self.processes) {
            fs::write(folder.join("cgroup.procs"), process.to_string())?;
        }
        Ok(())
    }

    /// Whether the group limits the number of its processes.
    pub fn bounds_processes(&self) -> bool {
        self.unified || self.processes.is_some()
    }

    /// Whether the kernel has killed a process of the group because its memory was used up.
    pub fn ran_out_of_memory(&self) -> bool {
        let file = if self.unified { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.memory.join(file)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(|n| n.parse::<u64>().ok());
        count.is_some_and(|count| count > 0)
    }

    /// The largest amount of memory that the group has used so far. `None` where the kernel does not report it.
    pub fn memory_peak_bytes(&self) -> Option<u64> {
        let file = if self.unified { "memory.peak" } else { "memory.max_usage_in_bytes" };
        fs::read_to_string(self.memory.join(file)).ok()?.trim().parse().ok()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in std::iter::once(&self.memory).chain(&self.processes) {
            // Its last process may not have ended yet.
            for _ in 0..50 {
                if fs::remove_dir(folder).is_ok() || !folder.exists() {
                    break;
                }
                sleep(Duration::from_millis(2));
            }
        }
    }
}

/// Removes the groups of hosts that were killed: a group's name begins with its host's process id. A group
/// that still has a process stays.
pub(super) fn remove_leftovers() {
    let mount = Path::new(MOUNT);
    for folder in [mount.join(GROUP), mount.join("memory").join(GROUP), mount.join("pids").join(GROUP)] {
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
    let parent = mount.join(GROUP);
    fs::create_dir_all(&parent).ok()?;
    // The kernel refuses this where the parent group has processes of its own. Then memory.max does not exist.
    let _ = fs::write(mount.join("cgroup.subtree_control"), "+memory +pids");
    let _ = fs::write(parent.join("cgroup.subtree_control"), "+memory +pids");
    let folder = parent.join(name);
    fs::create_dir(&folder).ok()?;
    let group = Cgroup { memory: folder, processes: None, unified: true };
    // Where the file is missing, the group is dropped here and so removed.
    group.memory.join("memory.max").exists().then_some(group)
}

fn split(mount: &Path, name: &str) -> Option<Cgroup> {
    let folder = |controller: &str| {
        let folder = mount.join(controller).join(GROUP).join(name);
        fs::create_dir_all(&folder).ok().map(|()| folder)
    };
    let mut group = Cgroup { memory: folder("memory")?, processes: None, unified: false };
    group.memory.join("memory.limit_in_bytes").exists().then_some(())?;
    group.processes = folder("pids").filter(|folder| folder.join("pids.max").exists());
    Some(group)
}
