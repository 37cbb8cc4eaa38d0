//! `ts::text` as PostgreSQL writes instants: a space, the session's zone, a short offset.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::cells::Cells;

/// The instant of an expression as a text.
pub(crate) fn as_text(instant: Expr) -> Expr {
    ScalarUDF::from(InstantText { signature: Signature::any(1, Volatility::Immutable) }).call(vec![instant])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct InstantText {
    signature: Signature,
}

impl ScalarUDFImpl for InstantText {
    fn name(&self) -> &str {
        "instant_text"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        match given {
            [DataType::Timestamp(..)] => Ok(DataType::Utf8),
            _ => plan_err!("instant_text takes an instant"),
        }
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let given = call.args[0].to_array(1)?;
        let batch = RecordBatch::try_from_iter_with_nullable([("instant", given, true)])?;
        let cells = Cells::of(&batch)?;
        let (mut texts, mut text) =
            (StringBuilder::with_capacity(batch.num_rows(), batch.num_rows() * 24), String::new());
        for row in 0..batch.num_rows() {
            text.clear();
            if cells.write(0, row, &mut text)? { texts.append_value(&text) } else { texts.append_null() }
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
