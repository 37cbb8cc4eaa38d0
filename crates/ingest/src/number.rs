//! Decimal numbers, read exactly: a number that can't be represented exactly is refused, never rounded.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;

/// A decimal number: `mantissa / 10^scale`. Numbers of different scales compare by value.
#[derive(Debug, Clone, Copy)]
pub struct Number {
    /// All digits, with the sign.
    pub mantissa: i128,
    /// How many of the digits are after the decimal mark.
    pub scale: u32,
}

/// How numbers are written in a file: the marks between their digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberFormat {
    /// The decimal mark.
    pub decimal: char,
    /// The mark between groups of three digits, if any; `Some(' ')` stands for every kind of space.
    pub thousands: Option<char>,
}

/// How programs write numbers: `1234.5`.
pub const PLAIN: NumberFormat = NumberFormat { decimal: '.', thousands: None };

/// Why a text is not a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberError {
    /// The text has no digits, or other characters among them.
    NotANumber,
    /// A number with another decimal mark, or with groups where none are expected; holds the unexpected mark.
    OtherMark(char),
    /// Groups of other than three digits.
    Groups,
    /// More digits than [`DIGITS_MAX`].
    TooLong,
}

/// The digits of the largest decimal column, which 128 bits hold.
const DIGITS_MAX: u32 = 38;

/// Whether `c` is a space within a number: also the non-breaking spaces U+00A0 and U+202F and the thin space U+2009.
pub fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\u{a0}' | '\u{202f}' | '\u{2009}')
}

impl Number {
    /// The number of scale 0 with this value.
    pub fn whole(mantissa: i128) -> Number {
        Number { mantissa, scale: 0 }
    }

    /// Reads a number without spaces around it, with the marks of `format`.
    pub fn parse(text: &str, format: NumberFormat) -> Result<Number, NumberError> {
        let (negative, digits) = sign(text);
        let (before, after) = match digits.split_once(format.decimal) {
            Some((before, after)) => (before, Some(after)),
            None => (digits, None),
        };
        if before.is_empty() && after.is_none_or(str::is_empty) {
            return Err(NumberError::NotANumber);
        }
        let mut number = Number::whole(0);
        number.push_groups(before, format).map_err(|error| other_mark(digits, format).unwrap_or(error))?;
        for c in after.unwrap_or_default().chars() {
            let digit = c.to_digit(10).ok_or_else(|| other_mark(digits, format).unwrap_or(NumberError::NotANumber))?;
            number.push(digit)?;
            number.scale += 1;
        }
        number.mantissa = if negative { -number.mantissa } else { number.mantissa };
        Ok(number)
    }

    /// Reads a number as programs write it: `-12.5e3`.
    pub fn parse_plain(text: &str) -> Result<Number, NumberError> {
        let Some((number, exponent)) = text.split_once(['e', 'E']) else { return Number::parse(text, PLAIN) };
        let mut number = Number::parse(number, PLAIN)?;
        let exponent: i32 =
            exponent.strip_prefix('+').unwrap_or(exponent).parse().map_err(|_| NumberError::NotANumber)?;
        if number.mantissa == 0 {
            return Ok(Number::whole(0));
        }
        let scale = i64::from(number.scale) - i64::from(exponent);
        match u32::try_from(scale) {
            Ok(scale) if scale <= 10 * DIGITS_MAX => number.scale = scale,
            Ok(_) => return Err(NumberError::TooLong),
            Err(_) => {
                let power = u32::try_from(-scale).ok().and_then(|up| 10_i128.checked_pow(up));
                let mantissa = power.and_then(|power| number.mantissa.checked_mul(power));
                number = Number::whole(mantissa.ok_or(NumberError::TooLong)?);
            }
        }
        Ok(number)
    }

    fn push(&mut self, digit: u32) -> Result<(), NumberError> {
        let mantissa = self.mantissa.checked_mul(10).and_then(|m| m.checked_add(i128::from(digit)));
        self.mantissa = mantissa.filter(|m| *m < 10_i128.pow(DIGITS_MAX)).ok_or(NumberError::TooLong)?;
        Ok(())
    }

    /// Appends the digits before the decimal mark: in groups of three, or without any groups.
    fn push_groups(&mut self, text: &str, format: NumberFormat) -> Result<(), NumberError> {
        let is_group = |c: char| match format.thousands {
            Some(' ') => is_space(c),
            Some(mark) => c == mark,
            None => false,
        };
        let has_groups = text.contains(is_group);
        for (at, group) in text.split(is_group).enumerate() {
            let length = group.chars().count();
            if has_groups && !(length == 3 || (at == 0 && (1..3).contains(&length))) {
                return Err(NumberError::Groups);
            }
            for c in group.chars() {
                self.push(c.to_digit(10).ok_or(NumberError::NotANumber)?)?;
            }
        }
        Ok(())
    }

