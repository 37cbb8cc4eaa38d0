//! Where DataFusion's values differ from PostgreSQL's, PostgreSQL's: rules that rewrite expressions, and the functions
//! that they put in their places.
//!
//! | expression | DataFusion | here, as in PostgreSQL |
//! |---|---|---|
//! | `1` | a bigint | an integer where it is small enough |
//! | `+ - *` of integers, `-x` | wraps around | an error: [`integers`] |
//! | `sum` of bigint | wraps around | a numeric |
//! | `avg` of integers and numerics | a double, or four digits more | a numeric of a quotient's scale: [`averages`] |
//! | `/` of numerics | four digits more | 16 significant digits or more: [`numeric`] |
//! | `round`, `trunc`, `ceil`, `floor` of numerics | the scale stays | the scale that is asked for: [`numeric`] |
//! | a double beside a numeric | decimals of 15 digits | doubles: [`operators`] |
//! | a double divided by zero | infinite | an error |
//! | `round` of a double | away from zero | to the even neighbour: [`rounding`] |
//! | a double or a numeric as an integer | cut | rounded: [`casts`] |
//! | a double as a numeric | its binary value | its 15 significant digits |
//! | doubles, intervals, arrays, bytes as texts | Arrow's forms | PostgreSQL's: [`casts`] |
//! | date + interval | a date | a timestamp |
//! | timestamptz + days or months | in UTC | in the session's time zone: [`intervals`] |
//! | intervals compared | field by field | days of 24 hours, months of 30 days |
//! | interval * number, interval / number | not known | fractions carried down: [`intervals`] |
//! | `extract` | an integer | a numeric |
//! | `to_char`, `to_timestamp`, `to_date` | strftime's patterns, or the pattern as the answer | [`formats`] |
//! | `k` of `FULL JOIN ... USING (k)` | the left side's | the value of the side that has one: [`joins`] |
//! | `->`, `->>`, `#>>` | not known | documents' values: [`json`] |
//! | a query as a value | must be aggregated | one row, or NULL: [`subqueries`] |
//! | what takes columns of the query around it | by equality alone | any: [`decorrelation`] |
//! | `percentile_cont`, `percentile_disc`, `mode` | six digits, or not known | [`ordered_sets`] |
//! | `variance`, `stddev` of integers and numerics | doubles | numerics: [`dispersion`] |
//! | `IS NOT DISTINCT FROM` of columns | makes NULLs equal in other keys of a join | [`null_safe`] |
//! | `SIMILAR TO` | a regular expression of its own | SQL's: [`similar`] |
//!
//! Two rules, since types that change must be known before operands are made to agree: [`Types`] runs before DataFusion's
//! type coercion, [`Values`] after it. Operators that the engine can't plan at all are planned by [`IntervalOperators`].

mod averages;
mod casts;
mod decorrelation;
mod dispersion;
mod extract;
mod formats;
mod functions_by_type;
mod integers;
pub(crate) mod intervals;
mod joins;
mod json;
mod json_sets;
mod kernel;
mod null_safe;
mod numeric;
mod operators;
mod ordered_sets;
mod output_limits;
mod recursion;
mod rounding;
mod similar;
mod subqueries;
mod texts;
mod width_bucket;

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    AggregateUDF, BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, ScalarUDF, Union,
    WindowFunctionDefinition, cast,
};
use datafusion::optimizer::{Analyzer, AnalyzerRule};
use datafusion::scalar::ScalarValue;

use crate::literals::MissingSeconds;
use integers::{Operation, checked};

/// The widest numeric without a fraction.
const WHOLE: DataType = DataType::Decimal128(38, 0);

const LOCAL: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// All rules by which a query is analysed, in their order.
pub(crate) fn rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> =
        vec![Arc::new(decorrelation::CorrelatedQueries), Arc::new(Types)];
    rules.extend(Analyzer::new().rules);
    rules.push(Arc::new(MissingSeconds));
    rules.push(Arc::new(Values));
    rules
}

/// Functions that the engine lacks, or has with another meaning.
pub(crate) fn functions() -> Vec<ScalarUDF> {
    let mut all = formats::functions();
    all.extend(output_limits::functions());
    all.push(similar::function());
    all.push(numeric::TO_NUMERIC.function());
    all.push(joins::COLUMN_OF_ONE_SIDE.function());
    all.extend(json::functions());
    all.extend(json_sets::functions());
    all.push(texts::SPLIT.function());
    all.push(width_bucket::WIDTH_BUCKET.function());
    all.extend(
        [functions_by_type::ARRAY_UPPER, functions_by_type::SIGN, functions_by_type::TYPE_OF]
            .map(kernel::Kernel::function),
    );
    all.extend(intervals::functions().into_iter().map(kernel::Kernel::function));
    all
}

