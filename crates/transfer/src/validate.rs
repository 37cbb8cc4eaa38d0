//! Proves a table: source against lake, under one snapshot, row by row. First counts and
//! checksums by key ranges, then only the ranges that differ, key by key.
//!
//! Rows purged at the source are the point of the lake and no fault; rows that the lake should
//! have and has not are lost; rows that the next run would read are pending.

mod compare;
mod digest;

use std::sync::Arc;
use std::time::Instant;

use lake::Lake;

use crate::carried::Kind;
use crate::checkpoint::Position;
use crate::error::{Context, Error, Result};
use crate::late;
use crate::plan::{Mode, PlanColumn, Refused, Settings, TablePlan, plan};
use crate::postgres::{Catalog, Endpoint, Snapshot};
use crate::read::{Pool, Progress, Reading, whole};
use crate::resume::keep_names;
use crate::target::lake as to_lake;
use compare::Comparison;
use digest::{DigestSink, Digests, Ranges};

/// The first rows that differ are named, so many of each sort.
pub const SAMPLES: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// At the source, not in the lake, although the position says that it was carried.
    Lost,
    /// In both, with other values.
    Differs,
    /// In the lake only.
    Purged,
    /// New or changed at the source since the last run.
    Pending,
    /// In the lake twice or more, under one key.
    Doubled,
}

impl Difference {
    pub fn as_str(self) -> &'static str {
        match self {
            Difference::Lost => "lost",
            Difference::Differs => "differs",
            Difference::Purged => "purged",
            Difference::Pending => "pending",
            Difference::Doubled => "doubled",
        }
    }
}

/// What was found of a table.
#[derive(Debug, Default)]
pub struct TableValidation {
    pub source: String,
    pub target: String,
    pub source_rows: u64,
    pub lake_rows: u64,
    pub ranges: usize,
    pub ranges_differing: usize,
    pub lost: u64,
    pub differs: u64,
    pub purged: u64,
    pub pending: u64,
    pub doubled: u64,
    /// The first of each sort, with their keys.
    pub samples: Vec<(Difference, String)>,
    pub seconds: f64,
    pub error: Option<Error>,
}

impl TableValidation {
    pub fn is_ok(&self) -> bool {
        self.error.is_none() && self.lost == 0 && self.differs == 0 && self.doubled == 0
    }

    fn note(&mut self, difference: Difference, key: impl FnOnce() -> String) {
        let count = match difference {
            Difference::Lost => &mut self.lost,
            Difference::Differs => &mut self.differs,
            Difference::Purged => &mut self.purged,
            Difference::Pending => &mut self.pending,
            Difference::Doubled => &mut self.doubled,
        };
        *count += 1;
        if *count <= SAMPLES as u64 {
            self.samples.push((difference, key()));
        }
    }
}

/// Compares every table of the transfer, or only those named.
pub async fn validate(
    settings: &Settings,
    source: &Endpoint,
    lake: &Lake,
    only: &[String],
    progress: &Arc<dyn Progress>,
) -> Result<Vec<TableValidation>> {
    let client = source.connect().await?;
    let catalog = Catalog::read(&client).await?;
    let mut plan = plan(&client, &catalog, settings).await?;
    crate::run::only(&mut plan, only, &settings.name)?;
    let snapshot = Snapshot::export(source).await?;
    let pool = Pool::new(source, snapshot.join());
    let refused =
        |refused: Refused| TableValidation { source: refused.table, error: Some(refused.error), ..Default::default() };
    let mut validations: Vec<TableValidation> = plan.refused.into_iter().map(refused).collect();
    for table in plan.tables {
        let name = table.source.display();
        let started = Instant::now();
        progress.started(&name, table.source.rows_estimate);
        let target = table.target.to_string();
        let mut job = Job {
            settings,
            pool: &pool,
            lake,
            snapshot: &snapshot,
            version: catalog.server_version,
            plan: Arc::new(table),
            position: None,
            progress,
        };
        // An error of one table ends no other: the transaction that holds the snapshot goes on.
        snapshot.mark().await?;
        let outcome = job.run().await;
        snapshot.back_to_mark().await?;
        let mut validation = outcome.unwrap_or_else(|error| TableValidation {
            error: Some(error.within(format!("validate {name}"))),
            ..Default::default()
        });
        validation.source.clone_from(&name);
        validation.target = target;
        validation.seconds = started.elapsed().as_secs_f64();
        progress.finished(&name, !validation.is_ok());
        validations.push(validation);
    }
    Ok(validations)
}

