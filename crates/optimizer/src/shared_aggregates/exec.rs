//! The operator `SharedExec`: the first one that runs computes the rows for all of them, and keeps them in memory.
//! Where they exceed the query's memory limit, each computes its own.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::common::Statistics;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildStats, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
    StatisticsArgs,
};
use futures::future::{BoxFuture, Shared, try_join_all};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};

/// All batches, with their memory reservations; `None` where they exceed the memory limit.
type Rows = Option<Arc<(Vec<RecordBatch>, Vec<MemoryReservation>)>>;
type Computing = Shared<BoxFuture<'static, Result<Rows, Arc<DataFusionError>>>>;

/// The rows of an aggregate, shared by all its operators.
#[derive(Default)]
pub(super) struct SharedRows {
    computing: Mutex<Option<Computing>>,
}

impl fmt::Debug for SharedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedRows")
    }
}

impl SharedRows {
    /// The rows of the first plan that is given, later ones are ignored. They are computed by a task of their own,
    /// which does not depend on a reader that polls it: otherwise readers that wait for each other would deadlock.
    fn of(&self, plan: &Arc<dyn ExecutionPlan>, context: &Arc<TaskContext>) -> Computing {
        let mut computing = self.computing.lock().unwrap_or_else(PoisonError::into_inner);
        let started = computing.get_or_insert_with(|| {
            let task = SpawnedTask::spawn(computed(Arc::clone(plan), Arc::clone(context)));
            async move { task.join_unwind().await.map_err(|e| DataFusionError::External(Box::new(e)))? }
                .map(|rows: Result<Rows>| rows.map_err(Arc::new))
                .boxed()
                .shared()
        });
        started.clone()
    }
}

async fn computed(plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<Rows> {
    let partitions = (0..plan.output_partitioning().partition_count()).map(|partition| {
        let (plan, context) = (Arc::clone(&plan), Arc::clone(&context));
        let task = SpawnedTask::spawn(collected(plan, partition, context));
        async move { task.join_unwind().await.map_err(|e| DataFusionError::External(Box::new(e)))? }
    });
    let parts: Option<Vec<_>> = try_join_all(partitions).await?.into_iter().collect();
    Ok(parts.map(|parts| {
        let (batches, memory): (Vec<Vec<RecordBatch>>, Vec<MemoryReservation>) = parts.into_iter().unzip();
        Arc::new((batches.into_iter().flatten().collect(), memory))
    }))
}

/// `None` where there is not enough memory.
async fn collected(
    plan: Arc<dyn ExecutionPlan>,
    partition: usize,
    context: Arc<TaskContext>,
) -> Result<Option<(Vec<RecordBatch>, MemoryReservation)>> {
    let memory = MemoryConsumer::new("SharedExec").register(context.memory_pool());
    let mut stream = plan.execute(partition, context)?;
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await.transpose()? {
        if memory.try_grow(batch.get_array_memory_size()).is_err() {
            return Ok(None);
        }
        batches.push(batch);
    }
    Ok(Some((batches, memory)))
}

/// An operator that returns rows which are computed once for all operators with the same [`SharedRows`].
#[derive(Debug)]
pub(super) struct SharedExec {
    input: Arc<dyn ExecutionPlan>,
    rows: Arc<SharedRows>,
    properties: Arc<PlanProperties>,
}

impl SharedExec {
    /// All operators with the same `rows` must have plans that return the same rows as `input`.
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, rows: Arc<SharedRows>) -> Self {
        // The rows may come from another plan, with other partitions and in another order.
        let partitions = Partitioning::UnknownPartitioning(input.output_partitioning().partition_count());
        let rows_only = EquivalenceProperties::new(input.schema());
        let properties = PlanProperties::new(rows_only, partitions, EmissionType::Final, Boundedness::Bounded);
        Self { input, rows, properties: Arc::new(properties) }
    }
}

impl DisplayAs for SharedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedExec")
    }
}

impl ExecutionPlan for SharedExec {
    fn name(&self) -> &'static str {
        "SharedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(Self::new(input, Arc::clone(&self.rows))))
    }

    /// For a further run, as of a part of a recursive query.
    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(Arc::clone(&self.input), Arc::default())))
    }

    fn child_stats_requests(&self, _partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(None)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(match args.partition() {
            None => Arc::clone(&inputs[0]),
            Some(_) => Arc::new(Statistics::new_unknown(&self.schema())),
        })
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (input, partitions) = (Arc::clone(&self.input), self.properties.partitioning.partition_count());
        let computing = self.rows.of(&input, &context);
        let batches = async move {
            Ok::<_, DataFusionError>(match computing.await.map_err(DataFusionError::Shared)? {
                Some(rows) => {
                    let numbers = (partition..rows.0.len()).step_by(partitions);
                    stream::iter(numbers).map(move |at| Ok(rows.0[at].clone())).boxed()
                }
                None => input.execute(partition, context)?.boxed(),
            })
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream::once(batches).try_flatten())))
    }
}
