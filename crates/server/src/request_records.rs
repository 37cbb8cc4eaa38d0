//! Records the requests to the APIs in the ledger, counted by minute.

use std::sync::Arc;
use std::time::Duration;

use gateway::RequestLog;
use jobs::warehouse::Warehouse;
use ledger::RequestCount;
use tokio_util::sync::CancellationToken;

use super::api_settings::ApiSettings;

/// How long counts wait in memory.
const PERIOD: Duration = Duration::from_secs(2);

/// Records requests until `stop`, and what was counted until then.
pub async fn record(apis: ApiSettings, warehouse: Arc<Warehouse>, stop: CancellationToken) {
    loop {
        let is_last = tokio::time::timeout(PERIOD, stop.cancelled()).await.is_ok();
        let mut rows = counts("lambda", &apis.lambda_requests);
        rows.extend(counts("sagemaker", &apis.sagemaker_requests));
        if let Err(error) = warehouse.ledger.add_requests(&rows) {
            tracing::warn!(error = error.chain(), "record requests");
        }
        if is_last {
            return;
        }
    }
}

fn counts(api: &str, log: &RequestLog) -> Vec<RequestCount> {
    let rows = log.take().into_iter().map(|row| RequestCount {
        minute: row.minute,
        api: api.to_owned(),
        key: row.note.key,
        operation: row.note.operation,
        resource: row.note.resource,
        status: u64::from(row.status),
        error: row.error,
        requests: row.requests,
        seconds: row.seconds,
        seconds_max: row.seconds_max,
    });
    rows.collect()
}
