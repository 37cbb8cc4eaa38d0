//! Checks the keys of a transfer that publishes into a stream, or reads one.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base::DURATION_HINT;
use stream::message::{BeforeImage, MessageSettings, PartitionBy};
use stream::{Address, Broker, Start, StreamOptions};
use transfer::consume::LeftOut;

use super::super::problem::FileProblems;
use super::super::raw;
use super::super::{Function, FunctionSource, LAKE, Stream, StreamRole};
use super::texts;

const BATCH_SIZE: u32 = 100;
const SHARDS: u32 = 4;
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// The stream of the transfer in `file`, where it has one. Keys that belong to the other role, or to no stream, are reported.
pub fn check(
    file: &Path,
    raw: &raw::Transfer,
    functions: &BTreeMap<String, Function>,
    report: &mut FileProblems<'_>,
) -> Option<Stream> {
    let of_streams = [
        ("shards", raw.shards.span()),
        ("retention", raw.retention.span()),
        ("replicas", raw.replicas.span()),
        ("start", raw.start.span()),
        ("left_out", raw.left_out.span()),
        ("function", raw.function.span()),
        ("batch_size", raw.batch_size.span()),
        ("batch_window", raw.batch_window.span()),
        ("bisect", raw.bisect.span()),
        ("retries", raw.retries.span()),
    ];
    let Some((text, span)) = raw.stream.get().zip(raw.stream.span()) else {
        for (key, span) in of_streams {
            if let Some(span) = span {
                report.add(
                    span,
                    format!("{key:?} belongs to a stream"),
                    "add stream = \"...\", or remove it".to_owned(),
                );
            }
        }
        return None;
    };
    if !matches!(raw.mode.get(), None | Some(raw::Mode::Changes)) {
        let hint = "set mode = \"changes\"".to_owned();
        report.add(span.clone(), "a stream carries changes: only mode \"changes\" has one", hint);
    }
    let publishes = raw.source.get().is_some();
    for (key, span) in &of_streams[if publishes { 3..10 } else { 0..3 }] {
        if let Some(span) = span {
            let (role, hint) = match publishes {
                true => ("reads a stream", "remove it, or the source"),
                false => ("publishes into a stream", "remove it, or add a source"),
            };
            report.add(span.clone(), format!("{key:?} belongs to a transfer that {role}"), hint.to_owned());
        }
    }
    check_unused(raw, publishes, report);
    let into_postgres = !publishes && raw.target.get().is_some_and(|target| *target != LAKE);
    if let (true, Some(raw::Deletes::Mark), Some(span)) = (into_postgres, raw.deletes.get(), raw.deletes.span()) {
        let hint = "set deletes = \"apply\" or \"keep\"".to_owned();
        report.add(span, "deletes = \"mark\" is not implemented for streams into a PostgreSQL", hint);
    }
    if text.contains("${") {
        let hint = "name a file of credentials, relative to this one: ?credentials=FILE".to_owned();
        report.add(span, "variables are not filled in in the address of a stream", hint);
        return None;
    }
    let address = match Address::parse(text) {
        Ok(address) => beside(file, address),
        Err(error) => {
            report.add(span, error.context, error.hint.unwrap_or_default());
            return None;
        }
    };
    let role = if publishes { publisher(raw, report) } else { consumer(raw, functions, report) };
    Some(Stream { address, role })
}

/// The address with its file of credentials relative to the transfer's file.
fn beside(file: &Path, mut address: Address) -> Address {
    if let Broker::Nats { credentials: Some(credentials), .. } = &mut address.broker {
        let path = file.parent().unwrap_or(file).join(credentials.as_str());
        *credentials = path.to_string_lossy().into_owned();
    }
    address
}

/// Reports keys that a transfer with a stream does not use.
fn check_unused(raw: &raw::Transfer, publishes: bool, report: &mut FileProblems<'_>) {
    let unused = match publishes {
        true => vec![
            ("target", raw.target.span()),
            ("deletes", raw.deletes.span()),
            ("streams", raw.streams.span()),
            ("on_no_cursor", raw.on_no_cursor.span()),
            ("overlap", raw.overlap.span()),
        ],
        false => vec![
            ("via", raw.via.span()),
            ("mapping", raw.mapping.span()),
            ("views", raw.views.span()),
            ("streams", raw.streams.span()),
            ("parallel_tables", raw.parallel_tables.span()),
            ("lock_timeout", raw.lock_timeout.span()),
            ("on_no_cursor", raw.on_no_cursor.span()),
            ("overlap", raw.overlap.span()),
            ("include_null_and_empty", raw.messages.include_null_and_empty.span()),
            ("include_transaction_details", raw.messages.include_transaction_details.span()),
            ("include_partition_value", raw.messages.include_partition_value.span()),
            ("include_control_details", raw.messages.include_control_details.span()),
            ("include_table_alter_operations", raw.messages.include_table_alter_operations.span()),
            ("partition_by", raw.messages.partition_by.span()),
            ("before_image", raw.messages.before_image.span()),
            ("slot", raw.slot.span()),
            ("publication", raw.publication.span()),
        ],
    };
    if let Some(span) = raw.history.span() {
        let hint = "remove it, or transfer without a stream".to_owned();
        report.add(span, "\"history\" is not implemented for streams", hint);
    }
    for (key, span) in unused {
        if let Some(span) = span {
            let (what, hint) = match publishes {
                true => ("the stream is the target", "it belongs to the transfer that reads the stream"),
                false => ("the stream is the source", "it belongs to the transfer that publishes"),
            };
            report.add(span, format!("{key:?} can't be used: {what}"), hint.to_owned());
        }
    }
}

