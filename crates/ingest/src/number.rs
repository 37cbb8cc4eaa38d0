//! Decimal numbers, exactly as they are written: what can't be kept exactly is refused, never rounded.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;

/// `mantissa / 10^scale`.
#[derive(Debug, Clone, Copy)]
pub struct Number {
    pub mantissa: i128,
    pub scale: u32,
}

/// How people write numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    pub decimal: char,
    /// `Some(' ')` stands for every kind of space.
    pub thousands: Option<char>,
}

/// Of machines.
pub const PLAIN: Marks = Marks { decimal: '.', thousands: None };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    NotANumber,
    /// A number with the other decimal mark, or with groups where none are expected.
    OtherMark(char),
    /// Groups of other than three digits.
    Groups,
    TooLong,
}

/// More is beyond 128 bits, and beyond what a decimal column holds.
const DIGITS_MAX: u32 = 38;

/// Also those that keep a number on one line: U+00A0 and U+202F, and the thin one U+2009.
pub fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\u{a0}' | '\u{202f}' | '\u{2009}')
}

impl Number {
    pub fn whole(mantissa: i128) -> Number {
        Number { mantissa, scale: 0 }
    }

    /// Without spaces around it.
    pub fn parse(text: &str, marks: Marks) -> Result<Number, Unread> {
        let (negative, digits) = sign(text);
        let (before, after) = match digits.split_once(marks.decimal) {
            Some((before, after)) => (before, Some(after)),
            None => (digits, None),
        };
        if before.is_empty() && after.is_none_or(str::is_empty) {
            return Err(Unread::NotANumber);
        }
        let mut number = Number::whole(0);
        number.take_grouped(before, marks).map_err(|unread| other_mark(digits, marks).unwrap_or(unread))?;
        for c in after.unwrap_or_default().chars() {
            let digit = c.to_digit(10).ok_or_else(|| other_mark(digits, marks).unwrap_or(Unread::NotANumber))?;
            number.push(digit)?;
            number.scale += 1;
        }
        number.mantissa = if negative { -number.mantissa } else { number.mantissa };
        Ok(number)
    }

    /// As programs write it: `-12.5e3`.
    pub fn parse_plain(text: &str) -> Result<Number, Unread> {
        let Some((number, exponent)) = text.split_once(['e', 'E']) else { return Number::parse(text, PLAIN) };
        let mut number = Number::parse(number, PLAIN)?;
        let exponent: i32 = exponent.strip_prefix('+').unwrap_or(exponent).parse().map_err(|_| Unread::NotANumber)?;
        if number.mantissa == 0 {
            return Ok(Number::whole(0));
        }
        let scale = i64::from(number.scale) - i64::from(exponent);
        match u32::try_from(scale) {
            Ok(scale) if scale <= 10 * DIGITS_MAX => number.scale = scale,
            Ok(_) => return Err(Unread::TooLong),
            Err(_) => {
                let power = u32::try_from(-scale).ok().and_then(|up| 10_i128.checked_pow(up));
                let mantissa = power.and_then(|power| number.mantissa.checked_mul(power));
                number = Number::whole(mantissa.ok_or(Unread::TooLong)?);
            }
        }
        Ok(number)
    }

    fn push(&mut self, digit: u32) -> Result<(), Unread> {
        let mantissa = self.mantissa.checked_mul(10).and_then(|m| m.checked_add(i128::from(digit)));
        self.mantissa = mantissa.filter(|m| *m < 10_i128.pow(DIGITS_MAX)).ok_or(Unread::TooLong)?;
        Ok(())
    }

    /// The digits before the mark: groups of three, or no groups at all.
    fn take_grouped(&mut self, text: &str, marks: Marks) -> Result<(), Unread> {
        let is_group = |c: char| match marks.thousands {
            Some(' ') => is_space(c),
            Some(mark) => c == mark,
            None => false,
        };
        let has_groups = text.contains(is_group);
        for (at, group) in text.split(is_group).enumerate() {
            let length = group.chars().count();
            if has_groups && !(length == 3 || (at == 0 && (1..3).contains(&length))) {
                return Err(Unread::Groups);
            }
            for c in group.chars() {
                self.push(c.to_digit(10).ok_or(Unread::NotANumber)?)?;
            }
        }
        Ok(())
    }

    /// The mantissa at another scale, where nothing is lost by it.
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

    pub fn times(self, other: Number) -> Option<Number> {
        Some(
            Number { mantissa: self.mantissa.checked_mul(other.mantissa)?, scale: self.scale + other.scale }.shortest(),
        )
    }

    /// `None` where the sum has too many digits.
    pub fn plus(self, other: Number) -> Option<Number> {
        let scale = self.scale.max(other.scale);
        let mantissa = self.at_scale(scale)?.checked_add(other.at_scale(scale)?)?;
        Some(Number { mantissa, scale })
    }

    fn shortest(mut self) -> Number {
        while self.scale > 0 && self.mantissa % 10 == 0 {
            self.mantissa /= 10;
            self.scale -= 1;
        }
        self
    }

    /// The nearest double.
    pub fn double(self) -> f64 {
        // What Display writes is what Rust parses.
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

/// The mark that would make a number of the text, or nearly.
fn other_mark(digits: &str, marks: Marks) -> Option<Unread> {
    let is_expected = |c: char| {
        c == marks.decimal || marks.thousands.is_some_and(|mark| if mark == ' ' { is_space(c) } else { c == mark })
    };
    let is_mark = |c: char| matches!(c, '.' | ',' | '\'') || is_space(c);
    let is_number =
        digits.chars().all(|c| c.is_ascii_digit() || is_mark(c)) && digits.contains(|c: char| c.is_ascii_digit());
    let mark = digits.chars().find(|c| is_mark(*c) && !is_expected(*c))?;
    is_number.then_some(Unread::OtherMark(mark))
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
            // Beyond 128 bits only one of them can be, and it is the one farther from zero.
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
