//! The rule that finds aggregates by `time_bucket_gapfill` and puts the operator above them. It runs before all other
//! rules, while the WHERE clause is still where the query has it: its bounds of the instants are those of the buckets.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, Between, BinaryExpr, Cast, Expr, ExprSchemable, Extension, LogicalPlan, Operator, Projection, ScalarUDF,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::scalar::ScalarValue;

use super::node::{Fill, GapFill, Grid};
use super::{GAPFILL, INTERPOLATE, LOCF};
use crate::bucket::TimeBucket;
use crate::column::{instants, per_second, text, ticks, zone};
use crate::width::Width;

/// The rule.
#[derive(Debug)]
pub(crate) struct FillGaps;

impl OptimizerRule for FillGaps {
    fn name(&self) -> &'static str {
        "fill_gaps"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !matches!(plan, LogicalPlan::Projection(_)) || aggregate_below(&plan).is_none() {
            return Ok(Transformed::no(plan));
        }
        let mut marks = Vec::new();
        marked(&plan, &mut marks)?;
        let fills: Vec<_> = marks.iter().map(|(expr, fill)| (expr.clone(), *fill)).collect();
        filled(plan, &fills, config).map(Transformed::yes)
    }
}

/// The aggregate with gaps to fill under a node, with only projections, filters and windows between them.
fn aggregate_below(plan: &LogicalPlan) -> Option<&Aggregate> {
    match plan {
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.iter().any(|key| gapfill(key).is_some()) => {
            Some(aggregate)
        }
        LogicalPlan::Projection(node) => aggregate_below(&node.input),
        LogicalPlan::Filter(node) => aggregate_below(&node.input),
        LogicalPlan::Window(node) => aggregate_below(&node.input),
        _ => None,
    }
}

fn gapfill(expr: &Expr) -> Option<&ScalarFunction> {
    match expr {
        Expr::ScalarFunction(call) if call.name() == GAPFILL => Some(call),
        Expr::Alias(alias) => gapfill(&alias.expr),
        _ => None,
    }
}

