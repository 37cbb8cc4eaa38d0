//! Parses a layout from TOML. All problems are collected; a layout with any is refused.

use base::{Problem, Problems};
use toml::Spanned;
use toml::de::DeTable;

use super::columns::{FileDefaults, column, number_format, parse_zone, zone};
use super::document::{DocumentKeys, Syntax};
use super::lookup::column_index;
use super::origin::{TextSource, step_of};
use super::section::Section;
use super::wide::wide;
use super::{
    Column, Coverage, Csv, Encoding, ExtraColumns, FaultPolicy, Format, Layout, NumberFormat, Preamble, Series,
    Trailer, TrailerSum, Type, Xlsx,
};

/// Parses a layout, or returns all of its problems.
pub fn parse(text: &str) -> Result<Layout, Vec<Problem>> {
    let mut report = Problems::new(text);
    let (tree, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        report.add(error.span().unwrap_or(0..0), format!("not TOML: {}", error.message()), None);
    }
    if !report.is_empty() {
        return Err(report.finish());
    }
    let layout = layout(Section::new("", 0..0, tree.into_inner()), &mut report);
    match layout {
        Some(layout) if report.is_empty() => Ok(layout),
        _ => Err(report.finish()),
    }
}

fn layout(mut section: Section<'_>, report: &mut Problems<'_>) -> Option<Layout> {
    let kind = kind(&mut section, report);
    let format = kind.and_then(|kind| format(kind, &mut section, report));
    let document_keys = DocumentKeys::take(&mut section, report);
    let (file_zone, ambiguous) = zone(&mut section, None, None, report);
    let inherited = FileDefaults {
        number_format: number_format(&mut section, NumberFormat { decimal: '.', thousands: None }, report),
        empty: match section.texts("empty", report) {
            Some(texts) => texts.into_iter().map(Spanned::into_inner).collect(),
            None => vec![String::new()],
        },
        zone: file_zone,
        ambiguous,
    };
    let mut columns = columns(&mut section, &inherited, report);
    let syntax = match kind {
        Some(Kind::Xml) => Some(Syntax::Xml),
        Some(Kind::Json) if document_keys.is_any() => Some(Syntax::Json),
        _ => None,
    };
    let format = match syntax {
        Some(syntax) => document_keys.document(syntax, &columns, report).map(Format::Document),
        None => {
            document_keys.refuse(report);
            format
        }
    };
    let key = column_indexes(&mut section, "key", &columns, report);
    // A row without its key can't be identified.
    key.iter().for_each(|at| columns[*at].required = true);
    let subject = column_indexes(&mut section, "subject", &columns, report);
    let extra = [("refuse", ExtraColumns::Refuse), ("ignore", ExtraColumns::Ignore)];
    // A document of nested values has more than what its rows are made of.
    let extra_default = if syntax.is_some() { ExtraColumns::Ignore } else { ExtraColumns::Refuse };
    let extra_columns = section.word("extra_columns", &extra, report).unwrap_or(extra_default);
    let is_lines = matches!(kind, Some(Kind::Csv | Kind::Xlsx));
    refuse_without_lines(is_lines, &columns, report);
    let wide = section.section("wide", report).and_then(|one| {
        if !is_lines {
            report.add(one.span(), "[wide] is for files with a header: csv, xlsx", None);
        }
        wide(one, &columns, report)
    });
    let trailers = section.sections("trailers", report);
    let trailers = trailers.into_iter().filter_map(|one| trailer(one, &columns, report)).collect();
    let series = section.section("series", report);
    let series = series.and_then(|one| series_of(one, &columns, inherited.zone.map(|zone| zone.zone), report));
    let policy = section.section("faults", report).map_or(Some(FaultPolicy::QuarantineFile), |one| policy(one, report));
    section.finish(report);
    Some(Layout { format: format?, columns, key, extra_columns, subject, wide, trailers, series, policy: policy? })
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Csv,
    Xlsx,
    Json,
    Ndjson,
    Parquet,
    Xml,
}

fn kind(section: &mut Section<'_>, report: &mut Problems<'_>) -> Option<Kind> {
    let kinds = [
        ("csv", Kind::Csv),
        ("xlsx", Kind::Xlsx),
        ("xls", Kind::Xlsx),
        ("ods", Kind::Xlsx),
        ("json", Kind::Json),
        ("ndjson", Kind::Ndjson),
        ("parquet", Kind::Parquet),
        ("xml", Kind::Xml),
    ];
    let was_empty = report.is_empty();
    let kind = section.word("format", &kinds, report);
    if kind.is_none() && was_empty == report.is_empty() {
        report.add(
            0..0,
            "the layout has no \"format\"",
            "one of \"csv\", \"xlsx\", \"xls\", \"ods\", \"json\", \"ndjson\", \"parquet\", \"xml\"".to_owned(),
        );
    }
    kind
}

