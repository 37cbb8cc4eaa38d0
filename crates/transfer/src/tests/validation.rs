//! Validation reports what differs, and nothing else.

use std::sync::Arc;

use arrow::array::{Int32Array, RecordBatch};
use lake::{HiddenRows, KeySet, OrderColumns};

use super::fixture::{Fixture, by_cursor, chain, incremental, initial, with};
use crate::plan::{Settings, TableSettings};
use crate::read::{NoProgress, Progress};
use crate::validate::{Difference, SAMPLES, TableValidation, validate};

async fn validation_of(fixture: &Fixture, settings: &Settings) -> TableValidation {
    let progress: Arc<dyn Progress> = Arc::new(NoProgress);
    let only = ["public.t".to_owned()];
    let mut validations = validate(settings, &fixture.source, &fixture.lake, &only, &progress).await.unwrap();
    assert_eq!(validations.len(), 1);
    let validation = validations.remove(0);
    if let Some(error) = &validation.error {
        panic!("{}", chain(error));
    }
    validation
}

fn found(validation: &TableValidation) -> [u64; 4] {
    [validation.lost, validation.differs, validation.purged, validation.pending]
}

/// Deletes rows from the lake.
pub async fn lose(fixture: &Fixture, ids: &[i32]) {
    let table = fixture.table("public.t").await;
    let batch = RecordBatch::try_from_iter([("id", Arc::new(Int32Array::from(ids.to_vec())) as _)]).unwrap();
    let keys = KeySet::of(&batch, &["id".to_owned()]).unwrap();
    let mut hidden = HiddenRows::default();
    for row in table.find(&keys, &OrderColumns::default(), &HiddenRows::default()).await.unwrap() {
        hidden.insert(&row.path, row.position);
    }
    assert_eq!(hidden.rows(), ids.len() as u64);
    table.commit("by-hand", "delete").hide(hidden).write().await.unwrap();
}

const T: &str = "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, v numeric, l float8[], s text); \
     INSERT INTO t SELECT i, timestamptz '2026-01-01' + i * interval '1 s', i / 7.0, ARRAY['NaN', i, NULL]::float8[], \
       CASE WHEN i % 3 = 0 THEN NULL ELSE 's' || i END FROM generate_series(1, 5000) i";

