use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;

use super::{PackOptions, PackSummary};
use crate::tests::{RUN, TestLake, paths, schema};
use crate::{AsOf, HiddenRows, Kind, RunLiveness, Table, UpkeepPolicy};

fn order() -> Vec<String> {
    vec!["series".to_owned(), "ts".to_owned()]
}

/// Ten small files, with a sort order and hidden rows.
async fn many_files(seed: u64) -> TestLake {
    let mut fixture = TestLake::new(seed).await;
    let schema = schema(&[]);
    let commit = fixture.lake.replace(&fixture.name, Arc::clone(&schema), RUN, "load").await.unwrap();
    commit.order(&order()).write().await.unwrap();
    for file in 0..10 {
        fixture.append(&schema, file * 400, 400, 150).await;
    }
    fixture.hide(0.1).await;
    fixture
}

async fn batches(table: &Table) -> Vec<RecordBatch> {
    table.read().await.unwrap().try_collect().await.unwrap()
}

async fn ids(table: &Table) -> Vec<i64> {
    let batches = batches(table).await;
    let columns = batches.iter().map(|batch| batch.column_by_name("id").unwrap().as_primitive::<Int64Type>());
    let mut ids: Vec<i64> = columns.flat_map(Int64Array::values).copied().collect();
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_rows_in_one_sorted_file() {
    let fixture = many_files(1).await;
    let before = fixture.table().await;
    let rows = ids(&before).await;
    let packed = before.pack("run-2", &PackOptions::default()).await.unwrap();
    let after = fixture.table().await;
    assert_eq!(ids(&after).await, rows);
    let size = after.size().unwrap();
    assert_eq!((size.files, size.rows_hidden, size.rows), (1, 0, rows.len() as u64));
    assert_eq!((packed.files_after, packed.rows, packed.conflicts), (1, rows.len() as u64, 0));
    assert_eq!(packed.rows_purged, before.size().unwrap().rows_hidden);
    assert_eq!(after.order().unwrap(), order());
    let mut last = (i32::MIN, i64::MIN);
    for batch in batches(&after).await {
        let series = batch.column_by_name("series").unwrap().as_primitive::<arrow::datatypes::Int32Type>();
        let ts = batch.column_by_name("ts").unwrap().as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
        for at in 0..batch.num_rows() {
            let next = (series.value(at), ts.value(at));
            assert!(last <= next, "{last:?} before {next:?}");
            last = next;
        }
    }
    // Earlier versions are unchanged, and there is nothing left to pack.
    assert_eq!(ids(&after.at(AsOf::Version(before.version())).await.unwrap()).await, rows);
    assert_eq!(after.pack("run-3", &PackOptions::default()).await.unwrap(), PackSummary::default());
    assert_eq!(fixture.table().await.version(), after.version());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_hides_rows_of_a_packed_file_is_refused() {
    let mut fixture = many_files(2).await;
    let writer = fixture.table().await;
    let (path, _) = paths(&writer)[0].clone();
    let mut hidden = HiddenRows::default();
    hidden.insert(&path, 399);
    let files = fixture.files(&schema(&[]), 9_000, 10, 10).await;
    writer.pack("run-2", &PackOptions::default()).await.unwrap();
    let rows = ids(&fixture.table().await).await;
    // A commit that only adds rows is written on top of the pack.
    writer.commit(RUN, "append").files(files).write().await.unwrap();
    assert_eq!(ids(&fixture.table().await).await.len(), rows.len() + 10);
    let refused = writer.commit(RUN, "hide").hide(hidden).write().await.unwrap_err();
    assert_eq!(refused.kind, Kind::Retry);
    assert_eq!(ids(&fixture.table().await).await.len(), rows.len() + 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vector_committed_during_a_pack_survives() {
    let mut fixture = many_files(3).await;
    let table = fixture.table().await;
    let files = table.files().unwrap();
    let slice = files.files.clone();
    let written = table.write_slice("run-2", &slice, &order(), &PackOptions::default()).await.unwrap();
    let before = ids(&table).await.len();
    let touched = slice[0].path.clone();
    let present = table.visible_rows(&touched).await;
    let mut hidden = HiddenRows::default();
    hidden.insert(&touched, present[0]);
    table.commit(RUN, "hide").hide(hidden).write().await.unwrap();
    let late = table.commit("run-2", super::PACK).packs(slice.iter().map(|file| file.path.clone()));
    assert_eq!(late.files(written).write().await.unwrap_err().kind, Kind::Retry);
    let now = fixture.table().await;
    assert_eq!(ids(&now).await.len(), before - 1);
    // An append alone doesn't stop a pack.
    let slice = now.files().unwrap().files.clone();
    let written = now.write_slice("run-2", &slice, &order(), &PackOptions::default()).await.unwrap();
    fixture.append(&schema(&[]), 20_000, 7, 7).await;
    let pack = now.commit("run-2", super::PACK).packs(slice.iter().map(|file| file.path.clone()));
    pack.files(written).write().await.unwrap();
    assert_eq!(ids(&fixture.table().await).await.len(), before - 1 + 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upkeep_packs_checkpoints_and_sweeps_orphans() {
    let mut fixture = many_files(4).await;
    let table = fixture.table().await;
    let rows = ids(&table).await;
    // As after a kill between writing the files and the commit.
    let slice = table.files().unwrap().files.clone();
    let orphans = table.write_slice("run-dead", &slice, &order(), &PackOptions::default()).await.unwrap();
    let life = |run: &str| if run == "run-dead" { RunLiveness::Dead } else { RunLiveness::Alive };
    let policy = UpkeepPolicy { checkpoint_every: 5, ..UpkeepPolicy::default() };
    let report = fixture.lake.upkeep("run-2", &policy, &life, &|_| ()).await.unwrap();
    let kept = &report.tables[0];
    assert!(kept.error.is_none(), "{:?}", kept.error);
    assert_eq!(kept.vacuumed.orphans, orphans.len() as u64);
    assert!(kept.checkpointed);
    // Read from the checkpoint and a deletion vector after it.
    fixture.hide(0.02).await;
    let table = fixture.table().await;
    assert!(table.checkpoint(1).await.unwrap());
    assert!(!table.checkpoint(5).await.unwrap());
    let table = fixture.table().await;
    let size = table.size().unwrap();
    assert_eq!(size.rows + size.rows_hidden, rows.len() as u64);
    let visible = ids(&table).await;
    assert_eq!(visible.len() as u64, size.rows);
    assert!(visible.iter().all(|id| rows.binary_search(id).is_ok()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_by_what_is_not_there_is_refused() {
    let fixture = many_files(5).await;
    let pack = PackOptions { order: vec!["site".to_owned()], ..PackOptions::default() };
    let error = fixture.table().await.pack("run-2", &pack).await.unwrap_err();
    assert_eq!(error.kind, Kind::FixInput);
    assert!(error.to_string().contains("\"site\""), "{error}");
}
