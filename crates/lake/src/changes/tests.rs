use std::collections::BTreeSet;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use rand::Rng;

use super::Changes;
use crate::tests::{RUN, World, paths, schema};
use crate::{Hidden, Pack, Table};

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
async fn replace_some(world: &mut World, from: i64) {
    let schema = schema(&[]);
    let files = world.files(&schema, from, 50, 20).await;
    let (table, mut hidden) = (world.table().await, Hidden::default());
    for (path, rows) in paths(&table) {
        for position in (0..rows).filter(|_| world.random.random_bool(0.05)) {
            hidden.row(&path, position);
        }
    }
    table.commit(RUN, "incremental").files(files).hide(hidden).write().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_version_tells_which_rows_came_and_went() {
    for seed in 0..4 {
        let mut world = World::new(seed).await;
        world.create(&schema(&[])).await;
        let (mut before, mut next) = (BTreeSet::new(), 0);
        for _ in 0..12 {
            let since = world.table().await.version();
            match world.random.random_range(0..4) {
                0 => world.append(&schema(&[]), next, 200, 70).await,
                1 => world.hide(0.1).await,
                2 => replace_some(&mut world, next).await,
                _ => drop(world.table().await.pack("run-2", &Pack { files_min: 2, ..Pack::default() }).await.unwrap()),
            }
            next += 200;
            let (table, after) = (world.table().await, ids(&world.table().await).await);
            let apart: Vec<i64> = before.symmetric_difference(&after).copied().collect();
            match table.changes_since(since).await.unwrap() {
                Changes::None => assert!(apart.is_empty(), "seed {seed}"),
                Changes::In(versions) => {
                    assert_eq!(versions, [table.version()]);
                    assert_eq!(changed(&table, table.version()).await, apart, "seed {seed}");
                }
                Changes::Whole => panic!("seed {seed}: nothing was replaced"),
            }
            before = after;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_told_apart_is_whole() {
    let mut world = World::new(1).await;
    world.create(&schema(&[])).await;
    world.append(&schema(&[]), 0, 10, 10).await;
    let version = world.table().await.version();
    assert_eq!(world.table().await.changes_since(version).await.unwrap(), Changes::None);
    assert_eq!(world.table().await.changes_since(version + 1).await.unwrap(), Changes::Whole);
    let files = world.files(&schema(&["more"]), 10, 10, 10).await;
    let wider = world.table().await.commit(RUN, "incremental").files(files).schema(schema(&["more"]));
    wider.write().await.unwrap();
    assert_eq!(world.table().await.changes_since(version).await.unwrap(), Changes::Whole);
    let version = world.table().await.version();
    world.create(&schema(&["more"])).await;
    assert_eq!(world.table().await.changes_since(version).await.unwrap(), Changes::Whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_from_a_value_on() {
    let mut world = World::new(2).await;
    world.create(&schema(&[])).await;
    for file in 0..3 {
        world.append(&schema(&[]), file * 100, 100, 30).await;
    }
    world.hide(0.2).await;
    let table = world.table().await;
    let all = ids(&table).await;
    let hidden = table.rows_from("id", 150).await.unwrap();
    assert_eq!(hidden.rows(), all.range(150..).count() as u64);
    table.commit(RUN, "hide").hide(hidden).write().await.unwrap();
    assert_eq!(ids(&world.table().await).await, all.range(..150).copied().collect());
    let instant = 1_577_836_800_000_000 + 100 / 5 * 900_000_000;
    let table = world.table().await;
    let hidden = table.rows_from("ts", instant).await.unwrap();
    assert_eq!(hidden.rows(), all.range(100..150).count() as u64);
    assert!(table.rows_from("note", 1).await.is_err());
}
