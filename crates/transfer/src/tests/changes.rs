//! Changes of the source between two runs that could lose or duplicate rows, or leave wrong values, unnoticed: after
//! each, the rows are transferred or the table is in a named state.

use super::fixture::{
    Fixture, by_cursor, chain, database, error_of, execute, first_column, incremental, initial, resync, state,
    table_report, wait_for_writers, with,
};
use crate::hand_over::hand_over;
use crate::plan::{Settings, TableSettings};
use crate::postgres::Endpoint;
use crate::resume::Permission;
use crate::run::Target;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_has_found_stays_until_a_resync() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text); INSERT INTO t (v) SELECT 'old' \
         FROM generate_series(1, 5); \
         CREATE TABLE s (id int PRIMARY KEY, v text); INSERT INTO s SELECT g, 'old' FROM generate_series(1, 5) g",
    )
    .await;
    fixture.run_ok(&incremental()).await;
    fixture
        .sql(
            "DELETE FROM t; ALTER TABLE t ALTER id RESTART; INSERT INTO t (v) SELECT 'new' FROM generate_series(1, 3); \
             DELETE FROM s; INSERT INTO s SELECT g, 'new' FROM generate_series(1, 3) g",
        )
        .await;
    let report = fixture.run(&incremental()).await;
    assert_eq!((state(&report, "public.t"), state(&report, "public.s")), ("restarted", "cursor-behind"));
    fixture
        .sql(
            "INSERT INTO t (v) SELECT 'new' FROM generate_series(1, 6); \
             INSERT INTO s SELECT g, 'new' FROM generate_series(4, 9) g",
        )
        .await;
    let report = fixture.run(&incremental()).await;
    assert_eq!((state(&report, "public.t"), state(&report, "public.s")), ("restarted", "cursor-behind"));
    assert!(error_of(&report, "public.t").0.contains("found by an earlier run"));
    resync(&fixture, &incremental()).await;
    fixture.run_ok(&incremental()).await;
    for table in ["public.t", "public.s"] {
        assert!(fixture.rows(table).await.iter().all(|row| row.ends_with("|new")), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_is_dropped_and_created_again_is_not_the_old_one() {
    let fixture =
        Fixture::new("CREATE TABLE t (id int PRIMARY KEY, price int); INSERT INTO t VALUES (1, 100), (2, 200)").await;
    fixture.run_ok(&incremental()).await;
    fixture.sql("ALTER TABLE t DROP price; ALTER TABLE t ADD price int DEFAULT 0").await;
    assert_eq!(state(&fixture.run(&incremental()).await, "public.t"), "columns-changed");
    resync(&fixture, &incremental()).await;
    assert_eq!(fixture.rows("public.t").await, ["1|0", "2|0"]);
    fixture.run_ok(&incremental()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_another_form_are_not_added_to_those_of_before() {
    let fixture = Fixture::new(
        "CREATE TABLE k (code char(6) PRIMARY KEY, at timestamptz DEFAULT now()); INSERT INTO k VALUES ('a'); \
         CREATE TABLE v (id int PRIMARY KEY, span text); INSERT INTO v VALUES (1, '60'); \
         CREATE TABLE w (id int PRIMARY KEY, name varchar(5)); INSERT INTO w VALUES (1, 'a')",
    )
    .await;
    let settings = with(incremental(), "public.k", by_cursor("at"));
    fixture.run_ok(&settings).await;
    fixture
        .sql(
            "ALTER TABLE k ALTER code TYPE char(10); UPDATE k SET at = clock_timestamp(); \
             ALTER TABLE v ALTER span TYPE interval USING span::interval; INSERT INTO v VALUES (2, '1 minute'); \
             ALTER TABLE w ALTER name TYPE text; INSERT INTO w VALUES (2, 'b')",
        )
        .await;
    let report = fixture.run(&settings).await;
    assert_eq!((state(&report, "public.k"), state(&report, "public.v")), ("key-changed", "columns-changed"));
    assert_eq!(fixture.rows("public.w").await, ["1|a", "2|b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_columns_with_values_in_old_rows_are_carried_or_named() {
    let fixture = Fixture::new(
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM \
         (0) TO (100); \
         INSERT INTO p VALUES (1); CREATE TABLE f (id int PRIMARY KEY); INSERT INTO f VALUES (1); \
         CREATE TABLE g (id int PRIMARY KEY, n int); INSERT INTO g VALUES (1, 2); \
         CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1); CREATE TABLE e (id int PRIMARY KEY); INSERT \
         INTO e VALUES (1)",
    )
    .await;
    fixture.run_ok(&incremental()).await;
    fixture
        .sql(
            "ALTER TABLE p ADD x int NOT NULL DEFAULT 5; ALTER TABLE f ADD x int DEFAULT 5; \
             ALTER TABLE g ADD twice int GENERATED ALWAYS AS (n * 2) STORED; ALTER TABLE u ADD token uuid DEFAULT \
             gen_random_uuid(); \
             ALTER TABLE e ADD note text",
        )
        .await;
    fixture.client.batch_execute("VACUUM FULL public.f").await.unwrap();
    let report = fixture.run(&incremental()).await;
    assert_eq!(fixture.rows("public.p").await, ["1|5"]);
    assert!(table_report(&report, "public.e").error.is_none());
    for table in ["public.f", "public.g", "public.u"] {
        assert_eq!(state(&report, table), "columns-changed", "{table}");
    }
    resync(&fixture, &incremental()).await;
    assert_eq!(fixture.rows("public.g").await, ["1|2|4"]);
    fixture.run_ok(&incremental()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_left_and_came_back_is_read_again() {
    let fixture = Fixture::new(
        "CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE p0 PARTITION OF p FOR \
         VALUES FROM (0) TO (100); \
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (100) TO (200); INSERT INTO p VALUES (1, 'a'), (150, 'b')",
    )
    .await;
    fixture.run_ok(&incremental()).await;
    fixture.sql("ALTER TABLE p DETACH PARTITION p0; INSERT INTO p0 VALUES (2, 'c')").await;
    fixture.run_ok(&incremental()).await;
    fixture.sql("ALTER TABLE p ATTACH PARTITION p0 FOR VALUES FROM (0) TO (100)").await;
    fixture.run_ok(&incremental()).await;
    assert_eq!(fixture.rows("public.p").await.len(), 3);
    assert_eq!(table_report(&fixture.run_ok(&incremental()).await, "public.p").version, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_filled_again_are_seen_by_any_cursor_and_after_a_run_that_saw_them_empty() {
    let fixture = Fixture::new(
        "CREATE TABLE a (id int PRIMARY KEY, u timestamptz, v text); INSERT INTO a SELECT g, now() - interval '1 \
         day', 'old' FROM generate_series(1, 3) g; \
         CREATE TABLE b (id int, ver int, v text, PRIMARY KEY (id, ver)); INSERT INTO b SELECT g, 1, 'old' FROM \
         generate_series(1, 3) g; \
         CREATE TABLE c (id int PRIMARY KEY, v text); INSERT INTO c SELECT g, 'old' FROM generate_series(1, 4) g; \
         CREATE TABLE d (v text); INSERT INTO d VALUES ('x'), ('y')",
    )
    .await;
    let own = TableSettings { cursor: vec!["id".into(), "ver".into()], ..TableSettings::default() };
    let settings = with(with(incremental(), "public.a", by_cursor("u")), "public.b", own);
    let settings = with(settings, "public.d", by_cursor("xmin"));
    fixture.run_ok(&settings).await;
    fixture.sql("TRUNCATE c; ALTER TABLE c ADD w int").await;
    fixture.run_ok(&settings).await;
    fixture
        .sql(
            "TRUNCATE a; INSERT INTO a SELECT g, now() - interval '2 days', 'new' FROM generate_series(1, 3) g; \
             TRUNCATE b; INSERT INTO b SELECT g, 1, 'new' FROM generate_series(1, 3) g; \
             INSERT INTO c SELECT g, 'new' FROM generate_series(1, 4) g; ALTER TABLE d SET UNLOGGED",
        )
        .await;
    let report = fixture.run(&settings).await;
    for table in ["public.a", "public.b", "public.c", "public.d"] {
        assert_eq!(state(&report, table), "refilled", "{table}");
    }
    // Rewriting a table with the same rows is not refilling it.
    fixture.sql("CREATE TABLE z (id int PRIMARY KEY, u timestamptz); INSERT INTO z VALUES (1, now())").await;
    let settings = with(Settings { include: vec!["public.z".into()], ..incremental() }, "public.z", by_cursor("u"));
    fixture.run_ok(&settings).await;
    fixture.client.batch_execute("VACUUM FULL public.z").await.unwrap();
    fixture.run_ok(&settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_clock_that_is_ahead_hides_no_row() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, u timestamptz); INSERT INTO t VALUES (1, now()), \
        (2, now() + interval '5 hours')",
    )
    .await;
    let settings = with(incremental(), "public.t", by_cursor("u"));
    let settings = Settings { overlap: std::time::Duration::from_secs(0), ..settings };
    fixture.run_ok(&settings).await;
    fixture.sql("INSERT INTO t VALUES (3, clock_timestamp())").await;
    fixture.run_ok(&settings).await;
    assert_eq!(fixture.rows("public.t").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_table_with_a_key_of_its_parent_is_an_error() {
    let fixture = Fixture::new(
        "CREATE TABLE par (id int PRIMARY KEY, v text); INSERT INTO par VALUES (1, 'par'), (2, 'par'); \
         CREATE TABLE other (id int PRIMARY KEY, v text, n int); ALTER TABLE other INHERIT par; \
         CREATE TABLE chi (id int PRIMARY KEY, v text); INSERT INTO chi VALUES (1, 'chi')",
    )
    .await;
    let own = TableSettings { key: vec!["id".into()], cursor: vec!["id".into()], ..TableSettings::default() };
    let settings = with(Settings { include: vec!["public.par".into()], ..incremental() }, "public.par", own);
    fixture.run_ok(&settings).await;
    fixture.sql("ALTER TABLE chi INHERIT par").await;
    let (error, _) = error_of(&fixture.run(&settings).await, "public.par");
    assert!(error.contains("two rows have the key id=1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_in_place_of_the_table_is_another_table() {
    let fixture =
        Fixture::new("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    let own = TableSettings { key: vec!["id".into()], cursor: vec!["id".into()], ..TableSettings::default() };
    let settings = with(Settings { views: true, include: vec!["public.t".into()], ..incremental() }, "public.t", own);
    fixture.run_ok(&settings).await;
    fixture.sql("ALTER TABLE t RENAME TO t_old; CREATE VIEW t AS SELECT id, 'other' AS v FROM t_old").await;
    assert_eq!(state(&fixture.run(&settings).await, "public.t"), "recreated");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_by_transactions_begins_again_on_another_server() {
    let mut fixture =
        Fixture::new("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    let settings = with(incremental(), "public.t", by_cursor("xmin"));
    wait_for_writers(&fixture).await;
    fixture.run_ok(&settings).await;
    let other = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'changed'), (3, 'c')",
    )
    .await;
    let url = other.url.clone();
    fixture.move_to(url).await;
    assert_eq!(state(&fixture.run(&settings).await, "public.t"), "other-source");
    hand_over(&fixture.request(&settings, Target::Lake(fixture.lake.clone()), Permission::AsConfigured)).await.unwrap();
    wait_for_writers(&fixture).await;
    fixture.run_ok(&settings).await;
    assert_eq!(fixture.rows("public.t").await, ["1|a", "2|changed", "3|c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_include_that_no_table_has_are_errors_of_their_own() {
    let fixture = Fixture::new("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let settings = Settings { include: vec!["public.t".into(), "public.gone".into()], ..incremental() };
    let report = fixture.run(&settings).await;
    assert_eq!(state(&report, "public.gone"), "missing");
    assert!(table_report(&report, "public.t").error.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_refer_to_a_target_are_kept() {
    let fixture =
        Fixture::new("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
            .await;
    let endpoint = Endpoint::parse(&database().await).unwrap();
    let client = endpoint.connect().await.unwrap();
    let run = async |settings: &Settings| {
        let report = fixture.run_into(settings, Target::Postgres(endpoint.clone())).await.unwrap();
        assert!(
            table_report(&report, "public.t").error.is_none(),
            "{}",
            chain(table_report(&report, "public.t").error.as_ref().unwrap())
        );
    };
    run(&initial()).await;
    execute(
        &client,
        "CREATE TABLE notes (note text, t int REFERENCES t ON DELETE CASCADE); INSERT INTO notes VALUES ('x', 1), \
         ('y', 2), ('z', 3)",
    )
    .await;
    fixture.sql("UPDATE t SET v = 'd' WHERE id = 1; DELETE FROM t WHERE id = 3").await;
    for settings in [initial(), incremental()] {
        run(&settings).await;
        assert_eq!(first_column(&client, "SELECT note FROM public.notes ORDER BY 1").await, ["x", "y"]);
    }
    assert_eq!(first_column(&client, "SELECT v FROM public.t ORDER BY id").await, ["d", "b"]);
    // After a user has emptied the target's table, it is filled again.
    execute(&client, "TRUNCATE t CASCADE").await;
    run(&incremental()).await;
    assert_eq!(first_column(&client, "SELECT v FROM public.t ORDER BY id").await, ["d", "b"]);
}
