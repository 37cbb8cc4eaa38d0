//! From the columns of a query to those of a table: the names and types that other readers of Delta
//! tables accept.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use sql::frontend::names;

/// Characters that Spark and other readers refuse in a column's name.
const REFUSED: [char; 9] = [' ', ',', ';', '{', '}', '(', ')', '=', '\t'];

/// The schema of a table that stores a query's result. All columns are nullable; texts are UTF-8,
/// instants have microseconds.
///
/// # Errors
/// A column without a name, two columns of the same name, or a type that no Delta table has.
pub fn schema_of(query: &SchemaRef) -> sql::Result<SchemaRef> {
    let mut fields: Vec<Field> = Vec::with_capacity(query.fields().len());
    for field in query.fields() {
        let name = names::displayed(field.name());
        if name.contains(REFUSED) || name.is_empty() || name == names::UNNAMED {
            return Err(wrong(format!("store column {name:?}: it needs a name of letters and digits; add AS name")));
        }
        if fields.iter().any(|other| other.name().eq_ignore_ascii_case(name)) {
            return Err(wrong(format!(
                "store column {name:?}: the SELECT returns two of that name; add AS name to one"
            )));
        }
        let Some(data_type) = stored_type(field.data_type()) else {
            let context = format!(
                "store column {name:?}: a table has no type {}; cast the column to another type, such as text",
                field.data_type()
            );
            return Err(wrong(context));
        };
        fields.push(Field::new(name, data_type, true));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Checks that each column of the mart's `order` is a column of its table.
pub fn check_order(order: &[String], schema: &SchemaRef) -> sql::Result<()> {
    match order.iter().find(|name| schema.field_with_name(name).is_err()) {
        None => Ok(()),
        Some(name) => {
            let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            Err(wrong(format!(
                "order by {name:?}: the SELECT returns no such column; it returns {}",
                columns.join(", ")
            )))
        }
    }
}

fn wrong(context: String) -> sql::Error {
    sql::Error::new(sql::Kind::FixInput, context)
}

/// The type of a Delta table that stores this type exactly; `None` where there is none.
fn stored_type(data_type: &DataType) -> Option<DataType> {
    use DataType::{
        Binary, BinaryView, Boolean, Date32, Date64, Decimal32, Decimal64, Decimal128, Dictionary, Float16, Float32,
        Float64, Int8, Int16, Int32, Int64, LargeBinary, LargeList, LargeUtf8, List, Null, Struct, Timestamp, UInt8,
        UInt16, UInt32, UInt64, Utf8, Utf8View,
    };
    let item = |field: &Arc<Field>| Some(Arc::new(Field::new(field.name(), stored_type(field.data_type())?, true)));
    Some(match data_type {
        Boolean | Int16 | Int32 | Int64 | Float32 | Float64 | Date32 | Utf8 | Binary | Decimal128(..) => {
            data_type.clone()
        }
        Null | LargeUtf8 | Utf8View => Utf8,
        LargeBinary | BinaryView => Binary,
        Int8 | UInt8 => Int16,
        UInt16 => Int32,
        // A number that is too great for the type is an error when it is written, never another number.
        UInt32 | UInt64 => Int64,
        Float16 => Float32,
        Date64 => Date32,
        Decimal32(precision, scale) | Decimal64(precision, scale) => Decimal128(*precision, *scale),
        Timestamp(_, None) => Timestamp(TimeUnit::Microsecond, None),
        Timestamp(_, Some(_)) => Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Dictionary(_, values) => stored_type(values)?,
        List(field) | LargeList(field) => List(item(field)?),
        Struct(fields) => Struct(fields.iter().map(item).collect::<Option<Vec<_>>>()?.into()),
        _ => return None,
    })
}
