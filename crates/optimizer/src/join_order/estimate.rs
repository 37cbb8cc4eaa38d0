//! Estimates of how many rows a plan returns, and how many distinct values its columns have: from the statistics of
//! tables, with the usual guesses where these are incomplete.

use std::collections::HashMap;

use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, ScalarValue};
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::{BinaryExpr, Expr, JoinType, LogicalPlan, Operator, TableScan};

/// The share of rows that meet a condition, by its kind, where nothing is known of the values.
const EQUAL: f64 = 0.1;
const NULL: f64 = 0.05;
const LIKE: f64 = 0.1;
const OTHER: f64 = 0.3;

/// The estimate of a plan's rows.
#[derive(Debug, Clone)]
pub(super) struct Estimate {
    /// The rows that the plan returns, at least 1.
    pub(super) rows: f64,
    /// The rows before filters.
    pub(super) rows_total: f64,
    columns: HashMap<Column, Values>,
}

#[derive(Debug, Clone, Copy)]
struct Values {
    distinct: f64,
    /// The smallest and the greatest value.
    range: Option<(f64, f64)>,
}

impl Estimate {
    /// The estimate of a plan; `None` where a table has no statistics, or the plan has an operator that is not covered.
    pub(super) fn of(plan: &LogicalPlan) -> Option<Estimate> {
        match plan {
            LogicalPlan::TableScan(scan) => Estimate::of_scan(scan),
            LogicalPlan::Filter(filter) => Some(Estimate::of(&filter.input)?.filtered(&filter.predicate)),
            LogicalPlan::SubqueryAlias(alias) => {
                let input = Estimate::of(&alias.input)?;
                let pairs = alias.input.schema().iter().zip(alias.schema.iter());
                Some(input.renamed(pairs.map(|(from, to)| (Column::from(from), Column::from(to)))))
            }
            LogicalPlan::Projection(projection) => {
                let input = Estimate::of(&projection.input)?;
                let plain = projection.expr.iter().zip(projection.schema.iter());
                Some(input.renamed(plain.filter_map(|(expr, to)| Some((column(expr)?.clone(), Column::from(to))))))
            }
            LogicalPlan::Aggregate(aggregate) => {
                let input = Estimate::of(&aggregate.input)?;
                let groups: f64 = aggregate.group_expr.iter().map(|group| input.distinct(group)).product();
                let pairs = aggregate.group_expr.iter().zip(aggregate.schema.iter());
                let rows = groups.min(input.rows);
                let grouped = input.renamed(pairs.filter_map(|(expr, to)| Some((column(expr)?.clone(), to.into()))));
                Some(grouped.with_rows(rows))
            }
            LogicalPlan::Join(join) => {
                let (left, right) = (Estimate::of(&join.left)?, Estimate::of(&join.right)?);
                let pairs = join.on.iter().map(|(one, other)| left.distinct(one).max(right.distinct(other)));
                let inner = left.rows * right.rows / pairs.fold(1.0, f64::max);
                let rows = match join.join_type {
                    JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => left.rows,
                    JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => right.rows,
                    JoinType::Inner => inner,
                    JoinType::Left => inner.max(left.rows),
                    JoinType::Right => inner.max(right.rows),
                    JoinType::Full => inner.max(left.rows).max(right.rows),
                };
                let mut both = left;
                both.columns.extend(right.columns);
                Some(both.with_rows(rows))
            }
            LogicalPlan::Sort(sort) => Estimate::of(&sort.input),
            LogicalPlan::Distinct(distinct) => Estimate::of(distinct.input()),
            LogicalPlan::Window(window) => Estimate::of(&window.input),
            _ => None,
        }
    }

    fn of_scan(scan: &TableScan) -> Option<Estimate> {
        let table = source_as_provider(&scan.source).ok()?;
        let statistics = table.statistics()?;
        let rows = *statistics.num_rows.get_value()? as f64;
        let schema = table.schema();
        let values = schema.fields().iter().zip(&statistics.column_statistics).filter_map(|(field, of)| {
            Some((Column::new(Some(scan.table_name.clone()), field.name()), Values::of(of, rows)?))
        });
        let all = Estimate { rows: rows.max(1.0), rows_total: rows.max(1.0), columns: values.collect() };
        Some(scan.filters.iter().fold(all, |left, filter| left.filtered(filter)))
    }

    fn renamed(&self, pairs: impl Iterator<Item = (Column, Column)>) -> Estimate {
        let columns = pairs.filter_map(|(from, to)| Some((to, *self.columns.get(&from)?)));
        Estimate { columns: columns.collect(), ..*self }
    }

    fn with_rows(self, rows: f64) -> Estimate {
        Estimate { rows: rows.max(1.0), rows_total: rows.max(1.0), ..self }
    }