/// The format's settings; those of a document, which name columns, are added later.
fn format(kind: Kind, section: &mut Section<'_>, report: &mut Problems<'_>) -> Option<Format> {
    let separator = section.character("separator", report);
    if let Some(separator) = separator.as_ref().filter(|mark| !is_separator(*mark.get_ref())) {
        report.add(separator.span(), "\"separator\": expected an ASCII character other than a quote or a letter", None);
    }
    let encodings = [
        ("auto", Encoding::Auto),
        ("utf-8", Encoding::Utf8),
        ("latin-1", Encoding::Windows1252),
        ("windows-1252", Encoding::Windows1252),
    ];
    let encoding = section.word("encoding", &encodings, report);
    let sheet = section.text("sheet", report);
    let header = section.flag("header", report).unwrap_or(true);
    let skip_lines = section.whole("skip_lines", 0, 1_000_000, report);
    let skip_to = section.text("skip_to", report).filter(|text| !text.get_ref().is_empty());
    let skip_after = section.whole("skip_after_header", 0, 1_000, report);
    let comment = section.text("comment", report).filter(|text| !text.get_ref().is_empty());
    let mut only = |is_there: Option<std::ops::Range<usize>>, key: &str, kinds: &[Kind]| {
        if let Some(span) = is_there.filter(|_| !kinds.contains(&kind)) {
            report.add(span, format!("{key:?} does not apply to this format"), None);
        }
    };
    only(separator.as_ref().map(Spanned::span), "separator", &[Kind::Csv]);
    only(sheet.as_ref().map(Spanned::span), "sheet", &[Kind::Xlsx]);
    only(skip_lines.as_ref().map(Spanned::span), "skip_lines", &[Kind::Csv, Kind::Xlsx]);
    only(skip_to.as_ref().map(Spanned::span), "skip_to", &[Kind::Csv, Kind::Xlsx]);
    only(skip_after.as_ref().map(Spanned::span), "skip_after_header", &[Kind::Csv, Kind::Xlsx]);
    only(comment.as_ref().map(Spanned::span), "comment", &[Kind::Csv, Kind::Xlsx]);
    if let Some(given) = skip_to.as_ref().map(Spanned::span).filter(|_| !header) {
        report.add(given, "\"skip_to\" says what the header begins with, and the file has none", None);
    }
    let preamble = Preamble {
        skip_lines: skip_lines.map_or(0, Spanned::into_inner),
        skip_to: skip_to.map(Spanned::into_inner),
        skip_after_header: skip_after.map_or(0, Spanned::into_inner),
    };
    let comment = comment.map(Spanned::into_inner);
    Some(match kind {
        Kind::Csv => Format::Csv(Csv {
            separator: separator.and_then(|mark| u8::try_from(mark.into_inner()).ok()).unwrap_or(b','),
            encoding: encoding.unwrap_or(Encoding::Auto),
            header,
            preamble,
            comment,
        }),
        Kind::Xlsx => Format::Xlsx(Xlsx { sheet: sheet.map(Spanned::into_inner), header, preamble, comment }),
        Kind::Json => Format::Json,
        Kind::Ndjson => Format::Ndjson,
        Kind::Parquet => Format::Parquet,
        // Always a document.
        Kind::Xml => return None,
    })
}

fn is_separator(mark: char) -> bool {
    mark.is_ascii() && !mark.is_ascii_alphanumeric() && !matches!(mark, '"' | '\r' | '\n' | '-' | '+')
}

fn columns(section: &mut Section<'_>, inherited: &FileDefaults, report: &mut Problems<'_>) -> Vec<Column> {
    let Some(mut all) = section.section("columns", report) else {
        report.add(
            0..0,
            "the layout has no columns",
            "write one [columns.NAME] for each, with its \"type\"".to_owned(),
        );
        return Vec::new();
    };
    let written = all.remaining_sections(report);
    if written.is_empty() {
        report.add(all.span(), "the layout has no columns", "write one [columns.NAME] for each".to_owned());
    }
    let mut columns: Vec<Column> = Vec::with_capacity(written.len());
    let mut steps = Vec::with_capacity(written.len());
    for (name, section) in written {
        let Some((column, step_keys)) = column(&name, section, inherited, report) else { continue };
        // Two columns may be different parts of one field.
        let is_same = |other: &&Column| {
            let is_field = other.source == TextSource::Field && column.source == TextSource::Field;
            let is_part = other.extract.is_some() || column.extract.is_some();
            is_field && !is_part && other.headers.iter().any(|header| column.headers.contains(header))
        };
        if let Some(other) = columns.iter().find(is_same) {
            let what = format!("{:?} and {:?} have the same header", other.name, column.name);
            report.add(name.span(), what, "give one of them another \"header\"".to_owned());
        }
        columns.push(column);
        steps.push(step_keys);
    }
    for (at, step_keys) in steps.into_iter().enumerate() {
        step_keys.resolve(&mut columns, at, report);
    }
    columns
}

