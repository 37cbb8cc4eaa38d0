//! Casts to text, `x::text`, in PostgreSQL's formats: timestamps with a space and a short offset in the session's time
//! zone, and so too the values of other types, arrays and bytes among them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::values::Column;

/// An expression that gives the text of another one's value, and NULL for NULL.
pub(crate) fn as_text(value: Expr) -> Expr {
    ScalarUDF::from(ValueText { signature: Signature::any(1, Volatility::Stable) }).call(vec![value])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ValueText {
    signature: Signature,
}

impl ScalarUDFImpl for ValueText {
    fn name(&self) -> &str {
        "value_text"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        match given {
            [_] => Ok(DataType::Utf8),
            _ => plan_err!("value_text takes one value"),
        }
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let given = call.args[0].to_array(1)?;
        let zone = match given.data_type() {
            DataType::Timestamp(_, Some(zone)) => zone.as_ref(),
            _ => call.config_options.execution.time_zone.as_deref().unwrap_or("UTC"),
        };
        let column = Column::new(&given, zone)?;
        let (mut texts, mut text) = (StringBuilder::with_capacity(given.len(), given.len() * 24), String::new());
        for row in 0..given.len() {
            if column.is_null(row) {
                texts.append_null();
                continue;
            }
            text.clear();
            column.text(row, &mut text)?;
            texts.append_value(&text);
        }
        let texts: ArrayRef = Arc::new(texts.finish());
        Ok(match &call.args[0] {
            ColumnarValue::Array(_) => ColumnarValue::Array(texts),
            ColumnarValue::Scalar(_) => {
                ColumnarValue::Scalar(datafusion::scalar::ScalarValue::try_from_array(&texts, 0)?)
            }
        })
    }
}
