//! Texts of timestamps as PostgreSQL accepts them: a date alone, a time without seconds, any offset. Without an offset
//! they are in UTC.

use chrono::{DateTime, Utc};
use datafusion::arrow::compute::kernels::cast_utils::string_to_datetime;
use lake::AsOf;

/// The text with seconds: `2020-01-02 06:00:00+01` for `2020-01-02 06:00+01`. `None` for any text but a timestamp whose
/// seconds are missing.
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

/// The text without its offset, as PostgreSQL casts it to `timestamp`: `2020-01-02 06:00:00` for
/// `2020-01-02 06:00:00+01`. `None` for a text without an offset, or that is no timestamp.
pub fn local_time(text: &str) -> Option<String> {
    let whole = with_seconds(text);
    let text = whole.as_deref().unwrap_or(text).trim();
    let forms = ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f %#z"];
    let read = forms.iter().find_map(|form| DateTime::parse_from_str(text, form).ok());
    let read = read.or_else(|| DateTime::parse_from_rfc3339(text).ok())?;
    Some(read.naive_local().format("%Y-%m-%d %H:%M:%S%.f").to_string())
}

/// The instant that a text stands for; `None` where the text is no timestamp.
pub fn parse(text: &str) -> Option<DateTime<Utc>> {
    let whole = with_seconds(text);
    string_to_datetime(&Utc, whole.as_deref().unwrap_or(text.trim())).ok()
}

/// The state after the `@` of a table's name, `v3` or a timestamp; `None` where the text is neither.
pub fn parse_as_of(text: &str) -> Option<AsOf> {
    if let Some(version) = text.strip_prefix(['v', 'V']) {
        return version.parse().ok().map(AsOf::Version);
    }
    parse(text).map(AsOf::Instant)
}
