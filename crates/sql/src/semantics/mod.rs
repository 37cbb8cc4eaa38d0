//! Where DataFusion's values differ from PostgreSQL's, PostgreSQL's: rules that rewrite expressions, and the functions
//! that they put in their places.
//!
//! | expression | DataFusion | here, as in PostgreSQL |
//! |---|---|---|
//! | `+ - *` of integers, `-x` | wraps around | an error: [`integers`] |
//! | `sum` of bigint | wraps around | a numeric |
//! | `round` of a double | away from zero | to the even neighbour: [`rounding`] |
//! | date + interval | a date | a timestamp |
//! | `to_char`, `to_timestamp`, `to_date` | strftime's patterns, or the pattern as the answer | [`formats`] |
//! | `SIMILAR TO` | a regular expression of its own | SQL's: [`similar`] |
//!
//! Two rules, since types that change must be known before operands are made to agree: [`Types`] runs before DataFusion's
//! type coercion, [`Values`] after it.

mod formats;
mod integers;
mod rounding;
mod similar;

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF, WindowFunctionDefinition, cast,
};
use datafusion::optimizer::{Analyzer, AnalyzerRule};

use crate::literals::MissingSeconds;
use integers::{Operation, checked};

/// The widest numeric without a fraction.
const WHOLE: DataType = DataType::Decimal128(38, 0);

const LOCAL: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// All rules by which a query is analysed, in their order.
pub(crate) fn rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![Arc::new(Types)];
    rules.extend(Analyzer::new().rules);
    rules.push(Arc::new(MissingSeconds));
    rules.push(Arc::new(Values));
    rules
}

/// Functions that the engine lacks, or has with another meaning.
pub(crate) fn functions() -> Vec<ScalarUDF> {
    let mut all = formats::functions();
    all.push(similar::function());
    all
}

/// Expressions whose type is another in PostgreSQL.
#[derive(Debug)]
struct Types;

impl AnalyzerRule for Types {
    fn name(&self) -> &str {
        "postgres_types"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        // Its second term was planned for the types that its first had.
        if plan.exists(|node| Ok(matches!(node, LogicalPlan::RecursiveQuery(_))))? {
            return Ok(plan);
        }
        rewrite_expressions(plan, postgres_type)
    }
}

/// Expressions of the same type whose value is another in PostgreSQL.
#[derive(Debug)]
struct Values;

impl AnalyzerRule for Values {
    fn name(&self) -> &str {
        "postgres_values"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_expressions(plan, postgres_value)
    }
}

/// Rewrites all expressions of a plan, the inner ones first; the columns keep their names.
fn rewrite_expressions(plan: LogicalPlan, rewrite: fn(Expr, &DFSchema) -> Transformed<Expr>) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| {
        let names = NamePreserver::new(&plan);
        let schema = merge_schema(&plan.inputs());
        let rewritten = plan.map_expressions(|expr| {
            // The planner looks for it as it is.
            if matches!(expr, Expr::GroupingSet(_)) {
                return Ok(Transformed::no(expr));
            }
            let name = names.save(&expr);
            let rewritten = expr.transform_up(|expr| Ok(rewrite(expr, &schema)))?;
            Ok(rewritten.update_data(|expr| name.restore(expr)))
        })?;
        // What is above sees the types that the expressions have now.
        rewritten.map_data(LogicalPlan::recompute_schema)
    })?;
    Ok(rewritten.data)
}

fn postgres_type(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match expr {
        Expr::BinaryExpr(binary) => match date_as_timestamp(&binary, schema) {
            Some(binary) => Transformed::yes(Expr::BinaryExpr(binary)),
            None => Transformed::no(Expr::BinaryExpr(binary)),
        },
        Expr::AggregateFunction(AggregateFunction { func, mut params })
            if func.name() == "sum" && is_bigint(&params.args, schema) =>
        {
            params.args = params.args.into_iter().map(|arg| cast(arg, WHOLE)).collect();
            Transformed::yes(Expr::AggregateFunction(AggregateFunction { func, params }))
        }
        Expr::WindowFunction(mut window) if is_sum(&window) && is_bigint(&window.params.args, schema) => {
            let args = std::mem::take(&mut window.params.args);
            window.params.args = args.into_iter().map(|arg| cast(arg, WHOLE)).collect();
            Transformed::yes(Expr::WindowFunction(window))
        }
        other => Transformed::no(other),
    }
}

