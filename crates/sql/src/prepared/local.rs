//! Where a change of a table's rows can show in a query's answer.
//!
//! The answer is looked at by one column, `since`. For each place where a changed table is read, a
//! value over the columns read there is looked for such that rows of the answer with `since` = s
//! depend, of that table, only on rows with that value = s. Where it is found, rows that came or
//! went change nothing of the answer but where `since` is one of their values. Each node of a plan
//! that is let through keeps this so; every other one ends the search.

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

/// A place where a changed table is read.
pub(super) struct Traced {
    /// What the columns of `value` belong to.
    pub(super) scan: TableReference,
    pub(super) table: TableName,
    pub(super) value: Expr,
}

/// The places, or why an effect can't be bounded.
type Bounded = Result<std::result::Result<Vec<Traced>, String>>;

type Changed<'a> = &'a dyn Fn(&Arc<dyn TableProvider>) -> Option<TableName>;

pub(super) fn trace(plan: &LogicalPlan, since: &str, changed: Changed<'_>) -> Bounded {
    let Some(at) = plan.schema().iter().position(|(_, field)| field.name() == since) else {
        return unbounded(format!("the answer has no column {since:?}"));
    };
    let value = column(plan.schema(), at);
    below(plan, value, changed)
}

fn unbounded(why: impl Into<String>) -> Bounded {
    Ok(Err(why.into()))
}

fn below(plan: &LogicalPlan, value: Expr, changed: Changed<'_>) -> Bounded {
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
            Ok(Ok(vec![Traced { scan: scan.table_name.clone(), table, value }]))
        }
        LogicalPlan::Projection(node) => {
            let value = replaced(value, &node.schema, |at| node.expr.get(at).map(bare))?;
            inside(&node.input, value, changed)
        }
        LogicalPlan::Filter(node) => below(&node.input, value, changed),
        LogicalPlan::Sort(node) if node.fetch.is_none() => below(&node.input, value, changed),
        LogicalPlan::Repartition(node) => below(&node.input, value, changed),
        LogicalPlan::Distinct(Distinct::All(input)) => through(plan.schema(), input, value, changed),
        LogicalPlan::SubqueryAlias(node) => through(&node.schema, &node.input, value, changed),
        LogicalPlan::Union(node) => {
            let mut all = Vec::new();
            for input in &node.inputs {
                match through(&node.schema, input, value.clone(), changed)? {
                    Ok(found) => all.extend(found),
                    Err(why) => return unbounded(why),
                }
            }
            Ok(Ok(all))
        }
        LogicalPlan::Aggregate(node) => aggregate(node, value, changed),
        LogicalPlan::Window(node) => {
            let width = node.input.schema().fields().len();
            let value = replaced(value, &node.schema, |at| (at < width).then(|| column(node.input.schema(), at)))?;
            let Some(value) = value else { return unbounded("it is what a window gives") };
            // A window that spans more than one value of the column carries a change elsewhere.
            let used: Vec<Expr> = value.column_refs().into_iter().map(|c| Expr::Column(c.clone())).collect();
            let apart = node
                .window_expr
                .iter()
                .all(|expr| partition_by(expr).is_some_and(|by| used.iter().all(|c| by.contains(c))));
            if apart {
                below(&node.input, value, changed)
            } else {
                unbounded("a window reaches over more than one value")
            }
        }
        LogicalPlan::Join(node) => join(node, &value, changed),
        other => unbounded(format!("a change can't be followed through {}", name_of(other))),
    }
}

fn name_of(plan: &LogicalPlan) -> String {
    let shown = plan.display().to_string();
    shown.split([':', ' ', '(']).next().unwrap_or_default().to_owned()
}

fn inside(input: &LogicalPlan, value: Option<Expr>, changed: Changed<'_>) -> Bounded {
    match value {
        Some(value) => below(input, value, changed),
        None => unbounded("the column does not come from a table's columns alone"),
    }
}

/// Columns that pass as they are, each at its place.
fn through(schema: &DFSchema, input: &LogicalPlan, value: Expr, changed: Changed<'_>) -> Bounded {
    let value = replaced(value, schema, |at| Some(column(input.schema(), at)))?;
    inside(input, value, changed)
}

/// All rows of a group share what they are grouped by, and so the value.
fn aggregate(node: &Aggregate, value: Expr, changed: Changed<'_>) -> Bounded {
    if node.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
        return unbounded("a change can't be followed through grouping sets");
    }
    let value = replaced(value, &node.schema, |at| match at.checked_sub(node.group_expr.len()) {
        None => node.group_expr.get(at).map(bare),
        Some(at) => node.aggr_expr.get(at).and_then(|expr| one_of_all(expr, &node.group_expr)),
    })?;
    match value {
        Some(value) => below(&node.input, value, changed),
        None => unbounded("the column is none of those that rows are grouped by"),
    }
}

/// The first of a group's values of something that the group has in common, as `DISTINCT ON` is
/// planned: it is what they have in common.
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

/// A row of one side shows only beside rows of the other that are equal in the join's columns, so
/// the value is passed over to the other side where it can be said in those.
fn join(node: &Join, value: &Expr, changed: Changed<'_>) -> Bounded {
    use JoinType::{Inner, Left, LeftAnti, LeftSemi, Right, RightAnti, RightSemi};
    let (left, right) = (node.left.schema(), node.right.schema());
    let is_left = is_of(value, left);
    let keeps = match node.join_type {
        Inner => true,
        // Rows that find no partner have NULL in place of the other side's value.
        Left | LeftSemi | LeftAnti => is_left,
        Right | RightSemi | RightAnti => is_of(value, right),
        _ => false,
    };
    if !keeps {
        return unbounded(format!("a change can't be followed through a {} join", node.join_type));
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
            return unbounded("a table that changed is joined by other columns");
        };
        match below(side, value, changed)? {
            Ok(found) => all.extend(found),
            Err(why) => return unbounded(why),
        }
    }
    Ok(Ok(all))
}

/// The value in the columns of one side.
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
        // Equal values of one type are the same value; floats are not: -0 = 0.
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

/// Each column of the value by what stands at its place below; `None` where nothing does.
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

/// Whether a changed table is read anywhere within.
fn reads(plan: &LogicalPlan, changed: Changed<'_>) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            found |= changed(&source_as_provider(&scan.source)?).is_some();
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}
