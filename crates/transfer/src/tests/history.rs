//! Changes of the source between two runs: either the next run is correct, or the table is in a named state, and a
//! resync continues from there without a loss.

use lake::TableName;

use super::fixture::{Fixture, by_cursor, chain, error_of, incremental, initial, resync, state, table_report, with};
use crate::hand_over::hand_over;
use crate::plan::{OnNoCursor, Settings, TableSettings};
use crate::postgres::Endpoint;
use crate::resume::Permission;
use crate::run::{TableMode, Target};

#[tokio::test(flavor = "multi_thread")]
async fn a_version_number_as_cursor_replaces_the_old_row() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, v text, rev bigint); INSERT INTO t SELECT g, 'a', g FROM \
         generate_series(1, 5) g",
    )
    .await;
    let settings = with(incremental(), "public.t", by_cursor("rev"));
    fixture.run_ok(&settings).await;
    for (value, rev) in [("b", 6), ("c", 7)] {
        fixture.sql(&format!("UPDATE t SET v = '{value}', rev = {rev} WHERE id = 2")).await;
        fixture.run_ok(&settings).await;
    }
    assert_eq!(fixture.rows("public.t").await, ["1|a|1", "2|c|7", "3|a|3", "4|a|4", "5|a|5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ties_of_an_integer_cursor_are_not_lost() {
    let fixture = Fixture::new(
        "CREATE TABLE t (series int, epoch bigint, PRIMARY KEY (series, epoch)); INSERT INTO t VALUES (1, 100), (2, \
         102)",
    )
    .await;
    let settings = with(incremental(), "public.t", by_cursor("epoch"));
    fixture.run_ok(&settings).await;
    fixture.sql("INSERT INTO t VALUES (4, 102)").await;
    fixture.run_ok(&settings).await;
    assert_eq!(fixture.rows("public.t").await, ["1|100", "2|102", "4|102"]);
    assert_eq!(table_report(&fixture.run_ok(&settings).await, "public.t").version, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_transfer_goes_on_and_a_second_one_is_refused() {
    let fixture = Fixture::new("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await;
    fixture.run_ok(&incremental()).await;
    fixture.sql("DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (3)").await;
    let second = Settings { name: "second".into(), others: vec!["nightly".into()], ..incremental() };
    assert_eq!(state(&fixture.run(&second).await, "public.t"), "other-transfer");
    let renamed = Settings { name: "renamed".into(), ..incremental() };
    fixture.run_ok(&renamed).await;
    assert_eq!(fixture.rows("public.t").await, ["1", "2", "3"]);
    // The table belongs to the transfer of the new name now.
    let old = Settings { others: vec!["renamed".into()], ..incremental() };
    assert_eq!(state(&fixture.run(&old).await, "public.t"), "other-transfer");
    let request = fixture.request(&old, crate::run::Target::Lake(fixture.lake.clone()), Permission::AsConfigured);
    let taken = crate::hand_over::hand_over(&request).await.unwrap();
    assert_eq!((taken[0].source.as_str(), taken[0].position.as_str()), ("public.t", "3"));
    fixture.sql("INSERT INTO t VALUES (4)").await;
    let report = fixture.run_ok(&old).await;
    assert_eq!(
        (table_report(&report, "public.t").mode, table_report(&report, "public.t").rows),
        (TableMode::Incremental, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_dropped_and_created_again_is_refused() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id bigserial PRIMARY KEY, v text); INSERT INTO t (v) SELECT 'old' FROM generate_series(1, 10)",
    )
    .await;
    fixture.run_ok(&incremental()).await;
    fixture
        .sql("DROP TABLE t; CREATE TABLE t (id bigserial PRIMARY KEY, v text); INSERT INTO t (v) VALUES ('new')")
        .await;
    assert_eq!(state(&fixture.run(&incremental()).await, "public.t"), "recreated");
    resync(&fixture, &incremental()).await;
    let rows = fixture.rows("public.t").await;
    assert!(rows.len() == 10 && rows.contains(&"1|new".to_owned()), "{rows:?}");
    // Ids that the lake has already are looked up, also above the source's greatest.
    fixture.sql("INSERT INTO t (v) SELECT 'newer' FROM generate_series(1, 4)").await;
    fixture.run_ok(&incremental()).await;
    assert_eq!(fixture.rows("public.t").await.len(), 10);
    assert!(fixture.rows("public.t").await.contains(&"5|newer".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_begin_again_are_seen() {
    for again in [
        "TRUNCATE t RESTART IDENTITY; INSERT INTO t (v) SELECT 'new' FROM generate_series(1, 5)",
        "TRUNCATE t RESTART IDENTITY",
        "DELETE FROM t; SELECT setval('public.t_id_seq', 1)",
    ] {
        let fixture = Fixture::new(
            "CREATE TABLE t (id bigserial PRIMARY KEY, v text); INSERT INTO t (v) SELECT 'old' FROM \
             generate_series(1, 10)",
        )
        .await;
        fixture.run_ok(&incremental()).await;
        fixture.sql(again).await;
        assert_eq!(state(&fixture.run(&incremental()).await, "public.t"), "restarted", "{again}");
        resync(&fixture, &incremental()).await;
        fixture.sql("INSERT INTO t (v) VALUES ('next')").await;
        fixture.run_ok(&incremental()).await;
        let rows = fixture.rows("public.t").await;
        assert_eq!(rows.len(), 10, "{again}: {rows:?}");
        assert!(rows.iter().any(|row| row.ends_with("next")), "{rows:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_emptied_and_filled_again_is_seen_and_one_that_was_packed_goes_on() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'old' FROM generate_series(1, 10) g",
    )
    .await;
    fixture.run_ok(&incremental()).await;
    fixture.client.batch_execute("VACUUM FULL public.t").await.unwrap();
    fixture.sql("INSERT INTO t VALUES (11, 'old')").await;
    fixture.run_ok(&incremental()).await;
    fixture.sql("TRUNCATE t; INSERT INTO t SELECT g, 'new' FROM generate_series(1, 20) g").await;
    assert_eq!(state(&fixture.run(&incremental()).await, "public.t"), "refilled");
    resync(&fixture, &incremental()).await;
    assert!(fixture.rows("public.t").await.iter().all(|row| row.ends_with("new")));
    // Emptied and filled with later rows: the order continues.
    fixture.sql("TRUNCATE t; INSERT INTO t VALUES (21, 'after')").await;
    fixture.run_ok(&incremental()).await;
    assert_eq!(fixture.rows("public.t").await.len(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_and_another_cursor_are_states_and_a_renamed_column_is_followed() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, v text, u timestamptz DEFAULT clock_timestamp()); \
         INSERT INTO t SELECT g, 'a' FROM generate_series(1, 5) g; CREATE TABLE k AS TABLE t; ALTER TABLE k ADD \
         PRIMARY KEY (id)",
    )
    .await;
    let settings = with(with(incremental(), "public.t", by_cursor("u")), "public.k", by_cursor("u"));
    fixture.run_ok(&settings).await;
    fixture
        .sql(
            "ALTER TABLE t RENAME id TO pid; DELETE FROM k WHERE id = 5; \
             ALTER TABLE k ADD region text NOT NULL DEFAULT 'FR', DROP CONSTRAINT k_pkey, ADD PRIMARY KEY (id, \
             region); \
             INSERT INTO k VALUES (1, 'b', now(), 'BE')",
        )
        .await;
    let report = fixture.run(&settings).await;
    assert!(table_report(&report, "public.t").error.is_none());
    assert_eq!(fixture.rows("public.t").await.len(), 5);
    assert_eq!(state(&report, "public.k"), "key-changed");
    let report = fixture.run_with(&settings, Permission::Resync).await;
    assert!(report.tables.iter().all(|table| table.error.is_none()));
    let rows = fixture.rows("public.k").await;
    assert_eq!(rows.len(), 6, "{rows:?}");
    let by_id = with(settings, "public.t", TableSettings::default());
    assert_eq!(state(&fixture.run(&by_id).await, "public.t"), "cursor-changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_brings_the_rows_that_it_had_before() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE t1 PARTITION OF t FOR VALUES FROM \
         (100) TO (200); \
         INSERT INTO t VALUES (100), (150); CREATE TABLE t0 (id int PRIMARY KEY); INSERT INTO t0 VALUES (1), (2)",
    )
    .await;
    let settings = Settings { exclude: vec!["public.t0".into()], ..incremental() };
    fixture.run_ok(&settings).await;
    fixture.sql("ALTER TABLE t ATTACH PARTITION t0 FOR VALUES FROM (0) TO (100); INSERT INTO t VALUES (151)").await;
    let settings = incremental();
    fixture.run_ok(&settings).await;
    assert_eq!(fixture.rows("public.t").await, ["1", "100", "150", "151", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_and_what_inherits_from_it_are_one() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int, v text); CREATE TABLE t_old () INHERITS (t); CREATE TABLE t_new () INHERITS (t); \
         INSERT INTO t VALUES (1, 'a'); INSERT INTO t_old VALUES (2, 'b'); INSERT INTO t_new VALUES (3, 'c')",
    )
    .await;
    let report = fixture.run_ok(&initial()).await;
    assert_eq!(report.tables.len(), 1);
    assert_eq!(fixture.rows("public.t").await, ["1|a", "2|b", "3|c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_value_far_ahead_hides_nothing() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id bigserial PRIMARY KEY); INSERT INTO t VALUES (9000000); INSERT INTO t SELECT FROM \
         generate_series(1, 5); \
         CREATE TABLE u (id int PRIMARY KEY, at timestamptz); INSERT INTO u VALUES (1, now()), (2, '2999-01-01'); \
         CREATE TABLE w (id bigint PRIMARY KEY); INSERT INTO w SELECT generate_series(1, 2000); INSERT INTO w VALUES \
         (9000000000), (9000000001)",
    )
    .await;
    let settings = with(incremental(), "public.u", by_cursor("at"));
    fixture.run_ok(&settings).await;
    fixture.sql("INSERT INTO t DEFAULT VALUES; INSERT INTO u VALUES (3, now()); INSERT INTO w VALUES (2001)").await;
    fixture.run_ok(&settings).await;
    assert_eq!((fixture.rows("public.t").await.len(), fixture.rows("public.u").await.len()), (7, 3));
    assert_eq!(fixture.rows("public.w").await.len(), 2003);
    let report = fixture.run_ok(&settings).await;
    assert!(report.tables.iter().all(|table| table.version.is_none()));
    // After a gap that is never filled, new rows are read as before; a gap that purged rows leave is no step back.
    fixture.sql("INSERT INTO w SELECT generate_series(9000000002, 9000000099)").await;
    fixture.run_ok(&settings).await;
    fixture.sql("DELETE FROM w WHERE id BETWEEN 1000 AND 9000000098").await;
    fixture.run_ok(&settings).await;
    fixture.sql("INSERT INTO w VALUES (9000000100)").await;
    let report = fixture.run_ok(&settings).await;
    assert_eq!((table_report(&report, "public.w").rows, fixture.rows("public.w").await.len()), (1, 2102));
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_a_sequence_that_begins_below_what_was_carried_are_seen() {
    let fixture =
        Fixture::new("CREATE TABLE t (id bigserial PRIMARY KEY, v text); INSERT INTO t VALUES (1000000, 'by hand')")
            .await;
    fixture.run_ok(&incremental()).await;
    fixture.sql("INSERT INTO t VALUES (900000, 'by hand too')").await;
    fixture.run_ok(&incremental()).await;
    assert_eq!(fixture.rows("public.t").await, ["1000000|by hand", "900000|by hand too"]);
    fixture.sql("INSERT INTO t (v) VALUES ('a'), ('b')").await;
    fixture.run_ok(&incremental()).await;
    assert_eq!(fixture.rows("public.t").await, ["1000000|by hand", "1|a", "2|b", "900000|by hand too"]);
    fixture.sql("INSERT INTO t (v) VALUES ('c')").await;
    fixture.run_ok(&incremental()).await;
    assert_eq!(fixture.rows("public.t").await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_comes_with_a_value_for_older_rows_has_it_in_the_lake_too() {
    let fixture = Fixture::new("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await;
    fixture.run_ok(&incremental()).await;
    fixture
        .sql(
            "DELETE FROM t WHERE id = 1; ALTER TABLE t ADD z numeric(5,2) NOT NULL DEFAULT 1.5, ADD n text; \
             INSERT INTO t VALUES (3, 2, 'x')",
        )
        .await;
    fixture.run_ok(&incremental()).await;
    assert_eq!(fixture.rows("public.t").await, ["1|1.50|NULL", "2|1.50|NULL", "3|2.00|x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_replaced_only_with_permission() {
    let fixture = Fixture::new("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await;
    fixture.run_ok(&incremental()).await;
    fixture.sql("DELETE FROM t WHERE id = 1").await;
    let report = fixture.run_with(&initial(), Permission::Add).await;
    assert_eq!(state(&report, "public.t"), "history-at-risk");
    let other = Settings { name: "other".into(), others: vec!["nightly".into()], ..initial() };
    assert_eq!(state(&fixture.run(&other).await, "public.t"), "other-transfer");
    assert_eq!(fixture.rows("public.t").await, ["1", "2"]);
    let report = fixture.run_with(&incremental(), Permission::Replace).await;
    assert_eq!(table_report(&report, "public.t").mode, TableMode::Initial);
    assert_eq!(fixture.rows("public.t").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_duplicates_is_reported_by_the_first_run() {
    let fixture =
        Fixture::new("CREATE TABLE t (a int, u timestamptz); INSERT INTO t VALUES (1, now()), (1, now()), (2, now())")
            .await;
    let own = TableSettings { key: vec!["a".into()], ..by_cursor("u") };
    let report = fixture.run(&with(incremental(), "public.t", own)).await;
    let error = chain(table_report(&report, "public.t").error.as_ref().unwrap());
    assert!(error.contains("two rows have the key a=1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tables_whose_names_are_written_alike_stay_two() {
    let fixture = Fixture::new(
        "CREATE SCHEMA \"a.b\"; CREATE SCHEMA a; CREATE TABLE \"a.b\".c (id int PRIMARY KEY); CREATE TABLE a.\"b.c\" \
         (id int PRIMARY KEY); \
         INSERT INTO \"a.b\".c VALUES (1); INSERT INTO a.\"b.c\" VALUES (2)",
    )
    .await;
    let report = fixture.run_ok(&incremental()).await;
    let names: Vec<&str> = report.tables.iter().map(|table| table.source.as_str()).collect();
    assert_eq!(names, ["\"a.b\".c", "a.\"b.c\""]);
    for (name, row) in [(TableName::new("a.b", "c"), "1"), (TableName::new("a", "b.c"), "2")] {
        let table = fixture.lake.table(&name).await.unwrap().unwrap();
        assert_eq!(super::fixture::rows_of(&table).await, [row]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_far_ahead_of_other_orders_hide_nothing_either() {
    let fixture = Fixture::new(
        "CREATE TABLE n (id int PRIMARY KEY, c numeric); INSERT INTO n SELECT g, 100000 + g / 2.0 FROM \
         generate_series(1, 50) g; \
         CREATE TABLE s (id int PRIMARY KEY, c text); INSERT INTO s VALUES (1, '2026-01-01T00:00:00Z'), (2, \
         '2026-01-02T00:00:00Z'); \
         CREATE TABLE v (id int PRIMARY KEY, c uuid); INSERT INTO v VALUES (1, \
         '0191e5a0-0000-7abc-8def-0123456789ab'); \
         CREATE TABLE i (id int PRIMARY KEY); INSERT INTO i SELECT generate_series(1, 500)",
    )
    .await;
    let settings = ["public.n", "public.s", "public.v"]
        .iter()
        .fold(incremental(), |settings, table| with(settings, table, by_cursor("c")));
    fixture.run_ok(&settings).await;
    fixture
        .sql(
            "INSERT INTO n VALUES (900, 9000000000000); INSERT INTO s VALUES (900, '9999-12-31T00:00:00Z'); \
             INSERT INTO v VALUES (900, '03b2b3a0-0000-7abc-8def-0123456789ab'); INSERT INTO i VALUES (900000)",
        )
        .await;
    fixture.run_ok(&settings).await;
    fixture
        .sql(
            "INSERT INTO n VALUES (51, 100030); INSERT INTO s VALUES (3, '2026-01-03T00:00:00Z'); \
             INSERT INTO v VALUES (2, '0191e5a1-0000-7abc-8def-0123456789ab'); INSERT INTO i VALUES (501)",
        )
        .await;
    fixture.run_ok(&settings).await;
    for table in ["n", "s", "v", "i"] {
        let count = fixture.rows(&format!("public.{table}")).await.len();
        assert_eq!(
            fixture.first_column(&format!("SELECT count(*)::text FROM public.{table}")).await,
            [count.to_string()],
            "{table}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_resync_would_keep_for_one_run_only_is_refused() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'a' FROM generate_series(1, 9) g",
    )
    .await;
    let reload = Settings { on_no_cursor: OnNoCursor::Reload, ..incremental() };
    fixture.run_ok(&reload).await;
    fixture.sql("DELETE FROM t WHERE id > 2; ALTER TABLE t ALTER id TYPE text").await;
    let report = fixture.run(&reload).await;
    assert_eq!(state(&report, "public.t"), "history-at-risk");
    let (_, hint) = error_of(&report, "public.t");
    assert!(hint.contains("cursor = ") && hint.contains("wattlake transfer resync nightly --table public.t"), "{hint}");
    let report = fixture.run_with(&reload, Permission::Resync).await;
    assert_eq!(state(&report, "public.t"), "history-at-risk");
    let settings = with(reload, "public.t", by_cursor("xmin"));
    resync(&fixture, &settings).await;
    fixture.run_ok(&settings).await;
    assert_eq!(fixture.rows("public.t").await.len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_read_whole_is_not_replaced_from_another_database() {
    let mut fixture = Fixture::new("CREATE TABLE t (v text); INSERT INTO t VALUES ('a'), ('b')").await;
    let reload = Settings { on_no_cursor: OnNoCursor::Reload, ..incremental() };
    fixture.run_ok(&reload).await;
    fixture.move_to(super::fixture::database().await).await;
    fixture.sql("CREATE TABLE t (v text)").await;
    for settings in [&reload, &initial()] {
        let report = fixture.run(settings).await;
        assert_eq!(state(&report, "public.t"), "other-source");
        assert!(error_of(&report, "public.t").1.contains("--replace"));
    }
    assert_eq!(fixture.rows("public.t").await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_created_again_or_refilled_is_not_handed_over() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 5); \
         CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u SELECT generate_series(1, 5)",
    )
    .await;
    fixture.run_ok(&incremental()).await;
    fixture
        .sql(
            "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 9); \
             TRUNCATE u; INSERT INTO u SELECT generate_series(1, 9)",
        )
        .await;
    let only = |table: &str| Settings { include: vec![table.into()], ..incremental() };
    let request =
        |table: &str| fixture.request(&only(table), Target::Lake(fixture.lake.clone()), Permission::AsConfigured);
    let error = hand_over(&request("public.t")).await.unwrap_err();
    assert_eq!(error.state, Some("recreated"));
    hand_over(&request("public.u")).await.unwrap();
    assert_eq!(state(&fixture.run(&only("public.u")).await, "public.u"), "refilled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_the_file_names_and_the_source_lacks_stops_no_other() {
    let fixture = Fixture::new("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let settings = with(incremental(), "public.gone", by_cursor("id"));
    let report = fixture.run(&settings).await;
    assert_eq!(state(&report, "public.gone"), "missing");
    assert_eq!(fixture.rows("public.t").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_on_the_parent_is_enough_for_its_partitions() {
    let mut fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id); \
         CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100); INSERT INTO t SELECT generate_series(1, 5); \
         CREATE ROLE parent_reader LOGIN; GRANT USAGE ON SCHEMA public TO parent_reader; GRANT SELECT ON t TO \
         parent_reader",
    )
    .await;
    fixture.source = Endpoint::parse(&fixture.url.replace("postgres@", "parent_reader@")).unwrap();
    fixture.run_ok(&incremental()).await;
    fixture
        .sql(
            "CREATE TABLE t_0 (id int PRIMARY KEY); INSERT INTO t_0 VALUES (-1); \
             ALTER TABLE t ATTACH PARTITION t_0 FOR VALUES FROM (-100) TO (0); INSERT INTO t VALUES (6)",
        )
        .await;
    fixture.run_ok(&incremental()).await;
    assert_eq!(fixture.rows("public.t").await.len(), 7);
}
