//! Maps the engine's types to PostgreSQL's for columns, and PostgreSQL's to the engine's for parameters.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use pgwire::api::Type;
use postgres_types::Kind;

/// The metadata key that marks an integer column as `oid`; it is that of the catalogue library.
pub(crate) const OID_KEY: &str = "pg.oid_alias";
/// The metadata key that marks a text column as `"char"`.
const CHAR_KEY: &str = "pg.char";

/// PostgreSQL's type of a column.
pub(crate) fn of_field(field: &Field) -> Type {
    match field.metadata().get(OID_KEY) {
        // Aliases of oid such as regclass are sent as numbers, too.
        Some(_) if *field.data_type() == DataType::Int32 => Type::OID,
        _ if field.metadata().contains_key(CHAR_KEY) => Type::CHAR,
        _ => of_data_type(field.data_type()),
    }
}

/// PostgreSQL's type for a type of the engine; text if PostgreSQL has none.
pub(crate) fn of_data_type(data_type: &DataType) -> Type {
    match data_type {
        DataType::Boolean => Type::BOOL,
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => Type::INT2,
        DataType::Int32 | DataType::UInt16 => Type::INT4,
        // The unsigned types are those of ranks and counts, which are bigint in PostgreSQL.
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => Type::INT8,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            Type::NUMERIC
        }
        DataType::Float16 | DataType::Float32 => Type::FLOAT4,
        DataType::Float64 => Type::FLOAT8,
        DataType::Timestamp(_, Some(_)) => Type::TIMESTAMPTZ,
        DataType::Timestamp(_, None) => Type::TIMESTAMP,
        DataType::Date32 | DataType::Date64 => Type::DATE,
        DataType::Time32(_) | DataType::Time64(_) => Type::TIME,
        DataType::Interval(_) | DataType::Duration(_) => Type::INTERVAL,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => Type::BYTEA,
        DataType::Dictionary(_, values) => of_data_type(values),
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            // An array of arrays has the type of its innermost arrays.
            let element = of_data_type(element.data_type());
            if is_array(&element) { element } else { array_of(&element) }
        }
        _ => Type::TEXT,
    }
}

/// Whether a type is an array.
pub(crate) fn is_array(pg_type: &Type) -> bool {
    matches!(pg_type.kind(), Kind::Array(_))
}

/// The array type of an element type; `text[]` for types that columns never have.
pub(crate) fn array_of(element: &Type) -> Type {
    match *element {
        Type::BOOL => Type::BOOL_ARRAY,
        Type::INT2 => Type::INT2_ARRAY,
        Type::INT4 => Type::INT4_ARRAY,
        Type::INT8 => Type::INT8_ARRAY,
        Type::OID => Type::OID_ARRAY,
        Type::FLOAT4 => Type::FLOAT4_ARRAY,
        Type::FLOAT8 => Type::FLOAT8_ARRAY,
        Type::NUMERIC => Type::NUMERIC_ARRAY,
        Type::DATE => Type::DATE_ARRAY,
        Type::TIME => Type::TIME_ARRAY,
        Type::TIMESTAMP => Type::TIMESTAMP_ARRAY,
        Type::TIMESTAMPTZ => Type::TIMESTAMPTZ_ARRAY,
        Type::INTERVAL => Type::INTERVAL_ARRAY,
        Type::BYTEA => Type::BYTEA_ARRAY,
        _ => Type::TEXT_ARRAY,
    }
}

/// The engine's type of a parameter. A numeric's precision and scale depend on its value; these are a default.
pub(crate) fn engine_type(pg_type: &Type) -> DataType {
    match *pg_type {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 | Type::OID => DataType::Int32,
        Type::INT8 => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        Type::NUMERIC => DataType::Decimal128(38, 10),
        Type::DATE => DataType::Date32,
        Type::TIME => DataType::Time64(TimeUnit::Nanosecond),
        Type::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Type::INTERVAL => DataType::Interval(IntervalUnit::MonthDayNano),
        Type::BYTEA => DataType::Binary,
        _ => match pg_type.kind() {
            Kind::Array(element) => DataType::List(Arc::new(Field::new_list_field(engine_type(element), true))),
            _ => DataType::Utf8,
        },
    }
}
