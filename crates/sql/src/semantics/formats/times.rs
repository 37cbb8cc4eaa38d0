//! Patterns of dates and times: `YYYY-MM-DD HH24:MI:SS`.

use chrono::{Datelike, NaiveDateTime, Timelike};

/// A field of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Hour12,
    Hour24,
    Minute,
    Second,
    /// This many decimals of the second.
    Fraction(u8),
    SecondOfDay,
    Meridiem {
        dots: bool,
    },
    /// The last digits of the year, this many; 0 is all digits with a comma (`Y,YYY`).
    Year(u8),
    IsoYear(u8),
    Era {
        dots: bool,
    },
    MonthName,
    MonthShort,
    Month,
    MonthRoman,
    DayName,
    DayShort,
    DayOfYear,
    IsoDayOfYear,
    Day,
    /// 1 is Sunday.
    DayOfWeek,
    /// 1 is Monday.
    IsoDayOfWeek,
    WeekOfMonth,
    WeekOfYear,
    IsoWeek,
    Century,
    Julian,
    Quarter,
    ZoneHours,
    ZoneMinutes,
    Offset,
}

/// The case in which a name is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Upper,
    Title,
    Lower,
}

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// `fill` is false after FM; `ordinal` is the case of a TH that follows.
    Field { field: Field, case: Case, fill: bool, ordinal: Option<Case> },
    /// Literal text.
    Text(String),
}

/// The fields by their letters; a longer one comes before its own prefixes.
const FIELDS: [(&str, Field); 57] = [
    ("HH24", Field::Hour24),
    ("HH12", Field::Hour12),
    ("HH", Field::Hour12),
    ("MI", Field::Minute),
    ("SSSSS", Field::SecondOfDay),
    ("SSSS", Field::SecondOfDay),
    ("SS", Field::Second),
    ("MS", Field::Fraction(3)),
    ("US", Field::Fraction(6)),
    ("FF1", Field::Fraction(1)),
    ("FF2", Field::Fraction(2)),
    ("FF3", Field::Fraction(3)),
    ("FF4", Field::Fraction(4)),
    ("FF5", Field::Fraction(5)),
    ("FF6", Field::Fraction(6)),
    ("A.M.", Field::Meridiem { dots: true }),
    ("P.M.", Field::Meridiem { dots: true }),
    ("AM", Field::Meridiem { dots: false }),
    ("PM", Field::Meridiem { dots: false }),
    ("Y,YYY", Field::Year(0)),
    ("YYYY", Field::Year(4)),
    ("YYY", Field::Year(3)),
    ("YY", Field::Year(2)),
    ("Y", Field::Year(1)),
    ("IYYY", Field::IsoYear(4)),
    ("IYY", Field::IsoYear(3)),
    ("IDDD", Field::IsoDayOfYear),
    ("IY", Field::IsoYear(2)),
    ("IW", Field::IsoWeek),
    ("ID", Field::IsoDayOfWeek),
    ("I", Field::IsoYear(1)),
    ("B.C.", Field::Era { dots: true }),
    ("A.D.", Field::Era { dots: true }),
    ("BC", Field::Era { dots: false }),
    ("AD", Field::Era { dots: false }),
    ("MONTH", Field::MonthName),
    ("Month", Field::MonthName),
    ("MON", Field::MonthShort),
    ("Mon", Field::MonthShort),
    ("MM", Field::Month),
    ("RM", Field::MonthRoman),
    ("DAY", Field::DayName),
    ("Day", Field::DayName),
    ("DDD", Field::DayOfYear),
    ("DD", Field::Day),
    ("DY", Field::DayShort),
    ("Dy", Field::DayShort),
    ("D", Field::DayOfWeek),
    ("WW", Field::WeekOfYear),
    ("W", Field::WeekOfMonth),
    ("CC", Field::Century),
    ("J", Field::Julian),
    ("Q", Field::Quarter),
    ("TZH", Field::ZoneHours),
    ("TZM", Field::ZoneMinutes),
    ("OF", Field::Offset),
    ("TZ", Field::Offset),
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const ROMAN: [&str; 12] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];

/// The number of the month whose name the text begins with, and the length of that name. `is_short` is a name of three
/// letters.
pub(super) fn month_named(text: &str, is_short: bool) -> Option<(u32, usize)> {
    MONTHS.iter().zip(1..).find_map(|(name, number)| {
        let name = if is_short { &name[..3] } else { name };
        let begins = text.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name));
        begins.then_some((number, name.len()))
    })
}

