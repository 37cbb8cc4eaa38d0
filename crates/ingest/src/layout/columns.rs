//! Parses the columns of a layout from their sections.

use base::{Problems, nearest, quoted_list};
use toml::Spanned;

use super::lookup::regular_expression;
use super::origin::{OriginKeys, StepKeys};
use super::section::Section;
use super::{Ambiguous, Column, NumberFormat, Stamp, Type, Zone};

/// Settings of the file that apply to columns without their own.
pub struct FileDefaults {
    /// How numbers are written.
    pub number_format: NumberFormat,
    /// Texts that mean that there is no value.
    pub empty: Vec<String>,
    /// How times without an offset are read.
    pub zone: Option<Zone>,
    /// How the repeated hour is read, also by columns with a zone of their own.
    pub ambiguous: Option<Ambiguous>,
}

const TYPES: [&str; 9] =
    ["text", "integer", "decimal(p,s)", "double", "boolean", "date", "timestamp", "duration", "enum"];

/// The values of `ambiguous`.
pub const AMBIGUOUS: [(&str, Ambiguous); 4] = [
    ("refuse", Ambiguous::Refuse),
    ("first", Ambiguous::First),
    ("second", Ambiguous::Second),
    ("in-order", Ambiguous::InOrder),
];

/// Parses `[columns.NAME]`, with the keys that may name other columns; `None` where its type is not valid, which is
/// reported like its other problems.
pub fn column(
    name: &Spanned<String>,
    mut section: Section<'_>,
    inherited: &FileDefaults,
    report: &mut Problems<'_>,
) -> Option<(Column, StepKeys)> {
    let kind = kind(&mut section, inherited, report);
    let headers = section.texts("header", report);
    let headers = headers.filter(|headers| !headers.is_empty()).map_or_else(
        || vec![name.get_ref().clone()],
        |headers| headers.into_iter().map(|header| header.into_inner().trim().to_owned()).collect(),
    );
    let duration_unit = section.word("unit", &[("s", 1), ("min", 60), ("h", 3600)], report);
    if duration_unit.is_some() && kind.as_ref().is_some_and(|kind| *kind != Type::Duration) {
        report.add(section.span(), format!("\"unit\" of [{}] is for columns of durations", section.name()), None);
    }
    let required = section.flag("required", report).unwrap_or(false);
    let optional = section.flag("optional", report).unwrap_or(false);
    if required && optional {
        let hint = "leave out one of them: a file without the column would have a fault in each row".to_owned();
        report.add(name.span(), "the column is both \"required\" and \"optional\"", hint);
    }
    let empty = match section.texts("empty", report) {
        Some(empty) => empty.into_iter().map(Spanned::into_inner).collect(),
        None => inherited.empty.clone(),
    };
    let number_format = number_format(&mut section, inherited.number_format, report);
    let pattern = section.text("pattern", report);
    let pattern = pattern.and_then(|text| regular_expression("pattern", &text, report));
    let origin = OriginKeys::take(&mut section, kind.as_ref(), report);
    let factor = section.number("factor", report);
    let (least, most) = (section.number("min", report), section.number("max", report));
    let is_number = kind.as_ref().is_none_or(Type::is_number);
    for (key, given) in [("factor", &factor), ("min", &least), ("max", &most)] {
        if let Some(given) = given.as_ref().filter(|_| !is_number) {
            report.add(given.span(), format!("{key:?} is for columns of numbers: integer, decimal(p,s), double"), None);
        }
    }
    if let Some(factor) = factor.as_ref().filter(|factor| factor.get_ref().mantissa <= 0) {
        report.add(factor.span(), "\"factor\": expected more than 0", None);
    }
    if let (Some(least), Some(most)) = (&least, &most)
        && least.get_ref() > most.get_ref()
    {
        report.add(most.span(), "\"max\" is less than \"min\"", None);
    }
    let column = kind.map(|kind| Column {
        name: name.get_ref().clone(),
        headers,
        source: origin.source,
        extract: origin.extract.clone(),
        time_headers: origin.time_headers.clone(),
        kind,
        duration_unit,
        required,
        optional,
        empty,
        pattern,
        number_format,
        factor: factor.map(Spanned::into_inner),
        power_over: None,
        round: origin.round,
        stamp: Stamp::Start,
        least: least.map(Spanned::into_inner),
        most: most.map(Spanned::into_inner),
    });
    section.finish(report);
    column.map(|column| (column, origin.into_steps()))
}

/// Parses `decimal` and `thousands`.
pub fn number_format(section: &mut Section<'_>, otherwise: NumberFormat, report: &mut Problems<'_>) -> NumberFormat {
    let decimal = section.word("decimal", &[(".", '.'), (",", ',')], report).unwrap_or(otherwise.decimal);
    let groups = [(" ", Some(' ')), (".", Some('.')), (",", Some(',')), ("'", Some('\'')), ("", None)];
    let thousands = section.text("thousands", report);
    let thousands = match thousands {
        None => otherwise.thousands.filter(|mark| *mark != decimal),
        Some(text) => match groups.iter().find(|(word, _)| word == text.get_ref()) {
            Some((_, Some(mark))) if *mark == decimal => {
                report.add(text.span(), "\"thousands\" is the same as the decimal mark", None);
                None
            }
            Some((_, mark)) => *mark,
            None => {
                let words = quoted_list(groups.iter().map(|(word, _)| *word));
                report.add(text.span(), format!("\"thousands\": expected one of {words}"), None);
                None
            }
        },
    };
    NumberFormat { decimal, thousands }
}

