//! The mapping of PostgreSQL types: the Arrow type that a column becomes, the binary format that its values are read
//! in and, where that format can't be used, the cast that the source makes.
//!
//! A value is transferred exactly, or by a mapping that docs/types.md gives, or as its text.

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use std::sync::Arc;

/// How the values of a type are read from the binary format, and which Arrow type they become.
#[derive(Debug, Clone, PartialEq)]
pub enum ColumnKind {
    /// boolean
    Bool,
    /// smallint
    I16,
    /// integer
    I32,
    /// bigint
    I64,
    /// oid, xid, cid: unsigned 32 bits, which Arrow gets as 64 bits with a sign.
    U32,
    /// real
    F32,
    /// double precision
    F64,
    /// numeric of up to 38 digits.
    Decimal { precision: u8, scale: i8 },
    /// numeric without a precision, or with one of more than 38 digits: its exact text.
    NumericText,
    /// A type whose binary format is its text, and every type that the source casts to text.
    Text,
    /// jsonb, whose binary format is a version byte and the text.
    Jsonb,
    /// bytea, and the geometries of PostGIS.
    Bytes,
    /// uuid, as its text.
    Uuid,
    /// date
    Date,
    /// timestamptz, an instant, where `utc` is true; else timestamp, a local time.
    Timestamp { utc: bool },
    /// time, as its text.
    Time,
    /// timetz, as its text.
    TimeTz,
    /// interval, as its text in ISO 8601.
    Interval,
    /// inet and cidr, as their text.
    Inet,
    /// macaddr and macaddr8, as their text.
    MacAddress,
    /// An array of one dimension, by the kind of its elements.
    List(Box<ColumnKind>),
    /// A composite type, by the names and kinds of its fields.
    Struct(Vec<(String, ColumnKind)>),
    /// A range, by the kind of its bounds; [`range_fields`] has its Arrow fields.
    Range(Box<ColumnKind>),
    /// A list of ranges, by the kind of their bounds.
    Multirange(Box<ColumnKind>),
}

impl ColumnKind {
    /// The Arrow type of a column of this kind.
    pub fn arrow(&self) -> DataType {
        match self {
            ColumnKind::Bool => DataType::Boolean,
            ColumnKind::I16 => DataType::Int16,
            ColumnKind::I32 => DataType::Int32,
            ColumnKind::I64 | ColumnKind::U32 => DataType::Int64,
            ColumnKind::F32 => DataType::Float32,
            ColumnKind::F64 => DataType::Float64,
            ColumnKind::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale),
            ColumnKind::NumericText
            | ColumnKind::Text
            | ColumnKind::Jsonb
            | ColumnKind::Uuid
            | ColumnKind::Time
            | ColumnKind::TimeTz
            | ColumnKind::Interval
            | ColumnKind::Inet
            | ColumnKind::MacAddress => DataType::Utf8,
            ColumnKind::Bytes => DataType::Binary,
            ColumnKind::Date => DataType::Date32,
            ColumnKind::Timestamp { utc: true } => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            ColumnKind::Timestamp { utc: false } => DataType::Timestamp(TimeUnit::Microsecond, None),
            ColumnKind::List(element) => list_of(element.arrow()),
            ColumnKind::Struct(fields) => {
                DataType::Struct(fields.iter().map(|(name, kind)| Field::new(name, kind.arrow(), true)).collect())
            }
            ColumnKind::Range(bound) => DataType::Struct(range_fields(bound)),
            ColumnKind::Multirange(bound) => list_of(DataType::Struct(range_fields(bound))),
        }
    }

    /// Whether a column of this kind can be found by itself as the cursor of an INCREMENTAL transfer.
    pub fn is_cursor(&self) -> bool {
        matches!(self, ColumnKind::I16 | ColumnKind::I32 | ColumnKind::I64 | ColumnKind::Timestamp { .. })
    }

    /// Whether the values are timestamps, with or without a time zone.
    pub fn is_instant(&self) -> bool {
        matches!(self, ColumnKind::Timestamp { .. })
    }
}

/// The name of a list's element field in Delta Lake.
pub const ELEMENT: &str = "element";

fn list_of(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new(ELEMENT, element, true)))
}

/// The Arrow fields of a range whose bounds are of this kind.
pub fn range_fields(bound: &ColumnKind) -> Fields {
    let bound = bound.arrow();
    Fields::from(vec![
        Field::new("lower", bound.clone(), true),
        Field::new("upper", bound, true),
        Field::new("lower_inclusive", DataType::Boolean, true),
        Field::new("upper_inclusive", DataType::Boolean, true),
        Field::new("empty", DataType::Boolean, true),
    ])
}

/// A type of the source's catalogue, with domains, arrays and composites resolved to the types that they consist of.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceType {
    /// A type of the schema pg_catalog.
    Builtin {
        /// `pg_type.typname`
        name: String,
        /// `pg_attribute.atttypmod`; -1 where there is none.
        modifier: i32,
    },
    /// Any enumerated type.
    Enum,
    /// An array, by the type of its elements.
    Array(Box<SourceType>),
    /// A composite type, by the names and types of its fields.
    Composite(Vec<(String, SourceType)>),
    /// A range, by the type of its bounds.
    Range(Box<SourceType>),
    /// A multirange, by the type of its bounds.
    Multirange(Box<SourceType>),
    /// A type of an extension, and every other one, by its name.
    Other(String),
}

