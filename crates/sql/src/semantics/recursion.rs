//! `WITH RECURSIVE`: the recursive term reads and returns rows of the types of the first term.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, plan_err};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::Result;
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Projection, RecursiveQuery, TableScan, cast,
};

use super::numeric::SCALE;

/// Rewrites both terms by `rewrite_plan`, and casts the columns of the recursive term to the types of the first.
///
/// # Errors
/// If a column has types of different kinds in the two terms.
pub(super) fn rewrite(
    query: RecursiveQuery,
    rewrite_plan: &dyn Fn(LogicalPlan) -> Result<LogicalPlan>,
) -> Result<LogicalPlan> {
    let planned = without_planned_types(query.recursive_term.as_ref().clone(), &query.static_term)?;
    let first = rewrite_plan(query.static_term.as_ref().clone())?;
    // A numeric column keeps its scale, or gets that of a quotient if the recursive term has more decimals.
    for scale in [0, SCALE] {
        let first = with_scale(first.clone(), scale)?;
        let term = with_input_types(planned.clone(), &query.name, first.schema())?;
        let next = rewrite_plan(term)?;
        if scale == SCALE || !loses_digits(first.schema(), next.schema()) {
            let next = cast_to_types(next, first.schema(), &query.name)?;
            let query = RecursiveQuery::try_new(query.name, Arc::new(first), Arc::new(next), query.is_distinct)?;
            return Ok(LogicalPlan::RecursiveQuery(query));
        }
    }
    plan_err!("the column types of the recursive term of {:?} cannot be determined", query.name)
}

/// Removes the casts of the planner from the recursive term: it casts numerics to the types of literals in the first
/// term, whose precision and scale are only those of the literals.
fn without_planned_types(term: LogicalPlan, first: &LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Projection(projection) = term else { return Ok(term) };
    let (types, input) = (first.schema(), projection.input.schema());
    let exprs = projection.expr.into_iter().enumerate().map(|(at, expr)| {
        let name = expr.qualified_name();
        let planned = match expr.clone().unalias() {
            Expr::Cast(planned)
                if planned.field.data_type() == types.field(at).data_type() && is_literal(first, at) =>
            {
                planned
            }
            _ => return Ok(expr),
        };
        match (planned.field.data_type(), planned.expr.get_type(input)?) {
            (DataType::Decimal128(..), _) => Ok(planned.expr.alias_qualified(name.0, name.1)),
            (DataType::Int64, own @ (DataType::Decimal128(..) | DataType::Float64 | DataType::Float32)) => plan_err!(
                "recursive query: column {:?} is an integer in the first term but {own} in the recursive one; \
                 cast it in the first",
                name.1
            ),
            _ => Ok(expr),
        }
    });
    let exprs = exprs.collect::<Result<Vec<Expr>>>()?;
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, projection.input)?))
}

fn is_literal(plan: &LogicalPlan, at: usize) -> bool {
    match plan {
        LogicalPlan::Projection(node) => match node.expr[at].clone().unalias() {
            Expr::Literal(..) => true,
            Expr::Column(column) => {
                node.input.schema().maybe_index_of_column(&column).is_some_and(|at| is_literal(&node.input, at))
            }
            _ => false,
        },
        LogicalPlan::SubqueryAlias(node) => is_literal(&node.input, at),
        LogicalPlan::Values(_) => true,
        _ => false,
    }
}

/// Casts the numeric columns to a scale of at least `least` and 38 digits.
fn with_scale(plan: LogicalPlan, least: i8) -> Result<LogicalPlan> {
    if !plan.schema().fields().iter().any(|field| matches!(field.data_type(), DataType::Decimal128(..))) {
        return Ok(plan);
    }
    let columns = plan.schema().iter().map(|(qualifier, field)| {
        let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
        match field.data_type() {
            DataType::Decimal128(_, scale) => {
                let wide = DataType::Decimal128(38, (*scale).max(least));
                cast(column, wide).alias_qualified(qualifier.cloned(), field.name())
            }
            _ => column,
        }
    });
    let columns = columns.collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?))
}

fn loses_digits(first: &DFSchema, next: &DFSchema) -> bool {
    first.fields().iter().zip(next.fields()).any(|(first, next)| match (first.data_type(), next.data_type()) {
        (DataType::Decimal128(_, first), DataType::Decimal128(_, next)) => next > first,
        _ => false,
    })
}

/// The recursive term with a work table whose columns have these types.
fn with_input_types(term: LogicalPlan, name: &str, types: &DFSchema) -> Result<LogicalPlan> {
    let read = term.transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = &node else { return Ok(Transformed::no(node)) };
        match scan_of(scan, name, types)? {
            Some(scan) => Ok(Transformed::yes(scan)),
            None => Ok(Transformed::no(node)),
        }
    })?;
    Ok(read.data)
}

fn scan_of(scan: &TableScan, name: &str, types: &DFSchema) -> Result<Option<LogicalPlan>> {
    let Ok(provider) = source_as_provider(&scan.source) else { return Ok(None) };
    let Some(table) = provider.downcast_ref::<CteWorkTable>().filter(|table| table.name() == name) else {
        return Ok(None);
    };
    let schema = table.schema();
    let fields = schema.fields().iter().zip(types.fields());
    let fields: Vec<Field> =
        fields.map(|(own, typed)| Field::new(own.name(), typed.data_type().clone(), true)).collect();
    let table = CteWorkTable::new(name, Arc::new(Schema::new(fields)));
    let source = provider_as_source(Arc::new(table));
    LogicalPlanBuilder::scan(scan.table_name.clone(), source, scan.projection.clone())?.build().map(Some)
}

/// Casts the columns of the recursive term to the types of the first term.
fn cast_to_types(term: LogicalPlan, types: &DFSchema, name: &str) -> Result<LogicalPlan> {
    let mut columns = Vec::new();
    for ((qualifier, field), wanted) in term.schema().iter().zip(types.fields()) {
        let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
        let (own, wanted_type) = (field.data_type(), wanted.data_type());
        if own == wanted_type {
            columns.push(column);
        } else if is_same_kind(own, wanted_type) {
            columns.push(cast(column, wanted_type.clone()).alias_qualified(qualifier.cloned(), field.name()));
        } else {
            return plan_err!(
                "recursive query {name:?}: column {:?} is {wanted_type} in the first term but {own} in the recursive \
                 one; cast it in the first",
                wanted.name()
            );
        }
    }
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(term))?))
}

fn is_same_kind(own: &DataType, wanted: &DataType) -> bool {
    let both = |kind: fn(&DataType) -> bool| kind(own) && kind(wanted);
    own.is_null()
        || both(DataType::is_integer)
        || both(DataType::is_string)
        || both(DataType::is_floating)
        || (own.is_integer() && (wanted.is_floating() || matches!(wanted, DataType::Decimal128(..))))
        || both(|data_type| matches!(data_type, DataType::Decimal128(..)))
        || both(|data_type| matches!(data_type, DataType::List(_)))
        || matches!(
            (own, wanted),
            (DataType::Timestamp(_, own), DataType::Timestamp(_, wanted)) if own.is_some() == wanted.is_some()
        )
}
