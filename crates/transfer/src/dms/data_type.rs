//! The data types of DMS, the families of PostgreSQL types, and the casts between them. A cast that drops a time zone
//! converts to UTC first; none truncates a text.

use super::json::{Object, RuleProblems};
use super::problem::RuleError;

/// The type of an expression, as far as the SQL around it depends on the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Null,
    Bool,
    /// The result of a condition: a boolean in PostgreSQL, 1 or 0 as a value in SQLite.
    Condition,
    /// smallint and integer.
    Int4,
    Int8,
    Decimal,
    Float,
    Text,
    /// A quoted literal, which PostgreSQL reads as the type that its context needs.
    Literal,
    Bytes,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Other,
}

impl Family {
    /// The family of a type, given as `format_type()` writes it.
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

    /// Whether values are numbers.
    pub(super) fn is_number(self) -> bool {
        matches!(self, Family::Int4 | Family::Int8 | Family::Decimal | Family::Float)
    }

    /// Whether values are texts or literals.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Family::Text | Family::Literal)
    }

    /// Whether values are dates or times.
    pub(super) fn is_temporal(self) -> bool {
        matches!(self, Family::Date | Family::Time | Family::Timestamp | Family::TimestampTz)
    }

    /// The family in a message: "a text", "an integer".
    pub(super) fn description(self) -> &'static str {
        match self {
            Family::Null => "NULL",
            Family::Bool | Family::Condition => "a boolean",
            Family::Int4 | Family::Int8 => "an integer",
            Family::Decimal => "a decimal",
            Family::Float => "a float",
            Family::Text | Family::Literal => "a text",
            Family::Bytes => "bytes",
            Family::Date => "a date",
            Family::Time => "a time",
            Family::Timestamp | Family::TimestampTz => "a timestamp",
            Family::Other => "a value of another type",
        }
    }
}

/// A SQL expression with its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sql {
    pub(super) text: String,
    pub(super) family: Family,
}

/// The SQL that casts an expression to a type.
pub(super) fn cast(sql: &str, to: &str) -> String {
    format!("CAST({sql} AS {to})")
}

/// The SQL that converts a timestamp with time zone to local time in UTC.
pub(super) fn in_utc(sql: &str) -> String {
    format!("({sql} AT TIME ZONE 'UTC')")
}

impl Sql {
    /// An expression with its type.
    pub(super) fn new(text: impl Into<String>, family: Family) -> Sql {
        Sql { text: text.into(), family }
    }

    /// The expression as a value: a condition becomes 1 or 0, as in SQLite.
    pub(super) fn value(self) -> Sql {
        match self.family {
            Family::Condition => Sql::new(cast(&self.text, "integer"), Family::Int4),
            _ => self,
        }
    }

    /// The expression as a text. Bytes are refused.
    pub(super) fn into_text(self) -> Result<Sql, RuleError> {
        let Sql { text, family } = self.value();
        Ok(match family {
            Family::Text | Family::Literal => Sql::new(text, family),
            Family::Bytes => {
                return Err(RuleError::new("bytes are used as a text").hint("convert them with hex()"));
            }
            Family::TimestampTz => Sql::new(cast(&in_utc(&text), "text"), Family::Text),
            _ => Sql::new(cast(&text, "text"), Family::Text),
        })
    }
}

/// A type of the target: its name in PostgreSQL, and its family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DataType {
    pub(super) sql: String,
    family: Family,
}

const KNOWN: [&str; 20] = [
    "bytes", "date", "time", "datetime", "int1", "int2", "int4", "int8", "numeric", "real4", "real8", "string",
    "wstring", "uint1", "uint2", "uint4", "uint8", "blob", "clob", "nclob",
];

/// Whether DMS has a data type of this name.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name) || name == "boolean"
}

/// The error for a data type that DMS does not have.
pub(super) fn unknown(name: &str) -> RuleError {
    RuleError::new(format!("data-type \"{name}\" is not supported"))
        .hint(format!("use one of {}, boolean", KNOWN.join(", ")))
}

/// Whether DMS maps a PostgreSQL type to this data type of its own.
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
    /// Reads a `data-type` object, with its problems.
    pub(super) fn read(object: &Object<'_>, report: &mut RuleProblems) -> Option<DataType> {
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
            "numeric" => of(&report.accept(numeric(precision, scale))?, Family::Decimal),
            "boolean" => of("boolean", Family::Bool),
            "date" => of("date", Family::Date),
            // PostgreSQL stores microseconds, so values of the source never have more than six digits.
            "time" => of(&report.accept(with_fraction("time", precision, scale))?, Family::Time),
            "datetime" => {
                let sql = report.accept(with_fraction("timestamp", precision, scale))?;
                of(&sql, Family::Timestamp)
            }
            "string" | "wstring" => match length {
                None | Some(0) => of("text", Family::Text),
                Some(n @ 1..=10_485_760) => of(&format!("character varying({n})"), Family::Text),
                Some(n) => {
                    report.add(format!("a string can't have the length {n}"));
                    None
                }
            },
            "clob" | "nclob" => of("text", Family::Text),
            "bytes" | "blob" => of("bytea", Family::Bytes),
            other => {
                report.add_error(unknown(other));
                None
            }
        }
    }

    /// The cast of a value to this type, or an error where there is none.
    pub(super) fn convert(&self, from: Sql) -> Result<Sql, RuleError> {
        use Family::*;
        let from = from.value();
        let sql = from.text.as_str();
        let none = || {
            let word = from.family.description();
            RuleError::new(format!("{word} can't be cast to {}", self.sql))
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

fn numeric(precision: Option<i64>, scale: Option<i64>) -> Result<String, RuleError> {
    match (precision, scale.unwrap_or(0)) {
        (None | Some(0), 0) => Ok("numeric".to_owned()),
        (Some(p @ 1..=1000), s) if (0..=p).contains(&s) => Ok(format!("numeric({p},{s})")),
        (p, s) => {
            let p = p.unwrap_or(0);
            Err(RuleError::new(format!("numeric can't have the precision {p} and the scale {s}")))
        }
    }
}

/// The digits of a second are in `precision` by DMS's documentation, and in `scale` as its console writes them.
fn with_fraction(name: &str, precision: Option<i64>, scale: Option<i64>) -> Result<String, RuleError> {
    match precision.filter(|p| *p > 0).or(scale) {
        None => Ok(name.to_owned()),
        Some(digits @ 0..=9) => Ok(format!("{name}({})", digits.min(6))),
        Some(digits) => Err(RuleError::new(format!("{name} can't have {digits} digits of a second"))),
    }
}
