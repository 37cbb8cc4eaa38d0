//! The host's side of a sandbox: starts its processes, receives its listening sockets, waits for its end, kills it.

use std::fs::File;
use std::io::Write;
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use base::{Error, ErrorContext, Kind, Result};

use super::cgroup::Cgroup;
use super::connections::Connector;
use super::socket::{PAUSE, RESUME, StartRequest, StatusMessage, TERMINATE, receive, send};
use super::{IN_USER_NAMESPACE, OUTSIDE, RootSpec, Spec};

/// Mounts and namespaces take milliseconds; on a machine that swaps they may take seconds.
const START_MAX: Duration = Duration::from_secs(20);

/// How long a sandbox has to end by itself before it is killed.
const KILL_AFTER: Duration = Duration::from_secs(1);
const POLL_PERIOD: Duration = Duration::from_micros(500);
const START: &str = "start a sandbox";

/// Starts the processes of sandboxes.
#[derive(Debug, Clone)]
pub(super) struct Maker {
    /// The running program's own file.
    pub program: PathBuf,
}

/// How a sandbox's program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It exited, with this status.
    Exit(i32),
    /// It was ended by this signal.
    Signal(i32),
    /// It was killed because the sandbox used more memory than its limit.
    OutOfMemory,
    /// The whole sandbox was killed from outside.
    Killed,
}

/// A running sandbox. It is killed when it is dropped.
#[derive(Debug)]
pub struct Sandbox {
    child: Mutex<Child>,
    socket: UnixStream,
    listeners: Vec<TcpListener>,
    results: Option<OwnedFd>,
    connector: Option<Connector>,
    cgroup: Option<Cgroup>,
}

impl Maker {
    /// Starts a sandbox's processes. They build its root after this returns.
    pub fn make(&self, root: &RootSpec) -> Result<Sandbox> {
        let (host, child_end) = UnixStream::pair().during(Kind::FixSetup, START)?;
        let mut command = Command::new(&self.program);
        command.arg(OUTSIDE);
        if !geteuid().is_root() {
            command.arg(IN_USER_NAMESPACE);
        }
        command.env_clear().stdin(Stdio::from(OwnedFd::from(child_end))).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().during(Kind::FixSetup, START)?;
        // The name begins with the host's process id, so that leftovers of a killed host are recognised.
        let cgroup = Cgroup::make(&format!("{}-{}", std::process::id(), uuid::Uuid::now_v7().simple()));
        let sandbox = Sandbox {
            child: Mutex::new(child),
            socket: host,
            listeners: Vec::new(),
            results: None,
            connector: None,
            cgroup,
        };
        if let Some(cgroup) = &sandbox.cgroup {
            cgroup.add(sandbox.process()).during(Kind::FixSetup, "limit a sandbox's memory")?;
        }
        // Its process may have ended already: the message that it sent before says why.
        let _ = (&sandbox.socket).write_all(b"g").and_then(|()| send(&sandbox.socket, root, &[]));
        Ok(sandbox)
    }
}

