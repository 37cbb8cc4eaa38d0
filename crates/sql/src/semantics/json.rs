//! JSON documents, which the lake stores as texts: PostgreSQL's operators and functions that read them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int32Array, LargeListArray, StringArray, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{DFSchema, exec_datafusion_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ScalarUDF};
use datafusion::scalar::ScalarValue;
use serde_json::Value;
use serde_json::value::RawValue;
use sqlparser::ast::BinaryOperator;

use super::kernel::{Kernel, KernelCall};
use crate::values::Column;

/// The functions that the operators and the front end call.
pub(super) fn functions() -> Vec<ScalarUDF> {
    [ARRAY_TO_JSON, VALUE, TEXT, LENGTH, HAS_KEY, TYPE].into_iter().map(Kernel::function).collect()
}

/// Plans `->`, `->>`, `#>`, `#>>` and `?`.
#[derive(Debug)]
pub(super) struct JsonOperators;

impl ExprPlanner for JsonOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, _: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let function = match expr.op {
            BinaryOperator::Arrow | BinaryOperator::HashArrow => VALUE,
            BinaryOperator::LongArrow | BinaryOperator::HashLongArrow => TEXT,
            BinaryOperator::Question => HAS_KEY,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let mut args = vec![expr.left];
        match expr.op {
            BinaryOperator::HashArrow | BinaryOperator::HashLongArrow => args.extend(path(&expr.right)?),
            _ => args.push(expr.right),
        }
        Ok(PlannerResult::Planned(function.call(args)))
    }
}

/// Reads a path such as `'{b,c,0}'`: keys, and indices of arrays.
fn path(right: &Expr) -> Result<Vec<Expr>> {
    let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = right else {
        return plan_err!("a path into a JSON document must be a text such as '{{b,c}}'");
    };
    let Some(inner) = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return plan_err!("a path into a JSON document must be a text such as '{{b,c}}', not {text:?}");
    };
    let part = |part: &str| Expr::Literal(ScalarValue::from(part.trim().trim_matches('"')), None);
    Ok(inner.split(',').map(part).collect())
}

/// `json_extract_path(document, part, ...)`: the value as a document.
const VALUE: Kernel = Kernel {
    name: "json_extract_path",
    result: |_| Ok(DataType::Utf8),
    run: |call| extract(call, |raw| Some(raw.get().to_owned())),
};

/// `json_extract_path_text(document, part, ...)`: the value as a text, strings without quotes; NULL for null.
const TEXT: Kernel = Kernel {
    name: "json_extract_path_text",
    result: |_| Ok(DataType::Utf8),
    run: |call| {
        extract(call, |raw| match raw.get() {
            "null" => None,
            text if text.starts_with('"') => serde_json::from_str::<String>(text).ok(),
            text => Some(text.to_owned()),
        })
    },
};

/// `jsonb_array_length(document)`.
const LENGTH: Kernel = Kernel {
    name: "json_array_length",
    result: |_| Ok(DataType::Int32),
    run: |call| {
        let documents = texts(&call.args[0])?;
        let lengths = documents.iter().map(|document| {
            let Some(document) = document else { return Ok(None) };
            match serde_json::from_str::<Vec<&RawValue>>(document) {
                Ok(all) => Ok(i32::try_from(all.len()).ok()),
                Err(_) => Err(exec_datafusion_err!("cannot get array length of a document that is not an array")),
            }
        });
        Ok(Arc::new(lengths.collect::<Result<Int32Array>>()?))
    },
};

/// `document ? 'key'`.
const HAS_KEY: Kernel = Kernel {
    name: "jsonb_exists",
    result: |_| Ok(DataType::Boolean),
    run: |call| {
        let (documents, keys) = (texts(&call.args[0])?, texts(&call.args[1])?);
        let found = documents.iter().zip(keys.iter()).map(|pair| match pair {
            (Some(document), Some(key)) => Ok(Some(match serde_json::from_str::<Value>(document) {
                Ok(Value::Object(members)) => members.contains_key(key),
                Ok(Value::Array(all)) => all.iter().any(|value| value.as_str() == Some(key)),
                Ok(value) => value.as_str() == Some(key),
                Err(error) => return Err(invalid(&error)),
            })),
            _ => Ok(None),
        });
        Ok(Arc::new(found.collect::<Result<datafusion::arrow::array::BooleanArray>>()?))
    },
};

/// `jsonb_typeof(document)`.
const TYPE: Kernel = Kernel {
    name: "json_typeof",
    result: |_| Ok(DataType::Utf8),
    run: |call| {
        let documents = texts(&call.args[0])?;
        let types = documents.iter().map(|document| match document.map(serde_json::from_str::<Value>).transpose() {
            Ok(value) => Ok(value.map(|value| match value {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::Number(_) => "number",
                Value::String(_) => "string",
                Value::Array(_) => "array",
                Value::Object(_) => "object",
            })),
            Err(error) => Err(invalid(&error)),
        });
        Ok(Arc::new(types.collect::<Result<StringArray>>()?))
    },
};

