//! The limit on the memory of processes. The first process adds up what all processes of the sandbox use every 100 ms;
//! above the limit it ends them. Between two checks the kernel limits the control group, which includes `/tmp`, or, where
//! this machine allows no control groups, each process alone.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};

const PERIOD: Duration = Duration::from_millis(100);
/// Folders whose files processes use as memory. Those of `/tmp` and `/results` have limits of their own.
const FOLDERS: [&str; 1] = ["/dev/shm"];

/// Limits the memory of each process to twice the sandbox's limit, so that none exhausts the host within a period.
pub(super) fn bound(megabytes: u64) -> rustix::io::Result<()> {
    let most = Some((megabytes.max(128) * 2) << 20);
    setrlimit(Resource::Data, Rlimit { current: most, maximum: most })
}

/// Blocks until the sandbox uses more than `megabytes`.
pub(super) fn watch(megabytes: u64) {
    while held_bytes() <= megabytes << 20 {
        sleep(PERIOD);
    }
}

/// What all processes and folders of the sandbox use together.
fn held_bytes() -> u64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let of_processes: u64 = processes.filter_map(|process| own_pages(&process.path())).sum();
    let of_folders: u64 = FOLDERS.iter().filter_map(|folder| used(folder)).sum();
    of_processes * rustix::param::page_size() as u64 + of_folders
}

/// A process's resident pages, without those that it shares with files and other processes: proc(5), statm.
fn own_pages(process: &Path) -> Option<u64> {
    let name = process.file_name()?.to_str()?;
    // The first process is part of the host.
    if name == "1" || !name.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let text = fs::read_to_string(process.join("statm")).ok()?;
    let mut fields = text.split(' ').skip(1).map(|field| field.parse::<u64>());
    let (resident, shared) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(resident.saturating_sub(shared))
}

fn used(folder: &str) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(found.f_blocks.saturating_sub(found.f_bfree) * found.f_frsize)
}
