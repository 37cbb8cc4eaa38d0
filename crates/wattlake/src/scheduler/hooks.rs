//! Those who are told of failures and recoveries: a program, or a URL. One that hangs is ended, with
//! all that it started; nothing waits for it. A program ends with the server as well, also where the
//! server is killed: its limit would not be kept any more, and the next server tells it again.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ledger::QueueRow;
use serde_json::{Value, json};
use supervisor::{Ending, Group};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::config::job::Act;
use crate::config::{Filled, Unset};

const COMMAND_TIME: Duration = Duration::from_secs(30);
const WEBHOOK_TIME: Duration = Duration::from_secs(10);

pub async fn tell(act: &Filled<Act>, entry: &QueueRow, warehouse: &str) -> Result<()> {
    let told = json!({
        "event": entry.detail["event"], "at": entry.detail["at"], "run": entry.detail["run"],
        "warehouse": warehouse, "job": entry.detail["fields"]["job"], "error": entry.detail["fields"]["error"],
        "fields": entry.detail["fields"],
    });
    match act.as_ref().map_err(Unset::clone)? {
        Act::Command(command) => run(command, Path::new(warehouse), &told).await,
        Act::Webhook(url) => post(url.reveal(), &told).await,
    }
}

/// In the warehouse's folder, wherever the server was started.
async fn run(command: &[String], folder: &Path, told: &Value) -> Result<()> {
    let (program, arguments) = command.split_first().context("an empty command")?;
    let text = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
    // Ended when it is dropped, also because the server stops while the command runs.
    let group = Group::new(Ending::TOOL).context("start /bin/sh to supervise a hook's command")?;
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .envs(["event", "job", "run", "error"].map(|key| (format!("WATTLAKE_{}", key.to_uppercase()), text(key))))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(group.id())
        .spawn()
        .with_context(|| format!("start the hook's command {program}"))?;
    if let Some(id) = child.id() {
        group.follow(id);
    }
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
    // What a command that has ended leaves in the background is its own affair.
    group.release();
    let status = status.context("wait for the hook's command")?;
    if !status.success() {
        bail!("the hook's command {program} ended with {status}");
    }
    Ok(())
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
