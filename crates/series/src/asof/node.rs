//! The logical node of an ASOF join, and the rule that pushes filters under it.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchemaRef, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::logical_plan::builder::build_join_schema;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, Extension, Filter, JoinType, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// An ASOF join.
#[derive(Debug, Clone)]
pub(crate) struct AsofJoin {
    /// The table whose rows are matched.
    pub(crate) left: LogicalPlan,
    /// The table of which each row gets the nearest one.
    pub(crate) right: LogicalPlan,
    /// The equalities of keys.
    pub(crate) on: Vec<Expr>,
    /// The comparison of times.
    pub(crate) matching: Expr,
    /// Inner or left.
    pub(crate) kind: JoinType,
    schema: DFSchemaRef,
}

impl AsofJoin {
    /// An error where the columns of both sides can't be combined.
    pub(crate) fn new(
        left: LogicalPlan,
        right: LogicalPlan,
        on: Vec<Expr>,
        matching: Expr,
        kind: JoinType,
    ) -> Result<AsofJoin> {
        let schema = Arc::new(build_join_schema(left.schema(), right.schema(), &kind)?);
        Ok(AsofJoin { left, right, on, matching, kind, schema })
    }

    fn comparisons(&self) -> Vec<Expr> {
        self.on.iter().chain([&self.matching]).cloned().collect()
    }

    fn same(&self) -> (&LogicalPlan, &LogicalPlan, &Vec<Expr>, &Expr, &JoinType) {
        (&self.left, &self.right, &self.on, &self.matching, &self.kind)
    }
}

impl PartialEq for AsofJoin {
    fn eq(&self, other: &Self) -> bool {
        self.same() == other.same()
    }
}

impl Eq for AsofJoin {}

impl Hash for AsofJoin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.same().hash(state);
    }
}

impl PartialOrd for AsofJoin {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.left, &self.right).partial_cmp(&(&other.left, &other.right))
    }
}

impl UserDefinedLogicalNodeCore for AsofJoin {
    fn name(&self) -> &'static str {
        "AsofJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.comparisons()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on: Vec<_> = self.comparisons().iter().map(ToString::to_string).collect();
        write!(f, "AsofJoin: {} {}", self.kind, on.join(" AND "))
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (<[LogicalPlan; 2]>::try_from(inputs), exprs.pop()) {
            (Ok([left, right]), Some(matching)) => AsofJoin::new(left, right, exprs, matching, self.kind),
            _ => internal_err!("an ASOF join has two inputs and a comparison"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let (left, right) = (self.left.schema(), self.right.schema());
        let width = left.fields().len();
        let mut needed = [Vec::new(), Vec::new()];
        for column in output_columns {
            if *column < width { needed[0].push(*column) } else { needed[1].push(column - width) }
        }
        for column in self.comparisons().iter().flat_map(Expr::column_refs) {
            needed[0].extend(left.maybe_index_of_column(column));
            needed[1].extend(right.maybe_index_of_column(column));
        }
        for side in &mut needed {
            side.sort_unstable();
            side.dedup();
        }
        Some(needed.into())
    }
}

/// A rule that pushes conditions on the left table alone under the join.
#[derive(Debug)]
pub(crate) struct FilterBelowAsof;

impl OptimizerRule for FilterBelowAsof {
    fn name(&self) -> &'static str {
        "filter_below_asof"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = &plan else { return Ok(Transformed::no(plan)) };
        let LogicalPlan::Extension(extension) = filter.input.as_ref() else { return Ok(Transformed::no(plan)) };
        let Some(join) = as_asof(extension.node.as_ref()) else { return Ok(Transformed::no(plan)) };
        let (below, above): (Vec<_>, Vec<_>) =
            split_conjunction_owned(filter.predicate.clone()).into_iter().partition(|term| {
                !term.is_volatile() && term.column_refs().iter().all(|c| join.left.schema().has_column(c))
            });
        let Some(predicate) = conjunction(below) else { return Ok(Transformed::no(plan)) };
        let mut join = join.clone();
        join.left = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(join.left))?);
        let joined = LogicalPlan::Extension(Extension { node: Arc::new(join) });
        Ok(Transformed::yes(match conjunction(above) {
            Some(rest) => LogicalPlan::Filter(Filter::try_new(rest, Arc::new(joined))?),
            None => joined,
        }))
    }
}

/// The ASOF join that a node is; `None` for other nodes.
pub(crate) fn as_asof(node: &dyn UserDefinedLogicalNode) -> Option<&AsofJoin> {
    node.as_any().downcast_ref()
}
