//! A real lake in a folder, written as transfers write it.

mod faster;
mod formats;
mod marts;
mod names;
mod queries;
mod refusals;
mod series;
mod time_travel;

use std::error::Error as _;
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use lake::{DataFile, Lake, TableName, When};
use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::output::{self, Format};
use crate::session::{Limits, Session};
use crate::system::SystemTables;

const RUN: &str = "run-1";

pub(crate) struct House {
    _folder: TempDir,
    pub(crate) lake: Lake,
}

impl House {
    pub(crate) async fn new() -> House {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path().to_str().unwrap(), Default::default()).await.unwrap();
        House { _folder: folder, lake }
    }

    /// With `platform.measures` of three rows, 1.100 each, at 00:00, 06:00 and 12:00 on 2 January.
    pub(crate) async fn with_measures() -> House {
        let house = House::new().await;
        house.replace("platform", "measures", &three("1.100")).await;
        house
    }

    pub(crate) async fn replace(&self, schema: &str, table: &str, batch: &RecordBatch) {
        let name = TableName::new(schema, table);
        let files = self.files(&name, batch).await;
        let commit = self.lake.replace(&name, batch.schema(), RUN, "load").await.unwrap();
        commit.files(files).write().await.unwrap();
    }

    pub(crate) async fn append(&self, schema: &str, table: &str, batch: &RecordBatch) {
        let name = TableName::new(schema, table);
        let files = self.files(&name, batch).await;
        let table = self.lake.table(&name).await.unwrap().unwrap();
        table.commit(RUN, "append").files(files).write().await.unwrap();
    }

    async fn files(&self, name: &TableName, batch: &RecordBatch) -> Vec<DataFile> {
        let mut writer = self.lake.writer(name, RUN, batch.schema(), tokio::runtime::Handle::current());
        let batch = batch.clone();
        let written = tokio::task::spawn_blocking(move || {
            writer.write(&batch)?;
            writer.finish()
        });
        written.await.unwrap().unwrap()
    }

    fn session(&self) -> Session {
        Session::new(self.lake.clone(), Arc::new(Runs), None).unwrap()
    }

    fn session_as_of(&self, when: When) -> Session {
        Session::new(self.lake.clone(), Arc::new(Runs), Some(when)).unwrap()
    }

    fn session_within(&self, memory_bytes_max: usize) -> Session {
        let limits = Limits { memory_bytes_max: Some(memory_bytes_max), partitions: Some(2) };
        Session::with_limits(self.lake.clone(), Arc::new(Runs), None, limits).unwrap()
    }
}

/// One system table from outside, with one row.
pub(crate) struct Runs;

impl SystemTables for Runs {
    fn names(&self) -> Vec<&'static str> {
        vec!["runs"]
    }

    fn scan(&self, name: &str) -> Result<RecordBatch> {
        assert_eq!(name, "runs");
        let id: ArrayRef = Arc::new(StringArray::from(vec![RUN]));
        Ok(RecordBatch::try_from_iter([("id", id)]).unwrap())
    }
}

fn measures_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("value", DataType::Decimal128(10, 3), true),
        Field::new("note", DataType::Utf8, true),
    ]))
}

fn measures(rows: &[(i64, &str, Option<&str>, Option<&str>)]) -> RecordBatch {
    let thousandths = |text: &str| (text.parse::<f64>().unwrap() * 1000.0).round() as i128;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>()),
        Arc::new(
            rows.iter()
                .map(|row| Some(at(row.1).timestamp_micros()))
                .collect::<TimestampMicrosecondArray>()
                .with_timezone("UTC"),
        ),
        Arc::new(
            rows.iter()
                .map(|row| row.2.map(thousandths))
                .collect::<Decimal128Array>()
                .with_precision_and_scale(10, 3)
                .unwrap(),
        ),
        Arc::new(rows.iter().map(|row| row.3).collect::<StringArray>()),
    ];
    RecordBatch::try_new(measures_schema(), columns).unwrap()
}

pub(crate) fn three(value: &str) -> RecordBatch {
    measures(&[
        (1, "2020-01-02T00:00:00Z", Some(value), Some("night")),
        (2, "2020-01-02T06:00:00Z", Some(value), Some("2020-01-02 06:00")),
        (3, "2020-01-02T12:00:00Z", Some(value), None),
    ])
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

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

/// The error of a query that must fail, in its planning or its run.
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
