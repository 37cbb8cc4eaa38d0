//! `avg` of integers and numerics, as a numeric with the scale of a quotient. For other types the engine's is used.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, Decimal128Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::numeric::{exact, quotient_type, quotients};

const COUNT: DataType = DataType::Int64;

/// The aggregate `avg`, with its aliases.
pub(super) fn function() -> AggregateUDF {
    AggregateUDF::from(Average {
        signature: Signature::user_defined(Volatility::Immutable),
        // Under its alias, a session that is made from another would register the engine's own again.
        aliases: avg_udaf().aliases().to_vec(),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Average {
    signature: Signature,
    aliases: Vec<String>,
}

/// The type of the sum, which is as wide as a numeric can be; `None` for types whose average is the engine's.
fn sum_type(given: &DataType) -> Option<DataType> {
    match given {
        DataType::Decimal128(_, scale) => Some(DataType::Decimal128(38, *scale)),
        _ => None,
    }
}

fn field(name: &str, data_type: DataType) -> FieldRef {
    Arc::new(Field::new(name, data_type, true))
}

impl AggregateUDFImpl for Average {
    fn name(&self) -> &str {
        "avg"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [DataType::Int8 | DataType::UInt8] => Ok(vec![DataType::Decimal128(5, 0)]),
            [DataType::UInt16 | DataType::UInt32] => Ok(vec![DataType::Decimal128(10, 0)]),
            [only] if exact(only).is_some() => Ok(exact(only).into_iter().collect()),
            [DataType::Float16 | DataType::Float32 | DataType::Float64 | DataType::Null] => Ok(vec![DataType::Float64]),
            [DataType::Duration(_)] => Ok(given.to_vec()),
            [other] => plan_err!("function avg({other}) does not exist: it needs numbers or differences of timestamps"),
            _ => plan_err!("avg needs one value"),
        }
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        match given {
            [only] if exact(only).is_some() => Ok(quotient_type(only, &COUNT)),
            _ => avg_udaf().inner().return_type(given),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let Some(sum_type) = sum_type(args.expr_fields[0].data_type()) else {
            return avg_udaf().inner().accumulator(args);
        };
        let result = args.return_field.data_type().clone();
        let sum = sum_udaf().inner().accumulator(returning(&args, &field("sum", sum_type.clone())))?;
        let count = count_udaf().inner().accumulator(returning(&args, &field("count", COUNT)))?;
        let sum_states = state_fields(&sum_udaf(), &args, field("sum", sum_type))?.len();
        Ok(Box::new(AverageAccumulator { sum, count, sum_states, result }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let Some(sum_type) = sum_type(args.expr_fields[0].data_type()) else {
            return avg_udaf().inner().create_sliding_accumulator(args);
        };
        let result = args.return_field.data_type().clone();
        let sum = sum_udaf().inner().create_sliding_accumulator(returning(&args, &field("sum", sum_type)))?;
        let count = count_udaf().inner().create_sliding_accumulator(returning(&args, &field("count", COUNT)))?;
        Ok(Box::new(AverageAccumulator { sum, count, sum_states: 0, result }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let Some(sum_type) = sum_type(args.input_fields[0].data_type()) else {
            return avg_udaf().inner().state_fields(args);
        };
        let of = |function: &AggregateUDF, part: &str, return_field: FieldRef| {
            let name = format!("{}[{part}]", args.name);
            function.inner().state_fields(StateFieldsArgs {
                name: &name,
                input_fields: args.input_fields,
                return_field,
                ordering_fields: args.ordering_fields,
                is_distinct: args.is_distinct,
            })
        };
        let mut fields = of(&sum_udaf(), "sum", field("sum", sum_type))?;
        fields.extend(of(&count_udaf(), "count", field("count", COUNT))?);
        Ok(fields)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        match sum_type(args.expr_fields[0].data_type()) {
            Some(_) => !args.is_distinct,
            None => avg_udaf().inner().groups_accumulator_supported(args),
        }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let Some(sum_type) = sum_type(args.expr_fields[0].data_type()) else {
            return avg_udaf().inner().create_groups_accumulator(args);
        };
        let result = args.return_field.data_type().clone();
        let sum = sum_udaf().inner().create_groups_accumulator(returning(&args, &field("sum", sum_type)))?;
        let count = count_udaf().inner().create_groups_accumulator(returning(&args, &field("count", COUNT)))?;
        Ok(Box::new(AverageOfGroups { sum, count, result }))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// The same arguments for an aggregate with another result field.
fn returning<'a>(args: &AccumulatorArgs<'a>, return_field: &FieldRef) -> AccumulatorArgs<'a> {
    AccumulatorArgs {
        return_field: Arc::clone(return_field),
        schema: args.schema,
        ignore_nulls: args.ignore_nulls,
        order_bys: args.order_bys,
        is_reversed: args.is_reversed,
        name: args.name,
        is_distinct: args.is_distinct,
        exprs: args.exprs,
        expr_fields: args.expr_fields,
    }
}

fn state_fields(function: &AggregateUDF, args: &AccumulatorArgs<'_>, return_field: FieldRef) -> Result<Vec<FieldRef>> {
    function.inner().state_fields(StateFieldsArgs {
        name: args.name,
        input_fields: args.expr_fields,
        return_field,
        ordering_fields: &[],
        is_distinct: args.is_distinct,
    })
}

/// The quotients of sums and counts; NULL if the count is 0.
fn averages(sums: &ArrayRef, counts: &ArrayRef, result: &DataType) -> Result<ArrayRef> {
    let counts = cast(counts, &COUNT)?;
    let counts = counts.as_primitive::<Int64Type>();
    let counts: Decimal128Array =
        counts.iter().map(|count| count.filter(|count| *count != 0).map(i128::from)).collect();
    let counts: ArrayRef = Arc::new(counts.with_precision_and_scale(19, 0)?);
    quotients(sums, &counts, result)
}

#[derive(Debug)]
struct AverageAccumulator {
    sum: Box<dyn Accumulator>,
    count: Box<dyn Accumulator>,
    sum_states: usize,
    result: DataType,
}

impl Accumulator for AverageAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.sum.update_batch(values)?;
        self.count.update_batch(values)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.sum.retract_batch(values)?;
        self.count.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.sum.supports_retract_batch() && self.count.supports_retract_batch()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let (sum, count) = (self.sum.evaluate()?.to_array()?, self.count.evaluate()?.to_array()?);
        ScalarValue::try_from_array(&averages(&sum, &count, &self.result)?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sum.size() + self.count.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut states = self.sum.state()?;
        states.extend(self.count.state()?);
        Ok(states)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (sums, counts) = states.split_at(self.sum_states);
        self.sum.merge_batch(sums)?;
        self.count.merge_batch(counts)
    }
}

struct AverageOfGroups {
    sum: Box<dyn GroupsAccumulator>,
    count: Box<dyn GroupsAccumulator>,
    result: DataType,
}

impl GroupsAccumulator for AverageOfGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.sum.update_batch(values, groups, filter, total)?;
        self.count.update_batch(values, groups, filter, total)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let (sums, counts) = (self.sum.evaluate(emit)?, self.count.evaluate(emit)?);
        averages(&sums, &counts, &self.result)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let mut states = self.sum.state(emit)?;
        states.extend(self.count.state(emit)?);
        Ok(states)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        // Sums and counts of groups have one state column each.
        let (sums, counts) = states.split_at(1);
        self.sum.merge_batch(sums, groups, total)?;
        self.count.merge_batch(counts, groups, total)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut states = self.sum.convert_to_state(values, filter)?;
        states.extend(self.count.convert_to_state(values, filter)?);
        Ok(states)
    }

    fn size(&self) -> usize {
        self.sum.size() + self.count.size()
    }
}
