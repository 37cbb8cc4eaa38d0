//! A lake in a temporary folder for tests, written as transfers write theirs.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use chrono::{DateTime, Utc};
use lake::{AsOf, DataFile, Lake, TableName};
use tempfile::TempDir;

use crate::engine::Limits;
use crate::error::Result;
use crate::session::Session;
use crate::system::SystemTables;

/// The run that all commits name.
pub const RUN: &str = "run-1";

/// A lake in a temporary folder, which is removed with it. All methods panic where the lake fails.
pub struct TestLake {
    _folder: TempDir,
    /// The lake.
    pub lake: Lake,
}

impl TestLake {
    /// A lake without tables.
    pub async fn new() -> TestLake {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path().to_str().unwrap(), Default::default()).await.unwrap();
        TestLake { _folder: folder, lake }
    }

    /// A lake with `platform.measures`: three rows of 1.100 at 00:00, 06:00 and 12:00 on 2 January 2020, see [`three`].
    pub async fn with_measures() -> TestLake {
        let test_lake = TestLake::new().await;
        test_lake.replace("platform", "measures", &three("1.100")).await;
        test_lake
    }

    /// Makes a table of one batch, or replaces it.
    pub async fn replace(&self, schema: &str, table: &str, batch: &RecordBatch) {
        let name = TableName::new(schema, table);
        let files = self.files(&name, batch).await;
        let commit = self.lake.replace(&name, batch.schema(), RUN, "load").await.unwrap();
        commit.files(files).write().await.unwrap();
    }

    /// Appends a batch to a table.
    pub async fn append(&self, schema: &str, table: &str, batch: &RecordBatch) {
        let name = TableName::new(schema, table);
        let files = self.files(&name, batch).await;
        let table = self.lake.table(&name).await.unwrap().unwrap();
        table.commit(RUN, "append").files(files).write().await.unwrap();
    }

    /// Writes a batch to data files of a table, without a commit.
    pub async fn files(&self, name: &TableName, batch: &RecordBatch) -> Vec<DataFile> {
        let mut writer = self.lake.writer(name, RUN, batch.schema(), tokio::runtime::Handle::current());
        let batch = batch.clone();
        let written = tokio::task::spawn_blocking(move || {
            writer.write(&batch)?;
            writer.finish()
        });
        written.await.unwrap().unwrap()
    }

    /// A session without limits that reads the newest versions.
    pub fn session(&self) -> Session {
        Session::new(self.lake.clone(), Arc::new(Runs), None).unwrap()
    }

    /// A session that reads all tables at a version or an instant.
    pub fn session_as_of(&self, when: AsOf) -> Session {
        Session::new(self.lake.clone(), Arc::new(Runs), Some(when)).unwrap()
    }

    /// A session with a memory limit and two partitions.
    pub fn session_within(&self, memory_bytes_max: usize) -> Session {
        let limits = Limits { memory_bytes_max: Some(memory_bytes_max), partitions: Some(2) };
        Session::with_limits(self.lake.clone(), Arc::new(Runs), None, limits).unwrap()
    }
}

/// The system table `runs`, with one row.
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

/// The columns of `platform.measures`.
pub fn measures_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("value", DataType::Decimal128(10, 3), true),
        Field::new("note", DataType::Utf8, true),
    ]))
}

/// Rows of `platform.measures`: id, instant in RFC 3339, value with at most three decimals, and note.
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

/// Three rows of `platform.measures` with the same value. A note looks like a timestamp, and must stay a text.
pub fn three(value: &str) -> RecordBatch {
    measures(&[
        (1, "2020-01-02T00:00:00Z", Some(value), Some("night")),
        (2, "2020-01-02T06:00:00Z", Some(value), Some("2020-01-02 06:00")),
        (3, "2020-01-02T12:00:00Z", Some(value), None),
    ])
}

/// The instant of a text in RFC 3339.
pub fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}
