//! The values of outer columns for which a correlated query is evaluated, and the join of the query with them.

use std::sync::Arc;

use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType, NullEquality, not_impl_err, plan_datafusion_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr::Sort as SortExpr;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, Expr, ExprFunctionExt, FetchType, Filter, Join, Limit, LogicalPlan,
    LogicalPlanBuilder, Operator, Projection, SkipType, Subquery, SubqueryAlias, Union, Values, Window, binary_expr,
    cast, lit,
};
use datafusion::scalar::ScalarValue;

use super::super::null_safe::equal;
use super::free::{free_columns, subquery_of_mut};

/// The distinct values of the outer columns that a query refers to.
pub(super) struct Domain {
    /// The outer columns, and their names inside the query.
    columns: Vec<(Column, String)>,
    plan: LogicalPlan,
}

impl Domain {
    /// The values of `columns` in the outer plan; `number` makes their names unique.
    ///
    /// # Errors
    /// If the plan cannot be built.
    pub(super) fn new(outside: &LogicalPlan, columns: Vec<Column>, number: usize) -> Result<Domain> {
        let named = columns.into_iter().enumerate().map(|(at, column)| (column, format!("__outer_{number}_{at}")));
        let columns: Vec<(Column, String)> = named.collect();
        let values = columns.iter().map(|(column, name)| Expr::Column(column.clone()).alias(name));
        let plan = LogicalPlanBuilder::from(outside.clone()).project(values)?.distinct()?.build()?;
        Ok(Domain { columns, plan })
    }

