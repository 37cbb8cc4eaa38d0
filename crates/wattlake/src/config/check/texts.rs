//! Texts with a meaning of their own: durations, types, patterns.

use std::time::Duration;

use super::super::ColumnAs;

/// Longer than any overlap with a sense, and far from where microseconds overflow.
const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A whole number and `s`, `min`, `h` or `d`.
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let seconds = match unit.strip_prefix(' ').unwrap_or(unit) {
        "s" => 1,
        "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let duration = Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?);
    (duration <= DURATION_MAX).then_some(duration)
}

/// A whole number and `MB` or `GB`, in powers of 1024 as PostgreSQL has them.
pub fn bytes(text: &str) -> Option<usize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit: usize = match unit.strip_prefix(' ').unwrap_or(unit) {
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(unit).filter(|bytes| *bytes > 0)
}

/// `text`, `double` or `decimal(precision,scale)`.
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
    let is_good = (1..=38).contains(&precision) && scale <= precision;
    is_good.then_some(ColumnAs::Decimal(precision, i8::try_from(scale).ok()?))
}

fn digits(text: &str) -> Option<u8> {
    let text = text.trim_matches(' ');
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A pattern that can match `schema.table`.
pub fn is_pattern(text: &str) -> bool {
    text.contains('.') || text.contains('*')
}

/// A transfer's name: it becomes part of positions, of paths and of commands.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
}

/// One that SQL takes without quotes.
pub fn is_plain(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
