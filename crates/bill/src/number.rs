//! Exact decimals, and how they are written in a language. Amounts are computed as integers, so that
//! no cent is lost by rounding.

/// A decimal: `digits` / 10^`scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    /// All digits, with the sign.
    pub digits: i64,
    /// How many of them are after the decimal mark.
    pub scale: u32,
}

impl Decimal {
    /// Parses a decimal such as `-1234.50`, without an exponent, spaces or a plus sign.
    pub fn parse(text: &str) -> Option<Decimal> {
        let (sign, size) = text.strip_prefix('-').map_or((1, text), |size| (-1, size));
        let (whole, rest) = size.split_once('.').unwrap_or((size, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(rest) || (rest.is_empty() && size.contains('.')) {
            return None;
        }
        let digits: i64 = format!("{whole}{rest}").parse().ok()?;
        Some(Decimal { digits: sign * digits, scale: u32::try_from(rest.len()).ok()? })
    }

    /// The number of cents; `None` where it is not whole.
    pub fn cents(self) -> Option<i64> {
        let up = 10_i64.checked_pow(2_u32.saturating_sub(self.scale))?;
        let down = 10_i64.checked_pow(self.scale.saturating_sub(2))?;
        (self.digits % down == 0).then(|| (self.digits / down).checked_mul(up)).flatten()
    }

    /// The nearest double, for workbooks.
    pub fn as_f64(self) -> f64 {
        self.digits as f64 / 10_f64.powi(self.scale.cast_signed())
    }

    /// Rounded to at most `scale` decimals, half away from zero.
    pub fn rounded(self, scale: u32) -> Decimal {
        let Some(down) = self.scale.checked_sub(scale).filter(|down| *down > 0) else { return self };
        let unit = 10_i128.saturating_pow(down);
        let digits = i128::from(self.digits);
        let rounded = (digits.abs() * 2 + unit) / (unit * 2) * digits.signum();
        Decimal { digits: i64::try_from(rounded).unwrap_or(self.digits), scale }
    }

    /// Written with at least `least` decimals, and more only up to the last that is not zero.
    pub fn format(self, least: u32, format: &NumberFormat) -> String {
        let (mut digits, mut scale) = (i128::from(self.digits), self.scale);
        while scale > least && digits % 10 == 0 {
            (digits, scale) = (digits / 10, scale - 1);
        }
        while scale < least {
            (digits, scale) = (digits * 10, scale + 1);
        }
        let size = digits.unsigned_abs().to_string();
        let size = format!("{size:0>width$}", width = scale as usize + 1);
        let (whole, rest) = size.split_at(size.len() - scale as usize);
        let minus = if digits < 0 { "\u{2212}" } else { "" };
        let mark = if rest.is_empty() { "" } else { format.decimal.as_str() };
        format!("{minus}{}{mark}{rest}", grouped(whole, &format.thousands))
    }
}

/// How numbers are written in a language.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
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
