//! Arithmetic of integers that fails on overflow.

use std::any::Any;

use datafusion::arrow::compute::kernels::numeric::{add, mul, neg, sub};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, exec_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;
use datafusion::scalar::ScalarValue;

/// An operation on integers of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Add,
    Subtract,
    Multiply,
    Negate,
}

/// A call of the operation, which fails if its result does not fit `data_type`.
pub(super) fn checked_call(operation: Operation, data_type: DataType, args: Vec<Expr>) -> Expr {
    let signature = Signature::any(args.len(), Volatility::Immutable);
    ScalarUDF::from(CheckedArithmetic { operation, data_type, signature }).call(args)
}

/// The result type of a function of [`checked_call`]; `None` for other functions.
pub(super) fn type_of(function: &ScalarUDF) -> Option<DataType> {
    let inner: &dyn Any = function.inner().as_ref();
    inner.downcast_ref::<CheckedArithmetic>().map(|checked| checked.data_type.clone())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedArithmetic {
    operation: Operation,
    data_type: DataType,
    signature: Signature,
}

impl ScalarUDFImpl for CheckedArithmetic {
    fn name(&self) -> &str {
        match self.operation {
            Operation::Add => "integer_add",
            Operation::Subtract => "integer_subtract",
            Operation::Multiply => "integer_multiply",
            Operation::Negate => "integer_negate",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let out_of_range = |error: DataFusionError| match error.find_root() {
            DataFusionError::ArrowError(inner, _) if matches!(**inner, ArrowError::ArithmeticOverflow(_)) => {
                let type_name = match call.return_field.data_type() {
                    DataType::Int16 => "smallint",
                    DataType::Int32 => "integer",
                    _ => "bigint",
                };
                let error = ArrowError::ArithmeticOverflow(format!("{type_name} out of range"));
                DataFusionError::ArrowError(Box::new(error), None)
            }
            _ => error,
        };
        let value = match (self.operation, &call.args[..]) {
            (Operation::Add, [left, right]) => apply(left, right, |left, right| add(left, right)),
            (Operation::Subtract, [left, right]) => apply(left, right, |left, right| sub(left, right)),
            (Operation::Multiply, [left, right]) => apply(left, right, |left, right| mul(left, right)),
            (Operation::Negate, [ColumnarValue::Array(array)]) => Ok(ColumnarValue::Array(neg(array)?)),
            (Operation::Negate, [ColumnarValue::Scalar(value)]) => {
                let negated = neg(&value.to_array()?).map_err(DataFusionError::from);
                negated.and_then(|array| ScalarValue::try_from_array(&array, 0)).map(ColumnarValue::Scalar)
            }
            _ => exec_err!("{} was called with {} arguments", self.name(), call.args.len()),
        };
        value.map_err(out_of_range)
    }
}
