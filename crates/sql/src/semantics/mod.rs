//! Makes queries return PostgreSQL's values where DataFusion's differ: rules that rewrite expressions, and the
//! functions that the rewritten expressions call.
//!
//! | expression | DataFusion | here, as in PostgreSQL |
//! |---|---|---|
//! | `1` | a bigint | an integer if it fits |
//! | `+ - *` of integers, `-x` | wraps around | an error: [`integers`] |
//! | `sum` of bigint | wraps around | a numeric |
//! | `avg` of integers and numerics | a double, or four digits more | a numeric of a quotient's scale: [`averages`] |
//! | `/` of numerics | four digits more | 16 significant digits or more: [`numeric`] |
//! | `round`, `trunc`, `ceil`, `floor` of numerics | the scale of the argument | the requested scale: [`numeric`] |
//! | a double beside a numeric | decimals of 15 digits | doubles: [`operators`] |
//! | a double divided by zero | infinite | an error |
//! | `round` of a double | away from zero | to the even neighbour: [`rounding`] |
//! | a double or a numeric as an integer | truncated | rounded: [`casts`] |
//! | a double as a numeric | its binary value | its 15 significant digits |
//! | doubles, intervals, arrays, bytes as texts | Arrow's forms | PostgreSQL's: [`casts`] |
//! | date + interval | a date | a timestamp |
//! | timestamptz + days or months | in UTC | in the session's time zone: [`intervals`] |
//! | intervals compared | field by field | days of 24 hours, months of 30 days |
//! | interval * number, interval / number | not supported | fractions carried to smaller units: [`intervals`] |
//! | `extract` | an integer | a numeric |
//! | `to_char`, `to_timestamp`, `to_date` | strftime's patterns | PostgreSQL's patterns: [`formats`] |
//! | `k` of `FULL JOIN ... USING (k)` | the left side's | the value of the side that has one: [`joins`] |
//! | `->`, `->>`, `#>>` | not supported | values of a JSON document: [`json`] |
//! | INTERSECT and EXCEPT of two types | the left side's type | the common type: [`set_operations`] |
//! | a query as a value | must be aggregated | one row, or NULL: [`subqueries`] |
//! | a correlated subquery | correlated by equality only | correlated by any condition: [`decorrelation`] |
//! | `percentile_cont`, `percentile_disc`, `mode` | six digits, or not supported | all digits: [`ordered_sets`] |
//! | `variance`, `stddev` of integers and numerics | doubles | numerics: [`dispersion`] |
//! | `IS NOT DISTINCT FROM` of columns | makes NULLs equal in other keys of a join | only here: [`null_safe`] |
//! | `SIMILAR TO` | a regular expression of its own | SQL's: [`similar`] |
//!
//! There are two rules, since changed types must be known before operands are coerced: [`PostgresTypes`] runs before
//! DataFusion's type coercion, [`PostgresValues`] after it. Operators that the engine cannot plan at all are planned by
//! [`operators::IntervalOperators`].

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
mod regexp_split;
mod rounding;
mod set_operations;
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

use crate::literals::TimestampLiterals;
use integers::{Operation, checked_call};

/// The widest numeric without decimals.
const WHOLE: DataType = DataType::Decimal128(38, 0);

/// A timestamp without time zone.
const LOCAL: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// All analyzer rules, in order.
pub(crate) fn rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> =
        vec![Arc::new(decorrelation::CorrelatedQueries), Arc::new(PostgresTypes)];
    rules.extend(Analyzer::new().rules);
    rules.push(Arc::new(TimestampLiterals));
    rules.push(Arc::new(PostgresValues));
    rules
}

/// Functions that the engine lacks, or has with another meaning than PostgreSQL.
pub(crate) fn functions() -> Vec<ScalarUDF> {
    let mut all = formats::functions();
    all.extend(output_limits::functions());
    all.push(similar::function());
    all.push(numeric::TO_NUMERIC.function());
    all.push(joins::COLUMN_OF_ONE_SIDE.function());
    all.extend([texts::TO_UUID, texts::MALFORMED_ARRAY].map(kernel::Kernel::function));
    all.extend(json::functions());
    all.extend(json_sets::functions());
    all.push(regexp_split::SPLIT.function());
    all.push(width_bucket::WIDTH_BUCKET.function());
    all.extend(
        [functions_by_type::ARRAY_UPPER, functions_by_type::SIGN, functions_by_type::TYPE_OF]
            .map(kernel::Kernel::function),
    );
    all.extend(intervals::functions().into_iter().map(kernel::Kernel::function));
    all
}

/// Aggregates that the engine lacks, or has with another result than PostgreSQL.
pub(crate) fn aggregates() -> Vec<AggregateUDF> {
    let mut all = vec![averages::function(), subqueries::single_value()];
    all.extend(ordered_sets::functions());
    all.extend(dispersion::functions());
    all
}

/// Planners of expressions that the engine cannot plan; they come before the engine's own.
pub(crate) fn planners() -> Vec<Arc<dyn ExprPlanner>> {
    vec![Arc::new(operators::IntervalOperators), Arc::new(extract::ExtractFields), Arc::new(json::JsonOperators)]
}

/// Rewrites expressions that have another type in PostgreSQL.
#[derive(Debug)]
struct PostgresTypes;

impl AnalyzerRule for PostgresTypes {
    fn name(&self) -> &str {
        "postgres_types"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let zone = config.execution.time_zone.as_deref().unwrap_or("UTC");
        rewrite_expressions(plan, &|expr, schema| postgres_type(expr, schema, zone))
    }
}

/// Rewrites expressions that have the same type and another value in PostgreSQL.
#[derive(Debug)]
struct PostgresValues;

