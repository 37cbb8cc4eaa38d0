//! Exact decimals, and how they are written in a language. Amounts are computed as integers, so that
//! no cent is lost by rounding.

use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};

/// Parses a decimal such as `-1234.50`, without an exponent, spaces or a plus sign.
pub(crate) fn parse_decimal(text: &str) -> Option<Decimal> {
    let size = text.strip_prefix('-').unwrap_or(text);
    let (whole, rest) = size.split_once('.').unwrap_or((size, "0"));
    let has_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    // The library accepts more forms, such as `1_000`.
    if has_digits(whole) && has_digits(rest) { Decimal::from_str_exact(text).ok() } else { None }
}

/// The number of cents; `None` where it is not whole.
pub(crate) fn whole_cents(amount: Decimal) -> Option<i64> {
    let cents = amount.checked_mul(Decimal::ONE_HUNDRED)?;
    if cents.is_integer() { cents.to_i64() } else { None }
}

/// Rounded to at most `digits` decimals, half away from zero.
pub(crate) fn rounded(number: Decimal, digits: u32) -> Decimal {
    number.round_dp_with_strategy(digits, RoundingStrategy::MidpointAwayFromZero)
}

/// Written with at least `least` decimals, and more only up to the last that is not zero.
pub(crate) fn format_decimal(number: Decimal, least: u32, format: &NumberFormat) -> String {
    let mut number = number.normalize();
    if number.scale() < least {
        number.rescale(least);
    }
    let size = number.abs().to_string();
    let (whole, rest) = size.split_once('.').unwrap_or((&size, ""));
    let minus = if number.is_sign_negative() && !number.is_zero() { "\u{2212}" } else { "" };
    let mark = if rest.is_empty() { "" } else { format.decimal.as_str() };
    format!("{minus}{}{mark}{rest}", grouped(whole, &format.thousands))
}

/// How numbers are written in a language.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NumberFormat {
    /// The decimal mark.
    pub decimal: String,
    /// The mark between groups of three digits.
    pub thousands: String,
    /// What follows an amount: the currency's sign, with the space before it.
    pub currency: String,
}

fn grouped(digits: &str, mark: &str) -> String {
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push_str(mark);
        }
        text.push(digit);
    }
    text
}