    /// The mantissa at another scale; `None` where digits would be lost, or 128 bits exceeded.
    pub fn at_scale(self, scale: u32) -> Option<i128> {
        match scale.cmp(&self.scale) {
            Ordering::Equal => Some(self.mantissa),
            Ordering::Greater => self.mantissa.checked_mul(10_i128.checked_pow(scale - self.scale)?),
            Ordering::Less if self.mantissa == 0 => Some(0),
            Ordering::Less => {
                let power = 10_i128.checked_pow(self.scale - scale)?;
                (self.mantissa % power == 0).then(|| self.mantissa / power)
            }
        }
    }

    /// The mantissa of the quotient at a scale; `None` where digits would be lost, unless they are to be rounded, half
    /// away from zero, or where 128 bits are exceeded.
    pub fn divided(self, divisor: i128, scale: u32, round: bool) -> Option<i128> {
        if divisor == 1 && !round {
            return self.at_scale(scale);
        }
        let up = 10_i128.checked_pow(scale.saturating_sub(self.scale))?;
        let down = 10_i128.checked_pow(self.scale.saturating_sub(scale))?.checked_mul(divisor)?;
        let dividend = self.mantissa.checked_mul(up)?;
        let (quotient, rest) = (dividend / down, dividend % down);
        match rest {
            0 => Some(quotient),
            _ if !round => None,
            rest if rest.unsigned_abs() * 2 >= down.unsigned_abs() => quotient.checked_add(dividend.signum()),
            _ => Some(quotient),
        }
    }

    /// The product; `None` where it exceeds 128 bits.
    pub fn times(self, other: Number) -> Option<Number> {
        Some(
            Number { mantissa: self.mantissa.checked_mul(other.mantissa)?, scale: self.scale + other.scale }.shortest(),
        )
    }

    /// The sum; `None` where it exceeds 128 bits.
    pub fn plus(self, other: Number) -> Option<Number> {
        let scale = self.scale.max(other.scale);
        let mantissa = self.at_scale(scale)?.checked_add(other.at_scale(scale)?)?;
        Some(Number { mantissa, scale })
    }

    /// The same value without zeros at the end of its decimals.
    fn shortest(mut self) -> Number {
        while self.scale > 0 && self.mantissa % 10 == 0 {
            self.mantissa /= 10;
            self.scale -= 1;
        }
        self
    }

    /// The nearest double.
    pub fn double(self) -> f64 {
        // `Display` writes a form that `f64` parses.
        self.to_string().parse().unwrap_or(f64::NAN)
    }
}

/// A minus may be typographic.
fn sign(text: &str) -> (bool, &str) {
    for (mark, negative) in [('-', true), ('\u{2212}', true), ('+', false)] {
        if let Some(rest) = text.strip_prefix(mark) {
            return (negative, rest);
        }
    }
    (false, text)
}

/// The first unexpected mark of a text that otherwise consists of digits and expected marks.
fn other_mark(digits: &str, format: NumberFormat) -> Option<NumberError> {
    let is_expected = |c: char| {
        c == format.decimal || format.thousands.is_some_and(|mark| if mark == ' ' { is_space(c) } else { c == mark })
    };
    let is_mark = |c: char| matches!(c, '.' | ',' | '\'') || is_space(c);
    let is_number =
        digits.chars().all(|c| c.is_ascii_digit() || is_mark(c)) && digits.contains(|c: char| c.is_ascii_digit());
    let mark = digits.chars().find(|c| is_mark(*c) && !is_expected(*c))?;
    is_number.then_some(NumberError::OtherMark(mark))
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Number) -> Ordering {
        let (a, b) = (self.shortest(), other.shortest());
        let scale = a.scale.max(b.scale);
        match (a.at_scale(scale), b.at_scale(scale)) {
            (Some(a), Some(b)) => a.cmp(&b),
            // At the larger scale at most one of them exceeds 128 bits, and that is the one farther from zero.
            (None, _) => a.mantissa.signum().cmp(&0).then(Ordering::Greater),
            (_, None) => 0.cmp(&b.mantissa.signum()).then(Ordering::Less),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let digits = self.mantissa.unsigned_abs().to_string();
        let scale = self.scale as usize;
        if scale == 0 {
            return write!(f, "{sign}{digits}");
        }
        let digits = format!("{digits:0>width$}", width = scale + 1);
        let (before, after) = digits.split_at(digits.len() - scale);
        write!(f, "{sign}{before}.{after}")
    }
}
