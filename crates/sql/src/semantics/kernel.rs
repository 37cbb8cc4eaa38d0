//! Scalar functions that are defined by two Rust functions: the result type, and the values of a batch.

use std::hash::{Hash, Hasher};

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

/// A scalar function. Two kernels with the same name are the same function.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel {
    /// The SQL name.
    pub(super) name: &'static str,
    /// The result type for the types of the arguments.
    pub(super) result: fn(&[DataType]) -> Result<DataType>,
    /// Computes the results of a batch, one for each row.
    pub(super) run: fn(&KernelCall<'_>) -> Result<ArrayRef>,
}

/// The arguments of a batch, all of the same length.
pub(super) struct KernelCall<'a> {
    pub(super) args: Vec<ArrayRef>,
    /// The result type.
    pub(super) result: &'a DataType,
    /// The session's time zone.
    pub(super) zone: &'a str,
    /// The number of rows; 1 if all arguments are constants.
    pub(super) rows: usize,
}

/// The kernels that depend on the session's time zone; they are stable and not immutable.
const ZONED: [&str; 3] = ["age", "array_to_json", "timestamptz_add"];

impl Kernel {
    /// The function, to register it.
    pub(super) fn function(self) -> ScalarUDF {
        ScalarUDF::from(KernelFunction { kernel: self, signature: self.signature(), fixed: None })
    }

    fn signature(self) -> Signature {
        let is_zoned = ZONED.contains(&self.name);
        Signature::variadic_any(if is_zoned { Volatility::Stable } else { Volatility::Immutable })
    }

    /// A call with these arguments.
    pub(super) fn call(self, args: Vec<Expr>) -> Expr {
        self.function().call(args)
    }

    /// A call with a given result type, where it does not follow from the argument types.
    pub(super) fn call_as(self, data_type: DataType, args: Vec<Expr>) -> Expr {
        let signature = self.signature();
        ScalarUDF::from(KernelFunction { kernel: self, signature, fixed: Some(data_type) }).call(args)
    }
}

#[derive(Debug)]
struct KernelFunction {
    kernel: Kernel,
    signature: Signature,
    fixed: Option<DataType>,
}

impl PartialEq for KernelFunction {
    fn eq(&self, other: &Self) -> bool {
        self.kernel.name == other.kernel.name && self.fixed == other.fixed
    }
}

impl Eq for KernelFunction {}

impl Hash for KernelFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kernel.name.hash(state);
        self.fixed.hash(state);
    }
}

impl ScalarUDFImpl for KernelFunction {
    fn name(&self) -> &str {
        self.kernel.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        match &self.fixed {
            Some(fixed) => Ok(fixed.clone()),
            None => (self.kernel.result)(given),
        }
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = call.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { call.number_rows };
        let args = call.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let zone = call.config_options.execution.time_zone.as_deref().unwrap_or("UTC");
        let answer = (self.kernel.run)(&KernelCall { args, result: call.return_field.data_type(), zone, rows })?;
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&answer, 0)?),
            false => ColumnarValue::Array(answer),
        })
    }
}
