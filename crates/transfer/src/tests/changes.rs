//! Events between two runs after which rows could be lost, doubled or kept wrong without a word: each is carried, or the
//! table is in a named state.

use super::world::{
    World, all_ended, ask, by_cursor, chain, database, error_of, execute, incremental, initial, of, resynced, state,
    with,
};
use crate::hand_over::hand_over;
use crate::plan::{Settings, TableSettings};
use crate::postgres::Endpoint;
use crate::resume::Permission;
use crate::run::Target;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_has_found_stays_until_a_resync() {
    let world = World::new(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text); INSERT INTO t (v) SELECT 'old' FROM generate_series(1, 5); \
         CREATE TABLE s (id int PRIMARY KEY, v text); INSERT INTO s SELECT g, 'old' FROM generate_series(1, 5) g",
    )
    .await;
    world.carries(&incremental()).await;
    world
        .sql(
            "DELETE FROM t; ALTER TABLE t ALTER id RESTART; INSERT INTO t (v) SELECT 'new' FROM generate_series(1, 3); \
             DELETE FROM s; INSERT INTO s SELECT g, 'new' FROM generate_series(1, 3) g",
        )
        .await;
    let report = world.run(&incremental()).await;
    assert_eq!((state(&report, "public.t"), state(&report, "public.s")), ("restarted", "cursor-behind"));
    world
        .sql(
            "INSERT INTO t (v) SELECT 'new' FROM generate_series(1, 6); \
             INSERT INTO s SELECT g, 'new' FROM generate_series(4, 9) g",
        )
        .await;
    let report = world.run(&incremental()).await;
    assert_eq!((state(&report, "public.t"), state(&report, "public.s")), ("restarted", "cursor-behind"));
    assert!(error_of(&report, "public.t").0.contains("found by an earlier run"));
    resynced(&world, &incremental()).await;
    world.carries(&incremental()).await;
    for table in ["public.t", "public.s"] {
        assert!(world.rows(table).await.iter().all(|row| row.ends_with("|new")), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_made_anew_is_not_the_old_one() {
    let world =
        World::new("CREATE TABLE t (id int PRIMARY KEY, price int); INSERT INTO t VALUES (1, 100), (2, 200)").await;
    world.carries(&incremental()).await;
    world.sql("ALTER TABLE t DROP price; ALTER TABLE t ADD price int DEFAULT 0").await;
    assert_eq!(state(&world.run(&incremental()).await, "public.t"), "columns-changed");
    resynced(&world, &incremental()).await;
    assert_eq!(world.rows("public.t").await, ["1|0", "2|0"]);
    world.carries(&incremental()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_another_form_are_not_added_to_those_of_before() {
    let world = World::new(
        "CREATE TABLE k (code char(6) PRIMARY KEY, at timestamptz DEFAULT now()); INSERT INTO k VALUES ('a'); \
         CREATE TABLE v (id int PRIMARY KEY, span text); INSERT INTO v VALUES (1, '60'); \
         CREATE TABLE w (id int PRIMARY KEY, name varchar(5)); INSERT INTO w VALUES (1, 'a')",
    )
    .await;
    let settings = with(incremental(), "public.k", by_cursor("at"));
    world.carries(&settings).await;
    world
        .sql(
            "ALTER TABLE k ALTER code TYPE char(10); UPDATE k SET at = clock_timestamp(); \
             ALTER TABLE v ALTER span TYPE interval USING span::interval; INSERT INTO v VALUES (2, '1 minute'); \
             ALTER TABLE w ALTER name TYPE text; INSERT INTO w VALUES (2, 'b')",
        )
        .await;
    let report = world.run(&settings).await;
    assert_eq!((state(&report, "public.k"), state(&report, "public.v")), ("key-changed", "columns-changed"));
    assert_eq!(world.rows("public.w").await, ["1|a", "2|b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_columns_with_values_in_old_rows_are_carried_or_named() {
    let world = World::new(
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100); \
         INSERT INTO p VALUES (1); CREATE TABLE f (id int PRIMARY KEY); INSERT INTO f VALUES (1); \
         CREATE TABLE g (id int PRIMARY KEY, n int); INSERT INTO g VALUES (1, 2); \
         CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1); CREATE TABLE e (id int PRIMARY KEY); INSERT INTO e VALUES (1)",
    )
    .await;
    world.carries(&incremental()).await;
    world
        .sql(
            "ALTER TABLE p ADD x int NOT NULL DEFAULT 5; ALTER TABLE f ADD x int DEFAULT 5; \
             ALTER TABLE g ADD twice int GENERATED ALWAYS AS (n * 2) STORED; ALTER TABLE u ADD token uuid DEFAULT gen_random_uuid(); \
             ALTER TABLE e ADD note text",
        )
        .await;
    world.client.batch_execute("VACUUM FULL public.f").await.unwrap();
    let report = world.run(&incremental()).await;
    assert_eq!(world.rows("public.p").await, ["1|5"]);
    assert!(of(&report, "public.e").error.is_none());
    for table in ["public.f", "public.g", "public.u"] {
        assert_eq!(state(&report, table), "columns-changed", "{table}");
    }
    resynced(&world, &incremental()).await;
    assert_eq!(world.rows("public.g").await, ["1|2|4"]);
    world.carries(&incremental()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_left_and_came_back_is_read_again() {
    let world = World::new(
        "CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE p0 PARTITION OF p FOR VALUES FROM (0) TO (100); \
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (100) TO (200); INSERT INTO p VALUES (1, 'a'), (150, 'b')",
    )
    .await;
    world.carries(&incremental()).await;
    world.sql("ALTER TABLE p DETACH PARTITION p0; INSERT INTO p0 VALUES (2, 'c')").await;
    world.carries(&incremental()).await;
    world.sql("ALTER TABLE p ATTACH PARTITION p0 FOR VALUES FROM (0) TO (100)").await;
    world.carries(&incremental()).await;
    assert_eq!(world.rows("public.p").await.len(), 3);
    assert_eq!(of(&world.carries(&incremental()).await, "public.p").version, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_filled_again_are_seen_by_any_cursor_and_after_a_run_that_saw_them_empty() {
    let world = World::new(
        "CREATE TABLE a (id int PRIMARY KEY, u timestamptz, v text); INSERT INTO a SELECT g, now() - interval '1 day', 'old' FROM generate_series(1, 3) g; \
         CREATE TABLE b (id int, ver int, v text, PRIMARY KEY (id, ver)); INSERT INTO b SELECT g, 1, 'old' FROM generate_series(1, 3) g; \
         CREATE TABLE c (id int PRIMARY KEY, v text); INSERT INTO c SELECT g, 'old' FROM generate_series(1, 4) g; \
         CREATE TABLE d (v text); INSERT INTO d VALUES ('x'), ('y')",
    )
    .await;
    let own = TableSettings { cursor: vec!["id".into(), "ver".into()], ..TableSettings::default() };
    let settings = with(with(incremental(), "public.a", by_cursor("u")), "public.b", own);
    let settings = with(settings, "public.d", by_cursor("xmin"));
    world.carries(&settings).await;
    world.sql("TRUNCATE c; ALTER TABLE c ADD w int").await;
    world.carries(&settings).await;
    world
        .sql(
            "TRUNCATE a; INSERT INTO a SELECT g, now() - interval '2 days', 'new' FROM generate_series(1, 3) g; \
             TRUNCATE b; INSERT INTO b SELECT g, 1, 'new' FROM generate_series(1, 3) g; \
             INSERT INTO c SELECT g, 'new' FROM generate_series(1, 4) g; ALTER TABLE d SET UNLOGGED",
        )
        .await;
    let report = world.run(&settings).await;
    for table in ["public.a", "public.b", "public.c", "public.d"] {
        assert_eq!(state(&report, table), "refilled", "{table}");
    }
    // What writes the rows anew and keeps them is none of it.
    world.sql("CREATE TABLE z (id int PRIMARY KEY, u timestamptz); INSERT INTO z VALUES (1, now())").await;
    let settings = with(Settings { include: vec!["public.z".into()], ..incremental() }, "public.z", by_cursor("u"));
    world.carries(&settings).await;
    world.client.batch_execute("VACUUM FULL public.z").await.unwrap();
    world.carries(&settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_clock_that_is_ahead_hides_no_row() {
    let world = World::new("CREATE TABLE t (id int PRIMARY KEY, u timestamptz); INSERT INTO t VALUES (1, now()), (2, now() + interval '5 hours')").await;
    let settings = with(incremental(), "public.t", by_cursor("u"));
    let settings = Settings { overlap: std::time::Duration::from_secs(0), ..settings };
    world.carries(&settings).await;
    world.sql("INSERT INTO t VALUES (3, clock_timestamp())").await;
    world.carries(&settings).await;
    assert_eq!(world.rows("public.t").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_heir_with_a_key_of_its_parent_is_an_error() {
    let world = World::new(
        "CREATE TABLE par (id int PRIMARY KEY, v text); INSERT INTO par VALUES (1, 'par'), (2, 'par'); \
         CREATE TABLE other (id int PRIMARY KEY, v text, n int); ALTER TABLE other INHERIT par; \
         CREATE TABLE chi (id int PRIMARY KEY, v text); INSERT INTO chi VALUES (1, 'chi')",
    )
    .await;
    let own = TableSettings { key: vec!["id".into()], cursor: vec!["id".into()], ..TableSettings::default() };
    let settings = with(Settings { include: vec!["public.par".into()], ..incremental() }, "public.par", own);
    world.carries(&settings).await;
    world.sql("ALTER TABLE chi INHERIT par").await;
    let (error, _) = error_of(&world.run(&settings).await, "public.par");
    assert!(error.contains("two rows have the key id=1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_in_place_of_the_table_is_another_table() {
    let world =
        World::new("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    let own = TableSettings { key: vec!["id".into()], cursor: vec!["id".into()], ..TableSettings::default() };
    let settings = with(Settings { views: true, include: vec!["public.t".into()], ..incremental() }, "public.t", own);
    world.carries(&settings).await;
    world.sql("ALTER TABLE t RENAME TO t_old; CREATE VIEW t AS SELECT id, 'other' AS v FROM t_old").await;
    assert_eq!(state(&world.run(&settings).await, "public.t"), "recreated");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_by_transactions_begins_again_on_another_server() {
    let mut world =
        World::new("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    let settings = with(incremental(), "public.t", by_cursor("xmin"));
    all_ended(&world).await;
    world.carries(&settings).await;
    let other = World::new(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'changed'), (3, 'c')",
    )
    .await;
    let url = other.url.clone();
    world.moves(url).await;
    assert_eq!(state(&world.run(&settings).await, "public.t"), "other-source");
    hand_over(&world.request(&settings, Target::Lake(world.lake.clone()), Permission::File)).await.unwrap();
    all_ended(&world).await;
    world.carries(&settings).await;
    assert_eq!(world.rows("public.t").await, ["1|a", "2|changed", "3|c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_include_that_no_table_has_are_errors_of_their_own() {
    let world = World::new("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let settings = Settings { include: vec!["public.t".into(), "public.gone".into()], ..incremental() };
    let report = world.run(&settings).await;
    assert_eq!(state(&report, "public.gone"), "missing");
    assert!(of(&report, "public.t").error.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_users_that_hang_on_a_target_stay() {
    let world =
        World::new("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
            .await;
    let endpoint = Endpoint::parse(&database().await).unwrap();
    let client = endpoint.connect().await.unwrap();
    let run = async |settings: &Settings| {
        let report = world.run_into(settings, Target::Postgres(endpoint.clone())).await.unwrap();
        assert!(of(&report, "public.t").error.is_none(), "{}", chain(of(&report, "public.t").error.as_ref().unwrap()));
    };
    run(&initial()).await;
    execute(
        &client,
        "CREATE TABLE notes (note text, t int REFERENCES t ON DELETE CASCADE); INSERT INTO notes VALUES ('x', 1), ('y', 2), ('z', 3)",
    )
    .await;
    world.sql("UPDATE t SET v = 'd' WHERE id = 1; DELETE FROM t WHERE id = 3").await;
    for settings in [initial(), incremental()] {
        run(&settings).await;
        assert_eq!(ask(&client, "SELECT note FROM public.notes ORDER BY 1").await, ["x", "y"]);
    }
    assert_eq!(ask(&client, "SELECT v FROM public.t ORDER BY id").await, ["d", "b"]);
    // What users have emptied is carried again.
    execute(&client, "TRUNCATE t CASCADE").await;
    run(&incremental()).await;
    assert_eq!(ask(&client, "SELECT v FROM public.t ORDER BY id").await, ["d", "b"]);
}
