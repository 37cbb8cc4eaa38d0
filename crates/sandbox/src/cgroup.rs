//! A control group for each sandbox, where this machine allows one. It limits memory, processors and the number of
//! processes for everything that a function starts together, and it tells a kill by the kernel for lack of memory from any
//! other kill.
//!
//! Groups are created below `wattlake` where this user may, as root does, and otherwise below the group of this process,
//! which systemd lets a service use with `Delegate=yes`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;

use super::Limits;

const MOUNT: &str = "/sys/fs/cgroup";
const GROUP: &str = "wattlake";
/// The group of this program's own processes in a delegated one: there, a group with processes can't limit other groups.
const HOST: &str = "host";
const CONTROLLERS: &str = "+memory +pids +cpu";
/// AWS Lambda gives a function the time of one processor at this memory.
const MB_OF_PROCESSOR: u64 = 1769;
/// The period of a limit of processor time, in microseconds.
const PERIOD: u64 = 100_000;

/// Where groups are created.
#[derive(Debug)]
enum Base {
    /// Version 2: one folder for all limits.
    Unified(PathBuf),
    /// Version 1: a folder for each controller, that of `memory` first.
    Split(Vec<(&'static str, PathBuf)>),
}

/// A sandbox's own control group. Its folders are removed when it is dropped.
#[derive(Debug)]
pub(super) struct Cgroup {
    /// The folder that limits memory; in version 2 all.
    memory: PathBuf,
    /// Version 1 only: the folder that limits processes.
    processes: Option<PathBuf>,
    /// Version 1 only: the folder that limits processor time.
    processor: Option<PathBuf>,
    /// Version 2.
    unified: bool,
}

impl Cgroup {
    /// Creates the group `name`. `None` where this user is not allowed to.
    pub fn make(name: &str) -> Option<Cgroup> {
        match base()? {
            Base::Unified(folder) => {
                let memory = folder.join(name);
                fs::create_dir(&memory).ok()?;
                Some(Cgroup { memory, processes: None, processor: None, unified: true })
            }
            Base::Split(folders) => {
                let create = |controller: &str| {
                    let (_, folder) = folders.iter().find(|(name, _)| *name == controller)?;
                    let folder = folder.join(name);
                    fs::create_dir(&folder).ok().map(|()| folder)
                };
                let memory = create("memory")?;
                Some(Cgroup { memory, processes: create("pids"), processor: create("cpu"), unified: false })
            }
        }
    }

    /// Limits the memory, without swap, the number of processes and the processor time of the group. Files of `/tmp` and
    /// of `results_mb` are in memory, too.
    pub fn bound(&self, limits: Limits, results_mb: u64) -> io::Result<()> {
        let bytes = ((limits.memory_mb + limits.tmp_mb + results_mb) << 20).to_string();
        // Where processors are short, each function gets its share by memory; where not, none takes more than it could
        // use on AWS Lambda, rounded up to whole processors.
        let quota = limits.memory_mb.div_ceil(MB_OF_PROCESSOR).max(1) * PERIOD;
        if self.unified {
            fs::write(self.memory.join("memory.max"), bytes)?;
            let _ = fs::write(self.memory.join("memory.swap.max"), "0");
            let weight = (limits.memory_mb * 100 / MB_OF_PROCESSOR).clamp(1, 10_000);
            let _ = fs::write(self.memory.join("cpu.weight"), weight.to_string());
            let _ = fs::write(self.memory.join("cpu.max"), format!("{quota} {PERIOD}"));
        } else {
            fs::write(self.memory.join("memory.limit_in_bytes"), &bytes)?;
            let _ = fs::write(self.memory.join("memory.memsw.limit_in_bytes"), bytes);
            if let Some(folder) = &self.processor {
                let shares = (limits.memory_mb * 1024 / MB_OF_PROCESSOR).max(2);
                let _ = fs::write(folder.join("cpu.shares"), shares.to_string());
                let _ = fs::write(folder.join("cpu.cfs_period_us"), PERIOD.to_string());
                let _ = fs::write(folder.join("cpu.cfs_quota_us"), quota.to_string());
            }
        }
        let processes = if self.unified { Some(&self.memory) } else { self.processes.as_ref() };
        processes.map_or(Ok(()), |folder| fs::write(folder.join("pids.max"), limits.processes.to_string()))
    }

    /// Moves a process into the group. What it starts afterwards is in the group too.
    pub fn add(&self, process: u32) -> io::Result<()> {
        self.folders().try_for_each(|folder| fs::write(folder.join("cgroup.procs"), process.to_string()))
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

    fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.memory).chain(&self.processes).chain(&self.processor)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in self.folders() {
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

/// Whether this user may create control groups that limit memory.
pub(super) fn are_available() -> bool {
    base().is_some()
}

/// Removes the groups of hosts that were killed: a group's name begins with its host's process id. A group
/// that still has a process stays.
pub(super) fn remove_leftovers() {
    let folders: Vec<&PathBuf> = match base() {
        None => return,
        Some(Base::Unified(folder)) => vec![folder],
        Some(Base::Split(folders)) => folders.iter().map(|(_, folder)| folder).collect(),
    };
    for folder in folders {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let host = name.to_str().and_then(|name| name.split_once('-')?.0.parse::<u32>().ok());
            if host.is_some_and(|host| !Path::new("/proc").join(host.to_string()).exists()) {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

/// Where groups are created; `None` where this user may create none. It is found once.
fn base() -> Option<&'static Base> {
    static BASE: OnceLock<Option<Base>> = OnceLock::new();
    BASE.get_or_init(|| {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mount = Path::new(MOUNT);
        if mount.join("cgroup.controllers").exists() { unified(mount, &own) } else { split(mount, &own) }
    })
    .as_ref()
}

/// The group of this process in a hierarchy: `controllers` is empty in version 2.
fn own_group<'a>(own: &'a str, controllers: &str) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let is_it = fields.next()?.split(',').any(|name| name == controllers);
        fields.next().filter(|_| is_it).map(|path| path.trim_start_matches('/'))
    })
}

fn unified(mount: &Path, own: &str) -> Option<Base> {
    let top = mount.join(GROUP);
    if fs::create_dir_all(&top).is_ok() {
        let _ = fs::write(mount.join("cgroup.subtree_control"), CONTROLLERS);
        if limits_memory(&top) {
            return Some(Base::Unified(top));
        }
    }
    let group = mount.join(own_group(own, "")?);
    // Another process of the same service has moved itself and this one.
    let group = if group.ends_with(HOST) { group.parent()?.to_owned() } else { group };
    let host = group.join(HOST);
    if !host.exists() {
        let processes = fs::read_to_string(group.join("cgroup.procs")).ok()?;
        // A group with processes of others, such as the shell that has started this program, is not ours to divide.
        if !processes.lines().all(|process| process.parse().is_ok_and(|id| is_own(id, parent))) {
            return None;
        }
        fs::create_dir(&host).ok()?;
        for process in processes.lines() {
            // One that has ended meanwhile is not there any more.
            let _ = fs::write(host.join("cgroup.procs"), process);
        }
    }
    limits_memory(&group).then_some(Base::Unified(group))
}

/// Whether a process is this one or a descendant of it.
fn is_own(process: u32, parent: impl Fn(u32) -> Option<u32>) -> bool {
    let own = std::process::id();
    let mut ancestors = std::iter::successors(Some(process), |id| parent(*id).filter(|parent| *parent != 0));
    ancestors.any(|id| id == own)
}

/// The parent of a process: proc(5), status.
fn parent(process: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// Enables the controllers for the groups in a group. The kernel refuses this where it has processes of its own, other than
/// the topmost one.
fn limits_memory(group: &Path) -> bool {
    let _ = fs::write(group.join("cgroup.subtree_control"), CONTROLLERS);
    let enabled = fs::read_to_string(group.join("cgroup.subtree_control")).unwrap_or_default();
    enabled.split_whitespace().any(|name| name == "memory")
}

fn split(mount: &Path, own: &str) -> Option<Base> {
    let folder = |controller: &'static str, file: &str| {
        let hierarchy = mount.join(controller);
        let delegated = own_group(own, controller).map(|group| hierarchy.join(group).join(GROUP));
        let created = std::iter::once(hierarchy.join(GROUP)).chain(delegated).find(|folder| {
            let is_there = fs::create_dir_all(folder).is_ok() && folder.join(file).exists();
            // An earlier host, of another user, may have left it.
            is_there && rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
        });
        created.map(|folder| (controller, folder))
    };
    let memory = folder("memory", "memory.limit_in_bytes")?;
    let others = [folder("pids", "pids.max"), folder("cpu", "cpu.shares")];
    Some(Base::Split(std::iter::once(memory).chain(others.into_iter().flatten()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_of_others_are_told_from_own_ones() {
        let own = std::process::id();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(is_own(own, parent) && is_own(child.id(), parent));
        let starter = parent(own).unwrap();
        assert!(!is_own(1, parent) && !is_own(starter, parent));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_group_of_a_process_is_found_in_each_hierarchy() {
        let own =
            "9:name=systemd:/\n4:cpu,cpuacct:/user/a\n3:memory:/system.slice/wattlake.service\n0::/system.slice/x\n";
        assert_eq!(own_group(own, "memory"), Some("system.slice/wattlake.service"));
        assert_eq!(own_group(own, "cpuacct"), Some("user/a"));
        assert_eq!(own_group(own, ""), Some("system.slice/x"));
        assert_eq!(own_group(own, "pids"), None);
    }
}
