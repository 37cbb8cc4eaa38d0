//! Runs an event in the host of the warehouse's server, or in a host of this process where no server runs.

use std::time::Duration;

use anyhow::{Context, Result};
use function::host::{Event, Execution, Refusal};

use super::message::{PATH, Reply, Request, busy, failed};
use super::{Host, registry, socket};
use crate::warehouse::Warehouse;

/// Between two attempts to run an event whose function has reached its concurrency limit.
const BUSY_WAIT: Duration = Duration::from_millis(500);

/// An event for a function, and what happens at its concurrency limit.
pub struct FunctionCall<'a> {
    pub function: &'a str,
    /// `$LATEST`, a version's number or an alias.
    pub qualifier: &'a str,
    pub event: Event,
    /// Wait at the concurrency limit, in place of a refusal.
    pub waits: bool,
}

/// Runs an event. Where the server ends meanwhile, the event runs again in this process.
///
/// # Errors
/// A [`Refusal`] inside of `Ok` where the event was not run; an error where no host can be opened.
pub async fn invoke(warehouse: &Warehouse, invocation: FunctionCall<'_>) -> Result<Result<Execution, Refusal>> {
    let mut was_busy = false;
    loop {
        let answer = match on_server(warehouse, &invocation).await? {
            Some(answer) => answer,
            None => here(warehouse, &invocation).await?,
        };
        if !invocation.waits || !matches!(answer, Err(Refusal::Busy(_))) {
            return Ok(answer);
        }
        if !was_busy {
            tracing::warn!("{} has reached its concurrency limit: the event waits", invocation.function);
        }
        was_busy = true;
        tokio::time::sleep(BUSY_WAIT).await;
    }
}

/// `None` where the event did not run on the server, or where the server ended while it ran.
async fn on_server(warehouse: &Warehouse, invocation: &FunctionCall<'_>) -> Result<Option<Result<Execution, Refusal>>> {
    let path = socket(warehouse);
    if !path.exists() {
        return Ok(None);
    }
    let client =
        reqwest::Client::builder().unix_socket(path).no_proxy().build().context("connect to the server's host")?;
    let message = Request::new(invocation.function, invocation.qualifier, &invocation.event);
    let body = serde_json::to_vec(&message).context("write an event")?;
    let sent = client.post(format!("http://host{PATH}")).header("content-type", "application/json").body(body);
    let received = match sent.send().await {
        Ok(response) => response.bytes().await,
        // A server that was killed left its socket.
        Err(error) if error.is_connect() => return Ok(None),
        Err(error) => Err(error),
    };
    let reply = match received {
        Ok(bytes) => serde_json::from_slice(&bytes).context("read the reply of the server's host")?,
        Err(error) => {
            tracing::debug!("the connection to the server: {}", base::chain(&error));
            tracing::warn!("the server ended while {} ran, so that it runs again", invocation.function);
            return Ok(None);
        }
    };
    Ok(Some(match reply {
        Reply::Executed(executed) => Ok(executed.into_execution(&registry(warehouse)?, invocation.function)?),
        Reply::OtherVersion(other) => {
            tracing::info!("the server is Wattlake {other}, so that {} runs in this process", invocation.function);
            return Ok(None);
        }
        Reply::Unknown => Err(Refusal::Unknown),
        Reply::Busy { of_function } => Err(busy(of_function)),
        Reply::Failed { kind, text, hint } => Err(failed(kind, text, hint)),
    }))
}

async fn here(warehouse: &Warehouse, invocation: &FunctionCall<'_>) -> Result<Result<Execution, Refusal>> {
    let host = Host::open(warehouse).await?;
    let (name, qualifier) = (invocation.function.to_owned(), invocation.qualifier.to_owned());
    let (fleet, event) = (host.fleet.clone(), invocation.event.clone());
    // In a task of its own: an invocation whose future is dropped kills the instance.
    let execution = tokio::spawn(async move { fleet.invoke(&name, &qualifier, event, None).await });
    execution.await.context("wait for the function")
}
