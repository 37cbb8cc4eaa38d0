//! Traces a column of a query's result, `since`, to the tables that changed.
//!
//! For each scan of a changed table it finds an expression over the scan's columns such that the rows of the result
//! with `since` = s depend only on those rows of the table for which the expression is s. Rows that were added to the
//! table or removed from it then change the result only where `since` is the value of the expression for one of them.
//!
//! Each kind of plan node that is traced keeps this property; at any other node the trace ends without a result.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, ExprSchemable, Join, JoinType, LogicalPlan, Operator,
};
use lake::TableName;

/// A scan of a changed table.
pub(super) struct TracedScan {
    /// The scan's qualifier, which the columns of `value` have.
    pub(super) scan: TableReference,
    /// The table that is scanned.
    pub(super) table: TableName,
    /// The expression that `since` is equal to in the result.
    pub(super) value: Expr,
}

/// The scans, or the reason why the column can't be traced to them.
type Trace = Result<std::result::Result<Vec<TracedScan>, String>>;

/// The name of a table, if it changed.
type ChangedTable<'a> = &'a dyn Fn(&Arc<dyn TableProvider>) -> Option<TableName>;

/// Traces the column `since` of an optimized plan to all scans of changed tables.
pub(super) fn trace(plan: &LogicalPlan, since: &str, changed: ChangedTable<'_>) -> Trace {
    let Some(at) = plan.schema().iter().position(|(_, field)| field.name() == since) else {
        return unbounded(format!("the answer has no column {since:?}"));
    };
    let value = column(plan.schema(), at);
    trace_node(plan, value, changed)
}

fn unbounded(why: impl Into<String>) -> Trace {
    Ok(Err(why.into()))
}

fn trace_node(plan: &LogicalPlan, value: Expr, changed: ChangedTable<'_>) -> Trace {
    if !reads(plan, changed)? {
        return Ok(Ok(Vec::new()));
    }
    let mut in_subquery = false;
    plan.apply_subqueries(|inner| {
        in_subquery |= reads(inner, changed)?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    if in_subquery {
        return unbounded("a table that changed is read in a subquery");
    }
    match plan {
        LogicalPlan::TableScan(scan) if scan.fetch.is_none() => {
            let Some(table) = changed(&source_as_provider(&scan.source)?) else { return Ok(Ok(Vec::new())) };
            Ok(Ok(vec![TracedScan { scan: scan.table_name.clone(), table, value }]))
        }
        LogicalPlan::Projection(node) => {
            let value = replaced(value, &node.schema, |at| node.expr.get(at).map(bare))?;
            trace_input(&node.input, value, changed)
        }
        LogicalPlan::Filter(node) => trace_node(&node.input, value, changed),
        LogicalPlan::Sort(node) if node.fetch.is_none() => trace_node(&node.input, value, changed),
        LogicalPlan::Repartition(node) => trace_node(&node.input, value, changed),
        LogicalPlan::Distinct(Distinct::All(input)) => trace_unchanged_columns(plan.schema(), input, value, changed),
        LogicalPlan::SubqueryAlias(node) => trace_unchanged_columns(&node.schema, &node.input, value, changed),
        LogicalPlan::Union(node) => {
            let mut all = Vec::new();
            for input in &node.inputs {
                match trace_unchanged_columns(&node.schema, input, value.clone(), changed)? {
                    Ok(found) => all.extend(found),
                    Err(why) => return unbounded(why),
                }
            }
            Ok(Ok(all))
        }
        LogicalPlan::Aggregate(node) => trace_aggregate(node, value, changed),
        LogicalPlan::Window(node) => {
            let width = node.input.schema().fields().len();
            let value = replaced(value, &node.schema, |at| (at < width).then(|| column(node.input.schema(), at)))?;
            let Some(value) = value else { return unbounded("the column is computed by a window function") };
            // A window over rows with several values of the column carries a change of one to the others.
            let used: Vec<Expr> = value.column_refs().into_iter().map(|c| Expr::Column(c.clone())).collect();
            let apart = node
                .window_expr
                .iter()
                .all(|expr| partition_by(expr).is_some_and(|by| used.iter().all(|c| by.contains(c))));
            if apart {
                trace_node(&node.input, value, changed)
            } else {
                unbounded("a window spans several values of the column")
            }
        }
        LogicalPlan::Join(node) => trace_join(node, &value, changed),
        other => unbounded(format!("the column can't be traced through {}", name_of(other))),
    }
}

fn name_of(plan: &LogicalPlan) -> String {
    let shown = plan.display().to_string();
    shown.split([':', ' ', '(']).next().unwrap_or_default().to_owned()
}

fn trace_input(input: &LogicalPlan, value: Option<Expr>, changed: ChangedTable<'_>) -> Trace {
    match value {
        Some(value) => trace_node(input, value, changed),
        None => unbounded("the column is not computed from columns of tables alone"),
    }
}

/// A node whose columns are those of its input, in the same order.
fn trace_unchanged_columns(schema: &DFSchema, input: &LogicalPlan, value: Expr, changed: ChangedTable<'_>) -> Trace {
    let value = replaced(value, schema, |at| Some(column(input.schema(), at)))?;
    trace_input(input, value, changed)
}

/// The rows of a group have the same keys, and so the same value.
fn trace_aggregate(node: &Aggregate, value: Expr, changed: ChangedTable<'_>) -> Trace {
    if node.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
        return unbounded("the column can't be traced through grouping sets");
    }
    let value = replaced(value, &node.schema, |at| match at.checked_sub(node.group_expr.len()) {
        None => node.group_expr.get(at).map(bare),
        Some(at) => node.aggr_expr.get(at).and_then(|expr| one_of_all(expr, &node.group_expr)),
    })?;
    match value {
        Some(value) => trace_node(&node.input, value, changed),
        None => unbounded("the column is not one of the GROUP BY columns"),
    }
}

/// The key whose first, last, least or greatest value an aggregate picks: it is the same for all rows of a group.
/// `DISTINCT ON` is planned so.
fn one_of_all(expr: &Expr, groups: &[Expr]) -> Option<Expr> {
    let Expr::AggregateFunction(function) = bare(expr) else { return None };
    let picks = matches!(function.func.name(), "first_value" | "last_value" | "min" | "max");
    let picked = function.params.args.first().map(bare).filter(|_| picks && function.params.filter.is_none())?;
    groups.iter().map(bare).find(|group| *group == picked)
}

fn partition_by(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::Alias(alias) => partition_by(&alias.expr),
        Expr::WindowFunction(function) => {
            let WindowFunction { params, .. } = function.as_ref();
            Some(&params.partition_by)
        }
        _ => None,
    }
}

