//! Replaces subqueries in the expressions of a node by columns of its input.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType};
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::{bool_or, count};
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, Projection, Subquery, lit, when};
use datafusion::scalar::ScalarValue;

use super::super::subqueries::with_single_row;
use super::domain::Domain;
use super::free::free_columns;
use super::hidden_names::Names;
use super::shapes;

/// The kind of node that an expression belongs to: the engine can plan some subqueries only in some nodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place {
    Filter,
    Projection,
    Other,
}

impl Place {
    /// Whether the expression contains a subquery that the engine cannot plan here.
    pub(super) fn has_unsupported_query(self, expr: &Expr) -> bool {
        expr.exists(|part| Ok(self.is_unsupported_query(part))).unwrap_or(false)
    }

    fn is_unsupported_query(self, expr: &Expr) -> bool {
        match expr {
            Expr::ScalarSubquery(subquery) => {
                is_correlated(subquery) && (self == Place::Other || !shapes::is_plain_aggregate(&subquery.subquery))
            }
            Expr::Exists(exists) => self != Place::Filter || !is_plain(&exists.subquery),
            // The engine plans NOT IN as an anti join, which handles NULLs correctly only without other conditions.
            Expr::InSubquery(membership) => {
                let is_known =
                    is_plain(&membership.subquery) && !(membership.negated && is_correlated(&membership.subquery));
                self != Place::Filter || !is_known
            }
            _ => false,
        }
    }
}

fn is_plain(subquery: &Subquery) -> bool {
    !is_correlated(subquery) || shapes::is_plain_query(&subquery.subquery)
}

fn is_correlated(subquery: &Subquery) -> bool {
    shapes::is_correlated(&subquery.subquery)
}

/// The input of a node, with a column for each subquery that was replaced in the node's expressions.
pub(super) struct SubqueryColumns<'a> {
    /// The input, joined with the columns so far.
    pub(super) input: LogicalPlan,
    schema: Arc<DFSchema>,
    place: Place,
    names: &'a Names,
    replaced: usize,
}

impl<'a> SubqueryColumns<'a> {
    /// The input of a node of this kind, without added columns.
    pub(super) fn new(input: LogicalPlan, place: Place, names: &'a Names) -> SubqueryColumns<'a> {
        let schema = Arc::clone(input.schema());
        SubqueryColumns { input, schema, place, names, replaced: 0 }
    }

    /// Whether a column was added.
    pub(super) fn is_changed(&self) -> bool {
        self.replaced > 0
    }

    /// Replaces the unsupported subqueries of an expression by columns that are added to the input.
    ///
    /// # Errors
    /// If a subquery has a form that is not supported.
    pub(super) fn replace_subqueries(&mut self, expr: Expr) -> Result<Expr> {
        let place = self.place;
        let replaced = expr.transform_up(|part| {
            if !place.is_unsupported_query(&part) {
                return Ok(Transformed::no(part));
            }
            match part {
                Expr::ScalarSubquery(subquery) => {
                    let subquery = with_single_row(subquery)?;
                    let column = self.add_column(&subquery.subquery)?;
                    Ok(column.map_or_else(|| Transformed::no(Expr::ScalarSubquery(subquery)), Transformed::yes))
                }
                Expr::Exists(exists) => {
                    let rows = self.value_of(count_rows(&exists.subquery)?)?;
                    Ok(Transformed::yes(if exists.negated { rows.eq(lit(0_i64)) } else { rows.gt(lit(0_i64)) }))
                }
                Expr::InSubquery(membership) => {
                    let is_negated = membership.negated;
                    let found = self.value_of(self.membership(membership)?)?;
                    Ok(Transformed::yes(if is_negated { Expr::Not(Box::new(found)) } else { found }))
                }
                other => Ok(Transformed::no(other)),
            }
        })?;
        Ok(replaced.data)
    }

    /// A query of one row as an added column, or as a scalar subquery if it is not correlated with the input.
    fn value_of(&mut self, query: LogicalPlan) -> Result<Expr> {
        if let Some(column) = self.add_column(&query)? {
            return Ok(column);
        }
        let outer_ref_columns = query.all_out_ref_exprs();
        let subquery = Arc::new(query);
        Ok(Expr::ScalarSubquery(Subquery { subquery, outer_ref_columns, spans: Default::default() }))
    }

    fn add_column(&mut self, query: &LogicalPlan) -> Result<Option<Expr>> {
        let columns: Vec<Column> =
            free_columns(query)?.into_iter().filter(|column| self.schema.has_column(column)).collect();
        if columns.is_empty() {
            return Ok(None);
        }
        // Issuing a number also tells the rule that the plan has changed.
        let number = self.names.next();
        let domain = Domain::new(&self.input, columns, number)?;
        let answered = domain.join_with(query)?;
        let name = format!("__value_{number}");
        let mut columns = vec![Expr::Column(Column::from(answered.schema().qualified_field(0))).alias(&name)];
        columns.extend(domain.columns_in(answered.schema())?.into_iter().map(Expr::Column));
        let answered = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(answered))?);
        let matches = domain.matches(answered.schema())?;
        let input = std::mem::replace(&mut self.input, LogicalPlanBuilder::empty(false).build()?);
        // A left join, since the value is NULL for a row for which the query has no row.
        self.input = LogicalPlanBuilder::from(input).join_on(answered, JoinType::Left, matches)?.build()?;
        self.replaced += 1;
        Ok(Some(Expr::Column(Column::from_name(name))))
    }

    /// `x IN (SELECT v ...)` as a query of one row: true if a value is equal, else NULL if a comparison is NULL, else
    /// false.
    fn membership(&self, membership: InSubquery) -> Result<LogicalPlan> {
        let query = membership.subquery.subquery;
        let value = Expr::Column(Column::from(query.schema().qualified_field(0)));
        let outer = membership.expr.transform_up(|part| match part {
            Expr::Column(column) => {
                let field = Arc::clone(self.schema.qualified_field_from_column(&column)?.1);
                Ok(Transformed::yes(Expr::OuterReferenceColumn(field, column)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        let is_equal = outer.data.eq(value);
        let found = vec![bool_or(is_equal.clone()), bool_or(is_equal.is_null())];
        let found = Aggregate::try_new(query, Vec::new(), found)?;
        let [is_found, may_be] = [0, 1].map(|at| Expr::Column(Column::from(found.schema.qualified_field(at))));
        let answer = when(is_found, lit(true))
            .when(may_be, lit(ScalarValue::Boolean(None)))
            .otherwise(lit(false))?
            .alias("is_found");
        let found = Arc::new(LogicalPlan::Aggregate(found));
        Ok(LogicalPlan::Projection(Projection::try_new(vec![answer], found)?))
    }
}

fn count_rows(subquery: &Subquery) -> Result<LogicalPlan> {
    let counted = Aggregate::try_new(Arc::clone(&subquery.subquery), Vec::new(), vec![count(lit(1_i64))])?;
    Ok(LogicalPlan::Aggregate(counted))
}
