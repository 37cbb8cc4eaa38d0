//! Elements and keys of JSON documents as lists, for `jsonb_array_elements` and `jsonb_object_keys`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, ListBuilder, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;
use datafusion::logical_expr::ScalarUDF;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::json::{invalid, texts};
use super::kernel::{Kernel, KernelCall};

/// `json_elements`, `json_elements_text` and `json_keys`.
pub(super) fn functions() -> Vec<ScalarUDF> {
    [ELEMENTS, ELEMENTS_TEXT, KEYS].into_iter().map(Kernel::function).collect()
}

const fn lists(name: &'static str, run: fn(&KernelCall<'_>) -> Result<ArrayRef>) -> Kernel {
    let result = |_: &[DataType]| Ok(DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))));
    Kernel { name, result, run }
}

const ELEMENTS: Kernel = lists("json_elements", |call| {
    each(call, |document| Ok(elements(document)?.into_iter().map(|element| Some(element.get().to_owned())).collect()))
});

/// Elements as texts: strings without quotes, and NULL for null.
const ELEMENTS_TEXT: Kernel = lists("json_elements_text", |call| {
    each(call, |document| {
        let texts = elements(document)?.into_iter().map(|element| match element.get() {
            "null" => None,
            text if text.starts_with('"') => serde_json::from_str(text).ok(),
            text => Some(text.to_owned()),
        });
        Ok(texts.collect())
    })
});

const KEYS: Kernel = lists("json_keys", |call| {
    each(call, |document| match serde_json::from_str::<Value>(document).map_err(|error| invalid(&error))? {
        Value::Object(members) => {
            let members: Map<String, Value> = members;
            Ok(members.into_iter().map(|(key, _)| Some(key)).collect())
        }
        _ => Err(exec_datafusion_err!("cannot get keys of a document that is not an object")),
    })
});

fn elements(document: &str) -> Result<Vec<&RawValue>> {
    if !document.trim_start().starts_with('[') {
        // A text that is not JSON at all gives a syntax error.
        let _: &RawValue = serde_json::from_str(document).map_err(|error| invalid(&error))?;
        return Err(exec_datafusion_err!("cannot get elements of a document that is not an array"));
    }
    serde_json::from_str(document).map_err(|error| invalid(&error))
}

fn each(call: &KernelCall<'_>, list_of: fn(&str) -> Result<Vec<Option<String>>>) -> Result<ArrayRef> {
    let documents = texts(&call.args[0])?;
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..call.rows {
        let is_known = documents.is_valid(row);
        if is_known {
            list_of(documents.value(row))?.into_iter().for_each(|text| lists.values().append_option(text));
        }
        lists.append(is_known);
    }
    Ok(Arc::new(lists.finish()))
}
