//! DMS's data types, the families of PostgreSQL types that they come from, and the casts between
//! them. Casts go through UTC where a time zone is dropped, and never shorten a text.

use super::Fault;
use super::json::{Object, Report};

/// What an expression yields, as far as its SQL depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Null,
    Bool,
    /// The outcome of a condition: a boolean in PostgreSQL, 1 or 0 as a value in SQLite.
    Truth,
    /// Up to 32 bits.
    Int4,
    Int8,
    Decimal,
    Float,
    Text,
    /// A quoted literal, which PostgreSQL still reads as whatever it meets.
    Literal,
    Bytes,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Other,
}

impl Family {
    /// Of a type as `format_type()` writes it.
    pub(super) fn of(type_name: &str) -> Family {
        let array = type_name.ends_with(']');
        match type_name.split(['(', '[']).next().unwrap_or_default().trim() {
            _ if array => Family::Other,
            "boolean" => Family::Bool,
            "smallint" | "integer" => Family::Int4,
            "bigint" => Family::Int8,
            "numeric" => Family::Decimal,
            "real" | "double precision" => Family::Float,
            "text" | "character varying" | "character" | "bpchar" | "name" | "citext" | "\"char\"" => Family::Text,
            "bytea" => Family::Bytes,
            "date" => Family::Date,
            "time" | "time without time zone" if !type_name.contains("with time zone") => Family::Time,
            "timestamp" if type_name.contains("with time zone") => Family::TimestampTz,
            "timestamp" | "timestamp without time zone" => Family::Timestamp,
            "timestamp with time zone" => Family::TimestampTz,
            _ => Family::Other,
        }
    }

    pub(super) fn is_number(self) -> bool {
        matches!(self, Family::Int4 | Family::Int8 | Family::Decimal | Family::Float)
    }

    pub(super) fn is_text(self) -> bool {
        matches!(self, Family::Text | Family::Literal)
    }

    pub(super) fn is_temporal(self) -> bool {
        matches!(self, Family::Date | Family::Time | Family::Timestamp | Family::TimestampTz)
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Family::Null => "NULL",
            Family::Bool | Family::Truth => "a boolean",
            Family::Int4 | Family::Int8 => "an integer",
            Family::Decimal => "a decimal",
            Family::Float => "a float",
            Family::Text | Family::Literal => "a text",
            Family::Bytes => "bytes",
            Family::Date => "a date",
            Family::Time => "a time",
            Family::Timestamp | Family::TimestampTz => "a timestamp",
            Family::Other => "a type of its own",
        }
    }
}

/// SQL with what it yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sql {
    pub(super) text: String,
    pub(super) family: Family,
}

pub(super) fn cast(sql: &str, to: &str) -> String {
    format!("CAST({sql} AS {to})")
}

pub(super) fn in_utc(sql: &str) -> String {
    format!("({sql} AT TIME ZONE 'UTC')")
}

impl Sql {
    pub(super) fn new(text: impl Into<String>, family: Family) -> Sql {
        Sql { text: text.into(), family }
    }

    /// A condition becomes 1 or 0, as in SQLite.
    pub(super) fn value(self) -> Sql {
        match self.family {
            Family::Truth => Sql::new(cast(&self.text, "integer"), Family::Int4),
            _ => self,
        }
    }

    pub(super) fn into_text(self) -> Result<Sql, Fault> {
        let Sql { text, family } = self.value();
        Ok(match family {
            Family::Text | Family::Literal => Sql::new(text, family),
            Family::Bytes => {
                return Err(Fault::new("takes bytes for a text").hint("use hex() on them"));
            }
            Family::TimestampTz => Sql::new(cast(&in_utc(&text), "text"), Family::Text),
            _ => Sql::new(cast(&text, "text"), Family::Text),
        })
    }
}

/// A type of the target: how PostgreSQL calls it, and its family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DataType {
    pub(super) sql: String,
    family: Family,
}

const KNOWN: [&str; 20] = [
    "bytes", "date", "time", "datetime", "int1", "int2", "int4", "int8", "numeric", "real4", "real8", "string",
    "wstring", "uint1", "uint2", "uint4", "uint8", "blob", "clob", "nclob",
];

pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name) || name == "boolean"
}

pub(super) fn unknown(name: &str) -> Fault {
    Fault::new(format!("data-type \"{name}\" is not supported"))
        .hint(format!("use one of {}, boolean", KNOWN.join(", ")))
}

