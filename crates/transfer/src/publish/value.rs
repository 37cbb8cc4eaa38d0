//! The values of PostgreSQL's text format as the members of a message: numbers and truth values as such, and everything
//! else as texts, instants in ISO 8601.

use stream::message::{ColumnType, write_string};

use crate::type_map::{ColumnKind, SourceType, map_type};

/// How the values of a column are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueForm {
    /// true or false.
    Bool,
    /// A number, unless it is not finite.
    Number,
    /// A local time or an instant.
    Timestamp,
    /// A text.
    Text,
}

/// The type of a column in messages, its type at the source where DMS's is not exact, and the form of its values.
pub fn describe(source: &SourceType, type_name: &str) -> (ColumnType, Option<String>, ValueForm) {
    let native = || Some(type_name.to_owned());
    if let SourceType::Builtin { name, modifier } = source {
        // A length that the type has is part of its modifier, with four bytes for itself.
        let length = || u32::try_from(modifier - 4).ok().filter(|length| *length > 0);
        match name.as_str() {
            "varchar" | "bpchar" => {
                let exact = (name == "bpchar").then(|| type_name.to_owned());
                return (ColumnType::Text(length()), exact, ValueForm::Text);
            }
            "text" => return (ColumnType::Text(None), None, ValueForm::Text),
            "time" => return (ColumnType::Time, None, ValueForm::Text),
            _ => {}
        }
    }
    match map_type(source).kind {
        ColumnKind::Bool => (ColumnType::Boolean, None, ValueForm::Bool),
        ColumnKind::I16 => (ColumnType::Int(2), None, ValueForm::Number),
        ColumnKind::I32 => (ColumnType::Int(4), None, ValueForm::Number),
        ColumnKind::I64 => (ColumnType::Int(8), None, ValueForm::Number),
        ColumnKind::U32 => (ColumnType::Uint(4), None, ValueForm::Number),
        ColumnKind::F32 => (ColumnType::Real4, None, ValueForm::Number),
        ColumnKind::F64 => (ColumnType::Real8, None, ValueForm::Number),
        // The text of money has a currency.
        ColumnKind::Decimal { .. } if type_name == "money" => (ColumnType::Text(None), native(), ValueForm::Text),
        ColumnKind::Decimal { precision, scale } => {
            let scale = u8::try_from(scale).unwrap_or_default();
            (ColumnType::Numeric(Some((precision, scale))), None, ValueForm::Number)
        }
        ColumnKind::NumericText => (ColumnType::Numeric(None), native(), ValueForm::Number),
        ColumnKind::Date => (ColumnType::Date, None, ValueForm::Text),
        ColumnKind::Timestamp { .. } => (ColumnType::Datetime, native(), ValueForm::Timestamp),
        ColumnKind::Bytes if type_name == "bytea" => (ColumnType::Bytes(None), None, ValueForm::Text),
        _ => (ColumnType::Text(None), native(), ValueForm::Text),
    }
}

impl ValueForm {
    /// Writes a value, which is in PostgreSQL's text format.
    pub fn write(self, text: &str, out: &mut Vec<u8>) {
        match self {
            ValueForm::Bool => out.extend_from_slice(if text.starts_with('t') { b"true" } else { b"false" }),
            ValueForm::Number if is_finite(text) => out.extend_from_slice(text.as_bytes()),
            ValueForm::Timestamp => write_timestamp(text, out),
            ValueForm::Number | ValueForm::Text => write_string(text, out),
        }
    }
}

/// Whether the text of a number is one of JSON too: NaN and the infinities are not.
fn is_finite(text: &str) -> bool {
    text.as_bytes().last().is_some_and(u8::is_ascii_digit)
}

/// `2019-10-31 22:53:59.721201+00` as `2019-10-31T22:53:59.721201Z`. What has another form, such as a year before our
/// era, stays as it is.
fn write_timestamp(text: &str, out: &mut Vec<u8>) {
    let local = text.strip_suffix("+00").unwrap_or(text);
    let bytes = local.as_bytes();
    let is_plain = bytes.len() >= 19
        && bytes[4] == b'-'
        && bytes[10] == b' '
        && bytes[11..].iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.'));
    if !is_plain {
        return write_string(text, out);
    }
    out.push(b'"');
    out.extend_from_slice(&bytes[..10]);
    out.push(b'T');
    out.extend_from_slice(&bytes[11..]);
    out.extend_from_slice(b"Z\"");
}

#[cfg(test)]
mod tests {
    use super::ValueForm;

    fn written(form: ValueForm, text: &str) -> String {
        let mut out = Vec::new();
        form.write(text, &mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    #[test]
    fn values_have_the_forms_of_dms() {
        for (form, text, expected) in [
            (ValueForm::Bool, "t", "true"),
            (ValueForm::Bool, "false", "false"),
            (ValueForm::Number, "-1.50", "-1.50"),
            (ValueForm::Number, "1e+20", "1e+20"),
            (ValueForm::Number, "NaN", "\"NaN\""),
            (ValueForm::Number, "-Infinity", "\"-Infinity\""),
            (ValueForm::Timestamp, "2019-10-31 22:53:59.721201+00", "\"2019-10-31T22:53:59.721201Z\""),
            (ValueForm::Timestamp, "2019-10-31 22:53:59", "\"2019-10-31T22:53:59Z\""),
            (ValueForm::Timestamp, "infinity", "\"infinity\""),
            (ValueForm::Timestamp, "0044-03-15 12:00:00 BC", "\"0044-03-15 12:00:00 BC\""),
            (ValueForm::Timestamp, "12019-10-31 22:53:59+00", "\"12019-10-31 22:53:59+00\""),
            (ValueForm::Text, "a\"b\n", "\"a\\\"b\\n\""),
        ] {
            assert_eq!(written(form, text), expected);
        }
    }
}
