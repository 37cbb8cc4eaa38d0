//! Parses texts by a pattern: `to_timestamp('29/03/2026 14:05', 'DD/MM/YYYY HH24:MI')`.

use chrono::{NaiveDate, NaiveDateTime, TimeDelta};

use super::times::{Field, Part, Pattern, day_named, month_named};

/// A time that was parsed from a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ParsedTime {
    /// The local time.
    pub(super) local: NaiveDateTime,
    /// The offset of its time zone in seconds east of UTC, if the text has one.
    pub(super) offset: Option<i32>,
}

#[derive(Debug, Default)]
struct Values {
    year: Option<i32>,
    month: Option<u32>,
    day: Option<u32>,
    day_of_year: Option<u32>,
    hour: Option<i64>,
    is_half_day: bool,
    is_afternoon: Option<bool>,
    minute: i64,
    second: i64,
    micros: i64,
    second_of_day: Option<i64>,
    zone_hours: Option<i32>,
    is_west: bool,
    zone_minutes: i32,
}

/// Parses a text by a pattern.
///
/// # Errors
/// If the pattern is not supported, the text does not match it, or a value is out of range.
pub(super) fn parse(text: &str, pattern: &str) -> Result<ParsedTime, String> {
    let pattern = Pattern::parse(pattern)?;
    let mut values = Values::default();
    let mut rest = text;
    for (at, part) in pattern.parts.iter().enumerate() {
        match part {
            // As in PostgreSQL, a separator matches any other separator.
            Part::Text(separator) => {
                for expected in separator.chars() {
                    if expected.is_whitespace() {
                        rest = rest.trim_start();
                    } else if let Some(first) = rest.chars().next()
                        && (first == expected || (!first.is_alphanumeric() && !expected.is_alphanumeric()))
                        && !(matches!(first, '+' | '-') && first != expected)
                    {
                        rest = &rest[first.len_utf8()..];
                    }
                }
            }
            Part::Field { field, ordinal, .. } => {
                rest = rest.trim_start();
                if rest.is_empty() {
                    break;
                }
                // If no separator follows, a number has as many digits as the pattern.
                let is_open = !matches!(pattern.parts.get(at + 1), Some(Part::Field { .. }));
                rest = parse_field(*field, is_open, rest, &mut values)?;
                if ordinal.is_some() {
                    rest = rest.get(2..).unwrap_or_default();
                }
            }
        }
    }
    values.to_time(text)
}

/// The number at the beginning of a text, with an optional sign, and the rest of the text. It has at most `digits`
/// digits unless it `is_open`: followed by a separator or the end of the pattern.
fn number(rest: &str, digits: usize, is_open: bool) -> Result<(i64, &str), String> {
    let signed = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    let has = signed.bytes().take_while(u8::is_ascii_digit).count();
    let taken = if is_open { has } else { has.min(digits) };
    let (text, after) = rest.split_at(rest.len() - signed.len() + taken);
    Ok((text.parse::<i64>().map_err(|_| invalid(rest))?, after))
}

fn invalid(rest: &str) -> String {
    format!("invalid value {rest:?} for a field of the pattern")
}

fn parse_field<'t>(field: Field, is_open: bool, rest: &'t str, values: &mut Values) -> Result<&'t str, String> {
    let digits = match field {
        Field::Year(digits) => return parse_year(digits, is_open, rest, values),
        Field::MonthName | Field::MonthShort | Field::DayName | Field::DayShort | Field::Meridiem { .. } => {
            return parse_word(field, rest, values);
        }
        Field::Fraction(digits) => {
            let has = rest.bytes().take_while(u8::is_ascii_digit).count();
            let taken = if is_open { has } else { has.min(digits.into()) };
            let text = &rest[..taken.min(6)];
            let value: i64 = text.parse().map_err(|_| invalid(rest))?;
            // The digits are decimals: .5 is 500 milliseconds.
            values.micros = value * 10_i64.pow(6 - u32::try_from(text.len()).unwrap_or(6));
            return Ok(&rest[taken..]);
        }
        Field::DayOfYear => 3,
        Field::SecondOfDay => 5,
        _ => 2,
    };
    let (value, after) = number(rest, digits, is_open)?;
    let small = || u32::try_from(value).map_err(|_| invalid(rest));
    match field {
        Field::Month => values.month = Some(small()?),
        Field::Day => values.day = Some(small()?),
        Field::DayOfYear => values.day_of_year = Some(small()?),
        Field::Hour24 | Field::Hour12 => {
            (values.hour, values.is_half_day) = (Some(value), field == Field::Hour12);
        }
        Field::Minute => values.minute = value,
        Field::Second => values.second = value,
        Field::SecondOfDay => values.second_of_day = Some(value),
        Field::ZoneHours if value.abs() < 16 => {
            values.zone_hours = Some(i32::try_from(value.abs()).map_err(|_| invalid(rest))?);
            values.is_west = rest.starts_with('-');
        }
        Field::ZoneMinutes if (0..60).contains(&value) => {
            values.zone_minutes = i32::try_from(value).map_err(|_| invalid(rest))?;
        }
        Field::ZoneHours | Field::ZoneMinutes => return Err(invalid(rest)),
        other => return Err(format!("the field {other:?} is not supported when a text is parsed by a pattern")),
    }
    Ok(after)
}

