//! Durations and sizes as users write them: a whole number and a unit.

use std::time::Duration;

/// What a duration looks like, for hints.
pub const DURATION_HINT: &str = "write a whole number and s, min, h or d: \"10min\"";

/// A whole number and `ms`, `s`, `min`, `h` or `d`, with or without a space; at most what milliseconds in 64 bits hold.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}

/// A whole number and `MB` or `GB`, in powers of 1024 as PostgreSQL has them; not zero.
pub fn parse_bytes(text: &str) -> Option<usize> {
    let (number, unit) = number_and_unit(text)?;
    let unit: usize = match unit {
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => return None,
    };
    usize::try_from(number).ok()?.checked_mul(unit).filter(|bytes| *bytes > 0)
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.strip_prefix(' ').unwrap_or(unit)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{parse_bytes, parse_duration};

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("90s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("2 d"), Some(Duration::from_secs(172_800)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        for text in ["", "90", "s", "1.5h", "-1s", "1 week", "99999999999999999999s", "999999999999999d"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_bytes("2 GB"), Some(2 << 30));
        assert_eq!(parse_bytes("0MB"), None);
        assert_eq!(parse_bytes("10kB"), None);
    }
}
