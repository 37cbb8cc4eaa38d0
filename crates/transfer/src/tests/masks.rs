//! A mapping that changes after rows were carried: a mask that came late must not leave clear values unseen.

use std::fs;

use tempfile::TempDir;

use super::world::{World, ask, by_cursor, chain, database, incremental, of, with};
use crate::plan::{ColumnAs, Settings, TableSettings};
use crate::postgres::Endpoint;
use crate::preflight::{Way, check};
use crate::resume::Permission;
use crate::run::{How, Report, Target, run};

const CREATE: &str = "CREATE TABLE t (id int PRIMARY KEY, iban text, at timestamptz DEFAULT clock_timestamp()); \
     INSERT INTO t VALUES (1, 'FR1'), (2, 'FR2'), (3, 'FR3')";

fn settings() -> Settings {
    with(incremental(), "public.t", by_cursor("at"))
}

fn masked(folder: &TempDir) -> Settings {
    mapped(folder, "", &["data-masking-hash-mask"])
}

/// `filter` goes into the selection, and each action is one on the column `iban`.
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

async fn findings(world: &World, settings: &Settings) -> String {
    let target = Target::Lake(world.lake.clone());
    let found = check(settings, &world.source, Way::Direct, Some(&target)).await.unwrap().findings;
    let about = found.iter().filter(|found| found.what.contains("keep their values"));
    about.map(|found| format!("{}; {}\n", found.what, found.hint.as_deref().unwrap_or_default())).collect()
}

fn hidden(value: &str) -> bool {
    value.len() == 64
}

/// Ids with what the lake shows in place of the IBAN.
async fn ibans(world: &World) -> Vec<(String, String)> {
    let row = |row: &String| {
        let mut parts = row.split('|').map(str::to_owned);
        (parts.next().unwrap(), parts.next().unwrap())
    };
    world.rows("public.t").await.iter().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn clear_values_are_told_until_they_are_gone() {
    let world = World::new(CREATE).await;
    world.carries(&settings()).await;
    world.sql("DELETE FROM t WHERE id = 1").await;
    let folder = tempfile::tempdir().unwrap();
    let masked = masked(&folder);
    let said = findings(&world, &masked).await;
    assert!(said.contains("\"iban\"") && said.contains("--clear-changed"), "{said}");
    // Runs go on, and don't make it forgotten.
    world.sql("INSERT INTO t VALUES (4, 'FR4')").await;
    world.carries(&masked).await;
    assert_eq!(findings(&world, &masked).await, said);
    let report = world.run_with(&masked, Permission::Resync).await;
    assert!(of(&report, "public.t").error.is_none());
    let now = ibans(&world).await;
    assert!(now[0] == ("1".into(), "FR1".into()) && now[1..].iter().all(|(_, iban)| hidden(iban)), "{now:?}");
    assert_eq!(findings(&world, &masked).await, said, "one that the source no longer has is in clear");
    let mut request = world.request(&masked, Target::Lake(world.lake.clone()), Permission::Resync);
    request.clears_changed = true;
    let report = run(&request).await.unwrap();
    let table = of(&report, "public.t");
    assert!(table.error.is_none() && table.how == How::Resync);
    let now = ibans(&world).await;
    assert!(now[0] == ("1".into(), "NULL".into()) && now[1..].iter().all(|(_, iban)| hidden(iban)), "{now:?}");
    assert_eq!(findings(&world, &masked).await, "");
    world.sql("INSERT INTO t VALUES (5, 'FR5')").await;
    world.carries(&masked).await;
    let now = ibans(&world).await;
    assert!(now.len() == 5 && hidden(&now[4].1), "{now:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_in_postgresql_is_cleared_too() {
    let world = World::new(CREATE).await;
    let target = Endpoint::parse(&database().await).unwrap();
    let carried = async |settings: &Settings, permission: Permission, clears: bool| -> Report {
        let mut request = world.request(settings, Target::Postgres(target.clone()), permission);
        request.clears_changed = clears;
        run(&request).await.unwrap()
    };
    carried(&settings(), Permission::File, false).await;
    world.sql("DELETE FROM t WHERE id = 1").await;
    let folder = tempfile::tempdir().unwrap();
    let report = carried(&masked(&folder), Permission::Resync, true).await;
    assert!(of(&report, "public.t").error.is_none(), "{}", chain(of(&report, "public.t").error.as_ref().unwrap()));
    let client = target.connect().await.unwrap();
    let now = ask(&client, "SELECT id || ' ' || COALESCE(length(iban)::text, 'NULL') FROM public.t ORDER BY id").await;
    assert_eq!(now, ["1 NULL", "2 64", "3 64"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_value_of_the_key_would_double_the_rows() {
    let world = World::new(
        "CREATE TABLE t (code numeric(9,2) PRIMARY KEY, at timestamptz DEFAULT clock_timestamp()); INSERT INTO t VALUES (1), (2)",
    )
    .await;
    let own = TableSettings { columns: [("code".to_owned(), ColumnAs::Text)].into(), ..by_cursor("at") };
    let as_text = with(incremental(), "public.t", own);
    world.carries(&settings()).await;
    world.sql("INSERT INTO t VALUES (3)").await;
    for permission in [Permission::File, Permission::Resync] {
        let report = world.run_with(&as_text, permission).await;
        let error = of(&report, "public.t").error.as_ref().unwrap();
        assert_eq!(error.state, Some("key-changed"), "{}", chain(error));
    }
    let report = world.run_with(&as_text, Permission::Replace).await;
    assert!(of(&report, "public.t").error.is_none());
    assert_eq!(world.rows("public.t").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_was_taken_away_is_not_forgotten() {
    let world = World::new(CREATE).await;
    world.carries(&settings()).await;
    let folder = tempfile::tempdir().unwrap();
    let removed = mapped(&folder, "", &["remove-column"]);
    let said = findings(&world, &removed).await;
    assert!(said.contains("\"iban\" is not carried any more") && said.contains("--clear-changed"), "{said}");
    world.sql("DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (4, 'FR4')").await;
    world.carries(&removed).await;
    assert_eq!(findings(&world, &removed).await, said);
    let masked = masked(&folder);
    let error = of(&world.run(&masked).await, "public.t").error.as_ref().map(|error| error.state);
    assert_eq!(error, Some(Some("columns-changed")));
    let mut request = world.request(&masked, Target::Lake(world.lake.clone()), Permission::Resync);
    request.clears_changed = true;
    assert!(of(&run(&request).await.unwrap(), "public.t").error.is_none());
    let now = ibans(&world).await;
    assert!(now[0] == ("1".into(), "NULL".into()) && now[1..].iter().all(|(_, iban)| hidden(iban)), "{now:?}");
    assert_eq!(findings(&world, &masked).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_filter_left_out_come_with_a_resync() {
    let world = World::new(CREATE).await;
    let folder = tempfile::tempdir().unwrap();
    let only = r#", "filters": [{"filter-type": "source", "column-name": "id", "filter-conditions":
        [{"filter-operator": "gte", "value": "2"}]}]"#;
    let filtered = mapped(&folder, only, &[]);
    world.carries(&filtered).await;
    assert_eq!(world.rows("public.t").await.len(), 2);
    let all = mapped(&folder, "", &[]);
    let report = world.run(&all).await;
    let error = of(&report, "public.t").error.as_ref().unwrap();
    assert_eq!(error.state, Some("filter-changed"), "{}", chain(error));
    let report = world.run_with(&all, Permission::Resync).await;
    assert!(of(&report, "public.t").error.is_none());
    assert_eq!(world.rows("public.t").await.len(), 3);
    world.carries(&all).await;
}
