//! `predict(endpoint, value, ...)`: what the model of an endpoint predicts for each row. For models that need no process.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use super::row_model::RowModel;
use super::system::SystemTables;

/// The function, over the models of `system`.
pub(crate) fn function(system: Arc<dyn SystemTables>) -> ScalarUDF {
    ScalarUDF::new_from_impl(Predict { system, signature: Signature::variadic_any(Volatility::Stable) })
}

struct Predict {
    system: Arc<dyn SystemTables>,
    signature: Signature,
}

impl std::fmt::Debug for Predict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Predict")
    }
}

/// Two are equal where they have the same models.
impl PartialEq for Predict {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.system, &other.system)
    }
}

impl Eq for Predict {}

impl Hash for Predict {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl ScalarUDFImpl for Predict {
    fn name(&self) -> &str {
        "predict"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        match given {
            [_, _, ..] => Ok(DataType::Float64),
            _ => plan_err!("predict takes the name of an endpoint and a value for each column of its model"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some((ColumnarValue::Scalar(endpoint), values)) = args.args.split_first() else {
            return exec_err!("the first argument of predict must be the name of an endpoint, not a column");
        };
        let (ScalarValue::Utf8(Some(endpoint)) | ScalarValue::Utf8View(Some(endpoint))) = endpoint else {
            return exec_err!("the first argument of predict must be the name of an endpoint");
        };
        let model = self.system.model(endpoint).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let columns = model.columns();
        if columns.len() != values.len() {
            let (expected, found, names) = (columns.len(), values.len(), columns.join(", "));
            return exec_err!(
                "the model of endpoint {endpoint} has {expected} columns, and predict has {found} values; the columns are {names}"
            );
        }
        let values = values.iter().enumerate().map(|(at, value)| {
            let given = value.to_array(args.number_rows)?;
            numbers(&*model, at, &given)
        });
        let values: Vec<ArrayRef> = values.collect::<Result<_>>()?;
        let mut row = vec![f64::NAN; columns.len()];
        let predicted = (0..args.number_rows).map(|at| {
            for (value, column) in row.iter_mut().zip(&values) {
                *value = if column.is_null(at) { f64::NAN } else { column.as_primitive::<Float64Type>().value(at) };
            }
            model.predict(&row)
        });
        Ok(ColumnarValue::Array(Arc::new(predicted.collect::<Float64Array>())))
    }
}

/// The values of a model's column as its trees know them. Texts and categories are read as requests to the endpoint are.
fn numbers(model: &dyn RowModel, column: usize, given: &ArrayRef) -> Result<ArrayRef> {
    let kind = given.data_type();
    let is_number = kind.is_numeric() || matches!(kind, DataType::Boolean | DataType::Null);
    let is_text = matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    if is_number && !model.is_category(column) {
        return Ok(cast(given, &DataType::Float64)?);
    }
    if !is_number && !is_text {
        let name = &model.columns()[column];
        return exec_err!("predict: the value of column {name} must be a number or a text, and is of type {kind}");
    }
    let texts = cast(given, &DataType::Utf8)?;
    let read = |text: Option<&str>| match text {
        None => Ok(f64::NAN),
        Some(text) => model.value(column, text).map_err(|error| DataFusionError::External(Box::new(error))),
    };
    let read: Float64Array = texts.as_string::<i32>().iter().map(|text| read(text).map(Some)).collect::<Result<_>>()?;
    Ok(Arc::new(read))
}
