//! The operator `GapFillExec`: it reads rows in the order of series and bucket, and has one series in memory at a time.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, InputDistributionRequirements,
    Partitioning, PlanProperties,
};
use futures::TryStreamExt;

use super::fill::Filler;
use super::node::{Fill, Grid};
use crate::column::{instants, per_second, zone};
use crate::floor::{ClockChanges, Floor};

/// Adds a row for each missing bucket of each series.
#[derive(Debug)]
pub(crate) struct GapFillExec {
    input: Arc<dyn ExecutionPlan>,
    bucket: usize,
    series: Vec<usize>,
    fills: Vec<Fill>,
    grid: Grid,
    properties: Arc<PlanProperties>,
}

impl GapFillExec {
    /// `bucket` and `series` are numbers of columns of `input`; `fills` has an entry for each of its columns.
    pub(crate) fn new(
        input: Arc<dyn ExecutionPlan>,
        bucket: usize,
        series: Vec<usize>,
        fills: Vec<Fill>,
        grid: Grid,
    ) -> Self {
        // Added rows are NULL in all but their series and bucket.
        let given = input.schema();
        let fields = given.fields().iter().enumerate().map(|(at, field)| match series.contains(&at) {
            true => Arc::clone(field),
            false => Arc::new(Field::clone(field).with_nullable(true)),
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let partitions = input.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        GapFillExec { input, bucket, series, fills, grid, properties: Arc::new(properties) }
    }

    fn column(&self, at: usize) -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new(self.input.schema().field(at).name(), at))
    }
}

impl DisplayAs for GapFillExec {
    fn fmt_as(&self, _form: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GapFillExec: {:?}", self.grid)
    }
}

impl ExecutionPlan for GapFillExec {
    fn name(&self) -> &'static str {
        "GapFillExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        let keys: Vec<_> = self.series.iter().map(|at| self.column(*at)).collect();
        InputDistributionRequirements::new(vec![match keys[..] {
            [] => Distribution::SinglePartition,
            _ => Distribution::KeyPartitioned(keys),
        }])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let columns = self.series.iter().chain([&self.bucket]);
        let order = LexOrdering::new(columns.map(|at| PhysicalSortExpr {
            expr: self.column(*at),
            options: datafusion::arrow::compute::SortOptions { descending: false, nulls_first: false },
        }));
        vec![order.map(OrderingRequirements::from)]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else {
            return internal_err!("gap filling has one input");
        };
        let (series, fills, grid) = (self.series.clone(), self.fills.clone(), self.grid.clone());
        Ok(Arc::new(GapFillExec::new(input, self.bucket, series, fills, grid)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let schema = self.schema();
        let of = schema.field(self.bucket).data_type();
        let zone = zone(self.grid.zone.as_deref(), of, context.session_config().options())?;
        let second = per_second(instants(of)?.0);
        let filler = Filler {
            floor: Floor::new(self.grid.width, zone, second, self.grid.origin, ClockChanges::TimeBucket)?,
            from: self.grid.from,
            to: self.grid.to,
            bucket: self.bucket,
            series: self.series.clone(),
            fills: self.fills.clone(),
            schema: Arc::clone(&schema),
        };
        let fields = self.series.iter().map(|at| SortField::new(schema.field(*at).data_type().clone())).collect();
        let pending = PendingSeries {
            converter: RowConverter::new(fields)?,
            series: self.series.clone(),
            schema: self.input.schema(),
            batches: Vec::new(),
            first: None,
            memory: MemoryConsumer::new("GapFillExec").register(context.memory_pool()),
        };
        let filled = futures::stream::try_unfold(Some((input, pending, filler)), step);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, filled)))
    }
}

type Work = (SendableRecordBatchStream, PendingSeries, Filler);

/// Reads until one or more series are complete, and fills them.
async fn step(work: Option<Work>) -> Result<Option<(RecordBatch, Option<Work>)>> {
    let Some((mut input, mut pending, mut filler)) = work else { return Ok(None) };
    while let Some(batch) = input.try_next().await? {
        if let Some((whole, ends)) = pending.add(batch)? {
            let filled = filler.fill(&whole, &ends)?;
            return Ok(Some((filled, Some((input, pending, filler)))));
        }
    }
    let (whole, ends) = pending.rest()?;
    Ok(Some((filler.fill(&whole, &ends)?, None)))
}

/// The rows that were read of a series that may not be complete yet.
struct PendingSeries {
    converter: RowConverter,
    series: Vec<usize>,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    first: Option<Vec<u8>>,
    memory: MemoryReservation,
}

impl PendingSeries {
    /// Adds a batch. Returns the series that are complete now, and where each ends.
    fn add(&mut self, batch: RecordBatch) -> Result<Option<(RecordBatch, Vec<usize>)>> {
        if batch.num_rows() == 0 {
            return Ok(None);
        }
        self.memory.try_grow(batch.get_array_memory_size())?;
        let last = self.key(&batch, batch.num_rows() - 1)?;
        let first = match self.first.take() {
            Some(first) => first,
            None => self.key(&batch, 0)?,
        };
        self.batches.push(batch);
        if first == last {
            self.first = Some(first);
            return Ok(None);
        }
        let (whole, mut ends) = self.rest()?;
        // The last series may continue in the next batch, so its rows stay.
        ends.pop();
        let done = ends.last().copied().unwrap_or(0);
        let waiting = whole.slice(done, whole.num_rows() - done);
        self.memory.try_grow(waiting.get_array_memory_size())?;
        self.batches.push(waiting);
        self.first = Some(last);
        Ok(Some((whole.slice(0, done), ends)))
    }

    fn rest(&mut self) -> Result<(RecordBatch, Vec<usize>)> {
        let whole = concat_batches(&self.schema, &self.batches)?;
        self.batches.clear();
        self.memory.free();
        if self.series.is_empty() || whole.num_rows() == 0 {
            let ends = if whole.num_rows() == 0 { Vec::new() } else { vec![whole.num_rows()] };
            return Ok((whole, ends));
        }
        let keys: Vec<_> = self.series.iter().map(|at| Arc::clone(whole.column(*at))).collect();
        let keys = self.converter.convert_columns(&keys)?;
        let changes = (1..whole.num_rows()).filter(|row| keys.row(*row) != keys.row(row - 1));
        let ends = changes.chain([whole.num_rows()]).collect();
        Ok((whole, ends))
    }

    fn key(&self, batch: &RecordBatch, row: usize) -> Result<Vec<u8>> {
        if self.series.is_empty() {
            return Ok(Vec::new());
        }
        let columns: Vec<_> = self.series.iter().map(|at| batch.column(*at).slice(row, 1)).collect();
        Ok(self.converter.convert_columns(&columns)?.row(0).data().to_vec())
    }
}
