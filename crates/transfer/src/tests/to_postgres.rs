//! Another database of PostgreSQL as the target.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio_postgres::Client;

use super::fixture::{
    Fixture, by_cursor, chain, database, error_of, execute, first_column, incremental, initial, table_report, with,
};
use super::round_trip::RandomTable;
use super::value_text::TEXT_FUNCTIONS;
use crate::plan::{Settings, TableSettings};
use crate::postgres::{Endpoint, quote};
use crate::run::{TableMode, Target, TransferReport};

struct TwoDatabases {
    fixture: Fixture,
    endpoint: Endpoint,
    client: Client,
}

impl TwoDatabases {
    async fn new(sql: &str) -> TwoDatabases {
        let endpoint = Endpoint::parse(&database().await).unwrap();
        TwoDatabases { fixture: Fixture::new(sql).await, client: endpoint.connect().await.unwrap(), endpoint }
    }

    async fn run(&self, settings: &Settings) -> TransferReport {
        self.fixture.run_into(settings, Target::Postgres(self.endpoint.clone())).await.unwrap()
    }

    async fn run_ok(&self, settings: &Settings) -> TransferReport {
        let report = self.run(settings).await;
        for table in &report.tables {
            if let Some(error) = &table.error {
                panic!("{}: {}", table.source, chain(error));
            }
        }
        report
    }

    async fn rows(&self) -> Vec<String> {
        first_column(&self.client, "SELECT t::text FROM public.t ORDER BY 1").await
    }

    async fn assert_equal_to_source(&self) {
        assert_eq!(self.rows().await, self.fixture.first_column("SELECT t::text FROM public.t ORDER BY 1").await);
    }
}

fn at_settings() -> Settings {
    with(incremental(), "public.t", by_cursor("at"))
}

const T: &str = "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, v text); \
     INSERT INTO t VALUES (1, '2026-01-01', 'one'), (2, '2026-01-01', NULL)";