/// Reports settings of columns that need lines with a header.
fn refuse_without_lines(is_lines: bool, columns: &[Column], report: &mut Problems<'_>) {
    for column in columns.iter().filter(|_| !is_lines) {
        if column.source == TextSource::Preamble || !column.time_headers.is_empty() {
            let what = format!("{:?}: \"preamble\" and \"time_header\" are for csv and xlsx", column.name);
            report.add(0..0, what, None);
        }
    }
}

fn column_indexes(
    section: &mut Section<'_>,
    key: &'static str,
    columns: &[Column],
    report: &mut Problems<'_>,
) -> Vec<usize> {
    let names = section.texts(key, report).unwrap_or_default();
    names.iter().filter_map(|name| column_index(columns, name, report)).collect()
}

fn trailer(mut section: Section<'_>, columns: &[Column], report: &mut Problems<'_>) -> Option<Trailer> {
    let starts_with = section.text("starts_with", report).filter(|text| !text.get_ref().is_empty());
    if starts_with.is_none() {
        report.add(
            section.span(),
            "[[trailers]] has no \"starts_with\"",
            "write what the line begins with, such as \"#TOTAL\"".to_owned(),
        );
    }
    let required = section.flag("required", report).unwrap_or(true);
    let count = section.whole("count", 1, 10_000, report).map(|field| field.into_inner() as usize);
    let sums = section.sections("sums", report);
    let sums = sums.into_iter().filter_map(|one| sum(one, columns, report)).collect();
    section.finish(report);
    Some(Trailer { starts_with: starts_with?.into_inner(), required, count, sums })
}

fn sum(mut section: Section<'_>, columns: &[Column], report: &mut Problems<'_>) -> Option<TrailerSum> {
    let field = section.whole("field", 1, 10_000, report);
    let name = section.text("column", report);
    if field.is_none() || name.is_none() {
        report.add(section.span(), "a sum needs its \"field\", from 1, and its \"column\"", None);
    }
    let column = name.as_ref().and_then(|name| column_index(columns, name, report));
    if let (Some(at), Some(name)) = (column, &name)
        && !columns[at].kind.is_number()
    {
        report.add(name.span(), format!("{:?} is not a column of numbers", name.get_ref()), None);
    }
    if let (Some(at), Some(name)) = (column, &name)
        && (columns[at].power_over.is_some() || columns[at].round)
    {
        let what = format!("{:?} is computed from what the file has, so the file's sum is another", name.get_ref());
        report.add(name.span(), what, None);
    }
    section.finish(report);
    Some(TrailerSum { field: field?.into_inner() as usize, column: column? })
}

fn series_of(
    mut section: Section<'_>,
    columns: &[Column],
    zone: Option<chrono_tz::Tz>,
    report: &mut Problems<'_>,
) -> Option<Series> {
    let time = section.text("time", report);
    let step = section.text("step", report);
    for (key, given) in [("time", &time), ("step", &step)] {
        if given.is_none() {
            report.add(section.span(), format!("[series] has no {key:?}"), None);
        }
    }
    let time_at = time.as_ref().and_then(|name| column_index(columns, name, report));
    if let (Some(at), Some(name)) = (time_at, &time)
        && !matches!(columns[at].kind, Type::Timestamp { .. })
    {
        report.add(name.span(), format!("{:?} is not a timestamp", name.get_ref()), None);
    }
    let step = step.and_then(|step| step_of(&step, columns, report));
    let by = column_indexes(&mut section, "by", columns, report);
    let own = section.text("zone", report).and_then(|name| parse_zone(&name, report));
    let zone = own.or(zone);
    if zone.is_none() {
        report.add(
            section.span(),
            "[series] has no \"zone\"",
            "write the time zone of its days, such as \"Europe/Paris\"".to_owned(),
        );
    }
    let covers = [("days", Coverage::Days), ("months", Coverage::Months)];
    let covers = section.word("covers", &covers, report).unwrap_or(Coverage::Days);
    section.finish(report);
    Some(Series { time: time_at?, step: step?, by, zone: zone?, covers })
}

fn policy(mut section: Section<'_>, report: &mut Problems<'_>) -> Option<FaultPolicy> {
    let words = [("quarantine", false), ("aside", true)];
    let rows_only = section.word("policy", &words, report).unwrap_or(false);
    let share = section.number("share_max", report);
    if let Some(share) = &share {
        let value = share.get_ref().double();
        if !rows_only {
            report.add(share.span(), "\"share_max\" needs policy = \"aside\"", None);
        } else if !(0.0..=1.0).contains(&value) {
            report.add(share.span(), "\"share_max\": expected 0 to 1", None);
        }
    } else if rows_only {
        let hint = "write the greatest share of rows that may be quarantined: share_max = 0.01".to_owned();
        report.add(section.span(), "policy = \"aside\" has no \"share_max\"", hint);
    }
    section.finish(report);
    match (rows_only, share) {
        (true, Some(share)) => Some(FaultPolicy::QuarantineRows { share_max: share.get_ref().double() }),
        (true, None) => None,
        (false, _) => Some(FaultPolicy::QuarantineFile),
    }
}
