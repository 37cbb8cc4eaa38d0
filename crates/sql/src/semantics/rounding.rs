//! `round` of a double, which rounds halves to the even neighbour.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, Float32Array, Float64Array};
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

/// The function `round_to_even(double)`.
pub(super) fn to_even() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(RoundToEven { signature: Signature::any(1, Volatility::Immutable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct RoundToEven {
    signature: Signature,
}

impl ScalarUDFImpl for RoundToEven {
    fn name(&self) -> &str {
        "round_to_even"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(given[0].clone())
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &call.args[..] {
            [ColumnarValue::Scalar(ScalarValue::Float64(value))] => {
                Ok(ColumnarValue::Scalar(ScalarValue::Float64(value.map(f64::round_ties_even))))
            }
            [ColumnarValue::Scalar(ScalarValue::Float32(value))] => {
                Ok(ColumnarValue::Scalar(ScalarValue::Float32(value.map(f32::round_ties_even))))
            }
            [ColumnarValue::Array(array)] if *array.data_type() == DataType::Float64 => {
                let rounded: Float64Array = array.as_primitive::<Float64Type>().unary(f64::round_ties_even);
                Ok(ColumnarValue::Array(Arc::new(rounded)))
            }
            [ColumnarValue::Array(array)] if *array.data_type() == DataType::Float32 => {
                let rounded: Float32Array = array.as_primitive::<Float32Type>().unary(f32::round_ties_even);
                Ok(ColumnarValue::Array(Arc::new(rounded)))
            }
            _ => exec_err!("round_to_even takes one double"),
        }
    }
}