#[tokio::test(flavor = "multi_thread")]
async fn random_tables_read_the_same_on_both_sides() {
    let seed = rand::rng().random_range(0..1_000_000_000);
    let copy = TwoDatabases::new(&format!("{TEXT_FUNCTIONS} CREATE EXTENSION hstore SCHEMA public")).await;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let tables: Vec<RandomTable> = (0..6).map(|at| RandomTable::new(&mut rng, at)).collect();
    for table in &tables {
        table.create(&copy.fixture).await;
    }
    let report = copy.run(&initial()).await;
    for table in &tables {
        if let Some(error) = &table_report(&report, &table.display()).error {
            let columns: Vec<String> =
                table.columns.iter().map(|(name, column)| format!("{name} {}", column.sql())).collect();
            panic!("seed {seed}, {} ({}): {}", table.display(), columns.join(", "), chain(error));
        }
        for (name, column) in &table.columns {
            let value = format!("t.{}", quote(name));
            let shown = format!("CASE WHEN num_nulls({value}) = 0 THEN format('%s', {value}) END");
            let sql = format!("SELECT {shown} FROM {} t ORDER BY id", table.qualified());
            let (source, target) = (copy.fixture.first_column(&sql).await, first_column(&copy.client, &sql).await);
            assert_eq!(target, source, "seed {seed}, {} column {name:?} {}", table.display(), column.sql());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_users_made_goes_as_text_and_a_domain_as_its_base() {
    let copy = TwoDatabases::new(
        "CREATE TYPE state AS ENUM ('on', 'off'); CREATE DOMAIN amount AS numeric(10,2) CHECK (VALUE > 0); \
         CREATE TYPE pair AS (a int, b text); \
         CREATE TABLE t (id int PRIMARY KEY, s state, d amount, p pair, l state[], n numeric(8,3), c char(4)); \
         INSERT INTO t VALUES (1, 'on', 1.50, (7, 'se,ven'), '{on,off}', 1.125, 'ab')",
    )
    .await;
    copy.run_ok(&initial()).await;
    let types = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'public.t'::regclass AND \
        attnum > 0 ORDER BY attnum";
    assert_eq!(
        first_column(&copy.client, types).await,
        ["integer", "text", "numeric", "text", "text", "numeric(8,3)", "character(4)"]
    );
    assert_eq!(copy.rows().await, [r#"(1,on,1.50,"(7,""se,ven"")","{on,off}",1.125,"ab  ")"#]);
    let key = "SELECT conname::text FROM pg_constraint WHERE conrelid = 'public.t'::regclass AND contype = 'p'";
    assert_eq!(first_column(&copy.client, key).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn domains_over_every_odd_base_go_over_and_on() {
    let copy = TwoDatabases::new(
        "CREATE DOMAIN flag AS \"char\"; CREATE DOMAIN mask AS bit(3); CREATE DOMAIN number AS int; \
         CREATE DOMAIN moment AS timestamptz; CREATE DOMAIN word AS varchar(5); CREATE DOMAIN code AS char(3); \
         CREATE TABLE t (id int PRIMARY KEY, at moment, f flag, m mask, n number, w word, c code); \
         INSERT INTO t VALUES (1, '2026-01-01', '', '101', 7, 'hello', 'ab'), (2, '2026-01-01', 'x', '010', 8, '', \
         'abc')",
    )
    .await;
    copy.run_ok(&at_settings()).await;
    copy.assert_equal_to_source().await;
    copy.fixture.sql("INSERT INTO t VALUES (3, '2026-01-02', 'y', '111', 9, 'ü', 'a')").await;
    assert_eq!(table_report(&copy.run_ok(&at_settings()).await, "public.t").mode, TableMode::Incremental);
    copy.assert_equal_to_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_increment_inserts_updates_and_keeps_what_was_purged() {
    let copy = TwoDatabases::new(T).await;
    assert_eq!(table_report(&copy.run_ok(&at_settings()).await, "public.t").mode, TableMode::Initial);
    copy.assert_equal_to_source().await;
    copy.fixture
        .sql("UPDATE t SET at = '2026-01-02', v = 'ONE' WHERE id = 1; INSERT INTO t VALUES (3, '2026-01-02', 'three')")
        .await;
    assert_eq!(table_report(&copy.run_ok(&at_settings()).await, "public.t").mode, TableMode::Incremental);
    copy.assert_equal_to_source().await;
    let all = copy.rows().await;
    copy.fixture.sql("DELETE FROM t").await;
    copy.run_ok(&at_settings()).await;
    assert_eq!(copy.rows().await, all);
    copy.fixture.sql("INSERT INTO t VALUES (4, '2026-01-03', 'four')").await;
    copy.run_ok(&at_settings()).await;
    assert_eq!(copy.rows().await.len(), all.len() + 1);
    // INITIAL gives the source's current rows.
    copy.run_ok(&initial()).await;
    copy.assert_equal_to_source().await;
}

const POSITION: &str = "SELECT concat_ws('|', origin::json->>'transfer', target_schema, target_table, \
    position::json->>'high', run) \
     FROM wattlake.checkpoints ORDER BY 1";

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_position_come_in_one_transaction_or_not_at_all() {
    let copy = TwoDatabases::new(T).await;
    copy.run_ok(&incremental()).await;
    let (rows, position) = (copy.rows().await, first_column(&copy.client, POSITION).await);
    assert!(position[0].starts_with("nightly|public|t|[\"2\"]|"), "{position:?}");
    execute(&copy.client, "ALTER TABLE t ADD CONSTRAINT small CHECK (id < 100)").await;
    copy.fixture.sql("INSERT INTO t VALUES (3, now(), 'three'), (150, now(), 'too large')").await;
    let (error, _) = error_of(&copy.run(&incremental()).await, "public.t");
    assert!(error.contains("violates check constraint \"small\""), "{error}");
    assert_eq!((copy.rows().await, first_column(&copy.client, POSITION).await), (rows, position));
    execute(&copy.client, "ALTER TABLE t DROP CONSTRAINT small").await;
    copy.run_ok(&incremental()).await;
    copy.assert_equal_to_source().await;
    assert!(first_column(&copy.client, POSITION).await[0].starts_with("nightly|public|t|[\"150\"]|"));
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_added_widened_and_kept() {
    let copy = TwoDatabases::new(
        "CREATE TABLE t (id int PRIMARY KEY, n int, d numeric(5,2), s varchar(3), gone \
        text); INSERT INTO t VALUES (1, 1, 1.5, 'abc', 'x')",
    )
    .await;
    copy.run_ok(&incremental()).await;
    copy.fixture
        .sql(
            "ALTER TABLE t ALTER n TYPE bigint, ALTER d TYPE numeric(9,3), ALTER s TYPE text, DROP gone, ADD new date; \
         INSERT INTO t VALUES (2, 3000000000, 123456.789, 'abcdef', '2026-01-01')",
        )
        .await;
    copy.run_ok(&incremental()).await;
    assert_eq!(copy.rows().await, ["(1,1,1.500,abc,x,)", "(2,3000000000,123456.789,abcdef,,2026-01-01)"]);
    copy.fixture.sql("ALTER TABLE t ALTER n TYPE int USING 1; INSERT INTO t (id, n) VALUES (3, 3)").await;
    let (error, hint) = error_of(&copy.run(&incremental()).await, "public.t");
    assert!(error.contains("column \"n\" was bigint and is integer now"), "{error}");
    assert!(hint.contains("--table public.t --replace"), "{hint}");
    assert_eq!(copy.rows().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_on_the_target_outlives_a_full_load() {
    let copy = TwoDatabases::new(T).await;
    copy.run_ok(&initial()).await;
    execute(&copy.client, "CREATE VIEW seen AS SELECT id, v FROM t; CREATE TABLE staging_public_t (kept int)").await;
    copy.fixture.sql("DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (5, now(), 'five')").await;
    copy.run_ok(&initial()).await;
    copy.assert_equal_to_source().await;
    assert_eq!(
        first_column(&copy.client, "SELECT string_agg(seen::text, ' ' ORDER BY id) FROM public.seen").await,
        ["(2,) (5,five)"]
    );
    // The staging table is removed, and a user's table of a similar name is unchanged.
    assert_eq!(
        first_column(
            &copy.client,
            "SELECT string_agg(relname::text, ',') FROM pg_class WHERE relkind = 'r' AND relname LIKE 'staging%'"
        )
        .await,
        ["staging_public_t"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_committed_late_comes_too() {
    let copy = TwoDatabases::new(T).await;
    copy.run_ok(&incremental()).await;
    let slow = copy.fixture.session().await;
    slow.batch_execute("BEGIN; INSERT INTO t VALUES (3, now(), 'slow')").await.unwrap();
    copy.fixture.sql("INSERT INTO t VALUES (4, now(), 'quick')").await;
    copy.run_ok(&incremental()).await;
    assert_eq!(copy.rows().await.len(), 3);
    slow.batch_execute("COMMIT").await.unwrap();
    copy.run_ok(&incremental()).await;
    copy.assert_equal_to_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_key_is_read_whole_and_an_empty_one_is_made() {
    let copy = TwoDatabases::new(
        "CREATE TABLE t (v int); INSERT INTO t VALUES (1), (1); CREATE TABLE u (id int PRIMARY KEY, v text)",
    )
    .await;
    let own = TableSettings { on_no_cursor: Some(crate::plan::OnNoCursor::Reload), ..TableSettings::default() };
    let settings = with(incremental(), "public.t", own);
    copy.run_ok(&settings).await;
    copy.fixture.sql("DELETE FROM t; INSERT INTO t VALUES (2); INSERT INTO u VALUES (1, 'x')").await;
    assert_eq!(table_report(&copy.run_ok(&settings).await, "public.t").mode, TableMode::Reload);
    assert_eq!(copy.rows().await, ["(2)"]);
    assert_eq!(first_column(&copy.client, "SELECT u::text FROM public.u").await, ["(1,x)"]);
}
