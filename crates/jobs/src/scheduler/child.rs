//! Starts a run as a process of its own: a run that crashes, hangs or uses too much memory does not
//! harm the server, and a signal always ends it. See docs/decisions/0009-runs-are-processes.md.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use ledger::QueueRow;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// How many bytes of a process's standard error are kept, from its end.
const TAIL: usize = 8 * 1024;
/// Between the signal to stop and the signal that kills.
const GRACE: Duration = Duration::from_secs(10);

/// The end of a run's process.
pub struct Exit {
    /// The id of the queue entry; 0 for a service.
    pub entry: i64,
    /// `None` where it could not be waited for.
    pub status: Option<ExitStatus>,
    /// The end of what it wrote to standard error.
    pub stderr_tail: String,
}

/// Stops a run's process: by SIGINT, and by SIGKILL where it has not ended ten seconds later.
#[derive(Debug, Clone)]
pub struct StopHandle(mpsc::Sender<()>);

impl StopHandle {
    /// Requests the stop. A second request has no effect.
    pub fn request(&self) {
        // Full: a stop was requested already. Closed: the process has ended.
        let _ = self.0.try_send(());
    }
}

/// Starts `program`, which is this one, on a queue entry, with this process's environment. Returns the handle that
/// stops it, and a future that ends with the process.
pub fn start(
    program: &Path,
    root: &Path,
    entry: &QueueRow,
) -> Result<(StopHandle, impl Future<Output = Exit> + Send + use<>)> {
    // `entry` was read before it was claimed, which counted this attempt.
    let (queued, attempt) = (entry.id.to_string(), (entry.attempts + 1).to_string());
    spawn(program, root, entry.id, &["run", &entry.job, "--queued", &queued, "--attempt", &attempt])
}

/// As [`start`], for a service, which runs until it is stopped or this process ends.
pub fn start_service(
    program: &Path,
    root: &Path,
    job: &str,
) -> Result<(StopHandle, impl Future<Output = Exit> + Send + use<>)> {
    spawn(program, root, 0, &["run", job, "--service"])
}

fn spawn(
    program: &Path,
    root: &Path,
    entry: i64,
    arguments: &[&str],
) -> Result<(StopHandle, impl Future<Output = Exit> + Send + use<>)> {
    let mut command = Command::new(program);
    command.arg("-C").arg(root).args(arguments);
    // In a process group of its own: Ctrl-C in a terminal signals the server only, which decides when runs stop.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().with_context(|| format!("start a process for {}", arguments.join(" ")))?;
    let (stop, requests) = mpsc::channel(1);
    Ok((StopHandle(stop), watch(entry, child, requests)))
}

async fn watch(entry: i64, mut child: Child, mut requests: mpsc::Receiver<()>) -> Exit {
    let tail = tokio::spawn(read_tail(child.stderr.take()));
    let mut stop_requested = false;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.ok(),
            Some(()) = requests.recv(), if !stop_requested => {
                stop_requested = true;
                signal(&child, Signal::INT);
            }
            () = tokio::time::sleep(GRACE), if stop_requested => signal(&child, Signal::KILL),
        }
    };
    Exit { entry, status, stderr_tail: tail.await.unwrap_or_default() }
}

/// The process is not reaped yet, so that its id can't belong to another one.
fn signal(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(Err(error)) = pid.map(|pid| kill_process(pid, signal)) {
        tracing::warn!(%error, "a run's process could not be sent a signal");
    }
}

async fn read_tail(from: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut from) = from else { return String::new() };
    let (mut kept, mut buffer) = (VecDeque::with_capacity(TAIL), [0; 1024]);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        kept.extend(&buffer[..read]);
        let over = kept.len().saturating_sub(TAIL);
        kept.drain(..over);
    }
    String::from_utf8_lossy(kept.make_contiguous()).trim().to_owned()
}
