//! The operator `OrderedFilterExec`: drops the rows that a condition rejects, and combines the others to full batches.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, BooleanArray, RecordBatch};
use datafusion::arrow::compute::kernels::boolean::and;
use datafusion::arrow::compute::{BatchCoalescer, filter_record_batch, prep_null_mask_filter};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{PhysicalExpr, conjunction};
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, apply_expression_roots};
use futures::{StreamExt, TryStreamExt, stream};

use super::adaptive::AdaptiveCondition;
use super::condition::{Condition, Cost};

/// If fewer than one row in so many is kept so far, costly conditions are evaluated for these rows alone.
const FEW: usize = 4;

/// A filter by a conjunction, whose conditions are evaluated in the order of their cost.
#[derive(Debug)]
pub(super) struct OrderedFilterExec {
    input: Arc<dyn ExecutionPlan>,
    /// Sorted by cost.
    conditions: Vec<Condition>,
    /// The columns of the input that are returned; `None` for all.
    projection: Option<Arc<[usize]>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl OrderedFilterExec {
    /// `properties` are those of the operator that this one replaces. `conditions` may be in any order.
    pub(super) fn new(
        input: Arc<dyn ExecutionPlan>,
        mut conditions: Vec<Condition>,
        projection: Option<&[usize]>,
        properties: Arc<PlanProperties>,
    ) -> Self {
        conditions.sort_by_key(|condition| condition.cost);
        let metrics = ExecutionPlanMetricsSet::new();
        Self { input, conditions, projection: projection.map(Arc::from), properties, metrics }
    }
}

impl DisplayAs for OrderedFilterExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conditions: Vec<String> = self.conditions.iter().map(|condition| condition.expr.to_string()).collect();
        write!(f, "OrderedFilterExec: {}", conditions.join(" AND "))
    }
}

impl ExecutionPlan for OrderedFilterExec {
    fn name(&self) -> &'static str {
        "OrderedFilterExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(self.conditions.iter().map(|condition| &condition.expr), f)
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    /// The new input may have other partitions: the plan of a view that is scanned as a table is optimized a second
    /// time, as a part of the query's plan.
    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| Arc::clone(&self.input));
        let predicate = conjunction(self.conditions.iter().map(|condition| Arc::clone(&condition.expr)));
        let replaced = FilterExecBuilder::new(predicate, Arc::clone(&input))
            .apply_projection(self.projection.as_ref().map(|columns| columns.to_vec()))?
            .build()?;
        let properties = Arc::clone(replaced.properties());
        Ok(Arc::new(Self::new(input, self.conditions.clone(), self.projection.as_deref(), properties)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let batch_size = context.session_config().batch_size();
        let schema = self.schema();
        let rows = FilteredRows {
            input: self.input.execute(partition, context)?,
            conditions: self.conditions.iter().cloned().map(AdaptiveCondition::new).collect(),
            projection: self.projection.clone(),
            output: BatchCoalescer::new(Arc::clone(&schema), batch_size)
                .with_biggest_coalesce_batch_size(Some(batch_size / 2)),
            is_ended: false,
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        let batches = stream::try_unfold(rows, |mut rows| async move {
            let batch = rows.next().await?;
            Ok(batch.map(|batch| (batch, rows)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches.into_stream())))
    }
}

struct FilteredRows {
    input: SendableRecordBatchStream,
    conditions: Vec<AdaptiveCondition>,
    projection: Option<Arc<[usize]>>,
    output: BatchCoalescer,
    is_ended: bool,
    metrics: BaselineMetrics,
}

impl FilteredRows {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.output.next_completed_batch() {
                self.metrics.record_output(batch.num_rows());
                return Ok(Some(batch));
            }
            if self.is_ended {
                self.metrics.done();
                return Ok(None);
            }
            match self.input.next().await.transpose()? {
                Some(batch) => {
                    let time = self.metrics.elapsed_compute().clone();
                    let _timer = time.timer();
                    self.push(batch)?;
                }
                None => {
                    self.output.finish_buffered_batch()?;
                    self.is_ended = true;
                }
            }
        }
    }

    fn push(&mut self, mut batch: RecordBatch) -> Result<()> {
        let mut kept: Option<BooleanArray> = None;
        for condition in &mut self.conditions {
            let is_alone = |rows: &mut BooleanArray| match condition.condition.cost {
                Cost::Low => false,
                Cost::Runtime | Cost::High => rows.true_count() * FEW < rows.len(),
                Cost::MayFail => true,
            };
            if let Some(rows) = kept.take_if(is_alone) {
                batch = filter_record_batch(&batch, &rows)?;
            }
            if batch.num_rows() == 0 {
                return Ok(());
            }
            kept = match (kept, condition.kept(&batch)?) {
                (Some(before), Some(rows)) => Some(and(&before, &rows)?),
                (before, rows) => before.or(rows),
            };
        }
        if let Some(columns) = &self.projection {
            batch = batch.project(columns)?;
        }
        match kept {
            Some(rows) if rows.true_count() == 0 => {}
            Some(rows) if rows.true_count() < rows.len() => {
                let rows = if rows.null_count() > 0 { prep_null_mask_filter(&rows) } else { rows };
                self.output.push_batch_with_filter(batch, &rows)?;
            }
            _ => self.output.push_batch(batch)?,
        }
        Ok(())
    }
}
