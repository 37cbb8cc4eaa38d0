//! CHANGES where something is missing or breaks: each is a state of one table or of the transfer, and nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fixture::*;
use super::streaming::*;
use super::validation::lose;
use crate::plan::Settings;
use crate::resume::Permission;
use crate::run::Target;

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')";
const ROWS: &str = "SELECT concat_ws('|', id, coalesce(v, 'NULL')) FROM public.t";

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_gone_makes_the_tables_read_again_without_deleted_rows() {
    let fixture = Fixture::new(TABLE).await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    fixture.sql(&format!("SELECT pg_drop_replication_slot('{}')", settings.changes.slot)).await;
    fixture.sql("DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (4, 'd')").await;
    let recorder = catch_up(&fixture, &settings).await;
    assert_eq!(recorder.copies.lock().unwrap().len(), 1);
    assert_eq!(fixture.rows("public.t").await, source_rows(&fixture, ROWS).await);
    // The same where somebody has created it again: it lacks what was written in between.
    fixture.sql(&format!("SELECT pg_drop_replication_slot('{}')", settings.changes.slot)).await;
    fixture.sql("UPDATE t SET v = 'x' WHERE id = 2").await;
    fixture.sql(&format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", settings.changes.slot)).await;
    fixture.sql("DELETE FROM t WHERE id = 3").await;
    let recorder = catch_up(&fixture, &settings).await;
    assert_eq!(recorder.copies.lock().unwrap().len(), 1);
    assert_eq!(fixture.rows("public.t").await, source_rows(&fixture, ROWS).await);
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_of_somebody_else_is_not_used() {
    let fixture = Fixture::new(TABLE).await;
    let settings = streaming(&fixture);
    fixture.sql(&format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", settings.changes.slot)).await;
    let error = try_catch_up(&fixture, &settings, Permission::AsConfigured, &[]).await.err().unwrap();
    assert_eq!(error.state, Some("slot"), "{}", chain(&error));
    assert!(error.hint.unwrap().contains("pg_drop_replication_slot"));
    let request = fixture.request(&settings, Target::Lake(fixture.lake.clone()), Permission::AsConfigured);
    let error = crate::changes::drop_slot(&request).await.err().unwrap();
    assert_eq!(error.state, Some("slot"), "{}", chain(&error));
    fixture.sql(&format!("SELECT pg_drop_replication_slot('{}')", settings.changes.slot)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_without_an_identity_are_refused_and_not_published() {
    let fixture = Fixture::new(&format!(
        "{TABLE}; CREATE TABLE keyless (v text); CREATE TABLE nothing (id int PRIMARY KEY); \
         ALTER TABLE nothing REPLICA IDENTITY NOTHING; CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY)"
    ))
    .await;
    let settings = streaming(&fixture);
    let recorder = try_catch_up(&fixture, &settings, Permission::AsConfigured, &[]).await.unwrap();
    {
        let copies = recorder.copies.lock().unwrap();
        assert_eq!(state(&copies[0], "public.keyless"), "no-identity");
        assert_eq!(
            error_of(&copies[0], "public.keyless").1,
            "ALTER TABLE \"public\".\"keyless\" REPLICA IDENTITY FULL"
        );
        assert_eq!(state(&copies[0], "public.nothing"), "no-identity");
        assert_eq!(state(&copies[0], "public.unlogged"), "not-in-the-log");
        assert!(table_report(&copies[0], "public.t").error.is_none());
    }
    // The platform's own updates work: PostgreSQL refuses them for a published table without an identity.
    fixture.sql("INSERT INTO keyless VALUES ('a'); UPDATE keyless SET v = 'b'; DELETE FROM nothing").await;
    // Corrected, the table takes part.
    fixture.sql("ALTER TABLE keyless REPLICA IDENTITY FULL; UPDATE t SET v = 'z' WHERE id = 1").await;
    try_catch_up(&fixture, &settings, Permission::AsConfigured, &[]).await.unwrap();
    assert_eq!(fixture.rows("public.keyless").await, ["b"]);
    assert_eq!(fixture.rows("public.t").await, source_rows(&fixture, ROWS).await);
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_of_the_users_own_must_have_the_tables() {
    let fixture =
        Fixture::new(&format!("{TABLE}; CREATE TABLE u (id int PRIMARY KEY); CREATE ROLE own_{}", "publisher")).await;
    let mut settings = streaming(&fixture);
    settings.changes.publication = "own".into();
    settings.changes.manages_publication = false;
    fixture
        .sql("CREATE PUBLICATION own FOR TABLE t WITH (publish = 'insert', publish_via_partition_root = true)")
        .await;
    let error = try_catch_up(&fixture, &settings, Permission::AsConfigured, &[]).await.err().unwrap();
    assert_eq!(error.state, Some("publication"), "{}", chain(&error));
    fixture.sql(&error.hint.unwrap()).await;
    let settings = Settings { include: vec!["public.t".into()], ..settings };
    catch_up(&fixture, &settings).await;
    fixture.sql("DELETE FROM t WHERE id = 2").await;
    catch_up(&fixture, &settings).await;
    assert_eq!(fixture.rows("public.t").await, ["1|a", "3|c"]);
    drop_slot(&fixture, &settings).await;
    assert_eq!(fixture.first_column("SELECT pubname::text FROM pg_publication").await, ["own"]);
    fixture.sql("DROP ROLE own_publisher").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_another_mode_goes_over_with_its_history() {
    let fixture = Fixture::new(TABLE).await;
    fixture.run_ok(&incremental()).await;
    fixture.sql("DELETE FROM t WHERE id = 1; UPDATE t SET v = 'new' WHERE id = 2").await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    assert_eq!(fixture.rows("public.t").await, ["1|a", "2|new", "3|c"], "a purged row stays");
    // A key that the lake still has from before is used again.
    fixture.sql("INSERT INTO t VALUES (1, 'again'); DELETE FROM t WHERE id = 3").await;
    catch_up(&fixture, &settings).await;
    assert_eq!(fixture.rows("public.t").await, ["1|again", "2|new"]);
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_read_again_on_request() {
    let fixture = Fixture::new(&format!("{TABLE}; CREATE TABLE u (id int PRIMARY KEY)")).await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    // Another program has removed a row of the lake.
    let table = fixture.table("public.t").await;
    let hidden = table.rows_from("id", 3).await.unwrap();
    table.commit("other", "other").hide(hidden).write().await.unwrap();
    assert_eq!(fixture.rows("public.t").await.len(), 2);
    let recorder = try_catch_up(&fixture, &settings, Permission::AsConfigured, &["public.t"]).await.unwrap();
    let read: Vec<String> = recorder.copies.lock().unwrap()[0].tables.iter().map(|t| t.source.clone()).collect();
    assert_eq!(read, ["public.t"]);
    assert_eq!(fixture.rows("public.t").await, source_rows(&fixture, ROWS).await);
    // It still has no rows but the source's: those that are deleted while the slot is gone are found.
    fixture.sql(&format!("SELECT pg_drop_replication_slot('{}')", settings.changes.slot)).await;
    fixture.sql("DELETE FROM t WHERE id = 2").await;
    catch_up(&fixture, &settings).await;
    assert_eq!(fixture.rows("public.t").await, ["1|a", "3|c"]);
    let error = try_catch_up(&fixture, &settings, Permission::AsConfigured, &["public.x"]).await.err().unwrap();
    assert!(chain(&error).contains("it has no table public.x"), "{}", chain(&error));
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_cannot_be_carried_takes_its_table_out_and_not_the_others() {
    let fixture =
        Fixture::new("CREATE TABLE t (id int PRIMARY KEY, d date); CREATE TABLE u (id int PRIMARY KEY)").await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    fixture.sql("INSERT INTO t VALUES (1, '2026-01-01'), (2, '12026-01-01'); INSERT INTO u VALUES (7)").await;
    let recorder = try_catch_up(&fixture, &settings, Permission::AsConfigured, &[]).await.unwrap();
    let errors = recorder.errors();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("public.t, column \"d\", row id=2"), "{errors:?}");
    assert_eq!(fixture.rows("public.u").await, ["7"]);
    // It stays out until it is read again, and nothing is lost then.
    fixture.sql("UPDATE t SET d = '2026-01-02' WHERE id = 2; INSERT INTO u VALUES (8)").await;
    let recorder = try_catch_up(&fixture, &settings, Permission::AsConfigured, &[]).await.unwrap();
    assert_eq!((recorder.errors().len(), fixture.rows("public.u").await.len()), (1, 2));
    try_catch_up(&fixture, &settings, Permission::AsConfigured, &["public.t"]).await.unwrap();
    fixture.sql("INSERT INTO t VALUES (3, '2026-01-03')").await;
    catch_up(&fixture, &settings).await;
    assert_eq!(fixture.rows("public.t").await, ["1|2026-01-01", "2|2026-01-02", "3|2026-01-03"]);
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_is_one_commit() {
    let fixture = Fixture::new("CREATE TABLE t (id bigint PRIMARY KEY, n int)").await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    let before = fixture.table("public.t").await.version();
    // Chunks of the transaction replace rows of its earlier chunks.
    fixture
        .sql(
            "INSERT INTO t SELECT i, 0 FROM generate_series(1, 300000) i; UPDATE t SET n = 1 WHERE id % 100 = 0; \
             DELETE FROM t WHERE id % 100 = 1; UPDATE t SET id = id + 1000000 WHERE id % 1000 = 2",
        )
        .await;
    catch_up(&fixture, &settings).await;
    let table = fixture.table("public.t").await;
    let changes = table.history().await.unwrap();
    let commits = changes.iter().filter(|entry| entry.version > before && entry.operation == "changes").count();
    assert_eq!(commits, 1);
    let wanted = source_rows(&fixture, "SELECT concat_ws('|', id, n) FROM public.t").await;
    assert_eq!(fixture.rows("public.t").await, wanted);
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_masks_and_selects_the_changes_too() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, name text, kind text); INSERT INTO t VALUES (1, 'secret', 'in'), (2, 'x', 'out')",
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mapping.json");
    let mapping = serde_json::json!({"rules": [
        {"rule-type": "selection", "rule-id": "1", "rule-name": "1", "rule-action": "include",
         "object-locator": {"schema-name": "public", "table-name": "t"},
         "filters": [{"filter-type": "source", "column-name": "kind",
                      "filter-conditions": [{"filter-operator": "eq", "value": "in"}]}]},
        {"rule-type": "transformation", "rule-id": "2", "rule-name": "2", "rule-action": "data-masking-hash-mask",
         "rule-target": "column",
         "object-locator": {"schema-name": "public", "table-name": "t", "column-name": "name"}},
    ]});
    std::fs::write(&path, mapping.to_string()).unwrap();
    let settings = Settings { mapping: Some(path), ..streaming(&fixture) };
    catch_up(&fixture, &settings).await;
    fixture
        .sql(
            "INSERT INTO t VALUES (3, 'secret', 'in'), (4, 'y', 'out'); UPDATE t SET kind = 'in', name = 'secret' WHERE id = 2; \
             UPDATE t SET kind = 'out' WHERE id = 1",
        )
        .await;
    catch_up(&fixture, &settings).await;
    let rows = fixture.rows("public.t").await;
    assert_eq!(rows.len(), 2, "{rows:?}");
    let masked: Vec<&str> = rows.iter().map(|row| row.split('|').nth(1).unwrap()).collect();
    assert!(masked[0] == masked[1] && masked[0] != "secret", "{rows:?}");
    assert!(rows[0].starts_with("2|") && rows[1].starts_with("3|"));
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_read_again_several_times_in_a_row() {
    let fixture = Fixture::new("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let settings = streaming(&fixture);
    let running = start(&fixture, &settings);
    for number in 2..5 {
        fixture
            .sql(&format!(
                "ALTER TABLE t ADD u{number} uuid DEFAULT gen_random_uuid(); INSERT INTO t VALUES ({number})"
            ))
            .await;
        wait_for_count(&fixture, number).await;
    }
    running.stop().await;
    let recorder = catch_up(&fixture, &settings).await;
    assert!(recorder.errors().is_empty());
    let rows = source_rows(&fixture, "SELECT concat_ws('|', id, u2, u3, u4) FROM public.t").await;
    assert_eq!(fixture.rows("public.t").await, rows);
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_replicate_is_named() {
    let fixture = Fixture::new(TABLE).await;
    let database = fixture.source.database();
    let role = format!("plain_{database}");
    let sql =
        format!("CREATE ROLE {role} LOGIN; ALTER DATABASE {database} OWNER TO {role}; ALTER TABLE t OWNER TO {role}");
    fixture.sql(&sql).await;
    let url = fixture.url.replacen("postgres@", &format!("{role}@"), 1);
    let settings = Settings { include: vec!["public.t".into()], ..streaming(&fixture) };
    let mut request = fixture.request(&settings, Target::Lake(fixture.lake.clone()), Permission::AsConfigured);
    request.source = crate::postgres::Endpoint::parse(&url).unwrap();
    let observer: Arc<dyn crate::changes::StreamObserver> = Arc::new(Recorder::default());
    let error = crate::changes::run(&Arc::new(request), crate::changes::StreamEnd::CaughtUp, &observer).await.err();
    assert_eq!(error.unwrap().hint, Some(format!("ALTER ROLE \"{role}\" REPLICATION")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_on_a_large_value_that_did_not_change_is_not_guessed() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, body text, n int); ALTER TABLE t ALTER body SET STORAGE EXTERNAL; \
        INSERT INTO t VALUES (1, repeat('x', 5000), 0)",
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mapping.json");
    let mapping = serde_json::json!({"rules": [
        {"rule-type": "selection", "rule-id": "1", "rule-name": "1", "rule-action": "include",
         "object-locator": {"schema-name": "public", "table-name": "t"},
         "filters": [{"filter-type": "source", "column-name": "body", "filter-conditions": [{"filter-operator": "notnull"}]}]},
    ]});
    std::fs::write(&path, mapping.to_string()).unwrap();
    let settings = Settings { mapping: Some(path), ..streaming(&fixture) };
    catch_up(&fixture, &settings).await;
    fixture.sql("UPDATE t SET n = 1").await;
    // The table is read again.
    catch_up(&fixture, &settings).await;
    assert_eq!(fixture.first_column("SELECT n::text FROM public.t").await, ["1"]);
    assert!(fixture.rows("public.t").await[0].ends_with("|1"));
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_was_changed_makes_its_tables_read_again() {
    let fixture = Fixture::new(TABLE).await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    let name = settings.changes.publication.clone();
    fixture.sql(&format!("CREATE TABLE other (id int); ALTER PUBLICATION {name} SET TABLE other")).await;
    fixture.sql("INSERT INTO t VALUES (7, 'missed')").await;
    let settings = Settings { include: vec!["public.t".into()], ..settings };
    catch_up(&fixture, &settings).await;
    assert_eq!(fixture.rows("public.t").await, source_rows(&fixture, ROWS).await);
    // Also where it was changed back.
    fixture.sql(&format!("ALTER PUBLICATION {name} SET (publish = 'insert')")).await;
    fixture.sql("DELETE FROM t WHERE id = 7").await;
    fixture.sql(&format!("ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate')")).await;
    catch_up(&fixture, &settings).await;
    assert_eq!(fixture.rows("public.t").await, source_rows(&fixture, ROWS).await);
    fixture.sql(&format!("DROP PUBLICATION {name}")).await;
    fixture.sql("INSERT INTO t VALUES (8, 'missed, too'); DELETE FROM t WHERE id = 1").await;
    catch_up(&fixture, &settings).await;
    assert_eq!(fixture.rows("public.t").await, source_rows(&fixture, ROWS).await);
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_checked_late_is_no_identity() {
    let fixture = Fixture::new("CREATE TABLE t (id int PRIMARY KEY DEFERRABLE); INSERT INTO t VALUES (1)").await;
    let settings = streaming(&fixture);
    let recorder = try_catch_up(&fixture, &settings, Permission::AsConfigured, &[]).await;
    let states = recorder.map(|recorder| state(&recorder.copies.lock().unwrap()[0], "public.t"));
    assert!(matches!(states, Ok("no-identity")) || states.is_err());
    fixture.sql("DELETE FROM t").await;
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_created_or_gets_a_key_later_takes_part() {
    let fixture =
        Fixture::new("CREATE TABLE t (id bigint PRIMARY KEY, v text); CREATE TABLE bare (id bigint, v text)").await;
    let settings = streaming(&fixture);
    let running = start(&fixture, &settings);
    wait_for_rows(&fixture, "public.t", &[]).await;
    fixture.sql("CREATE TABLE later (id bigint PRIMARY KEY, v text); INSERT INTO later VALUES (1, 'a')").await;
    wait_for_rows(&fixture, "public.later", &["1|a"]).await;
    fixture.sql("ALTER TABLE bare ADD PRIMARY KEY (id); INSERT INTO bare VALUES (2, 'b')").await;
    wait_for_rows(&fixture, "public.bare", &["2|b"]).await;
    fixture.sql("INSERT INTO later VALUES (3, 'c'); UPDATE bare SET v = 'd'").await;
    wait_for_rows(&fixture, "public.later", &["1|a", "3|c"]).await;
    wait_for_rows(&fixture, "public.bare", &["2|d"]).await;
    running.stop().await;
    drop_slot(&fixture, &settings).await;
}

async fn wait_for_rows(fixture: &Fixture, name: &str, wanted: &[&str]) {
    let (schema, table) = name.split_once('.').unwrap();
    let name = lake::TableName::new(schema, table);
    for _ in 0..1_800 {
        if let Some(table) = fixture.lake.table(&name).await.unwrap()
            && rows_of(&table).await == wanted
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{name} did not get the rows {wanted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_stream_is_validated_at_one_position() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 2000) i",
    )
    .await;
    let settings = streaming(&fixture);
    let running = start(&fixture, &settings);
    wait_for_count(&fixture, 2_000).await;
    let writer = fixture.session().await;
    let stop = Arc::new(AtomicBool::new(false));
    let is_stopped = Arc::clone(&stop);
    let writing = tokio::spawn(async move {
        let mut round = 0;
        while !is_stopped.load(Ordering::Relaxed) {
            round += 1;
            let sql = format!(
                "UPDATE t SET v = v || '.' WHERE id % 500 = {0} % 500; DELETE FROM t WHERE id % 700 = {0} % 700; \
                 INSERT INTO t SELECT i, 'again' FROM generate_series(1, 2000) i WHERE i % 700 = ({0} + 650) % 700 \
                 ON CONFLICT DO NOTHING; SELECT pg_sleep(0.01)",
                round
            );
            execute(&writer, &sql).await;
        }
        round
    });
    let progress: Arc<dyn crate::read::Progress> = Arc::new(crate::read::NoProgress);
    for _ in 0..5 {
        let validated =
            crate::validate::validate(&settings, &fixture.source, &fixture.lake, &[], &progress).await.unwrap();
        let table = &validated[0];
        assert!(table.is_ok(), "{table:?}, {:?}", table.error.as_ref().map(chain));
        assert!(table.source_rows > 100 && table.pending < table.source_rows, "{table:?}");
    }
    stop.store(true, Ordering::Relaxed);
    assert!(writing.await.unwrap() > 10);
    running.stop().await;
    // What is wrong is still found.
    fixture.sql("INSERT INTO t VALUES (5000, 'x')").await;
    catch_up(&fixture, &settings).await;
    lose(&fixture, &[5000]).await;
    let running = start(&fixture, &settings);
    let is_active = format!(
        "SELECT count(*) = 1 FROM pg_replication_slots WHERE active AND slot_name = '{}'",
        settings.changes.slot
    );
    fixture.wait_for(&is_active).await;
    let validated = crate::validate::validate(&settings, &fixture.source, &fixture.lake, &[], &progress).await.unwrap();
    assert_eq!((validated[0].lost, validated[0].is_ok()), (1, false), "{validated:?}");
    running.stop().await;
    drop_slot(&fixture, &settings).await;
}

async fn wait_for_count(fixture: &Fixture, rows: u64) {
    for _ in 0..1_800 {
        if let Some(table) = fixture.lake.table(&lake::TableName::new("public", "t")).await.unwrap()
            && table.size().unwrap().rows == rows
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("public.t did not get {rows} rows");
}
