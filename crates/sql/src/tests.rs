//! Sessions over a lake in a temporary folder.

mod differential;
mod faster;
mod formats;
mod joins;
mod marts;
mod names;
pub(crate) mod oracle;
mod queries;
mod refusals;
mod row_filters;
mod series;
mod time_travel;
mod values;

use std::error::Error as _;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use lake::{AsOf, TableName};

use crate::error::{Error, Kind};
use crate::output::{self, Format};
use crate::session::Session;
use crate::testing::{RUN, TestLake, measures, three};

/// The result as CSV without its header, lines joined by `;`.
async fn rows(session: &Session, sql: &str) -> String {
    let text = written(session, sql, Format::Csv).await;
    text.lines().skip(1).collect::<Vec<_>>().join(";")
}

async fn written(session: &Session, sql: &str, format: Format) -> String {
    String::from_utf8(bytes(session, sql, format).await).unwrap()
}

async fn bytes(session: &Session, sql: &str, format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    let stream = session.run(sql).await.unwrap_or_else(|e| panic!("{sql}: {}", chain(&e)));
    output::write(stream, format, &mut out, 100).await.unwrap_or_else(|e| panic!("{sql}: {}", chain(&e)));
    out
}

/// The error of a query that must fail, in planning or in its run.
async fn failure(session: &Session, sql: &str) -> Error {
    let stream = match session.run(sql).await {
        Ok(stream) => stream,
        Err(error) => return error,
    };
    let schema = stream.schema();
    let mut out = Vec::new();
    match output::write(stream, Format::Csv, &mut out, 100).await {
        Ok(_) => panic!("{sql} gave {schema:?}: {}", String::from_utf8_lossy(&out)),
        Err(error) => error,
    }
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(below) = source {
        text.push_str(": ");
        text.push_str(&below.to_string());
        source = below.source();
    }
    text
}
