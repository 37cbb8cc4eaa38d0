//! Rewrites correlated subqueries that the engine cannot plan: `LATERAL`, correlation by other conditions than
//! equality, `EXISTS` and `IN` outside of WHERE.
//!
//! Each runs once, for all values of the outer columns, instead of once for each outer row (Neumann and Kemper,
//! "Unnesting arbitrary queries", BTW 2015). The distinct values of the outer columns that it uses are a relation, the
//! [`Domain`]. It is joined inside the subquery where those columns are used, and its columns become columns of the
//! result. The result is joined with the outer query by them.

mod domain;
mod free;
mod hidden_names;
mod shapes;
mod subquery_columns;

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, Join, LogicalPlan, LogicalPlanBuilder, Projection, SubqueryAlias};
use datafusion::optimizer::AnalyzerRule;

use domain::Domain;
use free::free_columns;
use hidden_names::Names;
use subquery_columns::{Place, SubqueryColumns};

/// The most passes, one for each level of nesting; the engine refuses deeper queries.
const LEVELS_MAX: usize = 20;

/// The analyzer rule.
#[derive(Debug)]
pub(super) struct CorrelatedQueries;

impl AnalyzerRule for CorrelatedQueries {
    fn name(&self) -> &str {
        "correlated_queries"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let names = Names::default();
        let mut plan = plan;
        // A query that refers to columns two levels up refers to the next level after the first pass.
        for _ in 0..LEVELS_MAX {
            let before = names.issued();
            plan = rewrite(plan, &names)?;
            if names.issued() == before {
                break;
            }
        }
        Ok(plan)
    }
}

/// Rewrites a plan, which keeps its columns.
fn rewrite(plan: LogicalPlan, names: &Names) -> Result<LogicalPlan> {
    let plan = plan.map_children(|input| rewrite(input, names).map(Transformed::yes))?.data;
    let plan = plan.map_subqueries(|query| rewrite(query, names).map(Transformed::yes))?.data;
    match plan {
        LogicalPlan::Join(join) => rewrite_lateral(join, names),
        LogicalPlan::Filter(filter) => rewrite_filter(filter, names),
        plan @ (LogicalPlan::Projection(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Window(_)) => rewrite_expressions(plan, names),
        other => Ok(other),
    }
}

/// Rewrites `l, LATERAL r` as a join of `l` with the rows of `r` for all values of `l`.
fn rewrite_lateral(join: Join, names: &Names) -> Result<LogicalPlan> {
    let Some(query) = lateral_query(&join.right)? else { return Ok(LogicalPlan::Join(join)) };
    let left = join.left.as_ref().clone();
    let columns: Vec<Column> =
        free_columns(&query)?.into_iter().filter(|column| left.schema().has_column(column)).collect();
    if columns.is_empty() {
        return Ok(LogicalPlan::Join(Join { right: Arc::new(query), ..join }));
    }
    let domain = Domain::new(&join.left, columns, names.next())?;
    let right = domain.join_with(&query)?;
    let mut conditions = domain.matches(right.schema())?;
    conditions.extend(join.on.into_iter().map(|(left, right)| left.eq(right)));
    conditions.extend(join.filter);
    let joined = LogicalPlanBuilder::from(left).join_on(right, join.join_type, conditions)?.build()?;
    // The projection removes the domain's columns.
    let columns = join.schema.columns().into_iter().map(Expr::Column).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(joined))?))
}

fn lateral_query(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    Ok(match plan {
        LogicalPlan::Subquery(subquery) => Some(subquery.subquery.as_ref().clone()),
        LogicalPlan::SubqueryAlias(alias) => match lateral_query(&alias.input)? {
            Some(query) => {
                Some(LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(query), alias.alias.clone())?))
            }
            None => None,
        },
        _ => None,
    })
}

/// Rewrites a filter. Conditions without subqueries are applied first, so that the domain has fewer values.
fn rewrite_filter(filter: Filter, names: &Names) -> Result<LogicalPlan> {
    let place = Place::Filter;
    let (correlated, plain): (Vec<Expr>, Vec<Expr>) = split_conjunction_owned(filter.predicate.clone())
        .into_iter()
        .partition(|part| place.has_unsupported_query(part));
    let Some(correlated) = conjunction(correlated) else { return Ok(LogicalPlan::Filter(filter)) };
    let mut input = filter.input;
    if let Some(plain) = conjunction(plain) {
        input = Arc::new(LogicalPlan::Filter(Filter::try_new(plain, input)?));
    }
    let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let mut values = SubqueryColumns::new(input.as_ref().clone(), place, names);
    let predicate = values.replace_subqueries(correlated)?;
    if !values.is_changed() {
        return Ok(LogicalPlan::Filter(Filter::try_new(predicate, input)?));
    }
    let filtered = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(values.input))?);
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(filtered))?))
}

/// Rewrites the subqueries in the expressions of a projection, aggregate, sort or window.
fn rewrite_expressions(plan: LogicalPlan, names: &Names) -> Result<LogicalPlan> {
    let place = if matches!(plan, LogicalPlan::Projection(_)) { Place::Projection } else { Place::Other };
    if !plan.expressions().iter().any(|expr| place.has_unsupported_query(expr)) {
        return Ok(plan);
    }
    let [input] = plan.inputs()[..] else { return Ok(plan) };
    let mut values = SubqueryColumns::new(input.clone(), place, names);
    let expressions = plan.expressions().into_iter();
    let expressions = expressions
        .map(|expr| {
            let name = expr.qualified_name();
            let taken = values.replace_subqueries(expr)?;
            // The output columns keep their names.
            Ok(match plan {
                LogicalPlan::Sort(_) => taken,
                _ if taken.qualified_name() == name => taken,
                _ => taken.alias_qualified(name.0, name.1),
            })
        })
        .collect::<Result<Vec<Expr>>>()?;
    let columns: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
    let changed = plan.with_new_exprs(expressions, vec![values.input])?;
    match changed {
        LogicalPlan::Sort(_) | LogicalPlan::Window(_) => {
            Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(changed))?))
        }
        other => Ok(other),
    }
}
