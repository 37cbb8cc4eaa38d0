//! Those who are told of failures and recoveries: a program, or a URL. One that hangs is ended, with
//! all that it started; nothing waits for it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ledger::QueueRow;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::config::job::Act;

const COMMAND_TIME: Duration = Duration::from_secs(30);
const WEBHOOK_TIME: Duration = Duration::from_secs(10);

pub async fn tell(act: &Act, entry: &QueueRow, warehouse: &str) -> Result<()> {
    let told = json!({
        "event": entry.detail["event"], "at": entry.detail["at"], "run": entry.detail["run"],
        "warehouse": warehouse, "job": entry.detail["fields"]["job"], "error": entry.detail["fields"]["error"],
        "fields": entry.detail["fields"],
    });
    match act {
        Act::Command(command) => run(command, Path::new(warehouse), &told).await,
        Act::Webhook(url) => post(url.reveal(), &told).await,
    }
}

/// In the warehouse's folder, wherever the server was started.
async fn run(command: &[String], folder: &Path, told: &Value) -> Result<()> {
    let (program, arguments) = command.split_first().context("an empty command")?;
    let text = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .envs(["event", "job", "run", "error"].map(|key| (format!("WATTLAKE_{}", key.to_uppercase()), text(key))))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("start the hook's command {program}"))?;
    // Also when the server stops while it runs.
    let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let (mut input, line) = (child.stdin.take(), format!("{told}\n"));
    let ended = tokio::time::timeout(COMMAND_TIME, async {
        if let Some(mut input) = input.take() {
            // One that does not read is not at fault.
            let _ = input.write_all(line.as_bytes()).await;
        }
        child.wait().await
    })
    .await;
    let Ok(status) = ended else {
        drop(group);
        let _ = child.wait().await;
        bail!("the hook's command {program} did not end within {} s and was killed", COMMAND_TIME.as_secs());
    };
    group.leave();
    let status = status.context("wait for the hook's command")?;
    if !status.success() {
        bail!("the hook's command {program} ended with {status}");
    }
    Ok(())
}

/// A process with all that it started: ended when this is dropped.
struct Group(Option<Pid>);

impl Group {
    /// It has ended by itself.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The URL may hold a secret: it stays out of all errors.
async fn post(url: &str, told: &Value) -> Result<()> {
    let client = reqwest::Client::builder().timeout(WEBHOOK_TIME).build().context("make an HTTP client")?;
    let request = client.post(url).header("content-type", "application/json").body(told.to_string());
    let answer = request.send().await.map_err(reqwest::Error::without_url).context("call the webhook")?;
    if !answer.status().is_success() {
        bail!("the webhook answered {}", answer.status());
    }
    Ok(())
}
