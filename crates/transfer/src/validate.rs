//! Validation: a comparison of the source's tables with the lake's, row by row, in one snapshot of the source.
//! It compares counts and checksums by ranges of keys, and then the rows of the ranges that differ.
//!
//! Rows that are missing at the source are purged, which is no error; rows that the lake should have and
//! does not have are lost; rows that the next run would read are pending. While a stream runs, both sides are compared at
//! one position in the log; rows whose last change was committed to the lake with later ones are pending, too.

mod compare;
mod digest;
mod streamed;
mod table_validation;

use std::sync::Arc;
use std::time::Instant;

use lake::Lake;

use crate::changes::snapshot_at_position;
use crate::checkpoint::Position;
use crate::destination::deleted_rows::present_rows;
use crate::destination::evolve::schema_of;
use crate::destination::lake as to_lake;
use crate::error::{Context, Error, Result};
use crate::late;
use crate::plan::{Mode, PlanColumn, RefusedTable, Settings, TablePlan, plan};
use crate::postgres::{Catalog, Endpoint, Snapshot};
use crate::read::{Pool, Progress, TableReader, whole_table_queries};
use crate::resume::keep_names;
use crate::type_map::ColumnKind;
use compare::Comparison;
use digest::{DigestSink, Digests, KeyRanges};
use streamed::ComparedTable;
pub use table_validation::{Difference, SAMPLES, TableValidation};

/// How often a table is compared, where a row that differs may have changed between two commits of a stream.
const ATTEMPTS: usize = 3;

/// Compares all tables of the transfer, or those in `only`, given as `schema.table`.
///
/// # Errors
/// Where the transfer can't be planned or the snapshot can't be taken; the error of a single table is in its result.
pub async fn validate(
    settings: &Settings,
    source: &Endpoint,
    lake: &Lake,
    only: &[String],
    progress: &Arc<dyn Progress>,
) -> Result<Vec<TableValidation>> {
    let mut validations = compare_tables(settings, source, lake, only, progress).await?;
    for _ in 1..ATTEMPTS {
        let uncertain = validations.iter().filter(|validation| validation.is_uncertain());
        let names: Vec<String> = uncertain.map(|validation| validation.source.clone()).collect();
        if names.is_empty() {
            break;
        }
        for again in compare_tables(settings, source, lake, &names, progress).await? {
            if let Some(validation) = validations.iter_mut().find(|validation| validation.source == again.source) {
                let before = std::mem::take(validation);
                *validation = again.confirmed_by(&before);
            }
        }
    }
    Ok(validations)
}

/// Compares tables once.
async fn compare_tables(
    settings: &Settings,
    source: &Endpoint,
    lake: &Lake,
    only: &[String],
    progress: &Arc<dyn Progress>,
) -> Result<Vec<TableValidation>> {
    let client = source.connect().await?;
    let catalog = Catalog::read(&client).await?;
    let mut plan = plan(&client, &catalog, settings).await?;
    crate::run::retain_tables(&mut plan, only, &settings.name)?;
    let (snapshot, position) = match settings.mode {
        Mode::Changes => {
            let slot = format!("{}_validate_{}", settings.changes.slot, std::process::id());
            let slot = slot.chars().rev().take(63).collect::<Vec<_>>().into_iter().rev().collect();
            let (snapshot, position) = snapshot_at_position(source, catalog.server_version, slot, true).await?;
            let is_running = streamed::is_running(settings, &snapshot, catalog.server_version).await?;
            (snapshot, is_running.then_some(position))
        }
        Mode::Initial | Mode::Incremental => (Snapshot::export(source).await?, None),
    };
    let pool = Pool::new(source, snapshot.join());
    let refused = |refused: RefusedTable| TableValidation {
        source: refused.table,
        error: Some(refused.error),
        ..Default::default()
    };
    let mut validations: Vec<TableValidation> = plan.refused.into_iter().map(refused).collect();
    let mut compared = Vec::with_capacity(plan.tables.len());
    for table in &plan.tables {
        // Before the first one is compared: later, they are many versions ahead of the snapshot.
        compared.push(match position {
            Some(position) => streamed::at_position(lake, settings, table, position).await,
            None => newest(lake, table).await,
        });
    }
    for (table, compared) in plan.tables.into_iter().zip(compared) {
        let name = table.source.display();
        let started = Instant::now();
        progress.started(&name, table.source.rows_estimate);
        let target = table.target.to_string();
        let mut job = TableJob {
            settings,
            pool: &pool,
            snapshot: &snapshot,
            version: catalog.server_version,
            plan: Arc::new(table),
            position: None,
            progress,
        };
        // By a savepoint: the error of one table must not abort the transaction that holds the snapshot.
        snapshot.set_savepoint().await?;
        let outcome = match compared {
            Ok(compared) => job.run(compared).await,
            Err(error) => Err(error),
        };
        snapshot.rollback_to_savepoint().await?;
        let mut validation = outcome.unwrap_or_else(|error| TableValidation {
            error: Some(error.within(format!("validate {name}"))),
            ..Default::default()
        });
        validation.source.clone_from(&name);
        validation.target = target;
        validation.position = position;
        validation.seconds = started.elapsed().as_secs_f64();
        progress.finished(&name, !validation.is_ok());
        validations.push(validation);
    }
    Ok(validations)
}

async fn newest(lake: &Lake, plan: &TablePlan) -> Result<Option<ComparedTable>> {
    let table = lake.table(&plan.target).await.context("open the table in the lake")?;
    Ok(table.map(ComparedTable::newest))
}