    fn filtered(self, condition: &Expr) -> Estimate {
        Estimate { rows: (self.rows * self.share(condition)).max(1.0), ..self }
    }

    /// The number of distinct values of an expression, at most the number of rows; that many where nothing is known.
    pub(super) fn distinct(&self, expr: &Expr) -> f64 {
        let known = column(expr).and_then(|column| self.columns.get(column)).map(|values| values.distinct);
        known.unwrap_or(self.rows).min(self.rows).max(1.0)
    }

    /// The share of rows that meet a condition, from 0 to 1.
    pub(super) fn share(&self, condition: &Expr) -> f64 {
        match condition {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => self.share(left) * self.share(right),
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                let (one, other) = (self.share(left), self.share(right));
                one + other - one * other
            }
            Expr::Not(inner) => 1.0 - self.share(inner),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (column(left), column(right)) {
                (Some(column), None) => self.share_of_comparison(column, *op, right),
                (None, Some(column)) => {
                    op.swap().map_or(OTHER, |swapped| self.share_of_comparison(column, swapped, left))
                }
                _ => OTHER,
            },
            Expr::Between(Between { expr, negated: false, low, high }) => column(expr).map_or(OTHER, |column| {
                let from = self.share_of_comparison(column, Operator::GtEq, low);
                from * self.share_of_comparison(column, Operator::LtEq, high)
            }),
            Expr::InList(InList { expr, list, negated }) => {
                let within = (self.share_of_equal(expr) * list.len() as f64).min(0.5);
                if *negated { 1.0 - within } else { within }
            }
            Expr::IsNull(_) => NULL,
            Expr::IsNotNull(_) => 1.0 - NULL,
            Expr::Like(like) => {
                if like.negated {
                    1.0 - LIKE
                } else {
                    LIKE
                }
            }
            _ => OTHER,
        }
    }

    fn share_of_equal(&self, expr: &Expr) -> f64 {
        let known = column(expr).and_then(|column| self.columns.get(column));
        known.map_or(EQUAL, |values| 1.0 / values.distinct.max(1.0))
    }

    fn share_of_comparison(&self, column: &Column, op: Operator, with: &Expr) -> f64 {
        let bound = || match with {
            Expr::Literal(value, _) => number(value),
            _ => None,
        };
        let range = self.columns.get(column).and_then(|values| values.range).filter(|(low, high)| low < high);
        let below = || range.zip(bound()).map(|((low, high), bound)| ((bound - low) / (high - low)).clamp(0.001, 1.0));
        match op {
            Operator::Eq => self.share_of_equal(&Expr::Column(column.clone())),
            Operator::NotEq => 1.0 - self.share_of_equal(&Expr::Column(column.clone())),
            Operator::Lt | Operator::LtEq => below().unwrap_or(OTHER),
            Operator::Gt | Operator::GtEq => below().map_or(OTHER, |below| (1.0 - below).max(0.001)),
            _ => OTHER,
        }
    }
}

impl Values {
    fn of(statistics: &ColumnStatistics, rows: f64) -> Option<Values> {
        let bound = |bound: &Precision<ScalarValue>| bound.get_value().and_then(number);
        let range = bound(&statistics.min_value).zip(bound(&statistics.max_value));
        let counted = statistics.distinct_count.get_value().map(|count| *count as f64);
        let is_discrete = statistics.min_value.get_value().is_some_and(is_discrete);
        let within = range.filter(|_| is_discrete).map(|(low, high)| (high - low + 1.0).min(rows));
        match (counted.or(within), range) {
            (None, None) => None,
            (distinct, range) => Some(Values { distinct: distinct.unwrap_or(rows), range }),
        }
    }
}

/// The column that an expression is, or that it casts or renames.
fn column(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Cast(cast) => column(&cast.expr),
        Expr::Alias(alias) => column(&alias.expr),
        _ => None,
    }
}

/// Whether the values between two others can be counted.
fn is_discrete(value: &ScalarValue) -> bool {
    value.data_type().is_integer() || matches!(value, ScalarValue::Date32(_))
}

fn number(value: &ScalarValue) -> Option<f64> {
    Some(match value {
        ScalarValue::Int16(value) => f64::from((*value)?),
        ScalarValue::Int32(value) | ScalarValue::Date32(value) => f64::from((*value)?),
        ScalarValue::Int64(value) | ScalarValue::TimestampMicrosecond(value, _) => (*value)? as f64,
        ScalarValue::Float64(value) => (*value)?,
        ScalarValue::Decimal128(value, _, scale) => (*value)? as f64 / 10_f64.powi(i32::from(*scale)),
        _ => return None,
    })
}
