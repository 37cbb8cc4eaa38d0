//! Scalar subqueries: NULL if they return no row, an error if they return more than one.
//!
//! DataFusion plans a subquery without an aggregate like a table: it cannot plan it if it is correlated, and else
//! assumes that its column is not NULL. So each gets an aggregate on top: `single_value`, or the first value if the
//! subquery is a correlated `ORDER BY ... LIMIT 1`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, UInt64Array};
use datafusion::arrow::compute::sum;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, UInt64Type};
use datafusion::common::{Column, exec_err};
use datafusion::error::Result;
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::expr::Sort as SortExpr;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, Aggregate, AggregateUDF, AggregateUDFImpl, Expr, ExprFunctionExt, Limit, LogicalPlan, Projection,
    Signature, Subquery, Volatility,
};
use datafusion::scalar::ScalarValue;

/// The subquery in a form that always returns one row.
///
/// # Errors
/// If the aggregate cannot be built.
pub(super) fn with_single_row(subquery: Subquery) -> Result<Subquery> {
    let plan = subquery.subquery.as_ref();
    if has_one_row(plan) {
        return Ok(subquery);
    }
    let Some((qualifier, field)) = plan.schema().iter().next() else { return Ok(subquery) };
    let name = (qualifier.cloned(), field.name().clone());
    let (input, value) = match first_of_order(plan).filter(|_| !subquery.outer_ref_columns.is_empty()) {
        Some(FirstRow { input, value, order }) => {
            let first = first_value_udaf().call(vec![value]).order_by(order).build()?;
            (input, first)
        }
        None => {
            let value = Expr::Column(Column::new(name.0.clone(), &name.1));
            (Arc::clone(&subquery.subquery), single_value().call(vec![value]))
        }
    };
    let aggregate = Aggregate::try_new(input, Vec::new(), vec![value])?;
    let result = Expr::Column(Column::from(aggregate.schema.qualified_field(0))).alias_qualified(name.0, name.1);
    let plan = Projection::try_new(vec![result], Arc::new(LogicalPlan::Aggregate(aggregate)))?;
    Ok(Subquery { subquery: Arc::new(LogicalPlan::Projection(plan)), ..subquery })
}

fn has_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::Projection(node) => has_one_row(&node.input),
        LogicalPlan::SubqueryAlias(node) => has_one_row(&node.input),
        LogicalPlan::EmptyRelation(node) => node.produce_one_row,
        _ => false,
    }
}

struct FirstRow {
    input: Arc<LogicalPlan>,
    value: Expr,
    order: Vec<SortExpr>,
}

/// The parts of a query `... ORDER BY x LIMIT 1`; `None` for other queries.
fn first_of_order(plan: &LogicalPlan) -> Option<FirstRow> {
    let LogicalPlan::Limit(Limit { skip: None, fetch: Some(fetch), input }) = plan else { return None };
    let is_one = matches!(fetch.as_ref(), Expr::Literal(ScalarValue::Int64(Some(1)) | ScalarValue::Int32(Some(1)), _));
    if !is_one {
        return None;
    }
    match input.as_ref() {
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => {
            let (qualifier, field) = sort.input.schema().iter().next()?;
            let value = Expr::Column(Column::new(qualifier.cloned(), field.name()));
            Some(FirstRow { input: Arc::clone(&sort.input), value, order: sort.expr.clone() })
        }
        LogicalPlan::Projection(projection) => match (projection.input.as_ref(), &projection.expr[..]) {
            (LogicalPlan::Sort(sort), [value]) if sort.fetch.is_none() => {
                let value = value.clone().unalias();
                Some(FirstRow { input: Arc::clone(&sort.input), value, order: sort.expr.clone() })
            }
            _ => None,
        },
        _ => None,
    }
}

/// An aggregate that returns the value of its only row, NULL without rows, and an error with more than one.
pub(super) fn single_value() -> AggregateUDF {
    AggregateUDF::from(SingleValue { signature: Signature::any(1, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SingleValue {
    signature: Signature,
}

impl AggregateUDFImpl for SingleValue {
    fn name(&self) -> &str {
        "single_value"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(given[0].clone())
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let value = ScalarValue::try_from(args.return_field.data_type())?;
        Ok(Box::new(SingleValueAccumulator { value, rows: 0 }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let value = Field::new(format!("{}[value]", args.name), args.return_field.data_type().clone(), true);
        let rows = Field::new(format!("{}[rows]", args.name), DataType::UInt64, false);
        Ok(vec![Arc::new(value), Arc::new(rows)])
    }
}

#[derive(Debug)]
struct SingleValueAccumulator {
    value: ScalarValue,
    rows: u64,
}

impl SingleValueAccumulator {
    fn add(&mut self, values: &ArrayRef, rows: u64) -> Result<()> {
        self.rows += rows;
        if rows == 1 && self.rows == 1 {
            self.value = ScalarValue::try_from_array(values, 0)?;
        }
        if self.rows > 1 {
            return exec_err!("more than one row returned by a subquery used as an expression");
        }
        Ok(())
    }
}

impl Accumulator for SingleValueAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0], values[0].len() as u64)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.value.size() - size_of_val(&self.value)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), ScalarValue::UInt64(Some(self.rows))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows: &UInt64Array = states[1].as_primitive::<UInt64Type>();
        let total = sum(rows).unwrap_or(0);
        let at = rows.iter().position(|rows| rows == Some(1));
        match at {
            Some(at) => self.add(&states[0].slice(at, 1), total),
            None => self.add(&states[0], total),
        }
    }
}