/// All `locf(...)` and `interpolate(...)` from a node down to its aggregate.
fn marked(plan: &LogicalPlan, marks: &mut Vec<(Expr, Fill)>) -> Result<()> {
    if matches!(plan, LogicalPlan::Aggregate(_)) {
        return Ok(());
    }
    for expr in plan.expressions() {
        expr.apply(|expr| {
            if let Some(fill) = fill_of(expr)
                && !marks.iter().any(|(known, _)| known == expr)
            {
                marks.push((expr.clone(), fill));
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    plan.inputs().first().map_or(Ok(()), |input| marked(input, marks))
}

fn fill_of(expr: &Expr) -> Option<Fill> {
    match expr {
        Expr::ScalarFunction(call) if call.name() == LOCF => Some(Fill::Locf),
        Expr::ScalarFunction(call) if call.name() == INTERPOLATE => Some(Fill::Interpolate),
        _ => None,
    }
}

/// The node with its aggregate filled, and columns in place of the marks.
fn filled(plan: LogicalPlan, fills: &[(Expr, Fill)], config: &dyn OptimizerConfig) -> Result<LogicalPlan> {
    if let LogicalPlan::Aggregate(aggregate) = plan {
        return operator(aggregate, fills, config);
    }
    let names = NamePreserver::new(&plan);
    let exprs = plan.expressions().into_iter().map(|expr| {
        let name = names.save(&expr);
        let expr = expr.transform_down(|expr| {
            Ok(if fill_of(&expr).is_some() {
                Transformed::new(column(&expr), true, TreeNodeRecursion::Jump)
            } else {
                Transformed::no(expr)
            })
        })?;
        Ok(name.restore(expr.data))
    });
    let exprs = exprs.collect::<Result<Vec<_>>>()?;
    let inputs = plan.inputs().into_iter().cloned().map(|input| filled(input, fills, config));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    plan.with_new_exprs(exprs, inputs)
}

fn column(mark: &Expr) -> Expr {
    Expr::Column(Column::from_name(mark.schema_name().to_string()))
}

fn operator(aggregate: Aggregate, fills: &[(Expr, Fill)], config: &dyn OptimizerConfig) -> Result<LogicalPlan> {
    let keys: Vec<usize> =
        (0..aggregate.group_expr.len()).filter(|at| gapfill(&aggregate.group_expr[*at]).is_some()).collect();
    let ([bucket], false) = (&keys[..], matches!(aggregate.group_expr[..], [Expr::GroupingSet(_)])) else {
        return plan_err!("a query can group by one {GAPFILL} only, and not in grouping sets");
    };
    let Some(call) = gapfill(&aggregate.group_expr[*bucket]).cloned() else {
        return plan_err!("a query can group by one {GAPFILL} only");
    };
    let grid = grid(&call, &aggregate.input, config)?;
    let mut group_expr = aggregate.group_expr.clone();
    group_expr[*bucket] = ScalarUDF::from(TimeBucket::default()).call(call.args.clone());
    let plain = Aggregate::try_new(Arc::clone(&aggregate.input), group_expr, aggregate.aggr_expr.clone())?;
    let series = (0..aggregate.group_expr.len()).filter(|at| at != bucket).collect();
    let mut exprs: Vec<Expr> = plain
        .schema
        .columns()
        .into_iter()
        .zip(aggregate.schema.columns())
        .map(
            |(column, asked)| {
                if column == asked { Expr::Column(column) } else { Expr::Column(column).alias(asked.name) }
            },
        )
        .collect();
    let mut how = vec![Fill::Nothing; exprs.len()];
    for (mark, fill) in fills {
        let Expr::ScalarFunction(call) = mark else { continue };
        exprs.push(call.args[0].clone().alias(mark.schema_name().to_string()));
        how.push(*fill);
    }
    let input = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(LogicalPlan::Aggregate(plain)))?);
    let node = GapFill::new(input, *bucket, series, how, grid)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

fn grid(call: &ScalarFunction, input: &LogicalPlan, config: &dyn OptimizerConfig) -> Result<Grid> {
    let info = SimplifyContext::builder()
        .with_schema(Arc::clone(input.schema()))
        .with_config_options(config.options())
        .with_query_execution_start_time(config.query_execution_start_time())
        .build();
    let simplifier = ExprSimplifier::new(info);
    let value = |expr: &Expr| match simplifier.simplify(expr.clone()) {
        Ok(Expr::Literal(value, _)) => Some(value),
        _ => None,
    };
    let of = call.args[1].get_type(input.schema())?;
    let mut constants = Vec::new();
    for (at, arg) in call.args.iter().enumerate().filter(|(at, _)| *at != 1) {
        match value(arg) {
            Some(value) => constants.push(value),
            None => return plan_err!("{GAPFILL}: argument {} must be the same for all rows", at + 1),
        }
    }
    let named = constants[1..].iter().find_map(text).map(str::to_owned);
    let zone = zone(named.as_deref(), &of, &config.options())?;
    let second = per_second(instants(&of)?.0);
    let local = matches!(of, DataType::Timestamp(_, Some(_)));
    let origin = constants[1..].iter().find_map(ticks);
    let origin = origin.map(|o| if local { o + zone.span(o.div_euclid(second)).offset * second } else { o });
    let mut grid = Grid { width: Width::of(&constants[0])?, zone: named, origin, from: None, to: None };
    bounds(input, &call.args[1], &of, &value, &mut grid);
    Ok(grid)
}

/// Narrows the grid to the bounds of the instants in the WHERE clause.
fn bounds(
    input: &LogicalPlan,
    instant: &Expr,
    of: &DataType,
    value: &dyn Fn(&Expr) -> Option<ScalarValue>,
    grid: &mut Grid,
) {
    let LogicalPlan::Filter(filter) = input else { return };
    let tick = |expr: &Expr| value(expr).and_then(|value| value.cast_to(of).ok()).as_ref().and_then(ticks);
    let is_instant = |expr: &Expr| bare(expr) == bare(instant);
    for term in split_conjunction(&filter.predicate) {
        match term {
            Expr::Between(Between { expr, negated: false, low, high }) if is_instant(expr) => {
                narrow(grid, Operator::GtEq, tick(low));
                narrow(grid, Operator::LtEq, tick(high));
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_instant(left) => narrow(grid, *op, tick(right)),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_instant(right) => {
                if let Some(op) = op.swap() {
                    narrow(grid, op, tick(left));
                }
            }
            _ => {}
        }
    }
    bounds(&filter.input, instant, of, value, grid);
}

fn narrow(grid: &mut Grid, op: Operator, at: Option<i64>) {
    let Some(at) = at else { return };
    let (from, to) = match op {
        Operator::GtEq => (Some(at), None),
        Operator::Gt => (Some(at.saturating_add(1)), None),
        Operator::Lt => (None, Some(at)),
        Operator::LtEq => (None, Some(at.saturating_add(1))),
        _ => return,
    };
    grid.from = grid.from.max(from);
    grid.to = [grid.to, to].into_iter().flatten().min();
}

/// The expression without casts from one timestamp type to another.
fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(Cast { expr, field }) if matches!(field.data_type(), DataType::Timestamp(..)) => bare(expr),
        other => other,
    }
}