pub(crate) fn aggregates() -> Vec<AggregateUDF> {
    let mut all = vec![averages::function(), subqueries::single_value()];
    all.extend(ordered_sets::functions());
    all.extend(dispersion::functions());
    all
}

/// Plans what the engine can't; before the engine's own planners.
pub(crate) fn planners() -> Vec<Arc<dyn ExprPlanner>> {
    vec![Arc::new(operators::IntervalOperators), Arc::new(extract::ExtractFields), Arc::new(json::JsonOperators)]
}

/// Expressions whose type is another in PostgreSQL.
#[derive(Debug)]
struct Types;

impl AnalyzerRule for Types {
    fn name(&self) -> &str {
        "postgres_types"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let zone = config.execution.time_zone.as_deref().unwrap_or("UTC");
        rewrite_expressions(plan, &|expr, schema| postgres_type(expr, schema, zone))
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
        rewrite_expressions(plan, &postgres_value)
    }
}

/// Rewrites all expressions of a plan, the inner ones first; the columns keep their names.
fn rewrite_expressions(
    plan: LogicalPlan,
    rewrite: &dyn Fn(Expr, &DFSchema) -> Transformed<Expr>,
) -> Result<LogicalPlan> {
    if let LogicalPlan::RecursiveQuery(query) = plan {
        return recursion::rewritten(query, &|term| rewrite_expressions(term, rewrite));
    }
    let plan = plan.map_children(|input| rewrite_expressions(input, rewrite).map(Transformed::yes))?.data;
    // The planner takes its numbers as they are.
    if matches!(plan, LogicalPlan::Limit(_)) {
        return plan.recompute_schema();
    }
    let names = NamePreserver::new(&plan);
    let schema = merge_schema(&plan.inputs());
    let plan = plan.map_subqueries(|query| {
        let query = with_outer_types(query, &schema)?;
        rewrite_expressions(query, rewrite).map(Transformed::yes)
    })?;
    let rewritten = plan.data.map_expressions(|expr| {
        // The planner looks for it as it is.
        if matches!(expr, Expr::GroupingSet(_)) {
            return Ok(Transformed::no(expr));
        }
        let name = names.save(&expr);
        let rewritten = expr.transform_up(|expr| Ok(rewrite(outer_typed(expr, &schema), &schema)))?;
        Ok(rewritten.update_data(|expr| name.restore(expr)))
    })?;
    // What is above sees the types that the expressions have now.
    with_types(rewritten.data)
}

/// The query with the types that the columns of the query around it have now.
fn with_outer_types(query: LogicalPlan, schema: &DFSchema) -> Result<LogicalPlan> {
    let typed = query.transform_down_with_subqueries(|node| {
        node.map_expressions(|expr| expr.transform_up(|expr| Ok(outer_column(expr, schema))))
    })?;
    Ok(typed.data)
}

fn outer_column(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match expr {
        Expr::OuterReferenceColumn(field, column) => match schema.qualified_field_from_column(&column) {
            Ok((_, now)) if now.data_type() != field.data_type() => {
                Transformed::yes(Expr::OuterReferenceColumn(Arc::clone(now), column))
            }
            _ => Transformed::no(Expr::OuterReferenceColumn(field, column)),
        },
        other => Transformed::no(other),
    }
}

/// What a subquery says of the columns that it takes from outside.
fn outer_typed(mut expr: Expr, schema: &DFSchema) -> Expr {
    let subquery = match &mut expr {
        Expr::ScalarSubquery(subquery) => subquery,
        Expr::Exists(exists) => &mut exists.subquery,
        Expr::InSubquery(membership) => &mut membership.subquery,
        Expr::SetComparison(comparison) => &mut comparison.subquery,
        _ => return expr,
    };
    let columns = std::mem::take(&mut subquery.outer_ref_columns);
    subquery.outer_ref_columns = columns.into_iter().map(|column| outer_column(column, schema).data).collect();
    expr
}

