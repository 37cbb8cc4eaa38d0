use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use rand::Rng;
use rand::seq::IndexedRandom;
use tokio::runtime::Handle;

use super::*;
use crate::tests::{RUN, TestLake};
use crate::{HiddenRows, OrderColumns};

fn columns(a: Vec<Option<i64>>, b: Vec<i32>, c: Vec<Option<String>>) -> RecordBatch {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Int32, true),
        Field::new("c", DataType::Utf8, true),
    ]));
    let arrays: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(a)), Arc::new(Int32Array::from(b)), Arc::new(StringArray::from(c))];
    RecordBatch::try_new(schema, arrays).unwrap()
}

/// Looks for random keys of tables with many pages and row groups, sorted and not, and compares with all rows.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_is_what_is_there() {
    for (seed, key) in [&["a"][..], &["a", "b"], &["b", "c"], &["c"], &["c", "a", "b"]].into_iter().enumerate() {
        let mut fixture = TestLake::new(seed as u64).await;
        let mut all: Vec<(String, u64, Vec<String>)> = Vec::new();
        for file in 0..3 {
            let rows = 20_000;
            let random = &mut fixture.random;
            let mut numbers: Vec<i64> = (0..rows).map(|_| random.random_range(-40_000..40_000)).collect();
            if file > 0 {
                numbers.sort_unstable();
            }
            let a = numbers.iter().map(|n| random.random_bool(0.95).then_some(*n)).collect();
            let b = numbers.iter().map(|n| (n / 100) as i32).collect();
            let c = numbers.iter().map(|n| random.random_bool(0.9).then(|| format!("é{}", n % 3_000))).collect();
            let batch = columns(a, b, c);
            let writer = fixture.lake.writer(&fixture.name, RUN, batch.schema(), Handle::current());
            let mut writer = writer.group_rows(7_000).page_rows(1_024);
            let written = batch.clone();
            let writing = tokio::task::spawn_blocking(move || {
                writer.write(&written)?;
                writer.finish()
            });
            let files = writing.await.unwrap().unwrap();
            all.extend((0..rows as u64).map(|at| (files[0].path.clone(), at, key_of(&batch, key, at as usize))));
            let commit = fixture.lake.table(&fixture.name).await.unwrap();
            let commit = match &commit {
                Some(table) => table.commit(RUN, "append"),
                None => fixture.lake.replace(&fixture.name, batch.schema(), RUN, "load").await.unwrap(),
            };
            commit.files(files).write().await.unwrap();
        }
        let names: Vec<String> = key.iter().map(|name| (*name).to_owned()).collect();
        for count in [1, 5, 300] {
            let random = &mut fixture.random;
            let mut a: Vec<Option<i64>> = (0..count).map(|_| Some(random.random_range(-45_000..45_000))).collect();
            if random.random_bool(0.3) {
                a[0] = None;
            }
            let near = |random: &mut rand::rngs::StdRng| *[-300, 0, 17, 399, 500].choose(random).unwrap();
            let b = (0..count).map(|at| a[at].map_or_else(|| near(random), |a| (a / 100) as i32)).collect();
            let c = (0..count).map(|at| a[at].map(|a| format!("é{}", a % 3_000))).collect();
            let wanted = columns(a, b, c);
            let keys = KeySet::with_duplicates(&wanted, &names).unwrap();
            let table = fixture.table().await;
            let found = table.find(&keys, &OrderColumns::default(), &HiddenRows::default()).await.unwrap();
            let found: BTreeSet<(String, u64)> =
                found.into_iter().map(|row| (row.path.to_string(), row.position)).collect();
            let wanted: BTreeSet<Vec<String>> = (0..count).map(|at| key_of(&wanted, key, at)).collect();
            let there = all.iter().filter(|(.., key)| wanted.contains(key)).map(|(path, at, _)| (path.clone(), *at));
            assert_eq!(found, there.collect(), "{count} keys of {key:?}");
        }
    }
}

fn key_of(batch: &RecordBatch, key: &[&str], row: usize) -> Vec<String> {
    let text = |name: &&str| {
        let column = batch.column_by_name(name).unwrap();
        if column.is_null(row) {
            return "NULL".to_owned();
        }
        arrow::util::display::array_value_to_string(column, row).unwrap()
    };
    key.iter().map(text).collect()
}

#[test]
fn ranges_intersect() {
    assert_eq!(intersection(&[0..10, 20..30], &[5..21, 21..25]), [5..10, 20..21, 21..25]);
    assert_eq!(intersection(&[0..10, 30..40], &[10..20, 25..30]), Vec::<Range<u64>>::new());
    assert_eq!(intersection(&[0..4, 6..8, 9..30], &[3..7, 8..10, 12..13]), [3..4, 6..7, 9..10, 12..13]);
}