/// An array cast to texts.
pub(super) fn texts(array: &ArrayRef) -> Result<StringArray> {
    Ok(cast(array, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// The error for a text that is not JSON.
pub(super) fn invalid(error: &serde_json::Error) -> datafusion::common::DataFusionError {
    exec_datafusion_err!("invalid input syntax for type json: {error}")
}

/// A step into a document: a key of an object, or an index of an array; a negative index counts from the end.
enum Part {
    Key(String),
    Index(i64),
}

fn extract(call: &KernelCall<'_>, shown: fn(&RawValue) -> Option<String>) -> Result<ArrayRef> {
    let documents = texts(&call.args[0])?;
    let mut out = StringBuilder::new();
    let part = |array: &ArrayRef, row: usize| -> Result<Option<Part>> {
        if array.is_null(row) {
            return Ok(None);
        }
        if array.data_type().is_integer() {
            return Ok(Some(Part::Index(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().value(row))));
        }
        Ok(Some(Part::Key(cast(array, &DataType::Utf8)?.as_string::<i32>().value(row).to_owned())))
    };
    // The parts are nearly always constants, so converting them again for each row costs little.
    for row in 0..call.rows {
        let parts =
            call.args[1..].iter().map(|array| part(&array.slice(row, 1), 0)).collect::<Result<Option<Vec<Part>>>>()?;
        match (documents.is_valid(row).then(|| documents.value(row)), parts) {
            (Some(document), Some(parts)) => out.append_option(at_path(document, &parts)?.and_then(|raw| shown(&raw))),
            _ => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

fn at_path(document: &str, parts: &[Part]) -> Result<Option<Box<RawValue>>> {
    let raw: &RawValue = serde_json::from_str(document).map_err(|error| invalid(&error))?;
    let mut at = raw.to_owned();
    for part in parts {
        let next = match (part, at.get().as_bytes().first()) {
            (Part::Key(key), Some(b'{')) => {
                let mut members: BTreeMap<String, Box<RawValue>> =
                    serde_json::from_str(at.get()).map_err(|error| invalid(&error))?;
                members.remove(key)
            }
            // In a path of texts, a number is an index if the value is an array.
            (Part::Key(index), Some(b'[')) => match index.parse() {
                Ok(index) => element(at.get(), index)?,
                Err(_) => None,
            },
            (Part::Index(index), Some(b'[')) => element(at.get(), *index)?,
            _ => None,
        };
        match next {
            Some(next) => at = next,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

fn element(array: &str, index: i64) -> Result<Option<Box<RawValue>>> {
    let mut all: Vec<Box<RawValue>> = serde_json::from_str(array).map_err(|error| invalid(&error))?;
    let count = i64::try_from(all.len()).unwrap_or(i64::MAX);
    let index = if index < 0 { index + count } else { index };
    let index = usize::try_from(index).ok().filter(|index| *index < all.len());
    Ok(index.map(|index| all.swap_remove(index)))
}

/// `array_to_json(array)`: an array as a document.
const ARRAY_TO_JSON: Kernel = Kernel {
    name: "array_to_json",
    result: |given| match given {
        [DataType::List(_) | DataType::LargeList(_)] => Ok(DataType::Utf8),
        _ => plan_err!("array_to_json needs an array"),
    },
    run: |call| {
        let element = match call.args[0].data_type() {
            DataType::List(field) | DataType::LargeList(field) => Arc::clone(field),
            _ => return plan_err!("array_to_json needs an array"),
        };
        let lists = cast(&call.args[0], &DataType::LargeList(element))?;
        let lists: &LargeListArray = lists.as_list();
        let values = Column::new(lists.values(), call.zone)?;
        let is_number = lists.values().data_type().is_numeric();
        let (mut documents, mut text) = (StringBuilder::new(), String::new());
        for row in 0..lists.len() {
            if lists.is_null(row) {
                documents.append_null();
                continue;
            }
            let offsets = lists.value_offsets();
            text.clear();
            text.push('[');
            for at in offsets[row] as usize..offsets[row + 1] as usize {
                if at > offsets[row] as usize {
                    text.push_str(", ");
                }
                write_value(&values, at, is_number, &mut text)?;
            }
            text.push(']');
            documents.append_value(&text);
        }
        Ok(Arc::new(documents.finish()))
    },
};

fn write_value(values: &Column, at: usize, is_number: bool, out: &mut String) -> Result<()> {
    if values.is_null(at) {
        out.push_str("null");
        return Ok(());
    }
    if let Column::Bool(bools) = values {
        out.push_str(if bools.value(at) { "true" } else { "false" });
        return Ok(());
    }
    let mut text = String::new();
    values.text(at, &mut text)?;
    // Writing to a String cannot fail.
    let _ = if is_number { write!(out, "{text}") } else { write!(out, "{}", Value::from(text)) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Part, at_path};

    #[test]
    fn values_are_found_by_keys_and_indices() {
        let document = r#"{"a": 1.10, "b": {"c": "x"}, "l": [1, 2, {"d": null}]}"#;
        let at = |parts: &[Part]| at_path(document, parts).unwrap().map(|raw| raw.get().to_owned());
        let key = |key: &str| Part::Key(key.to_owned());
        assert_eq!(at(&[key("a")]).as_deref(), Some("1.10"));
        assert_eq!(at(&[key("b"), key("c")]).as_deref(), Some("\"x\""));
        assert_eq!(at(&[key("l"), Part::Index(-1), key("d")]).as_deref(), Some("null"));
        assert_eq!(at(&[key("l"), key("0")]).as_deref(), Some("1"));
        assert_eq!(at(&[key("a"), key("c")]), None);
        assert!(at_path("no document", &[key("a")]).is_err());
    }
}
