//! Checks `transfers/NAME.toml`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{DURATION_HINT, suggestion};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use transfer::plan::{ChangesSettings, Deletes};

use super::super::problem::FileProblems;
use super::super::raw::{self, Field, FileKind, NumberOrText};
use super::super::{
    ColumnAs, Function, LAKE, Mode, OnNoCursor, Overlap, TableSettings, Target, Transfer, Via, schema_check,
};
use super::{job, stream, texts};

const STREAMS: u32 = 2;
const PARALLEL_TABLES: u32 = 1;
const OVERLAP: Duration = Duration::from_secs(600);

/// Checks a transfer's file. `connections` has the names of all connections, unless they can't be known. `file` is
/// relative to the warehouse.
pub fn check(
    root: &Path,
    file: &Path,
    connections: Option<&[String]>,
    functions: &BTreeMap<String, Function>,
    zone: &str,
    report: &mut FileProblems<'_>,
) -> Option<Transfer> {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if !texts::is_name(&name) {
        let what = format!("{name:?} is not a valid name for a transfer");
        report.add(0..0, what, "name the file with a-z, 0-9, _ and - only".to_owned());
    }
    let tree = schema_check::tree(report)?;
    find_unquoted_tables(tree.get_ref(), report);
    let raw: raw::Transfer = schema_check::read(FileKind::Transfer, tree, report)?;
    let stream = stream::check(&root.join(file), &raw, functions, report);
    let (source, target) = match (&stream, raw.source.get()) {
        (Some(stream), None) => (Some(stream.address.display()), check_target(&raw, connections, report)),
        (Some(_), Some(_)) => (check_source(&raw.source, connections, report), Some(Target::Stream)),
        (None, _) => {
            if raw.source.get().is_none() && raw.stream.get().is_none() && report.is_empty() {
                report.add(
                    0..0,
                    "\"source\" is missing",
                    "add source = \"NAME\", a connection, or stream = \"...\"".to_owned(),
                );
            }
            (check_source(&raw.source, connections, report), check_target(&raw, connections, report))
        }
    };
    let mode = raw.mode.get().map(|mode| match mode {
        raw::Mode::Initial => Mode::Initial,
        raw::Mode::Incremental => Mode::Incremental,
        raw::Mode::Changes => Mode::Changes,
    });
    let via = check_via(&raw.via, report);
    let mapping = check_mapping(root, file, &raw, report);
    let reads_stream = raw.source.get().is_none() && raw.stream.get().is_some();
    Some(Transfer {
        changes: check_changes(&name, &raw, report),
        name,
        file: root.join(file),
        include: check_patterns(&raw.include, report),
        exclude: check_patterns(&raw.exclude, report),
        overlap: raw.overlap.0.as_ref().and_then(|text| check_duration(text, report)).unwrap_or(OVERLAP),
        tables: raw.tables.iter().map(|(name, table)| check_table(name, table, reads_stream, report)).collect(),
        streams: *raw.streams.get().unwrap_or(&STREAMS) as usize,
        parallel_tables: *raw.parallel_tables.get().unwrap_or(&PARALLEL_TABLES) as usize,
        lock_timeout: raw
            .lock_timeout
            .0
            .as_ref()
            .and_then(|text| check_duration(text, report))
            .unwrap_or(transfer::postgres::LOCK_TIMEOUT),
        views: *raw.views.get().unwrap_or(&false),
        on_no_cursor: raw.on_no_cursor.get().map_or(OnNoCursor::Error, |choice| on_no_cursor(*choice)),
        source: source?,
        stream,
        target: target?,
        mode: mode?,
        via: via?,
        into: raw.into.get().cloned(),
        mapping,
        rules: job::rules(&raw.triggers, &raw.run, zone, report),
    })
}

/// Reports `[tables.schema.table]`, which TOML reads as two keys.
fn find_unquoted_tables(tree: &DeTable<'_>, report: &mut FileProblems<'_>) {
    let Some(DeValue::Table(tables)) = tree.get("tables").map(|value| value.get_ref()) else { return };
    for (schema, value) in tables {
        let DeValue::Table(inner) = value.get_ref() else { continue };
        let is_table = |(key, value): &(&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let key: &std::borrow::Cow<'_, str> = key.get_ref();
            key != "columns" && value.get_ref().is_table()
        };
        if let Some((table, _)) = inner.iter().find(is_table).filter(|_| !schema.get_ref().contains('.')) {
            let hint = format!("write [tables.\"{}.{}\"]", schema.get_ref(), table.get_ref());
            report.add(schema.span(), "a table's name must be in quotes", hint);
        }
    }
}

fn check_source(raw: &Field<String>, connections: Option<&[String]>, report: &mut FileProblems<'_>) -> Option<String> {
    let (name, span) = (raw.get()?, raw.span()?);
    let Some(known) = connections else { return Some(name.clone()) };
    if known.contains(name) {
        return Some(name.clone());
    }
    unknown_connection(name, span, "connection", known.iter().map(String::as_str).collect(), report);
    None
}

