//! Calls hooks, which are notified of failures and recoveries: a program, or a URL. A program that
//! hangs is ended with all that it started. It also ends with the server, however that ends: nobody
//! would enforce its time limit any more, and the next server calls it again.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use config::job::HookAction;
use config::{OrUnset, UnsetVariables};
use ledger::QueueRow;
use serde_json::{Value, json};
use supervisor::{Group, Termination};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The time limit of a hook's program.
const COMMAND_TIME: Duration = Duration::from_secs(30);
/// The time limit of a request to a webhook.
const WEBHOOK_TIME: Duration = Duration::from_secs(10);

/// Calls one hook for the event of a queue entry. `warehouse` is the warehouse's folder.
pub async fn call(act: &OrUnset<HookAction>, entry: &QueueRow, warehouse: &str) -> Result<()> {
    let message = json!({
        "event": entry.detail["event"], "at": entry.detail["at"], "run": entry.detail["run"],
        "warehouse": warehouse, "job": entry.detail["fields"]["job"], "error": entry.detail["fields"]["error"],
        "fields": entry.detail["fields"],
    });
    match act.as_ref().map_err(UnsetVariables::clone)? {
        HookAction::Command(command) => run(command, Path::new(warehouse), &message).await,
        HookAction::Webhook(url) => post(url.reveal(), &message).await,
    }
}

/// Runs a program in the warehouse's folder, with the message on standard input and in its environment.
async fn run(command: &[String], folder: &Path, message: &Value) -> Result<()> {
    let (program, arguments) = command.split_first().context("an empty command")?;
    let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
    // Ended when it is dropped, also because the server stops while the command runs.
    let group = Group::new(Termination::TOOL).context("start /bin/sh to supervise a hook's command")?;
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
        group.set_program(id);
    }
    let (mut input, line) = (child.stdin.take(), format!("{message}\n"));
    let ended = tokio::time::timeout(COMMAND_TIME, async {
        if let Some(mut input) = input.take() {
            // A program that does not read its input is no error.
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
    // The command has ended: a process that it left in the background is not supervised.
    group.release();
    let status = status.context("wait for the hook's command")?;
    if !status.success() {
        bail!("the hook's command {program} ended with {status}");
    }
    Ok(())
}

/// Posts the message to a URL. The URL may hold a secret, so it is in no error.
async fn post(url: &str, message: &Value) -> Result<()> {
    let client = reqwest::Client::builder().timeout(WEBHOOK_TIME).build().context("make an HTTP client")?;
    let request = client.post(url).header("content-type", "application/json").body(message.to_string());
    let answer = request.send().await.map_err(reqwest::Error::without_url).context("call the webhook")?;
    if !answer.status().is_success() {
        bail!("the webhook answered {}", answer.status());
    }
    Ok(())
}