/// A row of one side is joined only to rows of the other side that are equal in the join's columns. So the value is
/// traced to the other side too, where it can be expressed by those.
fn trace_join(node: &Join, value: &Expr, changed: ChangedTable<'_>) -> Trace {
    use JoinType::{Inner, Left, LeftAnti, LeftSemi, Right, RightAnti, RightSemi};
    let (left, right) = (node.left.schema(), node.right.schema());
    let is_left = is_of(value, left);
    let keeps = match node.join_type {
        Inner => true,
        // Rows without a match have NULL in place of the other side's value.
        Left | LeftSemi | LeftAnti => is_left,
        Right | RightSemi | RightAnti => is_of(value, right),
        _ => false,
    };
    if !keeps {
        return unbounded(format!("the column can't be traced through a {} join", node.join_type));
    }
    let mut pairs: Vec<(Expr, Expr)> = node.on.clone();
    for part in node.filter.iter().flat_map(split_conjunction) {
        if let Expr::BinaryExpr(BinaryExpr { left: one, op: Operator::Eq, right: other }) = part {
            let (one, other) = (one.as_ref().clone(), other.as_ref().clone());
            match (is_of(&one, left), is_of(&other, left)) {
                (true, false) if is_of(&other, right) => pairs.push((one, other)),
                (false, true) if is_of(&one, right) => pairs.push((other, one)),
                _ => {}
            }
        }
    }
    let mut all = Vec::new();
    for (side, schema, is_left) in [(&node.left, left, true), (&node.right, right, false)] {
        if !reads(side, changed)? {
            continue;
        }
        let Some(value) = on_side(value, schema, &pairs, is_left, (left, right))? else {
            return unbounded("a table that changed is joined on other columns");
        };
        match trace_node(side, value, changed)? {
            Ok(found) => all.extend(found),
            Err(why) => return unbounded(why),
        }
    }
    Ok(Ok(all))
}

/// The value as an expression over the columns of one side; `None` where there is none.
fn on_side(
    value: &Expr,
    side: &DFSchema,
    pairs: &[(Expr, Expr)],
    is_left: bool,
    (left, right): (&DFSchema, &DFSchema),
) -> Result<Option<Expr>> {
    if is_of(value, side) {
        return Ok(Some(value.clone()));
    }
    let mut swaps = Vec::new();
    for (one, other) in pairs {
        // Equal values of one type are the same value, except for floats: -0 = 0.
        let (one_type, other_type) = (one.get_type(left)?, other.get_type(right)?);
        if one_type == other_type && !one_type.is_floating() && !one_type.is_nested() {
            swaps.push(if is_left { (other, one) } else { (one, other) });
        }
    }
    let swapped = value.clone().transform_down(|expr| {
        Ok(match swaps.iter().find(|(from, _)| **from == expr) {
            Some((_, to)) => Transformed::new((*to).clone(), true, TreeNodeRecursion::Jump),
            None => Transformed::no(expr),
        })
    })?;
    Ok(Some(swapped.data).filter(|value| is_of(value, side)))
}

fn is_of(expr: &Expr, schema: &DFSchema) -> bool {
    expr.column_refs().into_iter().all(|column| schema.maybe_index_of_column(column).is_some())
}

fn column(schema: &DFSchema, at: usize) -> Expr {
    Expr::Column(Column::from(schema.qualified_field(at)))
}

fn bare(expr: &Expr) -> Expr {
    match expr {
        Expr::Alias(alias) => bare(&alias.expr),
        other => other.clone(),
    }
}

/// The value with each of its columns replaced by an expression over the node's input; `None` where `by` has none.
fn replaced(value: Expr, schema: &DFSchema, by: impl Fn(usize) -> Option<Expr>) -> Result<Option<Expr>> {
    let mut is_whole = true;
    let value = value.transform_down(|expr| {
        let Expr::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
        match schema.maybe_index_of_column(column).and_then(&by) {
            Some(below) => Ok(Transformed::new(below, true, TreeNodeRecursion::Jump)),
            None => {
                is_whole = false;
                Ok(Transformed::no(expr))
            }
        }
    })?;
    Ok(is_whole.then_some(value.data))
}

/// Whether a plan scans a changed table, in subqueries too.
fn reads(plan: &LogicalPlan, changed: ChangedTable<'_>) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            found |= changed(&source_as_provider(&scan.source)?).is_some();
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}
