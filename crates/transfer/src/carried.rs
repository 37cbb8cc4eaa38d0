//! How each PostgreSQL type is carried: the Arrow type it becomes, the binary form it is read
//! from and, where its binary form is of no use, the cast that the source makes.
//!
//! The rule: a type is carried exactly, or by a mapping that docs/types.md gives, or its text is.

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use std::sync::Arc;

/// A type's binary form and what becomes of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Bool,
    I16,
    I32,
    I64,
    /// oid, xid, cid: unsigned, so one size up.
    U32,
    F32,
    F64,
    Decimal {
        precision: u8,
        scale: i8,
    },
    /// numeric without a precision, or with one beyond 38 digits: its text, exact.
    NumericText,
    Text,
    /// jsonb's binary form is a version byte and the text.
    Jsonb,
    Bytes,
    Uuid,
    Date,
    /// With `utc`, an instant; without, a local time.
    Timestamp {
        utc: bool,
    },
    Time,
    TimeTz,
    Interval,
    Inet,
    MacAddress,
    List(Box<Kind>),
    Struct(Vec<(String, Kind)>),
    Range(Box<Kind>),
    Multirange(Box<Kind>),
}

impl Kind {
    pub fn arrow(&self) -> DataType {
        match self {
            Kind::Bool => DataType::Boolean,
            Kind::I16 => DataType::Int16,
            Kind::I32 => DataType::Int32,
            Kind::I64 | Kind::U32 => DataType::Int64,
            Kind::F32 => DataType::Float32,
            Kind::F64 => DataType::Float64,
            Kind::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale),
            Kind::NumericText
            | Kind::Text
            | Kind::Jsonb
            | Kind::Uuid
            | Kind::Time
            | Kind::TimeTz
            | Kind::Interval
            | Kind::Inet
            | Kind::MacAddress => DataType::Utf8,
            Kind::Bytes => DataType::Binary,
            Kind::Date => DataType::Date32,
            Kind::Timestamp { utc: true } => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Kind::Timestamp { utc: false } => DataType::Timestamp(TimeUnit::Microsecond, None),
            Kind::List(element) => list_of(element.arrow()),
            Kind::Struct(fields) => {
                DataType::Struct(fields.iter().map(|(name, kind)| Field::new(name, kind.arrow(), true)).collect())
            }
            Kind::Range(bound) => DataType::Struct(range_fields(bound)),
            Kind::Multirange(bound) => list_of(DataType::Struct(range_fields(bound))),
        }
    }

    /// Whether the kind can order an INCREMENTAL transfer.
    pub fn is_cursor(&self) -> bool {
        matches!(self, Kind::I16 | Kind::I32 | Kind::I64 | Kind::Timestamp { .. })
    }

    pub fn is_instant(&self) -> bool {
        matches!(self, Kind::Timestamp { .. })
    }
}

/// Delta's lists name their element so.
pub const ELEMENT: &str = "element";

fn list_of(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new(ELEMENT, element, true)))
}

pub fn range_fields(bound: &Kind) -> Fields {
    let bound = bound.arrow();
    Fields::from(vec![
        Field::new("lower", bound.clone(), true),
        Field::new("upper", bound, true),
        Field::new("lower_inclusive", DataType::Boolean, true),
        Field::new("upper_inclusive", DataType::Boolean, true),
        Field::new("empty", DataType::Boolean, true),
    ])
}

/// A type of the source's catalogue, resolved down to what it is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceType {
    /// A built-in type by its name in pg_catalog, with its modifier.
    Builtin {
        name: String,
        modifier: i32,
    },
    Enum,
    Array(Box<SourceType>),
    Composite(Vec<(String, SourceType)>),
    Range(Box<SourceType>),
    Multirange(Box<SourceType>),
    /// An extension's type, by name.
    Other(String),
}

/// How one column is asked for and decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Carried {
    pub kind: Kind,
    /// A cast that the source makes, such as `text`.
    pub cast: Option<&'static str>,
}

/// The mapping of docs/types.md.
pub fn carry(source: &SourceType) -> Carried {
    if let Some(kind) = native(source) {
        return Carried { kind, cast: None };
    }
    match source {
        SourceType::Builtin { name, .. } if name == "money" => {
            Carried { kind: Kind::Decimal { precision: 19, scale: 2 }, cast: Some("numeric") }
        }
        SourceType::Array(element) => match &**element {
            SourceType::Builtin { name, .. } if name == "money" => Carried {
                kind: Kind::List(Box::new(Kind::Decimal { precision: 19, scale: 2 })),
                cast: Some("numeric[]"),
            },
            // An array of arrays can't be told from one of more dimensions; its text says all.
            SourceType::Array(_) => Carried { kind: Kind::Text, cast: Some("text") },
            _ => Carried { kind: Kind::List(Box::new(Kind::Text)), cast: Some("text[]") },
        },
        _ => Carried { kind: Kind::Text, cast: Some("text") },
    }
}

/// The kind, where the type's own binary form is read.
fn native(source: &SourceType) -> Option<Kind> {
    Some(match source {
        SourceType::Enum => Kind::Text,
        SourceType::Builtin { name, modifier } => return builtin(name, *modifier),
        SourceType::Array(element) => match native(element)? {
            Kind::List(_) => return None,
            element => Kind::List(Box::new(element)),
        },
        // Delta has no struct without fields, and a composite may have lost all of them.
        SourceType::Composite(fields) if fields.is_empty() => return None,
        SourceType::Composite(fields) => Kind::Struct(
            fields.iter().map(|(name, field)| Some((name.clone(), native(field)?))).collect::<Option<_>>()?,
        ),
        SourceType::Range(bound) => Kind::Range(Box::new(native(bound)?)),
        SourceType::Multirange(bound) => Kind::Multirange(Box::new(native(bound)?)),
        SourceType::Other(name) => match name.as_str() {
            "citext" => Kind::Text,
            // PostGIS sends EWKB, which every reader of geometries knows.
            "geometry" | "geography" => Kind::Bytes,
            _ => return None,
        },
    })
}

fn builtin(name: &str, modifier: i32) -> Option<Kind> {
    Some(match name {
        "bool" => Kind::Bool,
        "int2" => Kind::I16,
        "int4" => Kind::I32,
        "int8" => Kind::I64,
        "oid" | "xid" | "cid" => Kind::U32,
        "float4" => Kind::F32,
        "float8" => Kind::F64,
        "numeric" => numeric(modifier),
        "text" | "varchar" | "bpchar" | "name" | "xml" | "json" => Kind::Text,
        "jsonb" => Kind::Jsonb,
        "bytea" => Kind::Bytes,
        "uuid" => Kind::Uuid,
        "date" => Kind::Date,
        "timestamp" => Kind::Timestamp { utc: false },
        "timestamptz" => Kind::Timestamp { utc: true },
        "time" => Kind::Time,
        "timetz" => Kind::TimeTz,
        "interval" => Kind::Interval,
        "inet" | "cidr" => Kind::Inet,
        "macaddr" | "macaddr8" => Kind::MacAddress,
        _ => return None,
    })
}

/// The widest decimal that Delta and Arrow's 128 bits hold.
pub const DECIMAL_DIGITS_MAX: i32 = 38;

fn numeric(modifier: i32) -> Kind {
    if modifier < 4 {
        return Kind::NumericText;
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
        (Ok(precision), Ok(scale)) if digits <= DECIMAL_DIGITS_MAX => Kind::Decimal { precision, scale },
        _ => Kind::NumericText,
    }
}

#[cfg(test)]
mod tests;
