//! Serves functions: AWS Lambda's Invoke API, and the queue of asynchronous events.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use function::invoke::Api;
use jobs::function_host::{self, SharedHost};
use jobs::warehouse::Warehouse;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::api_settings::ApiSettings;
use super::{BoundListener, listen};

/// Between two looks for the first function that is deployed.
const DEPLOYED_CHECK: Duration = Duration::from_secs(1);

/// The listener of the Invoke API. Before the first function is deployed, its address may be in use by another program.
pub async fn bind(warehouse: &Warehouse) -> Result<BoundListener> {
    match listen(warehouse.config.serve.functions, "functions").await {
        Err(error) if warehouse.config.functions.is_empty() => {
            tracing::warn!("functions can't be invoked by HTTP: {error:#}");
            Ok(None)
        }
        listening => listening,
    }
}

/// Serves the Invoke API on the listener, and runs the queue of asynchronous events.
pub async fn serve(
    at: BoundListener,
    host: SharedHost,
    apis: ApiSettings,
    warehouse: Arc<Warehouse>,
    stop: CancellationToken,
) -> Result<()> {
    let Some((listener, at)) = at else { return queued_events(host, warehouse, stop).await };
    let scheme = apis.scheme(at);
    tracing::info!(address = %at, "functions are invoked: aws lambda invoke --endpoint-url {scheme}://{at}");
    // Until then no host is started, which has sandboxes ready.
    let first = tokio::select! {
        deployed = first_function(&warehouse, &stop) => deployed.map(|()| None)?,
        accepted = listener.accept() => accepted.ok().map(|(stream, _)| stream),
    };
    if stop.is_cancelled() {
        return Ok(());
    }
    functions(host, apis, first, listener, stop).await
}

/// Waits until a function is deployed, or the server stops.
async fn first_function(warehouse: &Warehouse, stop: &CancellationToken) -> Result<()> {
    while function_host::registry(warehouse)?.list()?.is_empty() && !stop.is_cancelled() {
        let _ = tokio::time::timeout(DEPLOYED_CHECK, stop.cancelled()).await;
    }
    Ok(())
}

/// Runs the queue of asynchronous events without the Invoke API, from when the first function is deployed.
async fn queued_events(host: SharedHost, warehouse: Arc<Warehouse>, stop: CancellationToken) -> Result<()> {
    first_function(&warehouse, &stop).await?;
    if stop.is_cancelled() {
        return Ok(());
    }
    let queue = host.get().await?.event_queue();
    queue.run(stop.cancelled_owned()).await.context("run the queue of events")
}

/// Serves the Invoke API, and runs the queue of asynchronous events.
async fn functions(
    host: SharedHost,
    apis: ApiSettings,
    first: Option<TcpStream>,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<()> {
    let host = host.get().await?;
    let queue = host.event_queue();
    let api = Api::new(host.fleet.clone(), queue.clone(), apis.access.clone(), apis.lambda_requests.clone());
    let http = gateway::serve(api, apis.binding(listener, first), stop.clone().cancelled_owned());
    let queue = queue.run(stop.cancelled_owned());
    let ((), queue) = tokio::join!(http, queue);
    queue.context("run the queue of events")
}
