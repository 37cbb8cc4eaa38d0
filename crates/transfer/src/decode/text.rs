//! Formats binary values as text, as PostgreSQL does with `datestyle = ISO` and `intervalstyle = iso_8601`. Each
//! function appends the text to `out`, and returns `None` where the bytes are not a value of its type.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::bytes::Reader;

const MICROS_SECOND: i64 = 1_000_000;

/// Formats a uuid.
pub fn uuid(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes: &[u8; 16] = value.try_into().ok()?;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    out.extend_from_slice(&text);
    Some(())
}

/// Formats a time.
pub fn time(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    write_time(i64::from_be_bytes(value.try_into().ok()?), out)
}

fn write_time(micros: i64, out: &mut Vec<u8>) -> Option<()> {
    let seconds = micros / MICROS_SECOND;
    write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60).ok()?;
    write_fraction(micros % MICROS_SECOND, out)
}

/// Microseconds without their trailing zeros.
fn write_fraction(micros: i64, out: &mut Vec<u8>) -> Option<()> {
    if micros != 0 {
        write!(out, ".{:06}", micros.abs()).ok()?;
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    Some(())
}

/// Formats a time with time zone.
pub fn time_tz(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader::new(value);
    write_time(reader.i64()?, out)?;
    // PostgreSQL sends the offset as seconds west of Greenwich.
    let west = reader.i32()?;
    let (sign, away) = if west > 0 { ('-', west) } else { ('+', west.saturating_neg()) };
    write!(out, "{sign}{:02}", away / 3600).ok()?;
    if away % 3600 != 0 {
        write!(out, ":{:02}", away / 60 % 60).ok()?;
    }
    if away % 60 != 0 {
        write!(out, ":{:02}", away % 60).ok()?;
    }
    Some(())
}

/// Formats an interval in ISO 8601.
pub fn interval(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader::new(value);
    let (micros, days, months) = (reader.i64()?, reader.i32()?, reader.i32()?);
    match (micros, days, months) {
        (0, 0, 0) => out.extend_from_slice(b"PT0S"),
        // The infinite intervals of PostgreSQL 17.
        (i64::MAX, i32::MAX, i32::MAX) => out.extend_from_slice(b"infinity"),
        (i64::MIN, i32::MIN, i32::MIN) => out.extend_from_slice(b"-infinity"),
        _ => {
            out.push(b'P');
            for (part, unit) in [(months / 12, 'Y'), (months % 12, 'M'), (days, 'D')] {
                if part != 0 {
                    write!(out, "{part}{unit}").ok()?;
                }
            }
            write_interval_time(micros, out)?;
        }
    }
    Some(())
}

fn write_interval_time(micros: i64, out: &mut Vec<u8>) -> Option<()> {
    if micros == 0 {
        return Some(());
    }
    out.push(b'T');
    let seconds = micros / MICROS_SECOND;
    for (part, unit) in [(seconds / 3600, 'H'), (seconds / 60 % 60, 'M')] {
        if part != 0 {
            write!(out, "{part}{unit}").ok()?;
        }
    }
    let (second, fraction) = (seconds % 60, micros % MICROS_SECOND);
    if second != 0 || fraction != 0 {
        if second < 0 || fraction < 0 {
            out.push(b'-');
        }
        write!(out, "{}", second.abs()).ok()?;
        write_fraction(fraction, out)?;
        out.push(b'S');
    }
    Some(())
}

// PostgreSQL's own address families, which don't depend on the platform's AF_INET6 (src/include/utils/inet.h).
const IPV4: u8 = 2;
const IPV6: u8 = 3;

/// Formats an inet or a cidr.
pub fn inet(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader::new(value);
    let (family, bits, is_cidr, _length) = (reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?);
    let whole = match family {
        IPV4 => {
            write!(out, "{}", Ipv4Addr::from(reader.array::<4>()?)).ok()?;
            32
        }
        IPV6 => {
            let address = Ipv6Addr::from(reader.array::<16>()?);
            // PostgreSQL writes an IPv4-compatible address with its IPv4 part in decimal.
            match address.segments() {
                [0, 0, 0, 0, 0, 0, high, _] if high != 0 => {
                    write!(out, "::{}", Ipv4Addr::from(address.to_bits() as u32)).ok()?
                }
                _ => write!(out, "{address}").ok()?,
            }
            128
        }
        _ => return None,
    };
    if is_cidr != 0 || bits != whole {
        write!(out, "/{bits}").ok()?;
    }
    Some(())
}

/// Formats a macaddr or a macaddr8.
pub fn mac_address(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if !matches!(value.len(), 6 | 8) {
        return None;
    }
    for (index, byte) in value.iter().enumerate() {
        let colon = if index == 0 { "" } else { ":" };
        write!(out, "{colon}{byte:02x}").ok()?;
    }
    Some(())
}