fn postgres_value(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match expr {
        Expr::BinaryExpr(binary) => match operation(&binary, schema) {
            Some((operation, data_type)) => {
                Transformed::yes(checked(operation, data_type, vec![*binary.left, *binary.right]))
            }
            None => Transformed::no(Expr::BinaryExpr(binary)),
        },
        Expr::Negative(inner) => match integer(&inner, schema) {
            Some(data_type) => Transformed::yes(checked(Operation::Negate, data_type, vec![*inner])),
            None => Transformed::no(Expr::Negative(inner)),
        },
        Expr::ScalarFunction(mut call) if call.func.name() == "round" && call.args.len() == 1 => {
            match call.args[0].get_type(schema) {
                Ok(DataType::Float64 | DataType::Float32) => {
                    call.func = rounding::to_even();
                    Transformed::yes(Expr::ScalarFunction(call))
                }
                _ => Transformed::no(Expr::ScalarFunction(call)),
            }
        }
        other => Transformed::no(other),
    }
}

/// A date that an interval is added to is the midnight at its beginning.
fn date_as_timestamp(binary: &BinaryExpr, schema: &DFSchema) -> Option<BinaryExpr> {
    if !matches!(binary.op, Operator::Plus | Operator::Minus) {
        return None;
    }
    // What has no type here (an outer column) stays as it is.
    let (left, right) = (binary.left.get_type(schema).ok()?, binary.right.get_type(schema).ok()?);
    let at = |date: &Expr| Box::new(cast(date.clone(), LOCAL));
    match (left, right) {
        (DataType::Date32, DataType::Interval(_)) => Some(BinaryExpr { left: at(&binary.left), ..binary.clone() }),
        (DataType::Interval(_), DataType::Date32) => Some(BinaryExpr { right: at(&binary.right), ..binary.clone() }),
        _ => None,
    }
}

fn operation(binary: &BinaryExpr, schema: &DFSchema) -> Option<(Operation, DataType)> {
    let operation = match binary.op {
        Operator::Plus => Operation::Add,
        Operator::Minus => Operation::Subtract,
        Operator::Multiply => Operation::Multiply,
        _ => return None,
    };
    let (left, right) = (integer(&binary.left, schema)?, integer(&binary.right, schema)?);
    (left == right).then_some((operation, left))
}

/// The type of an expression where it is an integer's. What was put in its place knows it; the engine would work it out
/// from the innermost operand each time.
fn integer(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    if let Expr::ScalarFunction(call) = expr
        && let Some(known) = integers::type_of(&call.func)
    {
        return Some(known);
    }
    let data_type = expr.get_type(schema).ok()?;
    matches!(data_type, DataType::Int16 | DataType::Int32 | DataType::Int64).then_some(data_type)
}

fn is_sum(window: &WindowFunction) -> bool {
    matches!(&window.fun, WindowFunctionDefinition::AggregateUDF(function) if function.name() == "sum")
}

fn is_bigint(args: &[Expr], schema: &DFSchema) -> bool {
    matches!(args, [only] if only.get_type(schema).is_ok_and(|data_type| data_type == DataType::Int64) && has_bigint(only, schema))
}

/// Whether it would be a bigint in PostgreSQL too, where a literal is an integer.
fn has_bigint(expr: &Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::Literal(..) => false,
        Expr::Alias(alias) => has_bigint(&alias.expr, schema),
        Expr::Negative(inner) => has_bigint(inner, schema),
        Expr::BinaryExpr(binary) => has_bigint(&binary.left, schema) || has_bigint(&binary.right, schema),
        Expr::Case(case) => {
            let results = case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr);
            results.into_iter().any(|result| has_bigint(result, schema))
        }
        Expr::ScalarFunction(call)
            if ["coalesce", "nullif", "greatest", "least", "abs"].contains(&call.func.name()) =>
        {
            call.args.iter().any(|arg| has_bigint(arg, schema))
        }
        other => other.get_type(schema).is_ok_and(|data_type| data_type == DataType::Int64),
    }
}
