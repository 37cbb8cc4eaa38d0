//! Proves a table: source against lake, under one snapshot, row by row. First counts and
//! checksums by key ranges, then only the ranges that differ, key by key.
//!
//! Rows purged at the source are the point of the lake and no fault; rows that the lake should
//! have and has not are lost; rows above the position are still to come.

mod compare;
mod digest;

use std::sync::Arc;
use std::time::Instant;

use lake::Lake;

use crate::error::{Context, Error, Result};
use crate::late::Position;
use crate::plan::{Settings, TablePlan, plan};
use crate::postgres::{Catalog, Endpoint, Snapshot};
use crate::read::{Progress, Reading, whole};
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
}

impl Difference {
    pub fn as_str(self) -> &'static str {
        match self {
            Difference::Lost => "lost",
            Difference::Differs => "differs",
            Difference::Purged => "purged",
            Difference::Pending => "pending",
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
    /// The first of each sort, with their keys.
    pub samples: Vec<(Difference, String)>,
    pub seconds: f64,
    pub error: Option<Error>,
}

impl TableValidation {
    pub fn is_ok(&self) -> bool {
        self.error.is_none() && self.lost == 0 && self.differs == 0
    }

    fn note(&mut self, difference: Difference, key: impl FnOnce() -> String) {
        let count = match difference {
            Difference::Lost => &mut self.lost,
            Difference::Differs => &mut self.differs,
            Difference::Purged => &mut self.purged,
            Difference::Pending => &mut self.pending,
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
    let plan = plan(&client, &catalog, settings).await?;
    let snapshot = Snapshot::export(source).await?;
    let mut validations = Vec::new();
    for refused in plan.refused {
        if only.is_empty() || only.contains(&refused.table) {
            validations.push(TableValidation {
                source: refused.table,
                error: Some(refused.error),
                ..Default::default()
            });
        }
    }
    for table in plan.tables {
        let name = table.source.display();
        if !only.is_empty() && !only.contains(&name) {
            continue;
        }
        let started = Instant::now();
        progress.started(&name, table.source.rows_estimate);
        let target = table.target.to_string();
        let job = Job {
            settings,
            source,
            lake,
            snapshot: &snapshot,
            version: catalog.server_version,
            plan: Arc::new(table),
            progress,
        };
        let mut validation = job.run().await.unwrap_or_else(|error| TableValidation {
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
    source: &'a Endpoint,
    lake: &'a Lake,
    snapshot: &'a Snapshot,
    version: u32,
    plan: Arc<TablePlan>,
    progress: &'a Arc<dyn Progress>,
}

impl Job<'_> {
    async fn run(&self) -> Result<TableValidation> {
        let table = self.lake.table(&self.plan.target).await.context("open the table in the lake")?;
        let table = table.ok_or_else(|| {
            Error::input(format!("{} is not in the lake yet", self.plan.target))
                .mend(format!("wattlake transfer run {}", self.settings.name))
        })?;
        let position = to_lake::position(&table, &self.settings.name).await?;
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
            self.compare(&table, comparison, position, &mut validation).await?;
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
        position: Option<Position>,
        validation: &mut TableValidation,
    ) -> Result<()> {
        let query = self.plan.select(&self.plan.source.rows(), comparison.condition().as_deref());
        let mut parts = self.reading(vec![query]).run(vec![comparison]).await?;
        let Some(mut comparison) = parts.pop() else { return Ok(()) };
        self.each_batch(table, |batch| comparison.check(&batch, position, validation)).await?;
        comparison.left(position, validation)
    }

    fn reading(&self, queries: Vec<String>) -> Arc<Reading> {
        Reading::new(self.source, self.snapshot.join(), Arc::clone(&self.plan), queries, Arc::clone(self.progress))
    }
}
