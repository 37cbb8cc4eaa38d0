//! Random values as the text that PostgreSQL parses; extreme values are frequent.

use chrono::{NaiveDate, TimeDelta};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// A generator of values of a type.
#[derive(Debug, Clone, Copy)]
pub enum RandomValue {
    Pool(&'static [&'static str]),
    Int(i64, i64),
    Float4,
    Float8,
    AnyNumeric {
        finite: bool,
    },
    Numeric {
        precision: usize,
        scale: i32,
    },
    Money,
    Text {
        most: usize,
    },
    Bytes,
    Uuid,
    Date,
    /// A date that is not the last one of the calendar.
    DateBound,
    Timestamp {
        utc: bool,
    },
    Time,
    TimeTz,
    Interval,
    Inet,
    Cidr,
    Mac(usize),
    Json,
    Bits {
        least: usize,
        most: usize,
    },
}

const WORDS: &[&str] = &[
    "",
    " ",
    "NULL",
    "quo'te",
    "\"double\"",
    "back\\slash",
    "tab\there",
    "line\nbreak\r\n",
    "ü",
    "日本語",
    "😀👩‍👩‍👧",
    "e\u{301}",
    "a,b",
    "{x}",
    "$1",
    "\u{feff}",
    "0",
];

const DOCUMENTS: &[&str] = &[
    "null",
    "{}",
    "[]",
    "\"\"",
    "true",
    "-0",
    "1e400",
    "12345678901234567890.123456789012345678901234567890",
    "{\"b\": 1, \"a\": [1, 2.50, null], \"a\": \"twice\"}",
    "{\"ü😀\": \"quo\\\"te\\\\ \\u00e9\"}",
    " [ 1 , { \"x\" : [ ] } ] ",
];

const INTERVALS: &[&str] = &[
    "0",
    "1 year 2 mons 3 days 04:05:06.789",
    "-1 year -2 mons +3 days -04:05:06",
    "178956970 years 7 mons",
    "-178956970 years -8 mons",
    "2147483647 days",
    "-2147483648 days",
    "2562047788:00:54.775807",
    "-2562047788:00:54.775807",
    "-0.000001 seconds",
    "0.5 seconds",
    "-1 day +02:03:04",
    "1 mon -1 day",
    "100 microseconds",
    "-00:00:59.9",
];

const ADDRESSES: &[&str] =
    &["0.0.0.0", "255.255.255.255", "10.1.2.3/8", "::", "::1", "::1.2.3.4", "::ffff:1.2.3.4", "fe80::1/64", "::1:0"];
const NETWORKS: &[&str] = &[
    "10.0.0.0/8",
    "0.0.0.0/0",
    "192.168.1.1/32",
    "::/0",
    "2001:db8::/32",
    "::ffff:1.2.3.0/120",
    "::1.2.0.0/112",
    "::1/128",
];

impl RandomValue {
    pub fn text(&self, rng: &mut ChaCha8Rng) -> String {
        match *self {
            RandomValue::Pool(pool) => (*pool.choose(rng).unwrap()).to_owned(),
            RandomValue::Int(least, most) => integer(rng, least, most).to_string(),
            RandomValue::Float4 => match rng.random_range(0..4) {
                0 => pick(rng, &["NaN", "Infinity", "-Infinity", "-0", "0", "3.4028235e38", "1e-45", "0.1"]),
                _ => Some(f32::from_bits(rng.random())).filter(|v| v.is_finite()).unwrap_or(1.5).to_string(),
            },
            RandomValue::Float8 => match rng.random_range(0..4) {
                0 => pick(rng, &["NaN", "Infinity", "-Infinity", "-0", "0", "1.7976931348623157e308", "5e-324", "0.1"]),
                _ => format!("{:e}", Some(f64::from_bits(rng.random())).filter(|v| v.is_finite()).unwrap_or(1.5)),
            },
            RandomValue::AnyNumeric { finite } => any_numeric(rng, finite),
            RandomValue::Numeric { precision, scale } => numeric(rng, precision, scale),
            RandomValue::Money => {
                let cents = integer(rng, i64::MIN, i64::MAX);
                let sign = if cents < 0 { "-" } else { "" };
                format!("{sign}{}.{:02}", cents.unsigned_abs() / 100, cents.unsigned_abs() % 100)
            }
            RandomValue::Text { most } => text(rng, most),
            RandomValue::Bytes => {
                let count = rng.random_range(0..60);
                format!("\\x{}", hex(rng, count))
            }
            RandomValue::Uuid => pick_or(rng, &["00000000-0000-0000-0000-000000000000"], |rng| hex(rng, 16)),
            RandomValue::Date => {
                pick_or(rng, &["infinity", "-infinity", "0001-01-01", "9999-12-31"], |rng| day(rng, 3_652_059))
            }
            RandomValue::DateBound => {
                pick_or(rng, &["infinity", "-infinity", "0001-01-01", "9999-12-30"], |rng| day(rng, 3_652_058))
            }
            RandomValue::Timestamp { utc } => timestamp(rng, utc),
            RandomValue::Time => pick_or(rng, &["00:00", "24:00:00", "23:59:59.999999", "12:00:00.100"], time),
            RandomValue::TimeTz => {
                let zone = pick(rng, &["+00", "+02", "-05", "+05:45", "-12:30", "+15:59:59", "-15:59:59", "-00:00:30"]);
                format!("{}{zone}", pick_or(rng, &["00:00", "24:00:00", "23:59:59.999999"], time))
            }
            RandomValue::Interval => pick_or(rng, INTERVALS, |rng| {
                let part = |rng: &mut ChaCha8Rng, most: i64| {
                    if rng.random_bool(0.3) { 0 } else { rng.random_range(-most..=most) }
                };
                let (months, days, micros) = (part(rng, 40_000), part(rng, 4000), part(rng, 1 << 48));
                format!("{months} mons {days} days {micros} microseconds")
            }),
            RandomValue::Inet => pick_or(rng, ADDRESSES, address),
            RandomValue::Cidr => pick(rng, NETWORKS),
            RandomValue::Mac(bytes) => {
                let parts: Vec<String> = (0..bytes).map(|_| hex(rng, 1)).collect();
                parts.join(":")
            }
            RandomValue::Json => pick(rng, DOCUMENTS),
            RandomValue::Bits { least, most } => {
                let count = rng.random_range(least..=most);
                (0..count).map(|_| if rng.random() { '1' } else { '0' }).collect()
            }
        }
    }
}

