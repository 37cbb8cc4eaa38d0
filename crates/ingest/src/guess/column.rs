//! What the values of one column are.

use std::collections::BTreeSet;

use chrono::NaiveDateTime;

use crate::read::{Cell, ParsedTime, duration_seconds, parse_date, parse_time};

/// A column of a sample.
pub struct NamedColumn {
    /// Its name in the file.
    pub header: String,
    /// Its values, row by row.
    pub values: Vec<Cell<'static>>,
}

/// The type that fits all values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// Any text.
    Text,
    /// Texts of so many digits, such as the 14 of a metering point.
    Digits(usize),
    /// Whole numbers.
    Integer,
    /// Numbers with at most so many decimals.
    Decimal(u32),
    /// Floating-point numbers of a format that has them.
    Double,
    /// True and false.
    Boolean,
    /// Dates in a format of chrono; none for ISO 8601.
    Date(Option<&'static str>),
    /// Times in a format of chrono; none for ISO 8601.
    Time {
        /// The format.
        format: Option<&'static str>,
        /// Whether they have an offset.
        has_offset: bool,
        /// Whether the text is an interval, `a - b`, of which they are the beginning.
        is_interval: bool,
    },
    /// Times of day without a date.
    TimeOfDay,
    /// ISO 8601 durations.
    Duration,
    /// Nothing: all values are empty.
    Empty,
}

/// What is known of a column.
pub struct ColumnFit {
    /// Its type.
    pub fit: Fit,
    /// Words that stand for no value, beside the empty text.
    pub empty_words: BTreeSet<String>,
    /// Whether every row has a value.
    pub is_full: bool,
    /// Whether its times are days, months or months, days: both fit.
    pub is_day_or_month: bool,
    /// The times of its rows, where they are times without an offset.
    pub times: Vec<Option<NaiveDateTime>>,
}

/// How the numbers of a file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// The decimal mark.
    pub decimal: char,
    /// Whether spaces are between thousands.
    pub has_spaces: bool,
    /// Whether the file proves the mark.
    pub is_proven: bool,
}

/// Words that systems write where there is no value.
const EMPTY_WORDS: [&str; 10] = ["null", "NULL", "NaN", "n/e", "N/A", "NA", "n/a", "-", "ND", "DC"];

/// Formats of times, the more frequent ones first. Days come before months.
const TIME_FORMATS: [&str; 12] = [
    "%d/%m/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d-%m-%Y %H:%M:%S",
    "%d-%m-%Y %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%Y%m%d %H:%M",
    "%Y%m%d%H%M",
];

const DATE_FORMATS: [&str; 6] = ["%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%Y/%m/%d", "%Y%m%d"];

/// How numbers are written, by all texts of a file.
pub fn marks<'a>(texts: impl Iterator<Item = &'a str>, separator: Option<char>) -> Marks {
    let (mut comma, mut point, mut has_spaces, mut is_unclear) = (0_u64, 0_u64, false, false);
    for text in texts.filter(|text| looks_like_number(text)) {
        has_spaces |= text.trim().contains([' ', '\u{a0}', '\u{202f}']);
        let Some((at, mark)) = text.char_indices().rfind(|(_, c)| matches!(c, ',' | '.')) else { continue };
        let (before, after) = (&text[..at], &text[at + 1..]);
        // Three digits after a mark may be a group.
        let digits = before.trim_start_matches(['-', '+']);
        let is_group = after.len() == 3 && (1..=3).contains(&digits.len()) && !digits.starts_with('0');
        match mark {
            _ if is_group => is_unclear = true,
            ',' => comma += 1,
            _ => point += 1,
        }
    }
    let usual = if separator == Some(';') && is_unclear { ',' } else { '.' };
    let decimal = match comma.cmp(&point) {
        std::cmp::Ordering::Greater => ',',
        std::cmp::Ordering::Less => '.',
        std::cmp::Ordering::Equal => usual,
    };
    Marks { decimal, has_spaces, is_proven: comma + point > 0 || !is_unclear }
}