fn by_instants() -> Settings {
    with(incremental(), "public.t", by_cursor("at"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_equal_table_is_validated_row_by_row() {
    let fixture = Fixture::new(T).await;
    fixture.run_ok(&initial()).await;
    let validation = validation_of(&fixture, &initial()).await;
    assert!(validation.is_ok());
    assert_eq!(
        (validation.source_rows, validation.lake_rows, validation.ranges_differing, found(&validation)),
        (5000, 5000, 0, [0; 4])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_read_does_not_stop_the_others() {
    let fixture = Fixture::new(&format!("{T}; CREATE VIEW a AS SELECT id, s FROM t")).await;
    let keyed = TableSettings { key: vec!["id".into()], ..TableSettings::default() };
    let settings = Settings { views: true, ..with(initial(), "public.a", keyed) };
    fixture.run_ok(&settings).await;
    fixture.sql("CREATE OR REPLACE VIEW a AS SELECT 1 / (id - id) AS id, s FROM t").await;
    let progress: Arc<dyn Progress> = Arc::new(NoProgress);
    let validations = validate(&settings, &fixture.source, &fixture.lake, &[], &progress).await.unwrap();
    let of = |name: &str| validations.iter().find(|validation| validation.source == name).unwrap();
    assert!(chain(of("public.a").error.as_ref().unwrap()).contains("division by zero"));
    assert!(of("public.t").is_ok(), "{:?}", of("public.t").error);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_rows_are_named() {
    let fixture = Fixture::new(T).await;
    fixture.run_ok(&incremental()).await;
    lose(&fixture, &[1, 2500, 5000]).await;
    let validation = validation_of(&fixture, &incremental()).await;
    assert!(!validation.is_ok());
    assert_eq!((validation.lake_rows, found(&validation)), (4997, [3, 0, 0, 0]));
    let lost = |id: i32| (Difference::Lost, format!("id={id}"));
    assert_eq!(validation.samples, [lost(1), lost(2500), lost(5000)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_lost_rows_are_counted_and_the_first_named() {
    let fixture = Fixture::new(T).await;
    fixture.run_ok(&initial()).await;
    lose(&fixture, &(1000..3000).collect::<Vec<_>>()).await;
    let validation = validation_of(&fixture, &initial()).await;
    assert_eq!(found(&validation), [2000, 0, 0, 0]);
    assert_eq!(validation.samples.len(), SAMPLES);
    assert_eq!(validation.samples[0].1, "id=1000");
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_pending_and_purged_rows_are_distinguished() {
    let fixture = Fixture::new(T).await;
    fixture.run_ok(&by_instants()).await;
    fixture
        .sql(
            "UPDATE t SET s = 'other' WHERE id = 10; UPDATE t SET l = '{1}' WHERE id = 20; \
         UPDATE t SET s = 'new', at = '2026-02-01' WHERE id = 30; INSERT INTO t VALUES (6000, '2026-02-01'); \
         DELETE FROM t WHERE id IN (40, 41, 42)",
        )
        .await;
    let before = validation_of(&fixture, &by_instants()).await;
    assert_eq!((before.is_ok(), found(&before)), (false, [0, 2, 3, 2]));
    let named: Vec<(Difference, &str)> = before.samples.iter().map(|(d, key)| (*d, key.as_str())).collect();
    for expected in [
        (Difference::Differs, "id=10"),
        (Difference::Differs, "id=20"),
        (Difference::Pending, "id=30"),
        (Difference::Pending, "id=6000"),
        (Difference::Purged, "id=41"),
    ] {
        assert!(named.contains(&expected), "{expected:?} in {named:?}");
    }
    // After the next run the pending rows are there; rows that were changed without their cursor still differ.
    fixture.run_ok(&by_instants()).await;
    let after = validation_of(&fixture, &by_instants()).await;
    assert_eq!(found(&after), [0, 2, 3, 0]);
    fixture.run_ok(&initial()).await;
    assert!(validation_of(&fixture, &initial()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_key_is_compared_as_a_whole() {
    let fixture =
        Fixture::new("CREATE TABLE t (v int, s text); INSERT INTO t SELECT i / 2, 'x' FROM generate_series(1, 1000) i")
            .await;
    fixture.run_ok(&initial()).await;
    assert!(validation_of(&fixture, &initial()).await.is_ok());
    // The same number of rows, with one that differs.
    fixture.sql("UPDATE t SET s = 'y' WHERE v = 500").await;
    let changed = validation_of(&fixture, &initial()).await;
    assert_eq!((changed.is_ok(), changed.source_rows, changed.lake_rows), (false, 1000, 1000));
    assert!(changed.samples[0].1.contains("no key"));
}

/// Keys that are divided by their hashes, of several columns, of instants up to infinity, and at both ends of bigint.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_all_sorts() {
    let keys = [
        ("k text", "md5(i::text)"),
        ("k uuid", "md5(i::text)::uuid"),
        ("k numeric(20,5)", "i / 8.0"),
        (
            "k timestamptz",
            "CASE i WHEN 1 THEN 'infinity' WHEN 2 THEN '-infinity' ELSE timestamptz '2026-01-01' + i * interval '7 \
             h' END",
        ),
        ("k date", "CASE i WHEN 1 THEN 'infinity' ELSE date '2026-01-01' + i END"),
        ("k bigint", "CASE i WHEN 1 THEN -9223372036854775808 WHEN 2 THEN 9223372036854775807 ELSE i END"),
        ("k smallint", "i - 200"),
    ];
    for (column, value) in keys {
        let fixture = Fixture::new(&format!(
            "CREATE TABLE t ({column}, n int, s text, PRIMARY KEY (k, n)); \
             INSERT INTO t SELECT {value}, i, 'x' FROM generate_series(1, 300) i"
        ))
        .await;
        fixture.run_ok(&initial()).await;
        let sound = validation_of(&fixture, &initial()).await;
        assert!(sound.is_ok() && sound.ranges_differing == 0, "{column}: {sound:?}");
        fixture.sql("UPDATE t SET s = 'y' WHERE n IN (1, 2, 200); DELETE FROM t WHERE n = 100").await;
        let changed = validation_of(&fixture, &initial()).await;
        assert_eq!(found(&changed), [0, 3, 1, 0], "{column}: {changed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_never_transferred_is_an_error() {
    let fixture = Fixture::new(T).await;
    let progress: Arc<dyn Progress> = Arc::new(NoProgress);
    let validations = validate(&initial(), &fixture.source, &fixture.lake, &[], &progress).await.unwrap();
    let error = validations[0].error.as_ref().unwrap();
    assert!(chain(error).contains("public.t is not in the lake yet") && error.hint.is_some(), "{}", chain(error));
    assert!(!validations[0].is_ok());
}
