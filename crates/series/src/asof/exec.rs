//! The operator `AsofJoinExec`: it reads the whole right side once, into the query's memory, and streams the left side
//! in its own partitions.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::compute::{concat_batches, filter_record_batch, is_not_null, take};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{JoinType, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, InputDistributionRequirements,
    PlanProperties,
};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use super::probe::RightRows;

/// The expressions over one side that are compared.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    /// The keys, in the same order for both sides.
    pub(crate) keys: Vec<Arc<dyn PhysicalExpr>>,
    /// The time.
    pub(crate) time: Arc<dyn PhysicalExpr>,
}

/// An ASOF join.
#[derive(Debug)]
pub(crate) struct AsofJoinExec {
    left: Arc<dyn ExecutionPlan>,
    right: Arc<dyn ExecutionPlan>,
    sides: [Side; 2],
    op: Operator,
    kind: JoinType,
    right_rows: Arc<OnceCell<Arc<BuildSide>>>,
    properties: Arc<PlanProperties>,
}

/// The right side, with an output for debugging.
pub(crate) struct BuildSide(RightRows);

impl fmt::Debug for BuildSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows", self.0.batch.num_rows())
    }
}

impl AsofJoinExec {
    /// Joins rows of `left` and `right` whose keys are equal, with `op` between the left time and the right one. `kind`
    /// is inner or left; `schema` has the columns of both.
    pub(crate) fn new(
        left: Arc<dyn ExecutionPlan>,
        right: Arc<dyn ExecutionPlan>,
        sides: [Side; 2],
        op: Operator,
        kind: JoinType,
        schema: SchemaRef,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            datafusion::physical_expr::Partitioning::UnknownPartitioning(left.output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        AsofJoinExec { left, right, sides, op, kind, right_rows: Arc::default(), properties: Arc::new(properties) }
    }
}

impl DisplayAs for AsofJoinExec {
    fn fmt_as(&self, _form: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [left, right] = &self.sides;
        write!(f, "AsofJoinExec: {}, {} {} {}", self.kind, left.time, self.op, right.time)?;
        left.keys.iter().zip(&right.keys).try_for_each(|(left, right)| write!(f, ", {left} = {right}"))
    }
}

impl ExecutionPlan for AsofJoinExec {
    fn name(&self) -> &'static str {
        "AsofJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::UnspecifiedDistribution, Distribution::SinglePartition])
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.left, &self.right]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for expr in self.sides.iter().flat_map(|side| side.keys.iter().chain([&side.time])) {
            if f(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([left, right]) = <[Arc<dyn ExecutionPlan>; 2]>::try_from(children) else {
            return internal_err!("an ASOF join has two inputs");
        };
        Ok(Arc::new(AsofJoinExec::new(left, right, self.sides.clone(), self.op, self.kind, self.schema())))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let left = self.left.execute(partition, Arc::clone(&context))?;
        let (right, cell) = (Arc::clone(&self.right), Arc::clone(&self.right_rows));
        let [probe, build] = self.sides.clone();
        let (schema, op, kind) = (self.schema(), self.op, self.kind);
        let joined = Arc::clone(&schema);
        let stream = futures::stream::once(async move {
            let right_rows = cell.get_or_try_init(|| read_right(right, build, context)).await?;
            let right_rows = Arc::clone(right_rows);
            Ok::<_, DataFusionError>(left.and_then(move |batch| {
                let out = join(&batch, &right_rows.0, &probe, op, kind, &joined);
                futures::future::ready(out)
            }))
        })
        .try_flatten()
        .filter(|batch| futures::future::ready(!matches!(batch, Ok(batch) if batch.num_rows() == 0)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }
}

async fn read_right(right: Arc<dyn ExecutionPlan>, side: Side, context: Arc<TaskContext>) -> Result<Arc<BuildSide>> {
    let memory = MemoryConsumer::new("AsofJoinExec").register(context.memory_pool());
    let mut stream = right.execute(0, context)?;
    let mut batches: Vec<RecordBatch> = Vec::new();
    while let Some(batch) = stream.try_next().await? {
        // Twice its size: while the batches are concatenated, the pieces are in memory too.
        memory.try_grow(2 * batch.get_array_memory_size())?;
        batches.push(batch);
    }
    let whole = concat_batches(&right.schema(), &batches)?;
    drop(batches);
    memory.try_resize(whole.get_array_memory_size())?;
    Ok(Arc::new(BuildSide(RightRows::new(whole, &side.keys, &side.time, memory)?)))
}

fn join(
    left: &RecordBatch,
    right: &RightRows,
    side: &Side,
    op: Operator,
    kind: JoinType,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let mut rows = right.matches(left, &side.keys, &side.time, op)?;
    let mut left = left.clone();
    if kind == JoinType::Inner && rows.null_count() > 0 {
        let matched = is_not_null(&rows)?;
        left = filter_record_batch(&left, &matched)?;
        rows = rows.iter().flatten().collect();
    }
    let mut columns = left.columns().to_vec();
    for column in right.batch.columns() {
        columns.push(take(column, &rows, None)?);
    }
    let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(left.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}
