//! Number literals with an exponent, such as `1e6`. DataFusion 55 parses them as decimals of a negative scale, by which
//! its optimizer divides by zero. Without the exponent it parses what PostgreSQL does: a numeric, never an integer.

use sqlparser::tokenizer::{Token, TokenWithSpan};

/// With larger exponents, a decimal of 38 digits is no longer exact.
const EXPONENT_MAX: i32 = 30;

/// Replaces each number with an exponent by the same number without one: `1.5e3` by `1500.0`.
pub(crate) fn expand_exponents(tokens: &mut [TokenWithSpan]) {
    for token in tokens {
        if let Token::Number(digits, _) = &mut token.token
            && let Some(plain) = plain(digits)
        {
            *digits = plain;
        }
    }
}

/// The number without its exponent: `1500.0` for `1.5e3`. `None` where it has none, or a larger one than
/// [`EXPONENT_MAX`].
fn plain(number: &str) -> Option<String> {
    let (mantissa, exponent) = number.split_once(['e', 'E'])?;
    let exponent: i32 = exponent.parse().ok()?;
    if exponent.abs() > EXPONENT_MAX {
        return None;
    }
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let point = i32::try_from(whole.len()).ok()? + exponent;
    Some(match usize::try_from(point) {
        Err(_) | Ok(0) => format!("0.{}{digits}", "0".repeat(point.unsigned_abs() as usize)),
        Ok(point) if point >= digits.len() => format!("{digits}{}.0", "0".repeat(point - digits.len())),
        Ok(point) => format!("{}.{}", &digits[..point], &digits[point..]),
    })
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn exponents_are_written_out() {
        let cases = [
            ("1e6", "1000000.0"),
            ("1.5E3", "1500.0"),
            ("1.2345e2", "123.45"),
            ("12e-3", "0.012"),
            ("5e-1", "0.5"),
            ("1e0", "1.0"),
        ];
        for (number, expected) in cases {
            assert_eq!(plain(number).as_deref(), Some(expected), "{number}");
        }
        assert_eq!(plain("42"), None);
        assert_eq!(plain("1e99"), None);
    }
}