/// The length of the day name that the text begins with. `is_short` is a name of three letters.
pub(super) fn day_named(text: &str, is_short: bool) -> Option<usize> {
    DAYS.iter().find_map(|name| {
        let name = if is_short { &name[..3] } else { name };
        text.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name)).then_some(name.len())
    })
}

/// A parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) parts: Vec<Part>,
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// If it has a field that is not supported.
    pub(super) fn parse(pattern: &str) -> Result<Pattern, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = pattern;
        let push_text = |parts: &mut Vec<Part>, text: &str| match parts.last_mut() {
            Some(Part::Text(before)) => before.push_str(text),
            _ => parts.push(Part::Text(text.to_owned())),
        };
        let mut fill = true;
        while let Some(first) = rest.chars().next() {
            if first == '"' {
                let mut chars = rest[1..].char_indices();
                let (mut text, mut end) = (String::new(), rest.len());
                while let Some((at, char)) = chars.next() {
                    match char {
                        '"' => {
                            end = at + 2;
                            break;
                        }
                        '\\' => text.extend(chars.next().map(|(_, char)| char)),
                        char => text.push(char),
                    }
                }
                push_text(&mut parts, &text);
                rest = &rest[end..];
                continue;
            }
            if let Some(after) = ["FM", "fm"].iter().find_map(|word| rest.strip_prefix(word)) {
                (fill, rest) = (false, after);
                continue;
            }
            if ["TM", "tm", "FX", "fx"].iter().any(|word| rest.starts_with(word)) {
                return Err(format!("the pattern {pattern:?} has {:?}, which is not supported", &rest[..2]));
            }
            let Some((field, case, length)) = word(rest) else {
                if first == '\\' && rest[1..].starts_with('"') {
                    push_text(&mut parts, "\"");
                    rest = &rest[2..];
                    continue;
                }
                push_text(&mut parts, &rest[..first.len_utf8()]);
                rest = &rest[first.len_utf8()..];
                continue;
            };
            if field == Field::Offset && ["TZ", "tz"].iter().any(|word| rest.starts_with(word)) {
                return Err(format!(
                    "the pattern {pattern:?} has TZ (an abbreviation), which is not supported; use OF, or TZH and TZM"
                ));
            }
            rest = &rest[length..];
            let ordinal = [("TH", Case::Upper), ("th", Case::Lower)].into_iter().find(|(th, _)| rest.starts_with(th));
            if ordinal.is_some() {
                rest = &rest[2..];
            }
            parts.push(Part::Field { field, case, fill, ordinal: ordinal.map(|(_, case)| case) });
            fill = true;
        }
        Ok(Pattern { parts })
    }

    /// Writes a local time. `offset` is that of its time zone in seconds, `None` for a time without one.
    pub(super) fn write(&self, at: NaiveDateTime, offset: Option<i32>) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field { field, case, fill, ordinal } => {
                    let text = write(*field, *case, *fill, at, offset);
                    out.push_str(&text);
                    if let Some(case) = ordinal {
                        let ending = ordinal_ending(&text);
                        out.push_str(&if *case == Case::Upper { ending.to_uppercase() } else { ending.to_owned() });
                    }
                }
            }
        }
        out
    }
}

fn word(rest: &str) -> Option<(Field, Case, usize)> {
    FIELDS.iter().find_map(|(word, field)| {
        let is_title = word.chars().any(|char| char.is_ascii_lowercase());
        if rest.starts_with(word) {
            return Some((*field, if is_title { Case::Title } else { Case::Upper }, word.len()));
        }
        let lower = word.to_lowercase();
        (!is_title && rest.starts_with(&lower)).then_some((*field, Case::Lower, word.len()))
    })
}

fn ordinal_ending(digits: &str) -> &'static str {
    let mut last = digits.bytes().rev();
    match (last.next(), last.next()) {
        (_, Some(b'1')) => "th",
        (Some(b'1'), _) => "st",
        (Some(b'2'), _) => "nd",
        (Some(b'3'), _) => "rd",
        _ => "th",
    }
}

fn with_case(text: &str, case: Case) -> String {
    match case {
        Case::Upper => text.to_uppercase(),
        Case::Title => text.to_owned(),
        Case::Lower => text.to_lowercase(),
    }
}