fn looks_like_number(text: &str) -> bool {
    let text = text.trim();
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, ',' | '.' | '-' | '+' | ' ' | '\u{a0}' | '\u{202f}');
    text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+')) && text.chars().all(is_part)
        // A date with points is none.
        && text.matches(['.', ',']).count() <= 1
        && !text[1..].contains('-')
}

/// The decimals of a number as it is written, or none where it is not one.
fn decimals(text: &str, marks: Marks) -> Option<u32> {
    let text = text.trim();
    if !looks_like_number(text) {
        return None;
    }
    match text.split_once(marks.decimal) {
        Some((_, after)) => u32::try_from(after.len()).ok(),
        None if text.contains([',', '.']) => None,
        None => Some(0),
    }
}

/// What fits all values of a column.
pub fn fit(values: &[Cell<'static>], marks: Marks) -> ColumnFit {
    let mut empty_words = BTreeSet::new();
    let mut is_value = |cell: &Cell<'_>| match cell {
        Cell::Text(text) if EMPTY_WORDS.contains(&text.trim()) => {
            empty_words.insert(text.trim().to_owned());
            false
        }
        cell => !cell.is_blank(),
    };
    let all: Vec<&Cell<'static>> = values.iter().filter(|cell| is_value(cell)).collect();
    let is_full = all.len() == values.len();
    let (fit, is_day_or_month) = if all.is_empty() { (Fit::Empty, false) } else { kind(&all, marks) };
    let times = match &fit {
        Fit::Time { format, has_offset: false, is_interval } => {
            values.iter().map(|cell| local(cell, *format, *is_interval)).collect()
        }
        _ => Vec::new(),
    };
    ColumnFit { fit, empty_words, is_full, is_day_or_month, times }
}

