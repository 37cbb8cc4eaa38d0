//! A lake in a folder, and tables of random rows in it.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::{DataFile, Hidden, Lake, Table, TableName};

pub const RUN: &str = "run-1";
/// Rows are counted from this instant, one every 15 minutes: 2020-01-01.
const START_MICROS: i64 = 1_577_836_800_000_000;

pub struct World {
    _folder: TempDir,
    pub lake: Lake,
    pub name: TableName,
    pub random: StdRng,
}

impl World {
    pub async fn new(seed: u64) -> World {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path().to_str().unwrap(), Default::default()).await.unwrap();
        let name = TableName::new("platform", "measures");
        World { _folder: folder, lake, name, random: StdRng::seed_from_u64(seed) }
    }

    pub async fn table(&self) -> Table {
        self.lake.table(&self.name).await.unwrap().unwrap()
    }

    /// Rows with the ids `from..from + rows`, in row groups of `group_rows`.
    pub async fn files(&mut self, schema: &SchemaRef, from: i64, rows: usize, group_rows: usize) -> Vec<DataFile> {
        let batch = self.batch(schema, from, rows);
        let writer = self.lake.writer(&self.name, RUN, Arc::clone(schema), Handle::current());
        let mut writer = writer.group_rows(group_rows);
        let written = tokio::task::spawn_blocking(move || {
            writer.write(&batch)?;
            writer.finish()
        });
        written.await.unwrap().unwrap()
    }

    pub async fn create(&mut self, schema: &SchemaRef) -> u64 {
        let commit = self.lake.replace(&self.name, Arc::clone(schema), RUN, "load").await.unwrap();
        commit.write().await.unwrap()
    }

    pub async fn append(&mut self, schema: &SchemaRef, from: i64, rows: usize, group_rows: usize) {
        let files = self.files(schema, from, rows, group_rows).await;
        self.table().await.commit(RUN, "append").files(files).write().await.unwrap();
    }

    /// Hides about a share of all rows, among them now and then a whole file.
    pub async fn hide(&mut self, share: f64) {
        let table = self.table().await;
        let mut hidden = Hidden::default();
        for (path, rows) in paths(&table) {
            let share = if self.random.random_bool(0.05) { 1.0 } else { share };
            for position in 0..rows {
                if self.random.random_bool(share) {
                    hidden.row(&path, position);
                }
            }
        }
        table.commit(RUN, "hide").hide(hidden).write().await.unwrap();
    }

    fn batch(&mut self, schema: &SchemaRef, from: i64, rows: usize) -> RecordBatch {
        let random = &mut self.random;
        let ids = from..from + rows as i64;
        let columns = schema.fields().iter().map(|field| -> ArrayRef {
            match field.name().as_str() {
                "id" => Arc::new(Int64Array::from_iter_values(ids.clone())),
                "series" => Arc::new((0..rows).map(|_| Some(random.random_range(0..5))).collect::<Int32Array>()),
                "ts" => {
                    let micros = ids.clone().map(|id| START_MICROS + id / 5 * 900_000_000);
                    Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
                }
                "value" => {
                    let value = |_| random.random_bool(0.8).then(|| random.random_range(-50_000..50_000i128));
                    let values = (0..rows).map(value).collect::<Decimal128Array>();
                    Arc::new(values.with_precision_and_scale(12, 3).unwrap())
                }
                "power" => Arc::new(
                    (0..rows)
                        .map(|_| random.random_bool(0.9).then(|| random.random_range(0.0..1.0)))
                        .collect::<Float64Array>(),
                ),
                "flag" => {
                    let none = random.random_bool(0.3);
                    Arc::new((0..rows).map(|_| (!none).then(|| random.random_bool(0.5))).collect::<BooleanArray>())
                }
                _ => {
                    let note = |_| random.random_bool(0.7).then(|| format!("note {}", random.random_range(0..40)));
                    Arc::new((0..rows).map(note).collect::<StringArray>())
                }
            }
        });
        RecordBatch::try_new(Arc::clone(schema), columns.collect()).unwrap()
    }
}

/// The table's files with their rows, hidden ones among them.
pub fn paths(table: &Table) -> Vec<(String, u64)> {
    let files = table.delta.snapshot().unwrap().log_data();
    files.iter().map(|file| (file.path().into_owned(), file.num_records().unwrap() as u64)).collect()
}

pub fn schema(more: &[&str]) -> SchemaRef {
    let mut fields = vec![
        Field::new("id", DataType::Int64, false),
        Field::new("series", DataType::Int32, false),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("value", DataType::Decimal128(12, 3), true),
        Field::new("power", DataType::Float64, true),
        Field::new("flag", DataType::Boolean, true),
        Field::new("note", DataType::Utf8, true),
    ];
    fields.extend(more.iter().map(|name| Field::new(*name, DataType::Utf8, true)));
    Arc::new(Schema::new(fields))
}
