//! A real lake in a folder, written as transfers write it: what tests ask.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use chrono::{DateTime, Utc};
use lake::{DataFile, Lake, TableName, When};
use tempfile::TempDir;

use crate::error::Result;
use crate::session::{Limits, Session};
use crate::system::SystemTables;

pub const RUN: &str = "run-1";

pub struct House {
    _folder: TempDir,
    pub lake: Lake,
}

impl House {
    pub async fn new() -> House {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path().to_str().unwrap(), Default::default()).await.unwrap();
        House { _folder: folder, lake }
    }

    /// With `platform.measures` of three rows, 1.100 each, at 00:00, 06:00 and 12:00 on 2 January.
    pub async fn with_measures() -> House {
        let house = House::new().await;
        house.replace("platform", "measures", &three("1.100")).await;
        house
    }

    pub async fn replace(&self, schema: &str, table: &str, batch: &RecordBatch) {
        let name = TableName::new(schema, table);
        let files = self.files(&name, batch).await;
        let commit = self.lake.replace(&name, batch.schema(), RUN, "load").await.unwrap();
        commit.files(files).write().await.unwrap();
    }

    pub async fn append(&self, schema: &str, table: &str, batch: &RecordBatch) {
        let name = TableName::new(schema, table);
        let files = self.files(&name, batch).await;
        let table = self.lake.table(&name).await.unwrap().unwrap();
        table.commit(RUN, "append").files(files).write().await.unwrap();
    }

    pub async fn files(&self, name: &TableName, batch: &RecordBatch) -> Vec<DataFile> {
        let mut writer = self.lake.writer(name, RUN, batch.schema(), tokio::runtime::Handle::current());
        let batch = batch.clone();
        let written = tokio::task::spawn_blocking(move || {
            writer.write(&batch)?;
            writer.finish()
        });
        written.await.unwrap().unwrap()
    }

    pub fn session(&self) -> Session {
        Session::new(self.lake.clone(), Arc::new(Runs), None).unwrap()
    }

    pub fn session_as_of(&self, when: When) -> Session {
        Session::new(self.lake.clone(), Arc::new(Runs), Some(when)).unwrap()
    }

    pub fn session_within(&self, memory_bytes_max: usize) -> Session {
        let limits = Limits { memory_bytes_max: Some(memory_bytes_max), partitions: Some(2) };
        Session::with_limits(self.lake.clone(), Arc::new(Runs), None, limits).unwrap()
    }
}

/// One system table from outside, with one row.
pub struct Runs;

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

pub fn measures_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("value", DataType::Decimal128(10, 3), true),
        Field::new("note", DataType::Utf8, true),
    ]))
}

pub fn measures(rows: &[(i64, &str, Option<&str>, Option<&str>)]) -> RecordBatch {
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

pub fn three(value: &str) -> RecordBatch {
    measures(&[
        (1, "2020-01-02T00:00:00Z", Some(value), Some("night")),
        (2, "2020-01-02T06:00:00Z", Some(value), Some("2020-01-02 06:00")),
        (3, "2020-01-02T12:00:00Z", Some(value), None),
    ])
}

pub fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}
