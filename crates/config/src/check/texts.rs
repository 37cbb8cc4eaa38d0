//! Parses and checks texts: durations, types of columns, patterns, names.

use std::time::Duration;

use super::super::ColumnAs;

/// Longer than any useful duration, and far from where microseconds overflow.
const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A whole number and `s`, `min`, `h` or `d`, at most a hundred years.
pub fn duration(text: &str) -> Option<Duration> {
    base::parse_duration(text).filter(|duration| *duration <= DURATION_MAX && !text.ends_with("ms"))
}

/// `text`, `double`, `bytes` or `decimal(precision,scale)`.
pub fn column_as(text: &str) -> Option<ColumnAs> {
    match text {
        "text" => return Some(ColumnAs::Text),
        "double" => return Some(ColumnAs::Double),
        "bytes" => return Some(ColumnAs::Bytes),
        _ => {}
    }
    let (precision, scale) = text.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
    let precision: u8 = digits(precision)?;
    let scale: u8 = digits(scale)?;
    let is_valid = (1..=38).contains(&precision) && scale <= precision;
    is_valid.then_some(ColumnAs::Decimal(precision, i8::try_from(scale).ok()?))
}

fn digits(text: &str) -> Option<u8> {
    let text = text.trim_matches(' ');
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Whether a pattern can match `schema.table`.
pub fn is_pattern(text: &str) -> bool {
    text.contains('.') || text.contains('*')
}

/// Whether a text can name a job, a hook or a role: such names are parts of positions, paths and commands.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
}

/// Whether SQL accepts the name without quotes.
pub fn is_plain(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