impl AnalyzerRule for PostgresValues {
    fn name(&self) -> &str {
        "postgres_values"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_expressions(plan, &postgres_value)
    }
}

/// Rewrites all expressions of a plan, inner expressions first. The columns keep their names.
fn rewrite_expressions(
    plan: LogicalPlan,
    rewrite: &dyn Fn(Expr, &DFSchema) -> Transformed<Expr>,
) -> Result<LogicalPlan> {
    if let LogicalPlan::RecursiveQuery(query) = plan {
        return recursion::rewrite(query, &|term| rewrite_expressions(term, rewrite));
    }
    let plan = plan.map_children(|input| rewrite_expressions(input, rewrite).map(Transformed::yes))?.data;
    // The planner needs the numbers of LIMIT as bigint literals.
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
        // The planner looks for unchanged grouping sets.
        if matches!(expr, Expr::GroupingSet(_)) {
            return Ok(Transformed::no(expr));
        }
        let name = names.save(&expr);
        let rewritten = expr.transform_up(|expr| Ok(rewrite(with_outer_column_types(expr, &schema), &schema)))?;
        Ok(rewritten.update_data(|expr| name.restore(expr)))
    })?;
    // The nodes above must see the changed types.
    with_recomputed_types(rewritten.data)
}

/// A subquery whose references to outer columns have the current types of those columns.
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

/// Updates the types in a subquery's list of outer columns.
fn with_outer_column_types(mut expr: Expr, schema: &DFSchema) -> Expr {
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

/// The node with a schema that has the types of its expressions and inputs.
fn with_recomputed_types(plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Values(values) => LogicalPlanBuilder::values(values.values)?.build(),
        LogicalPlan::Union(union) => Ok(LogicalPlan::Union(Union::try_new_with_loose_types(union.inputs)?)),
        other => match other.recompute_schema()? {
            LogicalPlan::Join(join) => match set_operations::with_common_types(join)? {
                LogicalPlan::Join(join) => joins::with_merged_columns(join),
                other => Ok(other),
            },
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
        // The engine reads a literal beyond bigint as an unsigned integer, where there is one.
        Expr::Literal(ScalarValue::UInt64(Some(value)), metadata) => {
            Transformed::yes(Expr::Literal(ScalarValue::Decimal128(Some(i128::from(value)), 20, 0), metadata))
        }
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
        // With nanoseconds, which end in 2262, it could not be compared with later instants.
        Expr::ScalarFunction(call) if call.func.name() == "now" => {
            let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            Transformed::yes(cast(Expr::ScalarFunction(call), micros))
        }
        Expr::ScalarFunction(call) => functions_by_type::rewrite_call(call, schema),
        Expr::ScalarSubquery(subquery) => match subqueries::with_single_row(subquery.clone()) {
            Ok(single) => Transformed::yes(Expr::ScalarSubquery(single)),
            // The engine reports the error.
            Err(_) => Transformed::no(Expr::ScalarSubquery(subquery)),
        },
        Expr::AggregateFunction(AggregateFunction { func, mut params }) => {
            if func.name() == "sum"
                && let Some(summed) = type_to_sum(&params.args, schema)
            {
                params.args = params.args.into_iter().map(|arg| cast(arg, summed.clone())).collect();
            } else if func.name() == "count" {
                params.args.iter_mut().for_each(as_bigint_literal);
            } else {
                // Arguments after the first are parameters, which the engine reads as bigint literals.
                params.args.iter_mut().skip(1).for_each(as_bigint_literal);
            }
            Transformed::yes(Expr::AggregateFunction(AggregateFunction { func, params }))
        }
        Expr::WindowFunction(mut window) => {
            if is_sum(&window)
                && let Some(summed) = type_to_sum(&window.params.args, schema)
            {
                let args = std::mem::take(&mut window.params.args);
                window.params.args = args.into_iter().map(|arg| cast(arg, summed.clone())).collect();
            } else if !is_sum(&window) {
                // The first argument of an aggregate is its value, except for `count`.
                let is_value = match &window.fun {
                    WindowFunctionDefinition::AggregateUDF(function) => function.name() != "count",
                    _ => false,
                };
                window.params.args.iter_mut().skip(usize::from(is_value)).for_each(as_bigint_literal);
            }
            Transformed::yes(Expr::WindowFunction(window))
        }
        other => Transformed::no(other),
    }
}

/// Makes an integer literal a bigint again, as the planner had made it: the engine expects that type.
fn as_bigint_literal(arg: &mut Expr) {
    if let Expr::Literal(ScalarValue::Int32(Some(value)), metadata) = arg {
        *arg = Expr::Literal(ScalarValue::Int64(Some(i64::from(*value))), metadata.take());
    }
}

fn postgres_value(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match expr {
        Expr::BinaryExpr(binary) => match operation(&binary, schema) {
            Some((operation, data_type)) => {
                Transformed::yes(checked_call(operation, data_type, vec![*binary.left, *binary.right]))
            }
            None => Transformed::no(Expr::BinaryExpr(binary)),
        },
        Expr::Negative(inner) => match integer(&inner, schema) {
            Some(data_type) => Transformed::yes(checked_call(Operation::Negate, data_type, vec![*inner])),
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

/// The type of an integer expression. A call that this rule has made knows its type; the engine would derive it from
/// the innermost operand each time.
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

/// The type to which the argument of `sum` is cast, if it is not its own. A sum of sums has the type of the sums.
fn type_to_sum(args: &[Expr], schema: &DFSchema) -> Option<DataType> {
    let [only] = args else { return None };
    match only.get_type(schema).ok()? {
        DataType::Int64 => Some(WHOLE),
        DataType::Decimal128(precision, scale) if precision < 38 => Some(DataType::Decimal128(38, scale)),
        _ => None,
    }
}
