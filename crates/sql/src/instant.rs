//! Instants as PostgreSQL accepts them: a date alone, minutes without seconds, any zone; UTC
//! where none is given.

use chrono::{DateTime, Utc};
use datafusion::arrow::compute::kernels::cast_utils::string_to_datetime;
use lake::When;

/// The same instant with its seconds, where they alone are missing: `2020-01-02 06:00+01`.
pub fn with_seconds(text: &str) -> Option<String> {
    const SHAPE: &[u8; 16] = b"dddd-dd-dd dd:dd";
    let trimmed = text.trim();
    let (minutes, zone) = trimmed.split_at_checked(SHAPE.len())?;
    let fits = minutes.bytes().zip(SHAPE).all(|(byte, shape)| match shape {
        b'd' => byte.is_ascii_digit(),
        b' ' => matches!(byte, b' ' | b'T' | b't'),
        other => byte == *other,
    });
    let ends = zone.is_empty() || zone.starts_with(['+', '-', 'Z', 'z', ' ']);
    (fits && ends).then(|| format!("{minutes}:00{zone}"))
}

/// What a clock shows in the text of an instant: PostgreSQL takes a time without a zone from it so,
/// whatever offset is written. `None` where none is.
pub fn clock(text: &str) -> Option<String> {
    let whole = with_seconds(text);
    let text = whole.as_deref().unwrap_or(text).trim();
    let forms = ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f %#z"];
    let read = forms.iter().find_map(|form| DateTime::parse_from_str(text, form).ok());
    let read = read.or_else(|| DateTime::parse_from_rfc3339(text).ok())?;
    Some(read.naive_local().format("%Y-%m-%d %H:%M:%S%.f").to_string())
}

pub fn parse(text: &str) -> Option<DateTime<Utc>> {
    let whole = with_seconds(text);
    string_to_datetime(&Utc, whole.as_deref().unwrap_or(text.trim())).ok()
}

/// The state that follows a table's name: `v3` or an instant.
pub fn state(text: &str) -> Option<When> {
    if let Some(version) = text.strip_prefix(['v', 'V']) {
        return version.parse().ok().map(When::Version);
    }
    parse(text).map(When::Instant)
}