/// How the values of one column are selected at the source and decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnMapping {
    /// How the selected values are decoded.
    pub kind: ColumnKind,
    /// The type that the source casts the values to, such as `text`; `None` where they are selected without a cast.
    pub cast: Option<&'static str>,
}

/// The mapping of docs/types.md, for a column without settings of its own. Every type has one.
pub fn map_type(source: &SourceType) -> ColumnMapping {
    if let Some(kind) = native(source) {
        return ColumnMapping { kind, cast: None };
    }
    match source {
        SourceType::Builtin { name, .. } if name == "money" => {
            ColumnMapping { kind: ColumnKind::Decimal { precision: 19, scale: 2 }, cast: Some("numeric") }
        }
        SourceType::Array(element) => match &**element {
            SourceType::Builtin { name, .. } if name == "money" => ColumnMapping {
                kind: ColumnKind::List(Box::new(ColumnKind::Decimal { precision: 19, scale: 2 })),
                cast: Some("numeric[]"),
            },
            // An array of arrays can't be told from an array of several dimensions; its text is exact.
            SourceType::Array(_) => ColumnMapping { kind: ColumnKind::Text, cast: Some("text") },
            _ => ColumnMapping { kind: ColumnKind::List(Box::new(ColumnKind::Text)), cast: Some("text[]") },
        },
        _ => ColumnMapping { kind: ColumnKind::Text, cast: Some("text") },
    }
}

/// The kind of a type that is read in its own binary format; `None` where it takes a cast.
fn native(source: &SourceType) -> Option<ColumnKind> {
    Some(match source {
        SourceType::Enum => ColumnKind::Text,
        SourceType::Builtin { name, modifier } => return builtin(name, *modifier),
        SourceType::Array(element) => match native(element)? {
            ColumnKind::List(_) => return None,
            element => ColumnKind::List(Box::new(element)),
        },
        // Delta Lake has no struct without fields; all fields of a composite may have been dropped.
        SourceType::Composite(fields) if fields.is_empty() => return None,
        SourceType::Composite(fields) => ColumnKind::Struct(
            fields.iter().map(|(name, field)| Some((name.clone(), native(field)?))).collect::<Option<_>>()?,
        ),
        SourceType::Range(bound) => ColumnKind::Range(Box::new(native(bound)?)),
        SourceType::Multirange(bound) => ColumnKind::Multirange(Box::new(native(bound)?)),
        SourceType::Other(name) => match name.as_str() {
            "citext" => ColumnKind::Text,
            // PostGIS sends EWKB, which readers of geometries accept.
            "geometry" | "geography" => ColumnKind::Bytes,
            _ => return None,
        },
    })
}

fn builtin(name: &str, modifier: i32) -> Option<ColumnKind> {
    Some(match name {
        "bool" => ColumnKind::Bool,
        "int2" => ColumnKind::I16,
        "int4" => ColumnKind::I32,
        "int8" => ColumnKind::I64,
        "oid" | "xid" | "cid" => ColumnKind::U32,
        "float4" => ColumnKind::F32,
        "float8" => ColumnKind::F64,
        "numeric" => numeric(modifier),
        "text" | "varchar" | "bpchar" | "name" | "xml" | "json" => ColumnKind::Text,
        "jsonb" => ColumnKind::Jsonb,
        "bytea" => ColumnKind::Bytes,
        "uuid" => ColumnKind::Uuid,
        "date" => ColumnKind::Date,
        "timestamp" => ColumnKind::Timestamp { utc: false },
        "timestamptz" => ColumnKind::Timestamp { utc: true },
        "time" => ColumnKind::Time,
        "timetz" => ColumnKind::TimeTz,
        "interval" => ColumnKind::Interval,
        "inet" | "cidr" => ColumnKind::Inet,
        "macaddr" | "macaddr8" => ColumnKind::MacAddress,
        _ => return None,
    })
}

/// The greatest precision of a decimal in Delta Lake and in Arrow's 128 bits.
pub const DECIMAL_DIGITS_MAX: i32 = 38;

fn numeric(modifier: i32) -> ColumnKind {
    if modifier < 4 {
        return ColumnKind::NumericText;
    }
    let modifier = modifier - 4;
    let precision = (modifier >> 16) & 0xffff;
    // Eleven bits, signed: PostgreSQL 15 allows scales from -1000 to 1000.
    let scale = ((modifier & 0x7ff) ^ 1024) - 1024;
    let (digits, scale) = match scale {
        s if s < 0 => (precision - s, 0),
        s if s > precision => (s, s),
        s => (precision, s),
    };
    match (u8::try_from(digits), i8::try_from(scale)) {
        (Ok(precision), Ok(scale)) if digits <= DECIMAL_DIGITS_MAX => ColumnKind::Decimal { precision, scale },
        _ => ColumnKind::NumericText,
    }
}

#[cfg(test)]
mod tests;