fn pick(rng: &mut ChaCha8Rng, pool: &[&str]) -> String {
    (*pool.choose(rng).unwrap()).to_owned()
}

fn pick_or(rng: &mut ChaCha8Rng, pool: &[&str], other: impl Fn(&mut ChaCha8Rng) -> String) -> String {
    if rng.random_bool(0.4) { pick(rng, pool) } else { other(rng) }
}

fn integer(rng: &mut ChaCha8Rng, least: i64, most: i64) -> i64 {
    match rng.random_range(0..5) {
        0 => least,
        1 => most,
        2 => 0.clamp(least, most),
        _ => rng.random_range(least..=most),
    }
}

fn digits(rng: &mut ChaCha8Rng, count: usize) -> String {
    let digit = |rng: &mut ChaCha8Rng| char::from(b'0' + rng.random_range(0..10u8));
    match rng.random_range(0..4) {
        0 => "9".repeat(count),
        1 => "0".repeat(count),
        _ => (0..count).map(|_| digit(rng)).collect(),
    }
}

fn any_numeric(rng: &mut ChaCha8Rng, finite: bool) -> String {
    if rng.random_bool(0.3) {
        let pool = ["0", "0.000", "-0.1000", "10000", "1e-20", "1e40", "NaN", "Infinity", "-Infinity"];
        return pick(rng, &pool[..if finite { 6 } else { 9 }]);
    }
    let (whole, fraction) = (rng.random_range(1..45), rng.random_range(0..40));
    let sign = if rng.random() { "-" } else { "" };
    format!("{sign}{}.{}", digits(rng, whole), digits(rng, fraction))
}

/// A number of at most `precision` digits, the last of them at `10^-scale`.
fn numeric(rng: &mut ChaCha8Rng, precision: usize, scale: i32) -> String {
    let count = if rng.random_bool(0.5) { precision } else { rng.random_range(1..=precision) };
    let (sign, digits) = (if rng.random() { "-" } else { "" }, digits(rng, count));
    format!("{sign}{digits}e{}", -scale)
}

fn text(rng: &mut ChaCha8Rng, most: usize) -> String {
    let mut text = String::new();
    let words = rng.random_range(0..5);
    for _ in 0..words {
        text.push_str(WORDS.choose(rng).unwrap());
    }
    if rng.random_bool(0.1) {
        text = "long 😀 ".repeat(most / 7 + 1);
    }
    text.chars().take(most).collect()
}

fn hex(rng: &mut ChaCha8Rng, bytes: usize) -> String {
    (0..bytes).map(|_| format!("{:02x}", rng.random::<u8>())).collect()
}

fn day(rng: &mut ChaCha8Rng, most: i64) -> String {
    let first = NaiveDate::from_ymd_opt(1, 1, 1).unwrap();
    (first + TimeDelta::days(rng.random_range(0..most))).format("%Y-%m-%d").to_string()
}

fn time(rng: &mut ChaCha8Rng) -> String {
    let (hour, minute, second) = (rng.random_range(0..24), rng.random_range(0..60), rng.random_range(0..60));
    let micros = if rng.random() { 0 } else { rng.random_range(0..1_000_000) };
    format!("{hour:02}:{minute:02}:{second:02}.{micros:06}")
}

fn timestamp(rng: &mut ChaCha8Rng, utc: bool) -> String {
    let zone = if utc { "+00" } else { "" };
    match rng.random_range(0..6) {
        0 => pick(rng, &["infinity", "-infinity"]),
        1 => format!(
            "{}{zone}",
            pick(rng, &["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "1969-12-31 23:59:59.999999"])
        ),
        _ => format!("{} {}{zone}", day(rng, 3_652_059), time(rng)),
    }
}

fn address(rng: &mut ChaCha8Rng) -> String {
    if rng.random() {
        let parts: Vec<String> = (0..4).map(|_| rng.random::<u8>().to_string()).collect();
        return format!("{}/{}", parts.join("."), rng.random_range(0..=32));
    }
    let group = |rng: &mut ChaCha8Rng| if rng.random_bool(0.6) { 0 } else { rng.random::<u16>() };
    let parts: Vec<String> = (0..8).map(|_| format!("{:x}", group(rng))).collect();
    format!("{}/{}", parts.join(":"), rng.random_range(0..=128))
}
