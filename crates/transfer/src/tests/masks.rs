//! A table mapping that changes after rows were transferred: a new mask must not leave unmasked values unnoticed.

use std::fs;

use tempfile::TempDir;

use super::fixture::{Fixture, by_cursor, chain, database, first_column, incremental, table_report, with};
use crate::plan::{ColumnAs, Settings, TableSettings};
use crate::postgres::Endpoint;
use crate::preflight::{ReadPath, check};
use crate::resume::Permission;
use crate::run::{TableMode, Target, TransferReport, run};

const CREATE: &str = "CREATE TABLE t (id int PRIMARY KEY, iban text, at timestamptz DEFAULT clock_timestamp()); \
     INSERT INTO t VALUES (1, 'FR1'), (2, 'FR2'), (3, 'FR3')";

fn settings() -> Settings {
    with(incremental(), "public.t", by_cursor("at"))
}

fn masked(folder: &TempDir) -> Settings {
    mapped(folder, "", &["data-masking-hash-mask"])
}

/// A mapping with `filter` in its selection, and with `actions` on the column `iban`.
fn mapped(folder: &TempDir, filter: &str, actions: &[&str]) -> Settings {
    let selection = format!(
        r#"{{"rule-type": "selection", "rule-id": "1", "rule-name": "all", "rule-action": "include",
            "object-locator": {{"schema-name": "public", "table-name": "t"}}{filter}}}"#
    );
    let actions = actions.iter().map(|action| {
        format!(
            r#"{{"rule-type": "transformation", "rule-id": "2", "rule-name": "mask", "rule-target": "column",
                "rule-action": "{action}",
                "object-locator": {{"schema-name": "public", "table-name": "t", "column-name": "iban"}}}}"#
        )
    });
    let rules: Vec<String> = std::iter::once(selection).chain(actions).collect();
    let file = folder.path().join("mapping.json");
    fs::write(&file, format!(r#"{{"rules": [{}]}}"#, rules.join(", "))).unwrap();
    Settings { mapping: Some(file), ..settings() }
}

async fn findings(fixture: &Fixture, settings: &Settings) -> String {
    let target = Target::Lake(fixture.lake.clone());
    let found = check(settings, &fixture.source, ReadPath::Direct, Some(&target)).await.unwrap().findings;
    let about = found.iter().filter(|found| found.what.contains("keep their values"));
    about.map(|found| format!("{}; {}\n", found.what, found.hint.as_deref().unwrap_or_default())).collect()
}

fn is_masked(value: &str) -> bool {
    value.len() == 64
}

/// The ids in the lake, with the value of the column `iban`.
async fn ibans(fixture: &Fixture) -> Vec<(String, String)> {
    let row = |row: &String| {
        let mut parts = row.split('|').map(str::to_owned);
        (parts.next().unwrap(), parts.next().unwrap())
    };
    fixture.rows("public.t").await.iter().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn unmasked_values_are_reported_until_they_are_cleared() {
    let fixture = Fixture::new(CREATE).await;
    fixture.run_ok(&settings()).await;
    fixture.sql("DELETE FROM t WHERE id = 1").await;
    let folder = tempfile::tempdir().unwrap();
    let masked = masked(&folder);
    let found = findings(&fixture, &masked).await;
    assert!(found.contains("\"iban\"") && found.contains("--clear-changed"), "{found}");
    // Further runs do not end the warning.
    fixture.sql("INSERT INTO t VALUES (4, 'FR4')").await;
    fixture.run_ok(&masked).await;
    assert_eq!(findings(&fixture, &masked).await, found);
    let report = fixture.run_with(&masked, Permission::Resync).await;
    assert!(table_report(&report, "public.t").error.is_none());
    let now = ibans(&fixture).await;
    assert!(now[0] == ("1".into(), "FR1".into()) && now[1..].iter().all(|(_, iban)| is_masked(iban)), "{now:?}");
    assert_eq!(findings(&fixture, &masked).await, found, "a row that the source no longer has is unmasked");
    let mut request = fixture.request(&masked, Target::Lake(fixture.lake.clone()), Permission::Resync);
    request.clears_changed = true;
    let report = run(&request).await.unwrap();
    let table = table_report(&report, "public.t");
    assert!(table.error.is_none() && table.mode == TableMode::Resync);
    let now = ibans(&fixture).await;
    assert!(now[0] == ("1".into(), "NULL".into()) && now[1..].iter().all(|(_, iban)| is_masked(iban)), "{now:?}");
    assert_eq!(findings(&fixture, &masked).await, "");
    fixture.sql("INSERT INTO t VALUES (5, 'FR5')").await;
    fixture.run_ok(&masked).await;
    let now = ibans(&fixture).await;
    assert!(now.len() == 5 && is_masked(&now[4].1), "{now:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_in_postgresql_is_cleared_too() {
    let fixture = Fixture::new(CREATE).await;
    let target = Endpoint::parse(&database().await).unwrap();
    let carried = async |settings: &Settings, permission: Permission, clears: bool| -> TransferReport {
        let mut request = fixture.request(settings, Target::Postgres(target.clone()), permission);
        request.clears_changed = clears;
        run(&request).await.unwrap()
    };
    carried(&settings(), Permission::AsConfigured, false).await;
    fixture.sql("DELETE FROM t WHERE id = 1").await;
    let folder = tempfile::tempdir().unwrap();
    let report = carried(&masked(&folder), Permission::Resync, true).await;
    assert!(
        table_report(&report, "public.t").error.is_none(),
        "{}",
        chain(table_report(&report, "public.t").error.as_ref().unwrap())
    );
    let client = target.connect().await.unwrap();
    let now =
        first_column(&client, "SELECT id || ' ' || COALESCE(length(iban)::text, 'NULL') FROM public.t ORDER BY id")
            .await;
    assert_eq!(now, ["1 NULL", "2 64", "3 64"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_value_of_the_key_would_duplicate_the_rows() {
    let fixture = Fixture::new(
        "CREATE TABLE t (code numeric(9,2) PRIMARY KEY, at timestamptz DEFAULT clock_timestamp()); \
         INSERT INTO t VALUES (1), (2)",
    )
    .await;
    let own = TableSettings { columns: [("code".to_owned(), ColumnAs::Text)].into(), ..by_cursor("at") };
    let as_text = with(incremental(), "public.t", own);
    fixture.run_ok(&settings()).await;
    fixture.sql("INSERT INTO t VALUES (3)").await;
    for permission in [Permission::AsConfigured, Permission::Resync] {
        let report = fixture.run_with(&as_text, permission).await;
        let error = table_report(&report, "public.t").error.as_ref().unwrap();
        assert_eq!(error.state, Some("key-changed"), "{}", chain(error));
    }
    let report = fixture.run_with(&as_text, Permission::Replace).await;
    assert!(table_report(&report, "public.t").error.is_none());
    assert_eq!(fixture.rows("public.t").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_the_mapping_removes_is_reported() {
    let fixture = Fixture::new(CREATE).await;
    fixture.run_ok(&settings()).await;
    let folder = tempfile::tempdir().unwrap();
    let removed = mapped(&folder, "", &["remove-column"]);
    let found = findings(&fixture, &removed).await;
    assert!(found.contains("\"iban\" is not carried any more") && found.contains("--clear-changed"), "{found}");
    fixture.sql("DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (4, 'FR4')").await;
    fixture.run_ok(&removed).await;
    assert_eq!(findings(&fixture, &removed).await, found);
    let masked = masked(&folder);
    let error = table_report(&fixture.run(&masked).await, "public.t").error.as_ref().map(|error| error.state);
    assert_eq!(error, Some(Some("columns-changed")));
    let mut request = fixture.request(&masked, Target::Lake(fixture.lake.clone()), Permission::Resync);
    request.clears_changed = true;
    assert!(table_report(&run(&request).await.unwrap(), "public.t").error.is_none());
    let now = ibans(&fixture).await;
    assert!(now[0] == ("1".into(), "NULL".into()) && now[1..].iter().all(|(_, iban)| is_masked(iban)), "{now:?}");
    assert_eq!(findings(&fixture, &masked).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_filter_left_out_come_with_a_resync() {
    let fixture = Fixture::new(CREATE).await;
    let folder = tempfile::tempdir().unwrap();
    let only = r#", "filters": [{"filter-type": "source", "column-name": "id", "filter-conditions":
        [{"filter-operator": "gte", "value": "2"}]}]"#;
    let filtered = mapped(&folder, only, &[]);
    fixture.run_ok(&filtered).await;
    assert_eq!(fixture.rows("public.t").await.len(), 2);
    let all = mapped(&folder, "", &[]);
    let report = fixture.run(&all).await;
    let error = table_report(&report, "public.t").error.as_ref().unwrap();
    assert_eq!(error.state, Some("filter-changed"), "{}", chain(error));
    let report = fixture.run_with(&all, Permission::Resync).await;
    assert!(table_report(&report, "public.t").error.is_none());
    assert_eq!(fixture.rows("public.t").await.len(), 3);
    fixture.run_ok(&all).await;
}
