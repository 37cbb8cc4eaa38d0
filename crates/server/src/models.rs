//! Serves models: SageMaker's APIs, and the processes behind the endpoints.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use jobs::model_host;
use jobs::warehouse::Warehouse;
use model::Endpoints;
use model::api::Api;
use tokio_util::sync::CancellationToken;

use super::api_settings::ApiSettings;
use super::{BoundListener, listen};

/// Between two looks for training jobs whose processes were killed.
const SETTLE_PERIOD: Duration = Duration::from_secs(30);

/// The listener of SageMaker's APIs. Before the first endpoint is declared or created, its address may be in use by another
/// program.
pub async fn bind(warehouse: &Warehouse) -> Result<BoundListener> {
    match listen(warehouse.config.serve.models, "models").await {
        Err(error) if warehouse.config.endpoints.is_empty() && warehouse.ledger.endpoints()?.is_empty() => {
            tracing::warn!("endpoints can't be invoked by HTTP: {error:#}");
            Ok(None)
        }
        listening => listening,
    }
}

/// The endpoints of the warehouse, not running yet.
pub fn endpoints(warehouse: &Warehouse) -> Result<Endpoints> {
    model_host::endpoints(warehouse).context("open the models")
}

/// Serves the APIs on the listener, and runs the endpoints until requests have ended.
pub async fn serve(
    at: BoundListener,
    warehouse: Arc<Warehouse>,
    endpoints: Endpoints,
    apis: ApiSettings,
    stop: CancellationToken,
) -> Result<()> {
    model_host::start_created_trainings(&warehouse)?;
    let starter = Arc::clone(&warehouse);
    let start = move |name: &str| {
        let started = model_host::start_training(&starter, name);
        started.map_err(|error| base::Error::setup(format!("{error:#}")))
    };
    let api = Api::new(endpoints.clone(), apis.access.clone(), apis.sagemaker_requests.clone(), Arc::new(start));
    let http = async {
        match at {
            Some((listener, at)) => {
                let scheme = apis.scheme(at);
                tracing::info!(address = %at, "endpoints are invoked: aws sagemaker-runtime --endpoint-url {scheme}://{at}");
                gateway::serve(api, apis.binding(listener, None), stop.cancelled()).await;
            }
            None => stop.cancelled().await,
        }
    };
    // The processes end after the last request.
    let end = CancellationToken::new();
    let running = endpoints.run(end.cancelled());
    let ending = async {
        http.await;
        end.cancel();
    };
    let settling = async {
        loop {
            tokio::select! {
                () = end.cancelled() => break,
                () = tokio::time::sleep(SETTLE_PERIOD) => {}
            }
            if let Err(error) = model_host::settle_trainings(&warehouse) {
                tracing::warn!("look for training jobs that were killed: {error:#}");
            }
        }
    };
    let answering = jobs::model_socket::serve(&warehouse, endpoints.clone(), end.clone());
    let ((), (), (), answered) = tokio::join!(running, ending, settling, answering);
    answered
}
