//! A table with a row filter: a role sees only the rows that meet a predicate.
//!
//! The predicate is applied under an operator that no filter of the query passes, as a security barrier view of
//! PostgreSQL does. On rows that the role may not see, the query evaluates nothing but comparisons of a column with a
//! constant: these can't fail, and so reveal nothing of the row.

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

/// A table without the rows that do not meet a predicate.
#[derive(Debug)]
pub(crate) struct FilteredTable {
    table: Arc<dyn TableProvider>,
    /// Type coercion has been done.
    predicate: Expr,
}

impl FilteredTable {
    /// `predicate` is a boolean expression over unqualified columns of `table`, after type coercion.
    pub(crate) fn new(table: Arc<dyn TableProvider>, predicate: Expr) -> FilteredTable {
        FilteredTable { table, predicate }
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
impl TableProvider for FilteredTable {
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
        // The limit counts rows after the predicate, so the scan must not get it.
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

/// Comparisons of columns and constants, combined by AND, OR, NOT and IS NULL.
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

/// Gives its input's rows; no filter of the query is moved under it.
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