/// The node with a schema of the types that its expressions and inputs have.
fn with_types(plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Values(values) => LogicalPlanBuilder::values(values.values)?.build(),
        LogicalPlan::Union(union) => Ok(LogicalPlan::Union(Union::try_new_with_loose_types(union.inputs)?)),
        other => match other.recompute_schema()? {
            LogicalPlan::Join(join) => joins::merged(join),
            other => Ok(other),
        },
    }
}

fn postgres_type(expr: Expr, schema: &DFSchema, zone: &str) -> Transformed<Expr> {
    let either = |changed: std::result::Result<Expr, Expr>| match changed {
        Ok(changed) => Transformed::yes(changed),
        Err(same) => Transformed::no(same),
    };
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), metadata) => match i32::try_from(value) {
            Ok(value) => Transformed::yes(Expr::Literal(ScalarValue::Int32(Some(value)), metadata)),
            Err(_) => Transformed::no(Expr::Literal(ScalarValue::Int64(Some(value)), metadata)),
        },
        Expr::BinaryExpr(binary) => {
            let changed = null_safe::of_columns(&binary, schema).or_else(|| operators::binary(&binary, schema, zone));
            either(changed.ok_or(Expr::BinaryExpr(binary)))
        }
        Expr::Between(between) => either(operators::between(&between, schema, zone).ok_or(Expr::Between(between))),
        Expr::InList(list) => either(operators::in_list(list, schema)),
        Expr::Case(case) => either(operators::case(case, schema)),
        Expr::Negative(inner) if inner.get_type(schema).is_ok_and(|data_type| intervals::is_interval(&data_type)) => {
            Transformed::yes(intervals::NEGATE.call(vec![*inner]))
        }
        Expr::ScalarFunction(call) => functions_by_type::typed(call, schema),
        Expr::ScalarSubquery(subquery) => match subqueries::single(subquery.clone()) {
            Ok(single) => Transformed::yes(Expr::ScalarSubquery(single)),
            // The engine says what is wrong with it.
            Err(_) => Transformed::no(Expr::ScalarSubquery(subquery)),
        },
        Expr::AggregateFunction(AggregateFunction { func, mut params }) => {
            if func.name() == "sum"
                && let Some(summed) = summed_as(&params.args, schema)
            {
                params.args = params.args.into_iter().map(|arg| cast(arg, summed.clone())).collect();
            } else if func.name() == "count" {
                params.args.iter_mut().for_each(as_planned);
            } else {
                // Beyond the first they are parameters, which are read as they are.
                params.args.iter_mut().skip(1).for_each(as_planned);
            }
            Transformed::yes(Expr::AggregateFunction(AggregateFunction { func, params }))
        }
        Expr::WindowFunction(mut window) => {
            if is_sum(&window)
                && let Some(summed) = summed_as(&window.params.args, schema)
            {
                let args = std::mem::take(&mut window.params.args);
                window.params.args = args.into_iter().map(|arg| cast(arg, summed.clone())).collect();
            } else if !is_sum(&window) {
                // Of an aggregate the first one is its value, but for what `count` counts.
                let is_value = matches!(&window.fun, WindowFunctionDefinition::AggregateUDF(function) if function.name() != "count");
                window.params.args.iter_mut().skip(usize::from(is_value)).for_each(as_planned);
            }
            Transformed::yes(Expr::WindowFunction(window))
        }
        other => Transformed::no(other),
    }
}

/// The literal as the planner made it: what the engine takes it for depends on its type.
fn as_planned(arg: &mut Expr) {
    if let Expr::Literal(ScalarValue::Int32(Some(value)), metadata) = arg {
        *arg = Expr::Literal(ScalarValue::Int64(Some(i64::from(*value))), metadata.take());
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
        Expr::Cast(given) => match casts::cast_as_postgres(&given, schema) {
            Some(changed) => Transformed::yes(changed),
            None => Transformed::no(Expr::Cast(given)),
        },
        other => Transformed::no(other),
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

/// As what a sum adds, where that is another type than its argument's. A sum of sums has the type of the sums.
fn summed_as(args: &[Expr], schema: &DFSchema) -> Option<DataType> {
    let [only] = args else { return None };
    match only.get_type(schema).ok()? {
        DataType::Int64 => Some(WHOLE),
        DataType::Decimal128(precision, scale) if precision < 38 => Some(DataType::Decimal128(38, scale)),
        _ => None,
    }
}