    /// The query's rows for each value of the domain: the columns of the query, then those of the domain.
    ///
    /// # Errors
    /// If the query has a node that is not supported in a correlated query.
    pub(super) fn join_with(&self, query: &LogicalPlan) -> Result<LogicalPlan> {
        if !self.is_used_in(query)? {
            return self.cross_joined(query);
        }
        let joined = match query {
            LogicalPlan::Projection(node) => {
                let input = self.join_with(&node.input)?;
                let exprs = self.replace_all(&node.expr, &node.input, &input)?;
                self.project(exprs, input)?
            }
            LogicalPlan::Filter(node) => {
                let input = self.join_with(&node.input)?;
                let predicate = self.replace_outer(node.predicate.clone(), node.input.schema(), input.schema())?;
                LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(input))?)
            }
            LogicalPlan::SubqueryAlias(node) => {
                let input = Arc::new(self.join_with(&node.input)?);
                LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(input, node.alias.clone())?)
            }
            LogicalPlan::Subquery(node) => self.join_with(&node.subquery)?,
            LogicalPlan::Aggregate(node) => self.aggregate(node)?,
            // Without LIMIT the order has no effect.
            LogicalPlan::Sort(node) => self.join_with(&node.input)?,
            LogicalPlan::Limit(node) => self.limit(node)?,
            LogicalPlan::Distinct(Distinct::All(input)) => {
                LogicalPlan::Distinct(Distinct::All(Arc::new(self.join_with(input)?)))
            }
            LogicalPlan::Distinct(Distinct::On(node)) => self.distinct_on(node)?,
            LogicalPlan::Union(node) => {
                let inputs = node.inputs.iter().map(|input| self.join_with(input).map(Arc::new));
                LogicalPlan::Union(Union::try_new_with_loose_types(inputs.collect::<Result<Vec<_>>>()?)?)
            }
            LogicalPlan::Window(node) => self.window(node)?,
            LogicalPlan::Join(node) => self.join(node)?,
            LogicalPlan::Unnest(node) => {
                let input = LogicalPlanBuilder::from(self.join_with(&node.input)?);
                input.unnest_columns_with_options(node.exec_columns.clone(), node.options.clone())?.build()?
            }
            LogicalPlan::Values(node) => self.values(node)?,
            other => {
                let kind = other.display().to_string();
                let kind = kind.split([':', ' ']).next().unwrap_or_default();
                return not_impl_err!("a correlated subquery with {kind} in it");
            }
        };
        self.in_order(joined, query.schema())
    }

    /// The conditions that join an outer row with the rows of the query for its values.
    ///
    /// # Errors
    /// If `query` lacks the domain's columns.
    pub(super) fn matches(&self, query: &DFSchema) -> Result<Vec<Expr>> {
        let inside = self.columns_in(query)?;
        let pairs = self.columns.iter().zip(self.plan.schema().fields()).zip(inside);
        let equal = |((outside, field), inside): ((&(Column, String), &Arc<_>), Column)| {
            is_same(Expr::Column(outside.0.clone()), Expr::Column(inside), field)
        };
        pairs.map(equal).collect()
    }

    /// The domain's columns in a schema.
    ///
    /// # Errors
    /// If one is missing.
    pub(super) fn columns_in(&self, schema: &DFSchema) -> Result<Vec<Column>> {
        self.columns.iter().map(|(_, name)| column_named(schema, name)).collect()
    }

    fn own_columns(&self, schema: &DFSchema) -> Result<Vec<Expr>> {
        Ok(self.columns_in(schema)?.into_iter().map(Expr::Column).collect())
    }

    fn name_of(&self, column: &Column) -> Option<&str> {
        self.columns.iter().find(|(outside, _)| outside == column).map(|(_, name)| name.as_str())
    }

    fn is_used_in(&self, query: &LogicalPlan) -> Result<bool> {
        Ok(free_columns(query)?.iter().any(|column| self.name_of(column).is_some()))
    }

    fn cross_joined(&self, query: &LogicalPlan) -> Result<LogicalPlan> {
        if let LogicalPlan::EmptyRelation(empty) = query
            && empty.produce_one_row
            && empty.schema.fields().is_empty()
        {
            return Ok(self.plan.clone());
        }
        LogicalPlanBuilder::from(query.clone()).cross_join(self.plan.clone())?.build()
    }

    /// Puts the columns in the order that [`Domain::join_with`] promises.
    fn in_order(&self, plan: LogicalPlan, own: &DFSchema) -> Result<LogicalPlan> {
        let mut columns = own.columns();
        columns.extend(self.columns_in(plan.schema())?);
        if plan.schema().columns() == columns {
            return Ok(plan);
        }
        let columns = columns.into_iter().map(Expr::Column).collect();
        Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?))
    }

    fn project(&self, mut exprs: Vec<Expr>, input: LogicalPlan) -> Result<LogicalPlan> {
        exprs.extend(self.own_columns(input.schema())?);
        Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?))
    }

    fn replace_all(&self, exprs: &[Expr], before: &LogicalPlan, input: &LogicalPlan) -> Result<Vec<Expr>> {
        let inside = |expr: &Expr| self.replace_outer(expr.clone(), before.schema(), input.schema());
        exprs.iter().map(inside).collect()
    }

    fn replace_in_sorts(&self, sorts: &[SortExpr], before: &DFSchema, input: &DFSchema) -> Result<Vec<SortExpr>> {
        let inside = |sort: &SortExpr| {
            let expr = self.replace_outer(sort.expr.clone(), before, input)?;
            Ok(SortExpr { expr, ..*sort })
        };
        sorts.iter().map(inside).collect()
    }

    /// Replaces the outer columns in an expression by the domain's columns; the expression keeps its name.
    fn replace_outer(&self, expr: Expr, before: &DFSchema, input: &DFSchema) -> Result<Expr> {
        let name = expr.qualified_name();
        let changed = expr.transform_up(|mut part| {
            if let Expr::OuterReferenceColumn(_, column) = &part
                && let Some(name) = self.name_of(column)
            {
                return Ok(Transformed::yes(Expr::Column(column_named(input, name)?)));
            }
            if let Some(subquery) = subquery_of_mut(&mut part) {
                *subquery = self.rename_in_subquery(subquery, &[before], input)?;
                return Ok(Transformed::yes(part));
            }
            Ok(Transformed::no(part))
        })?;
        Ok(match changed.data {
            same if same.qualified_name() == name => same,
            other => other.alias_qualified(name.0, name.1),
        })
    }

    /// Makes a subquery of the query refer to the domain's columns instead of the outer ones.
    fn rename_in_subquery(&self, subquery: &Subquery, nearer: &[&DFSchema], input: &DFSchema) -> Result<Subquery> {
        let plan = self.rename_in_plan(subquery.subquery.as_ref().clone(), nearer, input)?;
        let outer_ref_columns = plan.all_out_ref_exprs();
        Ok(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: subquery.spans.clone() })
    }

    fn rename_in_plan(&self, plan: LogicalPlan, nearer: &[&DFSchema], input: &DFSchema) -> Result<LogicalPlan> {
        let plan = plan.map_children(|child| self.rename_in_plan(child, nearer, input).map(Transformed::yes))?.data;
        let own = merge_schema(&plan.inputs());
        let mut within = nearer.to_vec();
        within.push(&own);
        let changed = plan.map_expressions(|expr| {
            expr.transform_up(|mut part| {
                if let Expr::OuterReferenceColumn(field, column) = &part
                    && !nearer.iter().any(|schema| schema.has_column(column))
                    && let Some(name) = self.name_of(column)
                {
                    let renamed = Expr::OuterReferenceColumn(Arc::clone(field), column_named(input, name)?);
                    return Ok(Transformed::yes(renamed));
                }
                if let Some(subquery) = subquery_of_mut(&mut part) {
                    *subquery = self.rename_in_subquery(subquery, &within, input)?;
                    return Ok(Transformed::yes(part));
                }
                Ok(Transformed::no(part))
            })
        })?;
        Ok(changed.data)
    }

    /// Groups also by the domain's columns. An aggregate without GROUP BY returns a row for each value of the domain,
    /// also if there are no rows for it.
    fn aggregate(&self, node: &Aggregate) -> Result<LogicalPlan> {
        let input = self.join_with(&node.input)?;
        let mut groups = self.own_columns(input.schema())?;
        groups.extend(self.replace_all(&node.group_expr, &node.input, &input)?);
        let values = self.replace_all(&node.aggr_expr, &node.input, &input)?;
        let grouped = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), groups, values)?);
        if !node.group_expr.is_empty() {
            return Ok(grouped);
        }
        let inner = |name: &str| format!("{name}_of_rows");
        let own = node.schema.columns();
        let mut columns: Vec<Expr> = own.iter().cloned().map(Expr::Column).collect();
        for (_, name) in &self.columns {
            columns.push(Expr::Column(column_named(grouped.schema(), name)?).alias(inner(name)));
        }
        let grouped = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(grouped))?);
        let pairs = self.columns.iter().zip(self.plan.schema().fields()).map(|((_, name), field)| {
            let of_rows = Column::from_name(inner(name));
            is_same(Expr::Column(Column::from_name(name)), Expr::Column(of_rows), field)
        });
        let pairs = pairs.collect::<Result<Vec<Expr>>>()?;
        let all = LogicalPlanBuilder::from(self.plan.clone()).join_on(grouped, JoinType::Left, pairs)?.build()?;
        let values =
            own.into_iter().zip(&node.aggr_expr).map(|(column, call)| value_without_rows(column, call, &node.schema));
        self.project(values.collect::<Result<Vec<Expr>>>()?, all)
    }

    /// LIMIT and OFFSET for each value of the domain.
    fn limit(&self, node: &Limit) -> Result<LogicalPlan> {
        let (SkipType::Literal(skip), FetchType::Literal(fetch)) = (node.get_skip_type()?, node.get_fetch_type()?)
        else {
            return not_impl_err!("a LIMIT that is not a constant, in a correlated subquery");
        };
        self.first_rows(&node.input, skip, fetch)
    }

    fn first_rows(&self, plan: &LogicalPlan, skip: usize, fetch: Option<usize>) -> Result<LogicalPlan> {
        let (input, order) = match plan {
            LogicalPlan::Projection(node) if is_ordered(&node.input) => {
                let input = self.first_rows(&node.input, skip, fetch)?;
                let exprs = self.replace_all(&node.expr, &node.input, &input)?;
                return self.project(exprs, input);
            }
            LogicalPlan::SubqueryAlias(node) if is_ordered(&node.input) => {
                let input = Arc::new(self.first_rows(&node.input, skip, fetch)?);
                return Ok(LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(input, node.alias.clone())?));
            }
            LogicalPlan::Sort(node) => {
                let input = self.join_with(&node.input)?;
                let order = self.replace_in_sorts(&node.expr, node.input.schema(), input.schema())?;
                (input, order)
            }
            LogicalPlan::Distinct(Distinct::On(node)) => (self.join_with(plan)?, order_of_distinct(node)?),
            other => (self.join_with(other)?, Vec::new()),
        };
        let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
        let by = self.own_columns(input.schema())?;
        let name = format!("{}_row", self.columns[0].1);
        let number = row_number().partition_by(by);
        let number = if order.is_empty() { number } else { number.order_by(order) };
        let number = number.build()?.alias(&name);
        let numbered = LogicalPlan::Window(Window::try_new(vec![number], Arc::new(input))?);
        let number = || Expr::Column(Column::from_name(&name));
        let count = |rows: usize| lit(ScalarValue::UInt64(Some(rows as u64)));
        let mut wanted = number().gt(count(skip));
        if let Some(fetch) = fetch {
            wanted = wanted.and(number().lt_eq(count(skip.saturating_add(fetch))));
        }
        let filtered = LogicalPlan::Filter(Filter::try_new(wanted, Arc::new(numbered))?);
        Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(filtered))?))
    }

    fn distinct_on(&self, node: &DistinctOn) -> Result<LogicalPlan> {
        let input = self.join_with(&node.input)?;
        let own = self.own_columns(input.schema())?;
        let with_own = |exprs: Vec<Expr>| own.iter().cloned().chain(exprs).collect::<Vec<Expr>>();
        let on = with_own(self.replace_all(&node.on_expr, &node.input, &input)?);
        let mut selected = self.replace_all(&node.select_expr, &node.input, &input)?;
        selected.extend(own.iter().cloned());
        let order = node.sort_expr.as_ref().map(|sorts| {
            let mut order: Vec<SortExpr> = own.iter().map(|column| column.clone().sort(true, false)).collect();
            order.extend(self.replace_in_sorts(sorts, node.input.schema(), input.schema())?);
            Ok::<_, DataFusionError>(order)
        });
        let distinct = DistinctOn::try_new(on, selected, order.transpose()?, Arc::new(input.clone()))?;
        Ok(LogicalPlan::Distinct(Distinct::On(distinct)))
    }

    fn window(&self, node: &Window) -> Result<LogicalPlan> {
        let input = self.join_with(&node.input)?;
        let own = self.own_columns(input.schema())?;
        let calls = self.replace_all(&node.window_expr, &node.input, &input)?.into_iter().map(|call| {
            let name = call.qualified_name();
            let partitioned = call.transform_up(|part| match part {
                Expr::WindowFunction(mut function) => {
                    function.params.partition_by.extend(own.iter().cloned());
                    Ok(Transformed::yes(Expr::WindowFunction(function)))
                }
                other => Ok(Transformed::no(other)),
            })?;
            Ok(partitioned.data.alias_qualified(name.0, name.1))
        });
        let calls = calls.collect::<Result<Vec<Expr>>>()?;
        Ok(LogicalPlan::Window(Window::try_new(calls, Arc::new(input))?))
    }

    fn join(&self, node: &Join) -> Result<LogicalPlan> {
        let (is_left, is_right) = (self.is_used_in(&node.left)?, self.is_used_in(&node.right)?);
        // The preserved side of an outer join must have the domain's columns.
        let kept = match node.join_type {
            JoinType::Inner => (is_left || !is_right, is_right),
            JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti => (true, is_right),
            JoinType::Right if !is_left => (false, true),
            other => {
                let kind = other.to_string().to_uppercase();
                return not_impl_err!("{kind} JOIN in a correlated subquery");
            }
        };
        let left = if kept.0 { self.join_with(&node.left)? } else { node.left.as_ref().clone() };
        let mut right = if kept.1 { self.join_with(&node.right)? } else { node.right.as_ref().clone() };
        let mut conditions: Vec<Expr> = Vec::new();
        if kept == (true, true) {
            let other = |name: &str| format!("{name}_again");
            let mut columns: Vec<Expr> = node.right.schema().columns().into_iter().map(Expr::Column).collect();
            for (_, name) in &self.columns {
                columns.push(Expr::Column(column_named(right.schema(), name)?).alias(other(name)));
            }
            right = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(right))?);
            for ((_, name), field) in self.columns.iter().zip(self.plan.schema().fields()) {
                let left = Expr::Column(column_named(left.schema(), name)?);
                conditions.push(is_same(left, Expr::Column(Column::from_name(other(name))), field)?);
            }
        }
        let both = left.schema().join(right.schema())?;
        let before = node.left.schema().join(node.right.schema())?;
        for (left, right) in &node.on {
            // EXCEPT and INTERSECT join with equal NULLs.
            let operator = match node.null_equality {
                NullEquality::NullEqualsNothing => Operator::Eq,
                NullEquality::NullEqualsNull => Operator::IsNotDistinctFrom,
            };
            conditions.push(self.replace_outer(binary_expr(left.clone(), operator, right.clone()), &before, &both)?);
        }
        if let Some(filter) = &node.filter {
            conditions.push(self.replace_outer(filter.clone(), &before, &both)?);
        }
        LogicalPlanBuilder::from(left).join_on(right, node.join_type, conditions)?.build()
    }

    /// Rewrites `VALUES (o.a), (o.b)` as a union of one query for each row.
    fn values(&self, node: &Values) -> Result<LogicalPlan> {
        let empty = DFSchema::empty();
        let rows = node.values.iter().map(|row| {
            let exprs = row.iter().zip(node.schema.fields()).map(|(value, field)| {
                let value = self.replace_outer(value.clone(), &empty, self.plan.schema())?.unalias();
                Ok(cast(value, field.data_type().clone()).alias(field.name()))
            });
            self.project(exprs.collect::<Result<Vec<Expr>>>()?, self.plan.clone()).map(Arc::new)
        });
        let mut rows = rows.collect::<Result<Vec<_>>>()?;
        match rows.len() {
            1 => Ok(Arc::unwrap_or_clone(rows.remove(0))),
            _ => Ok(LogicalPlan::Union(Union::try_new_with_loose_types(rows)?)),
        }
    }
}