fn write(field: Field, case: Case, fill: bool, at: NaiveDateTime, offset: Option<i32>) -> String {
    let padded = |value: i64, width: usize| if fill { format!("{value:0width$}") } else { value.to_string() };
    let named = |name: &str, width: usize| {
        let name = with_case(name, case);
        if fill { format!("{name:<width$}") } else { name }
    };
    let (month, week) = (MONTHS[at.month0() as usize], at.iso_week());
    let day = at.weekday().num_days_from_monday();
    let seconds = offset.unwrap_or_default();
    match field {
        Field::Hour12 => padded(i64::from(if at.hour().is_multiple_of(12) { 12 } else { at.hour() % 12 }), 2),
        Field::Hour24 => padded(at.hour().into(), 2),
        Field::Minute => padded(at.minute().into(), 2),
        Field::Second => padded(at.second().into(), 2),
        Field::Fraction(digits) => {
            let micros = at.nanosecond() / 1000 % 1_000_000;
            format!("{micros:06}")[..digits.into()].to_owned()
        }
        Field::SecondOfDay => at.num_seconds_from_midnight().to_string(),
        Field::Meridiem { dots } => with_case(&dotted(if at.hour() < 12 { "AM" } else { "PM" }, dots), case),
        Field::Year(digits) => year_digits(at.year(), digits, fill),
        Field::IsoYear(digits) => year_digits(week.year(), digits, fill),
        Field::Era { dots } => with_case(&dotted(if at.year() > 0 { "AD" } else { "BC" }, dots), case),
        Field::MonthName => named(month, 9),
        Field::MonthShort => with_case(&month[..3], case),
        Field::Month => padded(at.month().into(), 2),
        Field::MonthRoman => named(ROMAN[at.month0() as usize], 4),
        Field::DayName => named(DAYS[day as usize], 9),
        Field::DayShort => with_case(&DAYS[day as usize][..3], case),
        Field::DayOfYear => padded(at.ordinal().into(), 3),
        Field::IsoDayOfYear => padded(i64::from(week.week0() * 7 + day + 1), 3),
        Field::Day => padded(at.day().into(), 2),
        Field::DayOfWeek => at.weekday().number_from_sunday().to_string(),
        Field::IsoDayOfWeek => at.weekday().number_from_monday().to_string(),
        Field::WeekOfMonth => (at.day0() / 7 + 1).to_string(),
        Field::WeekOfYear => padded(i64::from(at.ordinal0() / 7 + 1), 2),
        Field::IsoWeek => padded(week.week().into(), 2),
        Field::Century => {
            let century = (year_of_era(at.year()) - 1) / 100 + 1;
            if at.year() > 0 { padded(century, 2) } else { format!("-{century:02}") }
        }
        Field::Julian => (i64::from(at.num_days_from_ce()) + 1_721_425).to_string(),
        Field::Quarter => (at.month0() / 3 + 1).to_string(),
        Field::ZoneHours => format!("{}{:02}", if seconds < 0 { '-' } else { '+' }, seconds.abs() / 3600),
        Field::ZoneMinutes => format!("{:02}", seconds.abs() / 60 % 60),
        Field::Offset if seconds / 60 % 60 == 0 => write(Field::ZoneHours, case, fill, at, offset),
        Field::Offset => {
            let hours = write(Field::ZoneHours, case, fill, at, offset);
            format!("{hours}:{:02}", seconds.abs() / 60 % 60)
        }
    }
}

/// The year in its era, since there is no year 0: the one before 1 is 1 BC.
fn year_of_era(year: i32) -> i64 {
    i64::from(if year > 0 { year } else { 1 - year })
}

fn year_digits(year: i32, digits: u8, fill: bool) -> String {
    let value = year_of_era(year);
    let padded = |value: i64, width: usize| if fill { format!("{value:0width$}") } else { value.to_string() };
    match digits {
        0 => format!("{},{:03}", value / 1000, value % 1000),
        4 => padded(value, 4),
        3 => padded(value % 1000, 3),
        2 => padded(value % 100, 2),
        _ => (value % 10).to_string(),
    }
}

fn dotted(letters: &str, dots: bool) -> String {
    if dots { letters.chars().flat_map(|letter| [letter, '.']).collect() } else { letters.to_owned() }
}
