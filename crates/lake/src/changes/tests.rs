use std::collections::BTreeSet;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use rand::Rng;

use super::TableChanges;
use crate::tests::{RUN, TestLake, paths, schema};
use crate::{HiddenRows, PackOptions, Table};

fn ids_of(batches: &[RecordBatch]) -> Vec<i64> {
    let columns = batches.iter().map(|batch| batch.column_by_name("id").unwrap().as_primitive::<Int64Type>());
    columns.flat_map(|ids| ids.values().to_vec()).collect()
}

async fn ids(table: &Table) -> BTreeSet<i64> {
    let batches: Vec<RecordBatch> = table.read().await.unwrap().try_collect().await.unwrap();
    ids_of(&batches).into_iter().collect()
}

async fn changed(table: &Table, version: u64) -> Vec<i64> {
    let mut all = Vec::new();
    for provider in table.rows_changed(version).await.unwrap() {
        let frame = SessionContext::new().read_table(provider).unwrap();
        all.extend(ids_of(&frame.collect().await.unwrap()));
    }
    all.sort_unstable();
    all
}

/// New rows and hidden ones in one commit.
async fn replace_some(fixture: &mut TestLake, from: i64) {
    let schema = schema(&[]);
    let files = fixture.files(&schema, from, 50, 20).await;
    let (table, mut hidden) = (fixture.table().await, HiddenRows::default());
    for (path, rows) in paths(&table) {
        for position in (0..rows).filter(|_| fixture.random.random_bool(0.05)) {
            hidden.insert(&path, position);
        }
    }
    table.commit(RUN, "incremental").files(files).hide(hidden).write().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_changed_rows_of_each_version() {
    for seed in 0..4 {
        let mut fixture = TestLake::new(seed).await;
        fixture.create(&schema(&[])).await;
        let (mut before, mut next) = (BTreeSet::new(), 0);
        for _ in 0..12 {
            let since = fixture.table().await.version();
            match fixture.random.random_range(0..4) {
                0 => fixture.append(&schema(&[]), next, 200, 70).await,
                1 => fixture.hide(0.1).await,
                2 => replace_some(&mut fixture, next).await,
                _ => drop(
                    fixture
                        .table()
                        .await
                        .pack("run-2", &PackOptions { files_min: 2, ..PackOptions::default() })
                        .await
                        .unwrap(),
                ),
            }
            next += 200;
            let (table, after) = (fixture.table().await, ids(&fixture.table().await).await);
            let apart: Vec<i64> = before.symmetric_difference(&after).copied().collect();
            match table.changes_since(since).await.unwrap() {
                TableChanges::None => assert!(apart.is_empty(), "seed {seed}"),
                TableChanges::InVersions(versions) => {
                    assert_eq!(versions, [table.version()]);
                    assert_eq!(changed(&table, table.version()).await, apart, "seed {seed}");
                }
                TableChanges::Unknown => panic!("seed {seed}: nothing was replaced"),
            }
            before = after;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_can_not_be_determined() {
    let mut fixture = TestLake::new(1).await;
    fixture.create(&schema(&[])).await;
    fixture.append(&schema(&[]), 0, 10, 10).await;
    let version = fixture.table().await.version();
    assert_eq!(fixture.table().await.changes_since(version).await.unwrap(), TableChanges::None);
    assert_eq!(fixture.table().await.changes_since(version + 1).await.unwrap(), TableChanges::Unknown);
    let files = fixture.files(&schema(&["more"]), 10, 10, 10).await;
    let wider = fixture.table().await.commit(RUN, "incremental").files(files).schema(schema(&["more"]));
    wider.write().await.unwrap();
    assert_eq!(fixture.table().await.changes_since(version).await.unwrap(), TableChanges::Unknown);
    let version = fixture.table().await.version();
    fixture.create(&schema(&["more"])).await;
    assert_eq!(fixture.table().await.changes_since(version).await.unwrap(), TableChanges::Unknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_from_a_value_on() {
    let mut fixture = TestLake::new(2).await;
    fixture.create(&schema(&[])).await;
    for file in 0..3 {
        fixture.append(&schema(&[]), file * 100, 100, 30).await;
    }
    fixture.hide(0.2).await;
    let table = fixture.table().await;
    let all = ids(&table).await;
    let hidden = table.rows_from("id", 150).await.unwrap();
    assert_eq!(hidden.rows(), all.range(150..).count() as u64);
    table.commit(RUN, "hide").hide(hidden).write().await.unwrap();
    assert_eq!(ids(&fixture.table().await).await, all.range(..150).copied().collect());
    let instant = 1_577_836_800_000_000 + 100 / 5 * 900_000_000;
    let table = fixture.table().await;
    let hidden = table.rows_from("ts", instant).await.unwrap();
    assert_eq!(hidden.rows(), all.range(100..150).count() as u64);
    assert!(table.rows_from("note", 1).await.is_err());
}