/// Whether DMS reads a PostgreSQL type as this type of its own.
pub(super) fn is_carried_as(type_name: &str, dms: &str) -> bool {
    let names: &[&str] = match Family::of(type_name) {
        Family::Int4 if type_name == "smallint" => &["int2"],
        Family::Int4 => &["int4"],
        Family::Int8 => &["int8"],
        Family::Decimal => &["numeric"],
        Family::Float if type_name == "real" => &["real4"],
        Family::Float => &["real8"],
        Family::Bool => &["boolean"],
        Family::Bytes => &["blob", "bytes"],
        Family::Date => &["date"],
        Family::Time => &["time"],
        Family::Timestamp | Family::TimestampTz => &["datetime"],
        Family::Text if type_name == "text" || type_name == "citext" => &["nclob", "clob"],
        Family::Text => &["wstring", "string"],
        _ if matches!(type_name, "json" | "jsonb" | "xml" | "hstore") => &["nclob", "clob"],
        _ => &["string"],
    };
    names.contains(&dms)
}

impl DataType {
    pub(super) fn read(object: &Object<'_>, report: &mut Report) -> Option<DataType> {
        object.only(&["type", "precision", "scale", "length"], report);
        let name = object.required("type", report)?;
        let mut number = |key| object.number(key, report);
        let (precision, scale, length) = (number("precision"), number("scale"), number("length"));
        let of = |sql: &str, family| Some(DataType { sql: sql.to_owned(), family });
        match name {
            "int1" | "int2" | "uint1" => of("smallint", Family::Int4),
            "int4" | "uint2" => of("integer", Family::Int4),
            "int8" | "uint4" | "uint8" => of("bigint", Family::Int8),
            "real4" => of("real", Family::Float),
            "real8" => of("double precision", Family::Float),
            "numeric" => of(&report.take(numeric(precision, scale))?, Family::Decimal),
            "boolean" => of("boolean", Family::Bool),
            "date" => of("date", Family::Date),
            // PostgreSQL keeps microseconds; more digits than its six are never in the source.
            "time" => of(&report.take(with_fraction("time", precision, scale))?, Family::Time),
            "datetime" => {
                let sql = report.take(with_fraction("timestamp", precision, scale))?;
                of(&sql, Family::Timestamp)
            }
            "string" | "wstring" => match length {
                None | Some(0) => of("text", Family::Text),
                Some(n @ 1..=10_485_760) => of(&format!("character varying({n})"), Family::Text),
                Some(n) => {
                    report.says(format!("a string can't have the length {n}"));
                    None
                }
            },
            "clob" | "nclob" => of("text", Family::Text),
            "bytes" | "blob" => of("bytea", Family::Bytes),
            other => {
                report.fault(unknown(other));
                None
            }
        }
    }

    /// The cast of a value to this type, where it has one.
    pub(super) fn convert(&self, from: Sql) -> Result<Sql, Fault> {
        use Family::*;
        let from = from.value();
        let sql = from.text.as_str();
        let none = || {
            let word = from.family.word();
            Fault::new(format!("{word} can't become {}", self.sql))
                .hint("change it to string first, or build the value with an expression")
        };
        let plain = Ok(cast(sql, &self.sql));
        let converted = match (from.family, self.family) {
            (Text | Literal, Text) => Ok(cast(sql, "text")),
            (_, Text) => return from.into_text(),
            (Null | Text | Literal, Bytes) => Ok(format!("convert_to({}, 'UTF8')", from.clone().into_text()?.text)),
            (Null | Text | Literal, _) => plain,
            (Int4 | Int8 | Decimal | Float, Int4 | Int8 | Decimal | Float) => plain,
            (Bool, Int4) if self.sql == "integer" => plain,
            (Bool, Int4 | Int8 | Decimal | Float) => Ok(cast(&cast(sql, "integer"), &self.sql)),
            (Int4 | Int8 | Decimal | Float, Bool) => Ok(format!("({sql} <> 0)")),
            (Bool, Bool) | (Bytes, Bytes) | (Time, Time) => plain,
            (Date | Timestamp, Date | Timestamp) | (Timestamp, Time) => plain,
            (TimestampTz, Date | Timestamp | Time) => Ok(cast(&in_utc(sql), &self.sql)),
            _ => Err(none()),
        };
        converted.map(|text| Sql::new(text, self.family))
    }
}

fn numeric(precision: Option<i64>, scale: Option<i64>) -> Result<String, Fault> {
    match (precision, scale.unwrap_or(0)) {
        (None | Some(0), 0) => Ok("numeric".to_owned()),
        (Some(p @ 1..=1000), s) if (0..=p).contains(&s) => Ok(format!("numeric({p},{s})")),
        (p, s) => {
            let p = p.unwrap_or(0);
            Err(Fault::new(format!("numeric can't have the precision {p} and the scale {s}")))
        }
    }
}

/// DMS's documents put the digits of a second into precision, its console into scale.
fn with_fraction(name: &str, precision: Option<i64>, scale: Option<i64>) -> Result<String, Fault> {
    match precision.filter(|p| *p > 0).or(scale) {
        None => Ok(name.to_owned()),
        Some(digits @ 0..=9) => Ok(format!("{name}({})", digits.min(6))),
        Some(digits) => Err(Fault::new(format!("{name} can't have {digits} digits of a second"))),
    }
}