fn column_named(schema: &DFSchema, name: &str) -> Result<Column> {
    let found = schema.iter().find(|(_, field)| field.name() == name);
    found
        .map(Column::from)
        .ok_or_else(|| plan_datafusion_err!("the outer column {name} is missing in a correlated subquery"))
}

fn is_ordered(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(node) => is_ordered(&node.input),
        LogicalPlan::SubqueryAlias(node) => is_ordered(&node.input),
        _ => false,
    }
}

/// The order of DISTINCT ON, by the columns that it selects.
fn order_of_distinct(node: &DistinctOn) -> Result<Vec<SortExpr>> {
    let own = |sort: &SortExpr| {
        let at = node.select_expr.iter().position(|expr| expr.clone().unalias() == sort.expr.clone().unalias());
        match at {
            Some(at) => Ok(SortExpr { expr: Expr::Column(Column::from(node.schema.qualified_field(at))), ..*sort }),
            None => not_impl_err!(
                "LIMIT above DISTINCT ON that is ordered by what it does not select, in a correlated subquery"
            ),
        }
    };
    node.sort_expr.iter().flatten().map(own).collect()
}

/// The value of an aggregate, or its value without rows (0 for a count) if the join found none.
fn value_without_rows(column: Column, call: &Expr, schema: &DFSchema) -> Result<Expr> {
    let value = Expr::Column(column.clone());
    let Expr::AggregateFunction(call) = call.clone().unalias() else { return Ok(value) };
    let default = call.func.default_value(schema.qualified_field_from_column(&column)?.1.data_type())?;
    if default.is_null() {
        return Ok(value);
    }
    Ok(coalesce(vec![value, lit(default)]).alias_qualified(column.relation, column.name))
}

fn is_same(left: Expr, right: Expr, field: &FieldRef) -> Result<Expr> {
    equal(left, right, field.data_type(), field.is_nullable())
}
