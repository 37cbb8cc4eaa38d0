//! A lake in a temporary folder, with a table of random rows.

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

use crate::{DataFile, HiddenRows, Lake, Table, TableName};

pub const RUN: &str = "run-1";
/// The time of the first row, 2020-01-01; five rows have the same time, and the next five are 15 minutes later.
const START_MICROS: i64 = 1_577_836_800_000_000;

/// A lake with the name of its one table.
pub struct TestLake {
    _folder: TempDir,
    pub lake: Lake,
    pub name: TableName,
    pub random: StdRng,
}

impl TestLake {
    pub async fn new(seed: u64) -> TestLake {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path().to_str().unwrap(), Default::default()).await.unwrap();
        let name = TableName::new("platform", "measures");
        TestLake { _folder: folder, lake, name, random: StdRng::seed_from_u64(seed) }
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

    /// Hides about this share of all rows, and sometimes all rows of a file.
    pub async fn hide(&mut self, share: f64) {
        let table = self.table().await;
        let mut hidden = HiddenRows::default();
        for (path, rows) in paths(&table) {
            let share = if self.random.random_bool(0.05) { 1.0 } else { share };
            for position in 0..rows {
                if self.random.random_bool(share) {
                    hidden.insert(&path, position);
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

/// The table's files with their numbers of rows, including hidden ones.
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

impl Table {
    /// The positions in a file that no vector hides.
    pub async fn visible_rows(&self, path: &str) -> Vec<u64> {
        let snapshot = self.delta.snapshot().unwrap();
        let file = snapshot.log_data().iter().find(|file| file.path() == path).unwrap();
        let hidden = HiddenRows::of_file(self, &file).await.unwrap().unwrap_or_default();
        (0..file.num_records().unwrap() as u64).filter(|at| !hidden.contains(*at)).collect()
    }
}

#[tokio::test]
async fn a_table_made_again_under_its_name_is_another_table() {
    let mut fixture = TestLake::new(7).await;
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    fixture.create(&schema).await;
    fixture.append(&schema, 0, 10, 100).await;
    assert_eq!(fixture.table().await.size().unwrap().rows, 10);
    // As another process would, without this one knowing.
    let folder = fixture.lake.table_url(&fixture.name).unwrap().to_file_path().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    assert!(fixture.lake.table(&fixture.name).await.unwrap().is_none());
    fixture.create(&schema).await;
    fixture.append(&schema, 0, 3, 100).await;
    fixture.append(&schema, 3, 4, 100).await;
    assert_eq!(fixture.table().await.size().unwrap().rows, 7);
    // Commits of others are seen when the table is opened again.
    let other = Lake::open(fixture.lake.folder().unwrap().to_str().unwrap(), Default::default()).await.unwrap();
    let files = fixture.files(&schema, 7, 5, 100).await;
    let table = other.table(&fixture.name).await.unwrap().unwrap();
    table.commit(RUN, "append").files(files).write().await.unwrap();
    assert_eq!(fixture.table().await.size().unwrap().rows, 12);
}

#[tokio::test]
async fn a_table_with_a_retention_of_its_own_loses_its_old_log_files_and_vectors() {
    let mut fixture = TestLake::new(11).await;
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    let commit = fixture.lake.replace(&fixture.name, Arc::clone(&schema), RUN, "load").await.unwrap();
    commit.retention_hours(0).position("p", 1).write().await.unwrap();
    for round in 0..12 {
        fixture.append(&schema, round * 100, 100, 1_000).await;
        fixture.hide(0.1).await;
    }
    let table = fixture.table().await;
    table.pack(RUN, &crate::PackOptions::default()).await.unwrap();
    fixture.append(&schema, 2_000, 100, 1_000).await;
    fixture.hide(0.1).await;
    let (log, vectors) = (count(&fixture, "_delta_log"), count(&fixture, &format!("dv-{RUN}")));
    assert!(log > 25 && vectors > 12, "{log} {vectors}");
    let table = fixture.table().await;
    let rows = table.size().unwrap().rows;
    // Times in the log have milliseconds.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert!(table.checkpoint(1).await.unwrap());
    table.clean_log().await.unwrap();
    let left = count(&fixture, "_delta_log");
    assert!(left <= 4, "{left} files are left in the log");
    let vacuumed = fixture.table().await.vacuum(None, &|_| crate::RunLiveness::Dead, false).await.unwrap();
    assert!(vacuumed.expired + vacuumed.orphans > 12, "{vacuumed:?}");
    let left = count(&fixture, &format!("dv-{RUN}"));
    assert!(left <= 1, "{left} vectors are left");
    let other = Lake::open(fixture.lake.folder().unwrap().to_str().unwrap(), Default::default()).await.unwrap();
    let table = other.table(&fixture.name).await.unwrap().unwrap();
    assert_eq!((table.size().unwrap().rows, table.position("p").await.unwrap()), (rows, Some(1)));
    let mut read = 0;
    let mut batches = table.read().await.unwrap();
    while let Some(batch) = futures::TryStreamExt::try_next(&mut batches).await.unwrap() {
        read += batch.num_rows() as u64;
    }
    assert_eq!(read, rows);
    // The next commits go on.
    fixture.append(&schema, 3_000, 10, 1_000).await;
    assert_eq!(fixture.table().await.size().unwrap().rows, rows + 10);
}

/// The number of files in a folder of the table.
fn count(fixture: &TestLake, folder: &str) -> usize {
    let root = fixture.lake.table_url(&fixture.name).unwrap().to_file_path().unwrap();
    std::fs::read_dir(root.join(folder)).unwrap().count()
}
