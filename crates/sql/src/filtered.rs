//! A table of which a role sees only some rows. The predicate is applied below a barrier: nothing
//! of the query but comparisons of a column with a value, which can't fail or tell anything, is
//! ever evaluated on a row that the role may not see.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, Result};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};

#[derive(Debug)]
pub(crate) struct Filtered {
    table: Arc<dyn TableProvider>,
    /// With its types made to agree already.
    predicate: Expr,
}

impl Filtered {
    pub(crate) fn new(table: Arc<dyn TableProvider>, predicate: Expr) -> Filtered {
        Filtered { table, predicate }
    }

    fn with_predicate(&self, projection: Option<&Vec<usize>>) -> Result<Option<Vec<usize>>> {
        let Some(projection) = projection else { return Ok(None) };
        let mut columns = projection.clone();
        for column in self.predicate.column_refs() {
            let at = self.table.schema().index_of(column.name())?;
            if !columns.contains(&at) {
                columns.push(at);
            }
        }
        Ok(Some(columns))
    }
}

#[async_trait]
impl TableProvider for Filtered {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        self.table.table_type()
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let kept = |filter: &&Expr| match cannot_fail(filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(kept).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut pushed: Vec<Expr> = filters.iter().filter(|filter| cannot_fail(filter)).cloned().collect();
        pushed.push(self.predicate.clone());
        let columns = self.with_predicate(projection)?;
        // Not the limit: it counts rows that the predicate lets through.
        let scan = self.table.scan(state, columns.as_ref(), &pushed, None).await?;
        let schema = DFSchema::try_from(scan.schema())?;
        let predicate = state.create_physical_expr(self.predicate.clone(), &schema)?;
        let mut plan: Arc<dyn ExecutionPlan> = Arc::new(FilterExec::try_new(predicate, scan)?);
        if let Some(projection) = projection {
            let kept = plan.schema();
            let named = projection.iter().enumerate().map(|(at, _)| {
                let name = kept.field(at).name().clone();
                (Arc::new(Column::new(&name, at)) as Arc<dyn PhysicalExpr>, name)
            });
            plan = Arc::new(ProjectionExec::try_new(named.collect::<Vec<_>>(), plan)?);
        }
        Ok(Arc::new(Barrier { input: plan }))
    }
}

/// A column beside a value, and what AND, OR, NOT and IS NULL make of such.
fn cannot_fail(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(binary) => match binary.op {
            Operator::And | Operator::Or => cannot_fail(&binary.left) && cannot_fail(&binary.right),
            Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => {
                is_plain(&binary.left) && is_plain(&binary.right)
            }
            _ => false,
        },
        Expr::Not(inner) => cannot_fail(inner),
        Expr::IsNull(inner) | Expr::IsNotNull(inner) => is_plain(inner),
        Expr::Between(between) => is_plain(&between.expr) && is_plain(&between.low) && is_plain(&between.high),
        Expr::InList(list) => is_plain(&list.expr) && list.list.iter().all(is_plain),
        _ => false,
    }
}

fn is_plain(expr: &Expr) -> bool {
    matches!(expr, Expr::Column(_) | Expr::Literal(..))
}

/// Passes rows on and lets nothing down: filters of the query stay above it.
#[derive(Debug)]
struct Barrier {
    input: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for Barrier {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RowsOfRole")
    }
}

impl ExecutionPlan for Barrier {
    fn name(&self) -> &'static str {
        "RowsOfRole"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
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

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Barrier { input })),
            _ => Err(DataFusionError::Internal("RowsOfRole has one input".to_owned())),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}
