//! A run as a process of its own: a run that crashes, hangs or eats memory takes nothing with it,
//! and a signal always ends it. docs/decisions/0009-runs-are-processes.md

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

/// Of what it says on standard error, the end is kept.
const TAIL: usize = 8 * 1024;
/// Between the asking and the killing.
const GRACE: Duration = Duration::from_secs(10);

/// How it ended.
pub struct Exit {
    pub entry: i64,
    pub status: Option<ExitStatus>,
    pub said: String,
}

/// Asks the process to stop, and makes sure that it does. Asking again changes nothing.
#[derive(Debug, Clone)]
pub struct Stop(mpsc::Sender<()>);

impl Stop {
    pub fn ask(&self) {
        // Full: it was asked already. Closed: it has ended.
        let _ = self.0.try_send(());
    }
}

/// The program itself, with its own environment, on the entry of the queue.
pub fn start(root: &Path, entry: &QueueRow) -> Result<(Stop, impl Future<Output = Exit> + Send + use<>)> {
    let program = std::env::current_exe().context("find this program's own file")?;
    let mut command = Command::new(program);
    command.arg("-C").arg(root).args(["run", &entry.job, "--queued", &entry.id.to_string()]);
    // Claiming it counted one more.
    command.args(["--attempt", &(entry.attempts + 1).to_string()]);
    // In a group of its own: Ctrl-C in the server's terminal is the server's to pass on.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().with_context(|| format!("start a process for {}", entry.job))?;
    let (stop, asked) = mpsc::channel(1);
    Ok((Stop(stop), watch(entry.id, child, asked)))
}

async fn watch(entry: i64, mut child: Child, mut asked: mpsc::Receiver<()>) -> Exit {
    let saying = tokio::spawn(tail(child.stderr.take()));
    let mut is_asked = false;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.ok(),
            Some(()) = asked.recv(), if !is_asked => {
                is_asked = true;
                signal(&child, Signal::INT);
            }
            () = tokio::time::sleep(GRACE), if is_asked => signal(&child, Signal::KILL),
        }
    };
    Exit { entry, status, said: saying.await.unwrap_or_default() }
}

/// Not reaped yet: the number is still its own.
fn signal(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(Err(error)) = pid.map(|pid| kill_process(pid, signal)) {
        tracing::warn!(%error, "a run's process could not be signalled");
    }
}

async fn tail(from: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut from) = from else { return String::new() };
    let (mut kept, mut buffer) = (VecDeque::with_capacity(TAIL), [0; 1024]);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        kept.extend(&buffer[..read]);
        let over = kept.len().saturating_sub(TAIL);
        kept.drain(..over);
    }
    String::from_utf8_lossy(kept.make_contiguous()).trim().to_owned()
}
