//! Runs a program in a sandbox: with namespaces and a root of its own, without a network but for the sockets
//! that the host listens on, and with limits on memory, processes and files.
//!
//! The host's program executes itself twice. [`outside`], the host's child, leaves the host's namespaces.
//! [`inside`] is the first process of the new namespaces: it builds the root, sends the listening sockets to
//! the host, starts the sandbox's program and reports how that ended. When it ends, all of its descendants end
//! with it, also those that have called setsid.
//!
//! This crate does not know the Runtime API: it runs a program in the folders that a [`Spec`] names.

mod base_programs;
mod cgroup;
mod confinement;
mod connections;
mod host_side;
mod inside;
mod launch;
mod loopback;
mod memory;
mod outside;
mod root;
mod socket;
mod spares;
mod syscalls;
mod write_access;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

pub use base_programs::PROGRAMS_FOLDER;
pub use connections::Connector;
pub use host_side::{End, Sandbox};
pub use launch::Launcher;

/// First arguments by which the program, executed again, knows which process of a sandbox it is.
const OUTSIDE: &str = "sandbox-outside";
const INSIDE: &str = "sandbox-inside";
const IN_USER_NAMESPACE: &str = "--user-namespace";

/// Runs this process as a part of a sandbox, if the launcher has started it as one, and gives its exit code;
/// `None` in any other process. The program's `main` calls it first, with the program's arguments, its own name
/// included, and while there is one thread: namespaces belong to a thread.
pub fn run_if_reexecuted(arguments: &[String]) -> Option<ExitCode> {
    match arguments.get(1)?.as_str() {
        OUTSIDE => Some(outside::outside(arguments.iter().any(|argument| argument == IN_USER_NAMESPACE))),
        INSIDE => Some(inside::inside()),
        _ => None,
    }
}

/// The part of a sandbox that can be built before its program is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootSpec {
    /// An empty folder that the sandbox's root is mounted on. The mount is seen in the sandbox's own namespace
    /// only, so any number of sandboxes may share the folder.
    pub mount_at: PathBuf,
    /// A folder whose programs and libraries replace this machine's `/usr`, such as an unpacked image.
    pub base: Option<PathBuf>,
}

/// Describes a sandbox: what it runs, what it sees and its limits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// A folder, read-only at `/var/task`: the function's own code.
    pub task: PathBuf,
    /// A folder, read-only at `/opt`: the function's layers, merged.
    pub opt: Option<PathBuf>,
    /// What its root is built from.
    pub root: RootSpec,
    /// Paths inside the sandbox; the first that exists and is executable is started.
    pub programs: Vec<PathBuf>,
    /// All variables of the program; it inherits none.
    pub environment: BTreeMap<String, String>,
    /// TCP ports on its loopback interface whose listening sockets are sent to the host.
    pub ports: Vec<u16>,
    /// The user id that the program runs as; only where the host is root.
    pub user: Option<u32>,
    /// Its limits.
    pub limits: Limits,
    /// A folder, read-only at `/inputs`. What the host changes in it is seen at once.
    pub inputs: Option<PathBuf>,
    /// Further folders of the host that it sees.
    pub mounts: Vec<Mount>,
    /// Whether the host connects to ports that its programs listen on: see [`Sandbox::take_connector`].
    pub accepts_connections: bool,
    /// The size of the writable folder `/results`, which is opened and sent to the host. `None`: there is none.
    pub results_mb: Option<u64>,
}

/// A folder of the host in a sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mount {
    /// The folder on the host. Where programs of the sandbox write to it, its owner is their user.
    pub from: PathBuf,
    /// Its absolute path in the sandbox.
    pub at: PathBuf,
    /// Whether programs of the sandbox may write to it.
    pub is_writable: bool,
}

/// Limits of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory of all of its processes together, `/dev/shm` included.
    pub memory_mb: u64,
    /// The size of `/tmp`, which does not count as the processes' memory.
    pub tmp_mb: u64,
    /// Processes and threads at a time.
    pub processes: u64,
    /// Open files of each process.
    pub open_files: u64,
}

impl Default for Limits {
    /// AWS Lambda's defaults.
    fn default() -> Self {
        Limits { memory_mb: 128, tmp_mb: 512, processes: 1024, open_files: 1024 }
    }
}