fn check_target(raw: &raw::Transfer, connections: Option<&[String]>, report: &mut FileProblems<'_>) -> Option<Target> {
    let Some((name, span)) = raw.target.get().zip(raw.target.span()) else { return Some(Target::Lake) };
    if name == LAKE {
        return Some(Target::Lake);
    }
    if let Some(known) = connections
        && !known.contains(name)
    {
        let known = std::iter::once(LAKE).chain(known.iter().map(String::as_str)).collect();
        unknown_connection(name, span, "target", known, report);
        return None;
    }
    if raw.source.get() == Some(name) && raw.into.get().is_none() && raw.mapping.get().is_none() {
        let hint = "choose another target, or a schema for the copies with into = \"...\"".to_owned();
        report.add(span, "the target is the source: its tables would be overwritten", hint);
        return None;
    }
    Some(Target::Postgres(name.clone()))
}

fn unknown_connection(name: &str, span: Range<usize>, noun: &str, known: Vec<&str>, report: &mut FileProblems<'_>) {
    let hint = suggestion(noun, name, &known).unwrap_or_else(|| format!("add [connections.{name:?}] to wattlake.toml"));
    report.add(span, format!("unknown {noun} {name:?}"), hint);
}

/// Reports keys that the mode does not have, and combinations that it can't do.
fn check_changes(name: &str, raw: &raw::Transfer, report: &mut FileProblems<'_>) -> ChangesSettings {
    let is_changes = matches!(raw.mode.get(), Some(raw::Mode::Changes));
    let of_mode = [
        ("deletes", raw.deletes.span()),
        ("history", raw.history.span()),
        ("slot", raw.slot.span()),
        ("publication", raw.publication.span()),
        ("commit_interval", raw.commit_interval.span()),
    ];
    for (key, span) in of_mode {
        if let Some(span) = span.filter(|_| !is_changes) {
            let hint = format!("set mode = \"changes\", or remove {key:?}");
            report.add(span, format!("{key:?} belongs to mode \"changes\""), hint);
        }
    }
    if is_changes {
        if let Some(span) = raw.via.span().filter(|_| matches!(raw.via.get(), Some(raw::Via::Basebackup))) {
            let hint = "set via = \"direct\", or \"replica\" for a standby of PostgreSQL 16 or newer".to_owned();
            report.add(span, "a base backup has no log to follow", hint);
        }
        if let Some(trigger) = raw.triggers.first() {
            let hint = "remove the triggers: `wattlake serve` runs it all the time".to_owned();
            report.add(trigger.span(), "mode \"changes\" is a service, which no trigger starts", hint);
        }
        let is_lake = raw.target.get().is_none_or(|target| *target == LAKE);
        let marks = matches!(raw.deletes.get(), Some(raw::Deletes::Mark));
        let of_lake = [
            ("history", raw.history.span().filter(|_| raw.history.get() == Some(&true))),
            ("deletes = \"mark\"", raw.deletes.span().filter(|_| marks)),
        ];
        for (key, span) in of_lake {
            if let Some(span) = span.filter(|_| !is_lake) {
                let hint = format!("set target = \"lake\", or remove {key}");
                report.add(span, format!("{key} is for tables of the lake"), hint);
            }
        }
    }
    let defaults = ChangesSettings::of(name);
    let interval = raw.commit_interval.0.as_ref().and_then(|text| check_duration(text, report));
    ChangesSettings {
        slot: raw.slot.get().cloned().unwrap_or(defaults.slot),
        manages_publication: raw.publication.get().is_none(),
        publication: raw.publication.get().cloned().unwrap_or(defaults.publication),
        deletes: match raw.deletes.get() {
            Some(raw::Deletes::Keep) => Deletes::Keep,
            Some(raw::Deletes::Mark) => Deletes::Mark,
            Some(raw::Deletes::Apply) | None => Deletes::Apply,
        },
        history: raw.history.get().copied().unwrap_or_default(),
        commit_interval: interval.unwrap_or(defaults.commit_interval),
    }
}

fn check_via(raw: &Field<raw::Via>, report: &mut FileProblems<'_>) -> Option<Via> {
    let Some((via, span)) = raw.get().zip(raw.span()) else { return Some(Via::Direct) };
    match via {
        raw::Via::Direct => Some(Via::Direct),
        raw::Via::Replica => Some(Via::Replica),
        raw::Via::Basebackup => Some(Via::Basebackup),
        raw::Via::Rds => {
            let hint = "use via = \"replica\" to relieve the source".to_owned();
            report.add(span, "via \"rds\" is not implemented yet", hint);
            None
        }
    }
}

