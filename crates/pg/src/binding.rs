//! The parameters of a prepared statement: their types, and a plan with their values.

use std::collections::BTreeSet;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::expr::{InList, Placeholder};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Cast, Expr, LogicalPlan, Operator};
use pgwire::api::Type;
use pgwire::error::PgWireResult;
use sqlparser::ast;

use super::{parameters, pg_types, problem};

fn number_of(id: &str) -> Option<usize> {
    id.strip_prefix('$')?.parse().ok().filter(|number| *number > 0)
}

/// The types of all parameters: as the client declares, else as inferred from the query, else text, as in PostgreSQL.
/// `arrays` are the parameters that stand for arrays, `oids` those that are cast to OIDs.
pub(crate) fn parameter_types(
    plan: &LogicalPlan,
    statement: Option<&ast::Statement>,
    (arrays, oids): (&BTreeSet<String>, &BTreeSet<String>),
    given: &[Option<Type>],
) -> PgWireResult<Vec<Type>> {
    let known = plan.get_parameter_types().map_err(problem::of_run)?;
    // Those of subqueries in expressions are not among the plan's.
    let written = statement.map(placeholders).unwrap_or_default();
    let count = known.keys().chain(&written).filter_map(|id| number_of(id)).max().unwrap_or(0);
    let mut types = Vec::with_capacity(count);
    for number in 1..=count {
        let id = format!("${number}");
        let declared = given.get(number - 1).cloned().flatten().filter(|pg_type| *pg_type != Type::UNKNOWN);
        let inferred = known.get(&id).cloned().flatten().or_else(|| cast_of(plan, &id));
        let inferred = inferred.map(|data_type| match data_type {
            DataType::Int32 if oids.contains(&id) => Type::OID,
            other => pg_types::of_data_type(&other),
        });
        let own = if arrays.contains(&id) { inferred.map(|element| pg_types::array_of(&element)) } else { inferred };
        let unknown = if arrays.contains(&id) { Type::TEXT_ARRAY } else { Type::TEXT };
        types.push(declared.or(own).filter(|pg_type| *pg_type != Type::UNKNOWN).unwrap_or(unknown));
    }
    Ok(types)
}

/// The parameters of a statement, such as `$1`.
fn placeholders(statement: &ast::Statement) -> Vec<String> {
    let mut found = Vec::new();
    let _ = ast::visit_expressions(statement, |expr| {
        if let ast::Expr::Value(ast::ValueWithSpan { value: ast::Value::Placeholder(id), .. }) = expr {
            found.push(id.clone());
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
    found
}

/// The type of a parameter that is cast (`$1::date`), or bigint in `LIMIT $1`.
fn cast_of(plan: &LogicalPlan, id: &str) -> Option<DataType> {
    let mut found = None;
    let is_it = |expr: &Expr| matches!(expr, Expr::Placeholder(inner) if inner.id == id);
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Limit(limit) = node
            && [&limit.skip, &limit.fetch]
                .into_iter()
                .flatten()
                .any(|expr| expr.exists(|e| Ok(is_it(e))).unwrap_or(false))
        {
            found = Some(DataType::Int64);
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::Cast(cast) = expr
                    && is_it(&cast.expr)
                {
                    found = Some(cast.field.data_type().clone());
                }
                Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
            })
        })
    });
    found
}

pub(crate) fn with_values(
    plan: LogicalPlan,
    values: Vec<ScalarValue>,
    arrays: &BTreeSet<String>,
) -> PgWireResult<LogicalPlan> {
    if values.is_empty() {
        return Ok(plan);
    }
    let mut plan = plan;
    for id in arrays {
        let Some(array) = number_of(id).and_then(|number| values.get(number - 1)) else { continue };
        let elements = parameters::elements(array)?;
        let listed = plan.transform_up_with_subqueries(|node| {
            node.map_expressions(|expr| expr.transform_up(|expr| Ok(in_list(expr, id, elements.as_deref()))))
        });
        plan = listed.map_err(problem::of_run)?.data;
    }
    let plan = plan.transform_up_with_subqueries(|node| keep_types(node, &values)).map_err(problem::of_run)?.data;
    plan.replace_params_with_values(&ParamValues::from(values)).map_err(problem::of_run)
}

/// The operand of the casts around it: a bigint parameter has one already.
fn cast_value(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Cast(cast) => cast_value(&cast.expr),
        other => Some(other),
    }
}

/// A value as a numeric with all its digits; `None` where it is NULL or no number.
fn as_numeric(value: &ScalarValue) -> Option<ScalarValue> {
    match value {
        ScalarValue::Decimal128(Some(_), ..) => Some(value.clone()),
        value if value.is_null() => None,
        ScalarValue::Utf8(Some(text)) => parameters::decimal(text).ok(),
        value if value.data_type().is_numeric() => parameters::decimal(&value.to_string()).ok(),
        _ => None,
    }
}

/// Gives parameters the types of their values: a bigint stays one, where a literal of its value would be an integer, and
/// `$1::numeric` keeps all digits, where the engine's numeric has ten decimals.
fn keep_types(node: LogicalPlan, values: &[ScalarValue]) -> datafusion::error::Result<Transformed<LogicalPlan>> {
    // LIMIT needs a literal.
    if matches!(node, LogicalPlan::Limit(_)) {
        return Ok(Transformed::no(node));
    }
    let value_of = |expr: &Expr| match expr {
        Expr::Placeholder(Placeholder { id, .. }) => number_of(id).and_then(|number| values.get(number - 1)),
        _ => None,
    };
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        let name = names.save(&expr);
        let kept = expr.transform_up(|expr| {
            if matches!(value_of(&expr), Some(ScalarValue::Int64(Some(_)))) {
                return Ok(Transformed::yes(Expr::Cast(Cast::new(Box::new(expr), DataType::Int64))));
            }
            if let Expr::Cast(cast) = &expr
                && *cast.field.data_type() == pg_types::engine_type(&Type::NUMERIC)
                && let Some(value) = cast_value(&cast.expr).and_then(value_of)
                && let Some(number) = as_numeric(value)
            {
                return Ok(Transformed::yes(Expr::Literal(number, None)));
            }
            Ok(Transformed::no(expr))
        })?;
        Ok(kept.update_data(|expr| name.restore(expr)))
    })
}

fn in_list(expr: Expr, id: &str, elements: Option<&[ScalarValue]>) -> Transformed<Expr> {
    let Expr::BinaryExpr(binary) = &expr else { return Transformed::no(expr) };
    let cast = match binary.right.as_ref() {
        Expr::Placeholder(Placeholder { id: name, .. }) if name == id => None,
        Expr::Cast(cast) => match cast.expr.as_ref() {
            Expr::Placeholder(Placeholder { id: name, .. }) if name == id => Some(cast.clone()),
            _ => return Transformed::no(expr),
        },
        _ => return Transformed::no(expr),
    };
    let negated = match binary.op {
        Operator::Eq => false,
        Operator::NotEq => true,
        _ => return Transformed::no(expr),
    };
    let boolean = |value| Expr::Literal(ScalarValue::Boolean(value), None);
    Transformed::yes(match elements {
        None => boolean(None),
        Some([]) => boolean(Some(negated)),
        Some(elements) => {
            let list = elements.iter().map(|value| {
                let literal = Expr::Literal(value.clone(), None);
                match &cast {
                    Some(cast) => {
                        let mut cast = cast.clone();
                        cast.expr = Box::new(literal);
                        Expr::Cast(cast)
                    }
                    None => literal,
                }
            });
            Expr::InList(InList { expr: binary.left.clone(), list: list.collect(), negated })
        }
    })
}
