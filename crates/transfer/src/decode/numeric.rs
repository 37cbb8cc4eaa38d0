//! Decodes PostgreSQL's numeric, which is sent as digits of base 10000 with a weight (`numeric_send` in
//! src/backend/utils/adt/numeric.c), into a decimal of fixed scale or into its exact text.

use super::bytes::Reader;
use super::value_error::ValueError;

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;

const AS_TEXT: &str = "transfer the column as text or double: [tables.\"SCHEMA.TABLE\".columns.COLUMN] as = \"text\"";

const POWERS: [i128; 39] = {
    let mut powers = [1i128; 39];
    let mut at = 1;
    while at < 39 {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

struct Numeric<'a> {
    weight: i32,
    sign: u16,
    scale: usize,
    digits: &'a [u8],
}

fn parse(value: &[u8]) -> Option<Numeric<'_>> {
    let mut reader = Reader::new(value);
    let count = usize::try_from(reader.i16()?).ok()?;
    let weight = i32::from(reader.i16()?);
    let sign = reader.i16()? as u16;
    let scale = usize::try_from(reader.i16()?).ok()?;
    let digits = reader.take(count * 2)?;
    Some(Numeric { weight, sign, scale, digits })
}

impl Numeric<'_> {
    fn digit(&self, index: usize) -> u16 {
        self.digits.get(index * 2..index * 2 + 2).map_or(0, |d| u16::from_be_bytes([d[0], d[1]]))
    }
}

/// The value as an integer of `10^-scale`. A value that is not exact in this type, NaN and infinities are errors.
#[inline]
pub fn decimal(value: &[u8], precision: u8, scale: i8) -> Result<i128, ValueError> {
    let numeric = parse(value).ok_or_else(|| ValueError::new("not a numeric in binary form"))?;
    match numeric.sign {
        0 | NEGATIVE => {}
        NAN => return Err(ValueError::new("NaN, which a decimal can't hold").hint(AS_TEXT)),
        _ => return Err(ValueError::new("an infinity, which a decimal can't hold").hint(AS_TEXT)),
    }
    let too_large =
        || ValueError::new(format!("a numeric that decimal({precision},{scale}) can't hold exactly")).hint(AS_TEXT);
    let mut digits = numeric.digits;
    while let [rest @ .., 0, 0] = digits {
        digits = rest;
    }
    let count = digits.len() / 2;
    // The last digit stands for 10000^(weight - count + 1).
    let shift = 4 * (numeric.weight - count as i32 + 1) + i32::from(scale);
    // Where the scale ends inside the last digit of four places, only those up to the scale are used: all four could
    // overflow.
    let divisor = match shift {
        0.. => 1,
        -3..0 => 10u16.pow(shift.unsigned_abs()),
        _ if count == 0 => 1,
        _ => return Err(too_large()),
    };
    let mut unscaled = 0i128;
    for (at, digit) in digits.chunks_exact(2).enumerate() {
        let digit = u16::from_be_bytes([digit[0], digit[1]]);
        let (times, digit) = match at + 1 < count {
            true => (10_000, digit),
            false if digit % divisor == 0 => (10_000 / divisor, digit / divisor),
            false => return Err(too_large()),
        };
        let next = unscaled.checked_mul(times.into()).and_then(|v| v.checked_add(digit.into()));
        unscaled = next.ok_or_else(too_large)?;
    }
    if unscaled != 0 && shift > 0 {
        let power = POWERS.get(shift as usize).ok_or_else(too_large)?;
        unscaled = unscaled.checked_mul(*power).ok_or_else(too_large)?;
    }
    if unscaled >= POWERS[usize::from(precision)] {
        return Err(too_large());
    }
    Ok(if numeric.sign == NEGATIVE { -unscaled } else { unscaled })
}

/// Appends the text of a numeric as `numeric_out` writes it, with all digits up to its display scale. `None` where the
/// bytes are no numeric.
pub fn write_text(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let numeric = parse(value)?;
    match numeric.sign {
        NAN => out.extend_from_slice(b"NaN"),
        INFINITY => out.extend_from_slice(b"Infinity"),
        NEGATIVE_INFINITY => out.extend_from_slice(b"-Infinity"),
        sign => {
            if sign == NEGATIVE {
                out.push(b'-');
            }
            write_digits(&numeric, out);
        }
    }
    Some(())
}

fn write_digits(numeric: &Numeric<'_>, out: &mut Vec<u8>) {
    let at = |position: i32| match usize::try_from(numeric.weight - position) {
        Ok(index) => numeric.digit(index),
        Err(_) => 0,
    };
    if numeric.weight < 0 {
        out.push(b'0');
    } else {
        for position in (0..=numeric.weight).rev() {
            let text = four(at(position));
            let skip =
                if position == numeric.weight { text.iter().take(3).take_while(|d| **d == b'0').count() } else { 0 };
            out.extend_from_slice(&text[skip..]);
        }
    }
    if numeric.scale > 0 {
        out.push(b'.');
        let end = out.len() + numeric.scale;
        let mut position = -1;
        while out.len() < end {
            let text = four(at(position));
            let left = end - out.len();
            out.extend_from_slice(&text[..left.min(4)]);
            position -= 1;
        }
    }
}

fn four(digit: u16) -> [u8; 4] {
    let ascii = |d: u16| b'0' + (d % 10) as u8;
    [ascii(digit / 1000), ascii(digit / 100), ascii(digit / 10), ascii(digit)]
}
