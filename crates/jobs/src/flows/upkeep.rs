//! **upkeep**: packs, checkpoints and vacuums the lake's tables, removes old rows of the ledger and base backups of killed
//! runs, and code and artifacts of functions and models that were deleted. Readers and writers go on meanwhile: where
//! another commit and one of upkeep conflict, upkeep's is given up.

use anyhow::Result;
use chrono::{TimeDelta, Utc};
use config::Job;
use lake::{RunLiveness, TableUpkeepReport, UpkeepPolicy};
use ledger::{Ledger, Outcome};
use serde_json::{Value, json};

use crate::flows::base_backups;
use crate::runs::{self, FlowOutcome, RunRequest};
use crate::warehouse::Warehouse;
use crate::{function_host, model_host};

/// Runs upkeep over the whole lake, and calls `on_table` after each table. Returns the run's figures.
/// A table that fails does not stop the others; the run fails.
pub async fn run(
    warehouse: &Warehouse,
    request: &RunRequest,
    on_table: &(dyn Fn(&TableUpkeepReport) + Sync),
) -> Result<Value> {
    let config = &warehouse.config.upkeep;
    let detail = json!({"versions": config.versions.as_secs(), "history": config.history.as_secs()});
    runs::run(warehouse, Job::Upkeep(config), request, detail, async |run| {
        let copies = base_backups::remove_abandoned(warehouse).await?;
        let lake = warehouse.lake().await?;
        let policy = UpkeepPolicy { retention: TimeDelta::from_std(config.versions)?, ..UpkeepPolicy::default() };
        let report = lake.upkeep(run.id(), &policy, &life(&warehouse.ledger), on_table).await?;
        let pruned = warehouse.ledger.prune(Utc::now() - TimeDelta::from_std(config.history)?)?;
        let removed = |bytes: Result<u64>| {
            bytes.unwrap_or_else(|error| {
                tracing::warn!("upkeep: {error:#}");
                0
            })
        };
        let code = removed(function_host::remove_unused_code(warehouse));
        let artifacts = removed(model_host::remove_unused_artifacts(warehouse));
        let sum = |figure: fn(&TableUpkeepReport) -> u64| report.tables.iter().map(figure).sum::<u64>();
        let errors: Vec<_> = report.tables.iter().filter_map(|t| Some((&t.name, t.error.as_ref()?))).collect();
        for (name, error) in &errors {
            tracing::warn!(table = %name, "upkeep: {}", base::chain(*error));
        }
        let figures = json!({
            "tables": report.tables.len(), "failed": errors.len(), "packed_files": sum(|t| t.packed.files_before),
            "into_files": sum(|t| t.packed.files_after), "bytes_before": sum(|t| t.packed.bytes_before),
            "bytes_after": sum(|t| t.packed.bytes_after),
            "vacuumed_files": sum(|t| t.vacuumed.orphans + t.vacuumed.expired) + report.swept,
            "vacuumed_bytes": sum(|t| t.vacuumed.bytes),
            "checkpoints": report.tables.iter().filter(|t| t.checkpointed).count(), "forgotten": pruned,
            "removed_base_backups": copies, "removed_code_bytes": code,
            "removed_artifact_bytes": artifacts,
        });
        let outcome = match &errors[..] {
            [] => Outcome::Succeeded,
            [(name, error), ..] => {
                let (failed, tables) = (errors.len(), report.tables.len());
                let first = base::chain(*error);
                let retryable = errors.iter().all(|(_, error)| error.kind == lake::Kind::Retry);
                let error = format!("{failed} of {tables} tables are unchanged; {name}: {first}");
                Outcome::Failed { error, retryable }
            }
        };
        Ok(FlowOutcome { output: figures.clone(), outcome, figures })
    })
    .await
}

/// Tells whether a run may still write, from the ledger and the run's lease.
pub fn life(ledger: &Ledger) -> impl Fn(&str) -> RunLiveness + Sync {
    |run: &str| match (ledger.run(run), ledger.is_run_alive(run)) {
        (Ok(Some(_)), Ok(false)) => RunLiveness::Dead,
        (Ok(None), Ok(false)) => RunLiveness::Unknown,
        // A ledger that can't answer counts as a living run, so that no file is removed by mistake.
        _ => RunLiveness::Alive,
    }
}
