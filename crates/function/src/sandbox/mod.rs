//! A function's process, shut in: namespaces of its own, a root of its own, no network but the
//! sockets that the host listens on, and bounds on memory, processes, files and time.
//!
//! The program executes itself twice. [`outside`] (the host's child) leaves the host's namespaces;
//! [`inside`] is the first process of the new ones: it builds the root, hands the host the
//! listening sockets, starts the function's bootstrap and reports how it ended. When it dies all
//! of its descendants die with it, those that called setsid included.
//! Nothing here knows what a function is for: it runs a program in folders that it is given.

mod bars;
mod cgroup;
mod inside;
mod launch;
mod loopback;
mod memory;
mod outside;
mod root;
mod socket;
mod spares;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

pub use launch::{End, Launcher, Sandbox};

const OUTSIDE: &str = "sandbox-outside";
const INSIDE: &str = "sandbox-inside";
const IN_USER_NAMESPACE: &str = "--user-namespace";

/// What the program's `main` asks before it does anything else: whether it is to be a part of a
/// sandbox, and how that part ended. `arguments` are the program's, its own name first. Called
/// while there is one thread: namespaces are a thread's.
pub fn door(arguments: &[String]) -> Option<ExitCode> {
    match arguments.get(1)?.as_str() {
        OUTSIDE => Some(outside::outside(arguments.iter().any(|argument| argument == IN_USER_NAMESPACE))),
        INSIDE => Some(inside::inside()),
        _ => None,
    }
}

/// What of a sandbox can be made before it is known which function it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ahead {
    /// An empty folder that the sandbox's root is mounted on, in its own view only: any number may
    /// share it.
    pub mount_at: PathBuf,
    /// A root to stand on instead of this machine's `/usr`, such as an unpacked image.
    pub base: Option<PathBuf>,
}

/// What a sandbox is made of, as the host tells it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// Read-only at `/var/task`: the function's own code.
    pub task: PathBuf,
    /// Read-only at `/opt`: its layers, merged.
    pub opt: Option<PathBuf>,
    pub ahead: Ahead,
    /// Looked for in this order; the first that is there is started.
    pub programs: Vec<PathBuf>,
    pub environment: BTreeMap<String, String>,
    /// TCP ports on its loopback whose listening sockets go to the host.
    pub ports: Vec<u16>,
    /// Only where the host is root: the user that the function runs as.
    pub user: Option<u32>,
    pub limits: Limits,
    /// A folder that it reads at `/inputs`; what the host changes in it is seen at once.
    pub inputs: Option<PathBuf>,
    /// A folder that it writes at `/results`, so many megabytes; it goes to the host open.
    pub results_mb: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub memory_mb: u64,
    pub tmp_mb: u64,
    pub processes: u64,
    pub open_files: u64,
}

impl Default for Limits {
    /// AWS Lambda's own.
    fn default() -> Self {
        Limits { memory_mb: 128, tmp_mb: 512, processes: 1024, open_files: 1024 }
    }
}