fn publisher(raw: &raw::Transfer, report: &mut FileProblems<'_>) -> StreamRole {
    let of = &raw.messages;
    let defaults = MessageSettings::default();
    let messages = MessageSettings {
        include_null_and_empty: *of.include_null_and_empty.get().unwrap_or(&defaults.include_null_and_empty),
        include_transaction_details: *of
            .include_transaction_details
            .get()
            .unwrap_or(&defaults.include_transaction_details),
        include_partition_value: *of.include_partition_value.get().unwrap_or(&defaults.include_partition_value),
        include_control_details: *of.include_control_details.get().unwrap_or(&defaults.include_control_details),
        include_table_alter_operations: *of
            .include_table_alter_operations
            .get()
            .unwrap_or(&defaults.include_table_alter_operations),
        partition_by: match of.partition_by.get() {
            Some(raw::PartitionBy::SchemaTable) => PartitionBy::SchemaTable,
            Some(raw::PartitionBy::PrimaryKey) | None => PartitionBy::PrimaryKey,
        },
        before_image: match of.before_image.get() {
            Some(raw::BeforeImage::All) => BeforeImage::All,
            Some(raw::BeforeImage::PrimaryKey) => BeforeImage::PrimaryKey,
            Some(raw::BeforeImage::None) | None => BeforeImage::None,
        },
    };
    let retention = raw.retention.0.as_ref().and_then(|text| {
        let duration = texts::duration(text.get_ref());
        if duration.is_none() {
            report.add(text.span(), format!("{:?} is not a duration", text.get_ref()), DURATION_HINT.to_owned());
        }
        duration
    });
    let options = StreamOptions {
        shards: *raw.shards.get().unwrap_or(&SHARDS),
        retention: retention.unwrap_or(RETENTION),
        replicas: *raw.replicas.get().unwrap_or(&1) as usize,
    };
    StreamRole::Publish { options, messages }
}

/// The function that is called with the messages; keys that only belong to one are reported.
fn function_source(
    raw: &raw::Transfer,
    functions: &BTreeMap<String, Function>,
    report: &mut FileProblems<'_>,
) -> Option<FunctionSource> {
    let of_functions = [
        ("batch_size", raw.batch_size.span()),
        ("batch_window", raw.batch_window.span()),
        ("bisect", raw.bisect.span()),
        ("retries", raw.retries.span()),
    ];
    let of_tables = [
        ("target", raw.target.span()),
        ("into", raw.into.span()),
        ("include", raw.include.span()),
        ("exclude", raw.exclude.span()),
        ("deletes", raw.deletes.span()),
        ("commit_interval", raw.commit_interval.span()),
        ("left_out", raw.left_out.span()),
    ];
    let (keys, what, hint) = match raw.function.get() {
        None => (&of_functions[..], "belongs to a function that is called", "add function = \"NAME\", or remove it"),
        Some(_) => (&of_tables[..], "is for tables, and the function gets the messages", "remove it, or the function"),
    };
    for (key, span) in keys {
        if let Some(span) = span {
            report.add(span.clone(), format!("{key:?} {what}"), hint.to_owned());
        }
    }
    let text = raw.function.get()?;
    let (function, qualifier) = match text.split_once(':') {
        Some((function, qualifier)) => (function.to_owned(), Some(qualifier.to_owned())),
        None => (text.clone(), None),
    };
    if let Some(span) = raw.function.span().filter(|_| !functions.contains_key(&function)) {
        let known: Vec<&str> = functions.keys().map(String::as_str).collect();
        let hint = base::suggestion("function", &function, &known);
        let hint = hint.unwrap_or_else(|| format!("add functions/{function}/function.toml"));
        report.add(span, format!("there is no function {function:?}"), hint);
    }
    let window = raw.batch_window.0.as_ref().and_then(|text| {
        let window = texts::duration(text.get_ref());
        if window.is_none() {
            report.add(text.span(), format!("{:?} is not a duration", text.get_ref()), DURATION_HINT.to_owned());
        }
        window
    });
    Some(FunctionSource {
        function,
        qualifier,
        batch_size: *raw.batch_size.get().unwrap_or(&BATCH_SIZE) as usize,
        batch_window: window.unwrap_or_default(),
        bisects: *raw.bisect.get().unwrap_or(&true),
        retries_max: raw.retries.get().copied(),
    })
}

fn consumer(raw: &raw::Transfer, functions: &BTreeMap<String, Function>, report: &mut FileProblems<'_>) -> StreamRole {
    let start = match raw.start.get().zip(raw.start.span()) {
        None => Start::Beginning,
        Some((text, span)) => match text.as_str() {
            "beginning" => Start::Beginning,
            "new" => Start::New,
            text => match chrono::DateTime::parse_from_rfc3339(text) {
                Ok(at) => Start::At(at.into()),
                Err(_) => {
                    let hint = "write \"beginning\", \"new\" or an instant such as \"2026-11-30T08:00:00Z\"".to_owned();
                    report.add(span, format!("a stream can't be read from {text:?}"), hint);
                    Start::Beginning
                }
            },
        },
    };
    if let Some(call) = function_source(raw, functions, report) {
        return StreamRole::Call { start, call };
    }
    let left_out = match raw.left_out.get() {
        Some(raw::LeftOut::Unchanged) => LeftOut::Unchanged,
        Some(raw::LeftOut::Null) | None => LeftOut::Null,
    };
    StreamRole::Consume { start, left_out }
}
