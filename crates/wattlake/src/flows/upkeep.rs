//! **upkeep**: the lake's tables packed, checkpointed and vacuumed, the ledger's past forgotten,
//! base backups of killed runs removed.
//! Readers and writers go on meanwhile: whoever is in the way of a commit wins over upkeep.

use anyhow::Result;
use chrono::{TimeDelta, Utc};
use lake::{Life, Policy, TableReport};
use ledger::{Ledger, Outcome};
use serde_json::{Value, json};

use crate::config::job::UPKEEP;
use crate::flows::copies;
use crate::jobs::{self, Asked, Ended};
use crate::report;
use crate::warehouse::Warehouse;

/// Returns what it came to.
pub async fn run(warehouse: &Warehouse, asked: &Asked, on_table: &(dyn Fn(&TableReport) + Sync)) -> Result<Value> {
    let config = &warehouse.config.upkeep;
    let detail = json!({"versions": config.versions.as_secs(), "history": config.history.as_secs()});
    jobs::run(warehouse, UPKEEP, asked, detail, async |run| {
        let copies = copies::sweep(warehouse).await?;
        let lake = warehouse.lake().await?;
        let policy = Policy { retention: TimeDelta::from_std(config.versions)?, ..Policy::default() };
        let report = lake.upkeep(run.id(), &policy, &life(&warehouse.ledger), on_table).await?;
        let pruned = warehouse.ledger.prune(Utc::now() - TimeDelta::from_std(config.history)?)?;
        let sum = |figure: fn(&TableReport) -> u64| report.tables.iter().map(figure).sum::<u64>();
        let errors: Vec<_> = report.tables.iter().filter_map(|t| Some((&t.name, t.error.as_ref()?))).collect();
        for (name, error) in &errors {
            tracing::warn!(table = %name, "upkeep: {}", report::chain(*error));
        }
        let figures = json!({
            "tables": report.tables.len(), "failed": errors.len(), "packed_files": sum(|t| t.packed.files_before),
            "into_files": sum(|t| t.packed.files_after), "bytes_before": sum(|t| t.packed.bytes_before),
            "bytes_after": sum(|t| t.packed.bytes_after),
            "vacuumed_files": sum(|t| t.vacuumed.orphans + t.vacuumed.expired) + report.swept,
            "vacuumed_bytes": sum(|t| t.vacuumed.bytes),
            "checkpoints": report.tables.iter().filter(|t| t.checkpointed).count(), "forgotten": pruned,
            "removed_base_backups": copies,
        });
        let outcome = match &errors[..] {
            [] => Outcome::Succeeded,
            [(name, error), ..] => {
                let (failed, tables) = (errors.len(), report.tables.len());
                let first = report::chain(*error);
                Outcome::Failed { error: format!("{failed} of {tables} tables are as they were; {name}: {first}") }
            }
        };
        let may_pass = errors.iter().all(|(_, error)| error.kind == lake::Kind::Retry);
        Ok(Ended { shown: figures.clone(), outcome, figures, may_pass })
    })
    .await
}

/// Whether a run may still write.
pub fn life(ledger: &Ledger) -> impl Fn(&str) -> Life + Sync {
    |run: &str| match (ledger.run(run), ledger.alive(run)) {
        (Ok(Some(_)), Ok(false)) => Life::Dead,
        (Ok(None), Ok(false)) => Life::Unknown,
        // A ledger that can't answer counts as a living run: nothing is removed on a guess.
        _ => Life::Alive,
    }
}
