//! `variance` and `stddev` of integers and numerics, as numerics from exact sums. For doubles the engine's are used.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal256Array, Int64Array};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Field, FieldRef, Int64Type, i256};
use datafusion::arrow::error::ArrowError;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::functions_aggregate::{stddev, variance};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::numeric::{SCALE, exact, out_of_range, square_root, wide_quotient};

/// `var_samp`, `var_pop`, `stddev_samp` and `stddev_pop`, with their aliases.
pub(super) fn functions() -> Vec<AggregateUDF> {
    let of = |engine: Arc<AggregateUDF>, is_population: bool, is_deviation: bool| {
        let signature = Signature::user_defined(Volatility::Immutable);
        AggregateUDF::from(Dispersion { engine, signature, is_population, is_deviation })
    };
    vec![
        of(variance::var_samp_udaf(), false, false),
        of(variance::var_pop_udaf(), true, false),
        of(stddev::stddev_udaf(), false, true),
        of(stddev::stddev_pop_udaf(), true, true),
    ]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Dispersion {
    /// The engine's aggregate, for doubles.
    engine: Arc<AggregateUDF>,
    signature: Signature,
    is_population: bool,
    is_deviation: bool,
}

const SQUARES: DataType = DataType::Decimal256(76, 0);

fn is_exact(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(..))
}

impl AggregateUDFImpl for Dispersion {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn aliases(&self) -> &[String] {
        self.engine.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [only] if exact(only).is_some() => Ok(exact(only).into_iter().collect()),
            [only] if only.is_numeric() || only.is_null() => Ok(vec![DataType::Float64]),
            [other] => plan_err!("function {}({other}) does not exist: it needs a number", self.name()),
            _ => plan_err!("{} needs one value", self.name()),
        }
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        match given {
            [DataType::Decimal128(_, scale)] => Ok(DataType::Decimal128(38, SCALE.max(*scale))),
            _ => Ok(DataType::Float64),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let DataType::Decimal128(_, scale) = args.expr_fields[0].data_type() else {
            return self.engine.inner().accumulator(args);
        };
        Ok(Box::new(ExactSums {
            count: 0,
            sum: i256::ZERO,
            squares: i256::ZERO,
            scale: *scale,
            result: args.return_field.data_type().clone(),
            is_population: self.is_population,
            is_deviation: self.is_deviation,
        }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match is_exact(args.expr_fields[0].data_type()) {
            true => self.accumulator(args),
            false => self.engine.inner().create_sliding_accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if !is_exact(args.input_fields[0].data_type()) {
            return self.engine.inner().state_fields(args);
        }
        let field = |part: &str, data_type: DataType| -> FieldRef {
            Arc::new(Field::new(format!("{}[{part}]", args.name), data_type, false))
        };
        Ok(vec![field("count", DataType::Int64), field("sum", SQUARES), field("squares", SQUARES)])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !is_exact(args.expr_fields[0].data_type()) && self.engine.inner().groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        self.engine.inner().create_groups_accumulator(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// The exact sums of values and of their squares, in units of the values' scale.
#[derive(Debug)]
struct ExactSums {
    count: i64,
    sum: i256,
    squares: i256,
    scale: i8,
    result: DataType,
    is_population: bool,
    is_deviation: bool,
}

impl ExactSums {
    fn add(&mut self, count: i64, sum: i256, squares: i256) -> Result<(), ArrowError> {
        self.count += count;
        self.sum = self.sum.checked_add(sum).ok_or_else(out_of_range)?;
        self.squares = self.squares.checked_add(squares).ok_or_else(out_of_range)?;
        Ok(())
    }

    fn each(&mut self, values: &ArrayRef, sign: i64) -> Result<()> {
        let factor = i256::from(sign);
        for value in values.as_primitive::<Decimal128Type>().iter().flatten() {
            let value = i256::from_i128(value);
            let square = value.checked_mul(value).ok_or_else(out_of_range)?;
            self.add(sign, value * factor, square * factor)?;
        }
        Ok(())
    }

    /// `(n * sum(x^2) - sum(x)^2) / (n * (n - 1))`.
    fn value(&self) -> Result<Option<i128>, ArrowError> {
        let DataType::Decimal128(_, scale) = self.result else { return Ok(None) };
        let others = self.count - i64::from(!self.is_population);
        if self.count == 0 || others == 0 {
            return Ok(None);
        }
        let count = i256::from(self.count);
        let product = |left: i256, right: i256| left.checked_mul(right).ok_or_else(out_of_range);
        let dividend =
            product(count, self.squares)?.checked_sub(product(self.sum, self.sum)?).ok_or_else(out_of_range)?;
        let divisor = product(count, i256::from(others))?;
        let variance = wide_quotient((dividend, 2 * i32::from(self.scale)), divisor, scale)?;
        Ok(Some(match self.is_deviation {
            true => square_root(variance, scale)?,
            false => variance.numeric()?,
        }))
    }
}

impl Accumulator for ExactSums {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.each(&values[0], 1)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.each(&values[0], -1)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let DataType::Decimal128(precision, scale) = self.result else {
            return ScalarValue::try_from(&self.result);
        };
        Ok(ScalarValue::Decimal128(self.value()?, precision, scale))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let wide = |value: i256| ScalarValue::Decimal256(Some(value), 76, 0);
        Ok(vec![ScalarValue::Int64(Some(self.count)), wide(self.sum), wide(self.squares)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let counts: &Int64Array = states[0].as_primitive::<Int64Type>();
        let sums: &Decimal256Array = states[1].as_primitive::<Decimal256Type>();
        let squares: &Decimal256Array = states[2].as_primitive::<Decimal256Type>();
        for row in (0..counts.len()).filter(|row| counts.is_valid(*row)) {
            self.add(counts.value(row), sums.value(row), squares.value(row))?;
        }
        Ok(())
    }
}