fn check_mapping(root: &Path, file: &Path, raw: &raw::Transfer, report: &mut FileProblems<'_>) -> Option<PathBuf> {
    let (mapping, span) = (raw.mapping.get()?, raw.mapping.span()?);
    for (name, other) in [("include", raw.include.span()), ("exclude", raw.exclude.span())] {
        if let Some(span) = other {
            let hint = format!("remove {name:?} or \"mapping\"");
            report.add(span, format!("{name:?} can't be used with \"mapping\", which selects the tables"), hint);
        }
    }
    let path = root.join(file).parent().unwrap_or(root).join(mapping);
    if !path.is_file() {
        let hint = "the path is relative to the transfer's file".to_owned();
        report.add(span, format!("there is no file {mapping:?}"), hint);
    }
    Some(path)
}

fn check_patterns(raw: &Field<Vec<Spanned<String>>>, report: &mut FileProblems<'_>) -> Vec<String> {
    for pattern in raw.get().into_iter().flatten().filter(|pattern| !texts::is_pattern(pattern.get_ref())) {
        let text = pattern.get_ref();
        let what = format!("the pattern {text:?} matches no \"schema.table\"");
        report.add(pattern.span(), what, format!("write \"public.{text}\" or \"*.{text}\""));
    }
    raw.get().into_iter().flatten().map(|pattern| pattern.get_ref().clone()).collect()
}

fn check_table(
    name: &Spanned<String>,
    raw: &raw::TableSettings,
    reads_stream: bool,
    report: &mut FileProblems<'_>,
) -> (String, TableSettings) {
    let unused = [
        ("cursor", raw.cursor.span()),
        ("overlap", raw.overlap.span()),
        ("on_no_cursor", raw.on_no_cursor.span()),
        ("columns", raw.columns.values().next().and_then(|column| column.carried_as.span())),
    ];
    for (key, span) in unused.into_iter().filter(|_| reads_stream) {
        if let Some(span) = span {
            let what = format!("{key:?} can't be used: the stream is the source, whose messages have the rows");
            report.add(span, what, "it belongs to the transfer that publishes".to_owned());
        }
    }
    if !name.get_ref().contains('.') {
        let table = name.get_ref();
        let what = format!("the table {table:?} is named without its schema");
        report.add(name.span(), what, format!("write [tables.\"public.{table}\"]"));
    }
    let settings = TableSettings {
        cursor: raw.cursor.get().map(|cursor| cursor.0.clone()).unwrap_or_default(),
        overlap: check_overlap(&raw.overlap, report),
        key: check_key(&raw.key, report),
        on_no_cursor: raw.on_no_cursor.get().map(|choice| on_no_cursor(*choice)),
        columns: check_columns(&raw.columns, report),
    };
    (name.get_ref().clone(), settings)
}

fn check_overlap(raw: &Field<NumberOrText>, report: &mut FileProblems<'_>) -> Option<Overlap> {
    match (raw.get()?, raw.span()?) {
        (NumberOrText::Number(ids), _) => Some(Overlap::Ids(*ids)),
        (NumberOrText::Text(text), span) => {
            check_duration(&Spanned::new(span, text.clone()), report).map(Overlap::Time)
        }
    }
}

fn check_duration(text: &Spanned<String>, report: &mut FileProblems<'_>) -> Option<Duration> {
    let duration = texts::duration(text.get_ref());
    if duration.is_none() {
        report.add(text.span(), format!("{:?} is not a duration", text.get_ref()), DURATION_HINT.to_owned());
    }
    duration
}

fn check_key(raw: &Field<Vec<Spanned<String>>>, report: &mut FileProblems<'_>) -> Vec<String> {
    let mut key: Vec<String> = Vec::new();
    for column in raw.get().into_iter().flatten() {
        if key.contains(column.get_ref()) {
            report.add(column.span(), format!("{:?} is in the key twice", column.get_ref()), None);
        }
        key.push(column.get_ref().clone());
    }
    key
}

fn check_columns(
    raw: &BTreeMap<Spanned<String>, raw::Column>,
    report: &mut FileProblems<'_>,
) -> BTreeMap<String, ColumnAs> {
    let mut columns = BTreeMap::new();
    for (name, column) in raw {
        let Some((text, span)) = column.carried_as.get().zip(column.carried_as.span()) else { continue };
        match texts::column_as(text) {
            Some(column_as) => {
                columns.insert(name.get_ref().clone(), column_as);
            }
            None => {
                let hint = "write text, double, bytes or decimal(P,S) with P of 1 to 38 and S of 0 to P".to_owned();
                report.add(span, format!("a column can't be transferred as {text:?}"), hint);
            }
        }
    }
    columns
}

fn on_no_cursor(raw: raw::OnNoCursor) -> OnNoCursor {
    match raw {
        raw::OnNoCursor::Error => OnNoCursor::Error,
        raw::OnNoCursor::Reload => OnNoCursor::Reload,
    }
}
