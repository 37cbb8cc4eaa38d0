//! Queries that take columns of the query around them, where the engine has no plan for them: `LATERAL`, values chosen
//! by other than equality, `EXISTS` and `IN` outside WHERE.
//!
//! Each is run once, for all values that it is asked for, instead of once a row (Neumann and Kemper, "Unnesting arbitrary
//! queries", BTW 2015): the distinct values of the columns that it takes are a table of their own, the [`Domain`], which
//! goes down to where they are used, and its columns come up with the rows that belong to them. What comes up is joined
//! with the query around it by those columns.

mod domain;
mod free;
mod shapes;
mod values;

use std::cell::Cell;
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
use values::{Place, Values};

/// Queries in one another; deeper ones the engine refuses.
const LEVELS_MAX: usize = 20;

#[derive(Debug)]
pub(super) struct CorrelatedQueries;

impl AnalyzerRule for CorrelatedQueries {
    fn name(&self) -> &str {
        "correlated_queries"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let names = Names::default();
        let mut plan = plan;
        // A query that takes columns from two levels up takes them from the next one after the first pass.
        for _ in 0..LEVELS_MAX {
            let before = names.given();
            plan = rewritten(plan, &names)?;
            if names.given() == before {
                break;
            }
        }
        Ok(plan)
    }
}

/// Numbers for the names of columns that queries do not see.
#[derive(Default)]
struct Names {
    last: Cell<usize>,
}

impl Names {
    fn next(&self) -> usize {
        self.last.set(self.last.get() + 1);
        self.last.get()
    }

    fn given(&self) -> usize {
        self.last.get()
    }
}

/// The plan with the same columns.
fn rewritten(plan: LogicalPlan, names: &Names) -> Result<LogicalPlan> {
    let plan = plan.map_children(|input| rewritten(input, names).map(Transformed::yes))?.data;
    let plan = plan.map_subqueries(|query| rewritten(query, names).map(Transformed::yes))?.data;
    match plan {
        LogicalPlan::Join(join) => lateral(join, names),
        LogicalPlan::Filter(filter) => filtered(filter, names),
        plan @ (LogicalPlan::Projection(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Window(_)) => with_values(plan, names),
        other => Ok(other),
    }
}

/// `l, LATERAL r`: `l` joined with what `r` is for all values of `l`.
fn lateral(join: Join, names: &Names) -> Result<LogicalPlan> {
    let Some(query) = lateral_query(&join.right)? else { return Ok(LogicalPlan::Join(join)) };
    let left = join.left.as_ref().clone();
    let columns: Vec<Column> =
        free_columns(&query)?.into_iter().filter(|column| left.schema().has_column(column)).collect();
    if columns.is_empty() {
        return Ok(LogicalPlan::Join(Join { right: Arc::new(query), ..join }));
    }
    let domain = Domain::new(&join.left, columns, names.next())?;
    let right = domain.joined(&query)?;
    let mut conditions = domain.matches(right.schema())?;
    conditions.extend(join.on.into_iter().map(|(left, right)| left.eq(right)));
    conditions.extend(join.filter);
    let joined = LogicalPlanBuilder::from(left).join_on(right, join.join_type, conditions)?.build()?;
    // Without the domain's columns.
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

/// What needs no query is filtered before, so that the queries are asked for fewer values.
fn filtered(filter: Filter, names: &Names) -> Result<LogicalPlan> {
    let place = Place::Filter;
    let (asking, plain): (Vec<Expr>, Vec<Expr>) =
        split_conjunction_owned(filter.predicate.clone()).into_iter().partition(|part| place.has_values(part));
    let Some(asking) = conjunction(asking) else { return Ok(LogicalPlan::Filter(filter)) };
    let mut input = filter.input;
    if let Some(plain) = conjunction(plain) {
        input = Arc::new(LogicalPlan::Filter(Filter::try_new(plain, input)?));
    }
    let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let mut values = Values::new(input.as_ref().clone(), place, names);
    let predicate = values.taken_from(asking)?;
    if !values.is_changed() {
        return Ok(LogicalPlan::Filter(Filter::try_new(predicate, input)?));
    }
    let filtered = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(values.input))?);
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(filtered))?))
}

fn with_values(plan: LogicalPlan, names: &Names) -> Result<LogicalPlan> {
    let place = if matches!(plan, LogicalPlan::Projection(_)) { Place::Projection } else { Place::Other };
    if !plan.expressions().iter().any(|expr| place.has_values(expr)) {
        return Ok(plan);
    }
    let [input] = plan.inputs()[..] else { return Ok(plan) };
    let mut values = Values::new(input.clone(), place, names);
    let expressions = plan.expressions().into_iter();
    let expressions = expressions
        .map(|expr| {
            let name = expr.qualified_name();
            let taken = values.taken_from(expr)?;
            // A column of the output has the name that it had.
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