struct Job<'a> {
    settings: &'a Settings,
    pool: &'a Arc<Pool>,
    lake: &'a Lake,
    snapshot: &'a Snapshot,
    version: u32,
    plan: Arc<TablePlan>,
    position: Option<Position>,
    progress: &'a Arc<dyn Progress>,
}

impl Job<'_> {
    async fn run(&mut self) -> Result<TableValidation> {
        let table = self.lake.table(&self.plan.target).await.context("open the table in the lake")?;
        let table = table.ok_or_else(|| {
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
        self.position = checkpoint.position;
        let ranges = Arc::new(Ranges::of(&self.plan, self.snapshot.client()).await?);
        let source = self.digest_source(&ranges).await?;
        let lake = self.digest_lake(&table, &ranges).await?;
        let differing: Vec<usize> = (0..ranges.len()).filter(|at| source.ranges[*at] != lake.ranges[*at]).collect();
        let mut validation = TableValidation {
            source_rows: source.rows(),
            lake_rows: lake.rows(),
            ranges: ranges.len(),
            ranges_differing: differing.len(),
            ..Default::default()
        };
        if self.plan.key.is_empty() {
            if !differing.is_empty() {
                let what = || "the table has no key: rows can't be told apart".to_owned();
                validation.note(Difference::Differs, what);
            }
            return Ok(validation);
        }
        for group in compare::groups(&differing, &source, &lake) {
            let comparison = Comparison::new(&self.plan, &ranges, group);
            self.compare(&table, comparison, &mut validation).await?;
        }
        Ok(validation)
    }

    async fn digest_source(&self, ranges: &Arc<Ranges>) -> Result<Digests> {
        let (queries, streams) = whole(&self.plan, self.version, self.settings.streams);
        let reading = self.reading(queries);
        let sinks = (0..streams).map(|_| DigestSink::new(&self.plan, ranges)).collect::<Result<Vec<_>>>()?;
        let mut digests = Digests::new(ranges.len());
        for part in reading.run(sinks).await? {
            digests.add(&part);
        }
        Ok(digests)
    }

    async fn digest_lake(&self, table: &lake::Table, ranges: &Arc<Ranges>) -> Result<Digests> {
        let mut sink = DigestSink::new(&self.plan, ranges)?;
        self.each_batch(table, |batch| sink.count(&batch)).await?;
        Ok(sink.digests)
    }

    /// The lake's rows, in the source's columns and types.
    async fn each_batch(
        &self,
        table: &lake::Table,
        mut each: impl FnMut(arrow::array::RecordBatch) -> Result<()>,
    ) -> Result<()> {
        use futures::StreamExt;
        let schema = to_lake::schema_of(&self.plan);
        let mut batches = table.read().await.context("read the lake")?;
        while let Some(batch) = batches.next().await {
            let batch = batch.context("read the lake")?;
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
        // The source says of each row whether the next run would read it.
        let mut plan = (*self.plan).clone();
        plan.columns.push(self.pending_column());
        let plan = Arc::new(plan);
        let query = plan.select(&plan.source.rows(), comparison.condition().as_deref());
        let progress = Arc::clone(self.progress);
        let reading = Reading::new(self.pool, plan, vec![query], progress, None);
        let Some(mut comparison) = reading.run(vec![comparison]).await?.pop() else { return Ok(()) };
        self.each_batch(table, |batch| comparison.check(&batch, validation)).await?;
        comparison.left(validation)
    }

    fn pending_column(&self) -> PlanColumn {
        let cursor = self.plan.cursor.as_ref().filter(|_| self.settings.mode == Mode::Incremental);
        let expression = match (&self.position, cursor) {
            (Some(position), Some(cursor)) => {
                let condition = late::condition(position, cursor).unwrap_or_else(|| "true".into());
                format!("COALESCE({condition}, false)")
            }
            _ => "false".to_owned(),
        };
        PlanColumn {
            name: compare::IS_PENDING.to_owned(),
            plain: expression.clone(),
            expression,
            kind: Kind::Bool,
            type_name: "boolean".into(),
            source: None,
        }
    }

    fn reading(&self, queries: Vec<String>) -> Arc<Reading> {
        Reading::new(self.pool, Arc::clone(&self.plan), queries, Arc::clone(self.progress), None)
    }
}
