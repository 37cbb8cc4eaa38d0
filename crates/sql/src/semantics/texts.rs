//! Texts that PostgreSQL reads as values of types which are stored as texts here.

use std::sync::Arc;

use datafusion::arrow::array::{Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::arrow::error::ArrowError;
use datafusion::error::{DataFusionError, Result};

use super::json::texts;
use super::kernel::Kernel;
use crate::values::uuid_of_text;

/// `to_uuid(text)`: the uuid in PostgreSQL's form.
pub(super) const TO_UUID: Kernel = Kernel {
    name: "to_uuid",
    result: |_| Ok(DataType::Utf8),
    run: |call| {
        let written = texts(&call.args[0])?;
        let read = (0..written.len()).map(|row| match written.is_valid(row) {
            true => uuid_of_text(written.value(row)).map(Some).ok_or_else(|| malformed("uuid", written.value(row))),
            false => Ok(None),
        });
        Ok(Arc::new(read.collect::<Result<StringArray>>()?))
    },
};

/// `malformed_array(text)`: the error of a literal that is cast to an array and is not one.
pub(super) const MALFORMED_ARRAY: Kernel = Kernel {
    name: "malformed_array",
    result: |_| Ok(DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)))),
    run: |call| {
        let written = texts(&call.args[0])?;
        Err(malformed("array", if written.is_empty() { "" } else { written.value(0) }))
    },
};

fn malformed(type_name: &str, text: &str) -> DataFusionError {
    ArrowError::CastError(format!("invalid input syntax for type {type_name}: {text:?}")).into()
}