impl Sandbox {
    /// Starts the program in its processes. Blocks until it has been started.
    pub(super) fn begin(&mut self, spec: &Spec, output: &File) -> Result<()> {
        let mut spec = spec.clone();
        if let Some(cgroup) = &self.cgroup {
            cgroup
                .bound(spec.limits, spec.results_mb.unwrap_or_default())
                .during(Kind::FixSetup, "limit a sandbox's memory")?;
            if cgroup.bounds_processes() {
                // The group limits them. RLIMIT_NPROC counts all processes of a user, which the instances of a
                // function share.
                spec.limits.processes = u64::from(u32::MAX);
            }
        }
        self.socket.set_read_timeout(Some(START_MAX)).during(Kind::Bug, START)?;
        let order = StartRequest { spec: &spec, has_group: self.cgroup.is_some() };
        let connections = spec.accepts_connections.then(Connector::pair).transpose().during(Kind::FixSetup, START)?;
        let mut open = vec![output.as_fd()];
        open.extend(connections.iter().map(|(_, sandbox)| sandbox.as_fd()));
        let _ = send(&self.socket, &order, &open);
        self.connector = connections.map(|(connector, _)| connector);
        match receive::<StatusMessage>(&self.socket) {
            Ok((StatusMessage::Ready, mut open)) => {
                let expected = spec.ports.len() + usize::from(spec.results_mb.is_some());
                if open.len() != expected {
                    let found = open.len();
                    let context = format!("{START}: it sent {found} open files, expected {expected}");
                    return Err(Error::new(Kind::Bug, context));
                }
                self.results = open.split_off(spec.ports.len()).pop();
                self.listeners = open.into_iter().map(TcpListener::from).collect();
            }
            Ok((StatusMessage::Failed { step, error }, _)) => {
                let kind = if step == "find its bootstrap" { Kind::FixInput } else { Kind::FixSetup };
                return Err(Error::new(kind, format!("{START}: {step}")).because(error));
            }
            Ok((StatusMessage::Exited { .. } | StatusMessage::OutOfMemory, _)) => {
                return Err(Error::new(Kind::Retry, format!("{START}: it ended before it reported ready")));
            }
            Err(error) => {
                return Err(
                    Error::new(Kind::Retry, format!("{START}: it exited before it reported ready")).because(error)
                );
            }
        }
        self.socket.set_read_timeout(None).during(Kind::Bug, START)
    }

    /// The listening sockets, in the order of [`Spec::ports`]. A second call returns none.
    pub fn take_listeners(&mut self) -> Vec<TcpListener> {
        std::mem::take(&mut self.listeners)
    }

    /// The sandbox's folder `/results`, open; it exists as long as the handle. A second call returns `None`.
    pub fn take_results(&mut self) -> Option<OwnedFd> {
        self.results.take()
    }

    /// Connects to ports of its loopback interface, where [`Spec::accepts_connections`]. A second call returns `None`.
    pub fn take_connector(&mut self) -> Option<Connector> {
        self.connector.take()
    }

    /// Blocks until the sandbox's program has ended.
    pub fn wait(&self) -> End {
        let told = receive(&self.socket).map(|(told, _)| told);
        let ran_out = self.cgroup.as_ref().is_some_and(Cgroup::ran_out_of_memory);
        match told {
            _ if ran_out => End::OutOfMemory,
            Ok(StatusMessage::OutOfMemory) => End::OutOfMemory,
            Ok(StatusMessage::Exited { code: Some(code), .. }) => End::Exit(code),
            Ok(StatusMessage::Exited { signal: Some(signal), .. }) => End::Signal(signal),
            _ => End::Killed,
        }
    }

    /// Whether its processes still run.
    pub(super) fn is_alive(&self) -> bool {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(child.try_wait(), Ok(None))
    }

    /// The largest amount of memory that it has used so far. `None` without a control group.
    pub fn memory_peak_bytes(&self) -> Option<u64> {
        self.cgroup.as_ref()?.memory_peak_bytes()
    }

    /// Stops its processes until [`Sandbox::resume`]: between two events nothing of a function runs.
    pub fn pause(&self) {
        // Its end, if it has ended, is reported by `wait`.
        let _ = (&self.socket).write_all(&[PAUSE]);
    }

    /// Lets its processes go on.
    pub fn resume(&self) {
        let _ = (&self.socket).write_all(&[RESUME]);
    }

    /// Sends SIGTERM to all of its processes, which may save something before they are killed.
    pub fn terminate(&self) {
        let _ = (&self.socket).write_all(&[TERMINATE]);
    }

    /// Ends all of its processes and waits for their end. Blocks for milliseconds, rarely for a second.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // When the socket is closed the first process inside ends, and the kernel ends all others with it. Only
        // then does the child return: once it has ended, every process has.
        let _ = self.socket.shutdown(Shutdown::Write);
        let began = Instant::now();
        while matches!(child.try_wait(), Ok(None)) && began.elapsed() < KILL_AFTER {
            sleep(POLL_PERIOD);
        }
        // A first process that does not react is killed when its parent ends.
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
            && matches!(child.try_wait(), Ok(None))
        {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = child.wait();
    }

    fn process(&self) -> u32 {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).id()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill();
    }
}