fn kind(all: &[&Cell<'static>], marks: Marks) -> (Fit, bool) {
    let every = |is: &dyn Fn(&Cell<'static>) -> bool| all.iter().all(|cell| is(cell));
    let texts: Option<Vec<&str>> = all
        .iter()
        .map(|cell| match cell {
            Cell::Text(text) => Some(text.trim()),
            _ => None,
        })
        .collect();
    if let Some(texts) = texts {
        return text_kind(&texts, marks);
    }
    let has_time = |cell: &Cell<'_>| matches!(cell, Cell::Local(_) | Cell::Instant(_));
    let fit = if every(&|cell| matches!(cell, Cell::Date(_))) {
        Fit::Date(None)
    } else if every(&has_time) {
        Fit::Time { format: None, has_offset: every(&|cell| matches!(cell, Cell::Instant(_))), is_interval: false }
    } else if every(&|cell| matches!(cell, Cell::Bool(_))) {
        Fit::Boolean
    } else if every(&|cell| matches!(cell, Cell::Seconds(_))) {
        Fit::TimeOfDay
    } else {
        let written = |cell: &Cell<'_>| match cell {
            Cell::Plain(text) => decimals(text, Marks { decimal: '.', ..marks }),
            Cell::Exact(number) => Some(number.scale),
            Cell::Displayed(number) => {
                let text = crate::read::shown_digits(*number);
                decimals(&text, Marks { decimal: '.', ..marks })
            }
            _ => None,
        };
        let scales: Option<Vec<u32>> = all.iter().map(|cell| written(cell)).collect();
        match scales.map(|scales| scales.into_iter().max().unwrap_or_default()) {
            Some(0) => Fit::Integer,
            Some(scale) => Fit::Decimal(scale),
            None if every(&|cell| matches!(cell, Cell::Double(_) | Cell::Plain(_) | Cell::Exact(_))) => Fit::Double,
            None => Fit::Text,
        }
    };
    (fit, false)
}

fn text_kind(texts: &[&str], marks: Marks) -> (Fit, bool) {
    let every = |is: &dyn Fn(&str) -> bool| texts.iter().all(|text| is(text));
    if every(&|text| duration_seconds(text).is_some()) {
        return (Fit::Duration, false);
    }
    let times = |format: Option<&'static str>, is_interval: bool| {
        let begins = |text: &str| {
            if is_interval { text.split_once(" - ").map(|(from, _)| from.to_owned()) } else { Some(text.to_owned()) }
        };
        let parsed = |text: &str| begins(text).and_then(|text| time(&text, format));
        let all: Option<Vec<ParsedTime>> = texts.iter().map(|text| parsed(text)).collect();
        all.map(|all| all.iter().all(|time| matches!(time, ParsedTime::Instant(_))))
    };
    let formats = || std::iter::once(None).chain(TIME_FORMATS.into_iter().map(Some));
    for (format, is_interval) in formats().map(|format| (format, false)).chain(formats().map(|format| (format, true))) {
        // A day written without separators is a number as well.
        if let Some(has_offset) = times(format, is_interval) {
            let swapped = format.and_then(swapped);
            let is_day_or_month = swapped.is_some_and(|other| times(Some(other), is_interval).is_some());
            return (Fit::Time { format, has_offset, is_interval }, is_day_or_month);
        }
    }
    for format in std::iter::once(None).chain(DATE_FORMATS.into_iter().map(Some)) {
        if every(&|text| parse_date(text, format).is_some()) {
            let other = format.and_then(swapped);
            let is_day_or_month = other.is_some_and(|other| every(&|text| parse_date(text, Some(other)).is_some()));
            return (Fit::Date(format), is_day_or_month);
        }
    }
    let is_clock = |text: &str| {
        let parts: Vec<&str> = text.split(':').collect();
        (2..=3).contains(&parts.len())
            && parts.iter().all(|part| part.len() == 2 && part.parse::<u32>().is_ok_and(|n| n < 60))
    };
    if every(&is_clock) {
        return (Fit::TimeOfDay, false);
    }
    let length = texts[0].len();
    let is_identifier = |text: &str| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    if length >= 8 && every(&is_identifier) {
        return (Fit::Digits(length), false);
    }
    let has_zeros =
        texts.iter().any(|text| text.len() > 1 && text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()));
    let scales: Option<Vec<u32>> = texts.iter().map(|text| decimals(text, marks)).collect();
    match scales.map(|scales| scales.into_iter().max().unwrap_or_default()) {
        _ if has_zeros => (Fit::Text, false),
        Some(0) => (Fit::Integer, false),
        Some(scale) => (Fit::Decimal(scale), false),
        None if every(&|text| matches!(text.to_lowercase().as_str(), "true" | "false")) => (Fit::Boolean, false),
        None => (Fit::Text, false),
    }
}

/// A time, also 24:00 and with the zone's abbreviation.
fn time(text: &str, format: Option<&str>) -> Option<ParsedTime> {
    let text = crate::read::split_abbreviation(text).map_or(text, |(time, _)| time);
    crate::read::parse_end(text.trim(), format).or_else(|| parse_time(text.trim(), format))
}

fn local(cell: &Cell<'_>, format: Option<&str>, is_interval: bool) -> Option<NaiveDateTime> {
    let text = match cell {
        Cell::Local(at) => return Some(*at),
        Cell::Text(text) => text.trim(),
        _ => return None,
    };
    let text = if is_interval { text.split_once(" - ")?.0 } else { text };
    match time(text, format)? {
        ParsedTime::Local(at) => Some(at),
        ParsedTime::Instant(_) => None,
    }
}

/// The format with days and months the other way round.
fn swapped(format: &'static str) -> Option<&'static str> {
    let begins = |text: &str| format.starts_with(text);
    let other = if begins("%d/%m") { format.replacen("%d/%m", "%m/%d", 1) } else { return None };
    TIME_FORMATS.into_iter().chain(DATE_FORMATS).find(|format| *format == other)
}