fn parse_year<'t>(digits: u8, is_open: bool, rest: &'t str, values: &mut Values) -> Result<&'t str, String> {
    let (value, after) = match digits {
        0 => {
            let end = rest.find(|char: char| !char.is_ascii_digit() && char != ',').unwrap_or(rest.len());
            (rest[..end].replace(',', "").parse().map_err(|_| invalid(rest))?, &rest[end..])
        }
        digits => number(rest, digits.into(), is_open)?,
    };
    let year = i32::try_from(value).map_err(|_| invalid(rest))?;
    // A short year is the year nearest to 2020 with these last digits.
    values.year = Some(match (digits, year) {
        (1..4, ..70) => year + 2000,
        (1..4, 70..100) => year + 1900,
        (1..4, 100..520) => year + 2000,
        (1..4, 520..1000) => year + 1000,
        _ => year,
    });
    Ok(after)
}

fn parse_word<'t>(field: Field, rest: &'t str, values: &mut Values) -> Result<&'t str, String> {
    let length = match field {
        Field::MonthName | Field::MonthShort => {
            let named = month_named(rest, field == Field::MonthShort).or_else(|| month_named(rest, true));
            let (month, length) = named.ok_or_else(|| invalid(rest))?;
            values.month = Some(month);
            length
        }
        Field::DayName | Field::DayShort => {
            let named = day_named(rest, field == Field::DayShort).or_else(|| day_named(rest, true));
            named.ok_or_else(|| invalid(rest))?
        }
        _ => {
            let begins = |word: &&str| rest.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word));
            let half = ["A.M.", "P.M.", "AM", "PM"].into_iter().find(begins).ok_or_else(|| invalid(rest))?;
            values.is_afternoon = Some(half.starts_with('P'));
            half.len()
        }
    };
    Ok(&rest[length..])
}

impl Values {
    fn to_time(&self, text: &str) -> Result<ParsedTime, String> {
        let out_of_range = || format!("date/time field value out of range: {text:?}");
        // As in PostgreSQL, the year is 1 BC if the text has none.
        let year = self.year.unwrap_or(0);
        let date = match self.day_of_year {
            Some(day) if self.month.is_none() && self.day.is_none() => NaiveDate::from_yo_opt(year, day),
            _ => NaiveDate::from_ymd_opt(year, self.month.unwrap_or(1), self.day.unwrap_or(1)),
        };
        let mut hour = self.hour.unwrap_or_default();
        let hours = if self.is_half_day || self.is_afternoon.is_some() { 1..=12 } else { 0..=23 };
        if self.hour.is_some_and(|hour| !hours.contains(&hour)) || !(0..60).contains(&self.minute) {
            return Err(out_of_range());
        }
        if let Some(is_afternoon) = self.is_afternoon {
            hour = hour % 12 + if is_afternoon { 12 } else { 0 };
        } else if self.is_half_day && hour == 12 {
            hour = 0;
        }
        let seconds = self.second_of_day.unwrap_or(hour * 3600 + self.minute * 60 + self.second);
        if !(0..86_400).contains(&seconds) || !(0..60).contains(&self.second) {
            return Err(out_of_range());
        }
        let midnight = date.ok_or_else(out_of_range)?.and_hms_opt(0, 0, 0).ok_or_else(out_of_range)?;
        let local = midnight + TimeDelta::seconds(seconds) + TimeDelta::microseconds(self.micros);
        let offset = self.zone_hours.map(|hours| hours * 3600 + self.zone_minutes * 60);
        let offset = offset.map(|offset| if self.is_west { -offset } else { offset });
        Ok(ParsedTime { local, offset })
    }
}