/// Parses `zone` and `ambiguous`; where one of them is missing, it is that of the file.
pub fn zone(
    section: &mut Section<'_>,
    otherwise: Option<Zone>,
    ambiguous_otherwise: Option<Ambiguous>,
    report: &mut Problems<'_>,
) -> (Option<Zone>, Option<Ambiguous>) {
    let name = section.text("zone", report);
    let ambiguous = section.word("ambiguous", &AMBIGUOUS, report).or(ambiguous_otherwise);
    let zone = match name {
        Some(name) => parse_zone(&name, report).map(|zone| Zone { zone, ambiguous: Ambiguous::Refuse }),
        None => otherwise,
    };
    let zone = zone.map(|zone| Zone { ambiguous: ambiguous.unwrap_or(zone.ambiguous), ..zone });
    (zone, ambiguous)
}

/// Parses the name of a time zone.
pub fn parse_zone(name: &Spanned<String>, report: &mut Problems<'_>) -> Option<chrono_tz::Tz> {
    let zone = name.get_ref().parse().ok();
    if zone.is_none() {
        let near = nearest(name.get_ref(), chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()));
        let hint = near.map(|near| format!("nearest: {near:?}"));
        report.add(name.span(), format!("unknown time zone {:?}", name.get_ref()), hint);
    }
    zone
}

fn kind(section: &mut Section<'_>, inherited: &FileDefaults, report: &mut Problems<'_>) -> Option<Type> {
    let Some(written) = section.text("type", report) else {
        let what = format!("[{}] has no valid \"type\"", section.name());
        report.add(section.span(), what, format!("one of {}", quoted_list(TYPES)));
        // Read so that their problems are reported too, and the keys not as unknown.
        let _ = (values(section, report), format(section, report), zone(section, None, None, report));
        return None;
    };
    let kind = match written.get_ref().as_str() {
        "text" => Some(Type::Text),
        "integer" => Some(Type::Integer),
        "double" => Some(Type::Double),
        "duration" => Some(Type::Duration),
        "boolean" => Some(boolean(section, report)),
        "date" => Some(Type::Date { format: format(section, report) }),
        "timestamp" => Some(timestamp(section, inherited, report)),
        "enum" => Some(Type::Enum(values(section, report).unwrap_or_else(|| {
            report.add(section.span(), format!("[{}] is an enum without \"values\"", section.name()), None);
            Vec::new()
        }))),
        text => decimal(text),
    };
    if kind.is_none() {
        let near = nearest(written.get_ref(), TYPES).map(|near| format!("nearest: {near:?}"));
        let what = format!("unknown type {:?}: expected one of {}", written.get_ref(), quoted_list(TYPES));
        report.add(written.span(), what, near);
    }
    kind
}

fn values(section: &mut Section<'_>, report: &mut Problems<'_>) -> Option<Vec<String>> {
    let values = section.texts("values", report)?;
    Some(values.into_iter().map(Spanned::into_inner).collect())
}

fn boolean(section: &mut Section<'_>, report: &mut Problems<'_>) -> Type {
    let mut words = |key, otherwise: [&str; 2]| match section.texts(key, report) {
        Some(words) => words.into_iter().map(|word| word.into_inner().to_lowercase()).collect(),
        None => otherwise.map(str::to_owned).to_vec(),
    };
    Type::Boolean { yes: words("yes", ["true", "1"]), no: words("no", ["false", "0"]) }
}

/// Parses `format`, a format of chrono.
fn format(section: &mut Section<'_>, report: &mut Problems<'_>) -> Option<String> {
    use chrono::format::{Item, StrftimeItems};
    let format = section.text("format", report)?;
    if StrftimeItems::new(format.get_ref()).any(|item| matches!(item, Item::Error)) {
        let hint = "use %Y, %m, %d, %H, %M, %S, %z and other specifiers of strftime".to_owned();
        report.add(format.span(), format!("\"format\": {:?} is not valid", format.get_ref()), hint);
        return None;
    }
    Some(format.into_inner())
}

fn timestamp(section: &mut Section<'_>, inherited: &FileDefaults, report: &mut Problems<'_>) -> Type {
    let format = format(section, report);
    Type::Timestamp { format, zone: zone(section, inherited.zone, inherited.ambiguous, report).0 }
}

/// Parses `decimal(precision,scale)`.
fn decimal(text: &str) -> Option<Type> {
    let (precision, scale) = text.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
    let (precision, scale): (u8, u8) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
    let is_good = (1..=38).contains(&precision) && scale <= precision;
    is_good.then_some(Type::Decimal { precision, scale: i8::try_from(scale).ok()? })
}