struct TableJob<'a> {
    settings: &'a Settings,
    pool: &'a Arc<Pool>,
    snapshot: &'a Snapshot,
    version: u32,
    plan: Arc<TablePlan>,
    position: Option<Position>,
    progress: &'a Arc<dyn Progress>,
}

impl TableJob<'_> {
    async fn run(&mut self, compared: Option<ComparedTable>) -> Result<TableValidation> {
        let ComparedTable { table, changed } = compared.ok_or_else(|| {
            Error::input(format!("{} is not in the lake yet", self.plan.target)).hint(self.settings.command(
                "run",
                &self.plan.source.display(),
                "",
            ))
        })?;
        let checkpoint =
            to_lake::target_state(&table, &self.settings.name, &self.plan).await?.checkpoint.unwrap_or_default();
        if let Some(origin) = &checkpoint.origin {
            keep_names(Arc::make_mut(&mut self.plan), origin)?;
        }
        let mirrors = checkpoint.origin.as_ref().is_some_and(|origin| origin.mirrors);
        let mirrors = mirrors || self.settings.marks_deleted();
        self.position = checkpoint.position;
        let ranges = Arc::new(KeyRanges::of(&self.plan, self.snapshot.client()).await?);
        let source = self.digest_source(&ranges).await?;
        let lake = self.digest_lake(&table, &ranges).await?;
        let differing: Vec<usize> = (0..ranges.len()).filter(|at| source.ranges[*at] != lake.ranges[*at]).collect();
        let mut validation = TableValidation {
            source_rows: source.rows(),
            lake_rows: lake.rows(),
            ranges: ranges.len(),
            ranges_differing: differing.len(),
            mirrors,
            between_commits: changed.is_some(),
            ..Default::default()
        };
        if self.plan.key.is_empty() {
            if !differing.is_empty() {
                let what = || "the table has no key: its rows can't be identified".to_owned();
                // Changes of the same commit may be later than the snapshot.
                let is_uncertain = changed.is_some_and(|changed| !changed.is_empty());
                validation.note(if is_uncertain { Difference::Pending } else { Difference::Differs }, what);
            }
            return Ok(validation);
        }
        for group in compare::groups(&differing, &source, &lake) {
            let comparison = Comparison::new(&self.plan, &ranges, group, changed.clone().unwrap_or_default());
            self.compare(&table, comparison, &mut validation).await?;
        }
        Ok(validation)
    }

    async fn digest_source(&self, ranges: &Arc<KeyRanges>) -> Result<Digests> {
        let (queries, streams) = whole_table_queries(&self.plan, self.version, self.settings.streams);
        let reading = self.reading(queries);
        let sinks = (0..streams).map(|_| DigestSink::new(&self.plan, ranges)).collect::<Result<Vec<_>>>()?;
        let mut digests = Digests::new(ranges.len());
        for part in reading.run(sinks).await? {
            digests.add(&part);
        }
        Ok(digests)
    }

    async fn digest_lake(&self, table: &lake::Table, ranges: &Arc<KeyRanges>) -> Result<Digests> {
        let mut sink = DigestSink::new(&self.plan, ranges)?;
        self.each_batch(table, |batch| sink.count(&batch)).await?;
        Ok(sink.digests)
    }

    /// Passes the lake's rows to `each`, with the source's columns and types.
    async fn each_batch(
        &self,
        table: &lake::Table,
        mut each: impl FnMut(arrow::array::RecordBatch) -> Result<()>,
    ) -> Result<()> {
        use futures::StreamExt;
        let schema = schema_of(&self.plan);
        let mut batches = table.read().await.context("read the lake")?;
        while let Some(batch) = batches.next().await {
            let batch = batch.context("read the lake")?;
            let batch = if self.settings.marks_deleted() { present_rows(batch)? } else { batch };
            each(lake::conform(&batch, &schema).context("compare the lake with the source")?)?;
        }
        Ok(())
    }

    async fn compare(
        &self,
        table: &lake::Table,
        comparison: Comparison,
        validation: &mut TableValidation,
    ) -> Result<()> {
        // A further column tells for each of the source's rows whether the next run would read it.
        let mut plan = (*self.plan).clone();
        plan.columns.push(self.pending_column());
        let plan = Arc::new(plan);
        let query = plan.select(&plan.source.rows(), comparison.condition().as_deref());
        let progress = Arc::clone(self.progress);
        let reading = TableReader::new(self.pool, plan, vec![query], progress, None);
        let Some(mut comparison) = reading.run(vec![comparison]).await?.pop() else { return Ok(()) };
        self.each_batch(table, |batch| comparison.check(&batch, validation)).await?;
        comparison.note_unmatched(validation)
    }

    fn pending_column(&self) -> PlanColumn {
        let cursor = self.plan.cursor.as_ref().filter(|_| self.settings.mode == Mode::Incremental);
        let expression = match (&self.position, cursor) {
            (Some(position), Some(cursor)) => {
                let condition = late::increment_condition(position, cursor).unwrap_or_else(|| "true".into());
                format!("COALESCE({condition}, false)")
            }
            _ => "false".to_owned(),
        };
        PlanColumn {
            name: compare::IS_PENDING.to_owned(),
            postgres_expression: expression.clone(),
            expression,
            kind: ColumnKind::Bool,
            type_name: "boolean".into(),
            source: None,
        }
    }

    fn reading(&self, queries: Vec<String>) -> Arc<TableReader> {
        TableReader::new(self.pool, Arc::clone(&self.plan), queries, Arc::clone(self.progress), None)
    }
}
