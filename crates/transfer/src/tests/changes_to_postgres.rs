//! CHANGES into another database of PostgreSQL.

use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio_postgres::Client;

use super::fixture::{Fixture, chain, database, execute, first_column};
use super::round_trip::RandomTable;
use super::streaming::{Recorder, drop_slot_of, streaming};
use super::value_text::TEXT_FUNCTIONS;
use crate::changes::{self, StreamEnd, StreamObserver};
use crate::plan::{Deletes, Settings};
use crate::postgres::{Endpoint, quote};
use crate::resume::Permission;
use crate::run::Target;

struct Replica {
    source: Fixture,
    target: Target,
    client: Client,
    settings: Settings,
}

impl Replica {
    async fn new(sql: &str) -> Replica {
        let endpoint = Endpoint::parse(&database().await).unwrap();
        let source = Fixture::new(sql).await;
        let (settings, client) = (streaming(&source), endpoint.connect().await.unwrap());
        Replica { source, target: Target::Postgres(endpoint), client, settings }
    }

    async fn try_catch_up(&self, permission: Permission, tables: &[&str]) -> crate::Result<Arc<Recorder>> {
        let recorder = Arc::new(Recorder::default());
        let mut request = self.source.request(&self.settings, self.target.clone(), permission);
        request.tables = tables.iter().map(|table| (*table).to_owned()).collect();
        let observer: Arc<dyn StreamObserver> = recorder.clone();
        changes::run(&Arc::new(request), StreamEnd::CaughtUp, &observer).await?;
        Ok(recorder)
    }

    async fn catch_up(&self) -> Arc<Recorder> {
        let recorder =
            self.try_catch_up(Permission::AsConfigured, &[]).await.unwrap_or_else(|e| panic!("{}", chain(&e)));
        assert_eq!(recorder.errors(), Vec::<String>::new());
        recorder
    }

    async fn rows(&self, table: &str) -> Vec<String> {
        let sql = format!("SELECT t::text FROM public.{table} t ORDER BY 1");
        first_column(&self.client, &sql).await
    }

    async fn assert_same(&self, table: &str) {
        let sql = format!("SELECT t::text FROM public.{table} t ORDER BY 1");
        assert_eq!(self.rows(table).await, self.source.first_column(&sql).await, "{table}");
    }

    async fn end(&self) {
        drop_slot_of(&self.source, &self.settings, self.target.clone()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_all_kinds_arrive_in_the_target() {
    let replica = Replica::new(
        "CREATE TABLE t (id bigint PRIMARY KEY, v text, large text); ALTER TABLE t ALTER large SET STORAGE EXTERNAL; \
         INSERT INTO t SELECT i, 'v' || i, repeat('x', 10000) FROM generate_series(1, 50) i; \
         CREATE TABLE k (a int, b numeric, c json); ALTER TABLE k REPLICA IDENTITY FULL; \
         INSERT INTO k VALUES (1, 1.0, '{}'), (1, 1.0, '{}'), (1, 1.00, '{}'), (2, NULL, NULL)",
    )
    .await;
    let copied = replica.catch_up().await;
    assert_eq!(copied.copies.lock().unwrap().len(), 1);
    for table in ["t", "k"] {
        replica.assert_same(table).await;
    }
    replica
        .source
        .sql(
            "BEGIN; INSERT INTO t VALUES (100, 'new', NULL); UPDATE t SET v = 'updated' WHERE id < 5; \
             UPDATE t SET id = id + 1000 WHERE id BETWEEN 10 AND 12; UPDATE t SET id = 2000, large = 'y' WHERE id = 13; \
             DELETE FROM t WHERE id = 20; INSERT INTO t VALUES (20, 'again', 'z'); \
             SAVEPOINT s; DELETE FROM t; ROLLBACK TO s; COMMIT; \
             DELETE FROM k WHERE ctid = (SELECT min(ctid) FROM k WHERE b::text = '1.0'); \
             UPDATE k SET c = '{\"a\": 1}' WHERE a = 2; INSERT INTO k VALUES (3, 3, '[]')",
        )
        .await;
    let streamed = replica.catch_up().await;
    assert!(streamed.copies.lock().unwrap().is_empty());
    for table in ["t", "k"] {
        replica.assert_same(table).await;
    }
    let status = streamed.status.lock().unwrap().clone();
    let counts = status.tables.iter().find(|table| table.source == "public.t").unwrap().counts;
    assert_eq!((counts.inserts, counts.updates, counts.deletes), (2, 8, 1));
    replica.source.sql("TRUNCATE t; INSERT INTO t VALUES (1, 'after', NULL)").await;
    replica.catch_up().await;
    replica.assert_same("t").await;
    replica.end().await;
    assert_eq!(
        first_column(
            &replica.source.client,
            "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database()"
        )
        .await,
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_all_types_arrive_in_the_target() {
    let seed = rand::rng().random_range(0..1_000_000_000);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let replica = Replica::new(&format!("{TEXT_FUNCTIONS} CREATE EXTENSION hstore SCHEMA public")).await;
    let tables: Vec<RandomTable> = (0..4).map(|at| RandomTable::new(&mut rng, at)).collect();
    for table in &tables {
        table.create(&replica.source).await;
    }
    // Without a key, and with rows from before the stream as after it.
    let names: Vec<String> = tables.iter().map(RandomTable::qualified).collect();
    for name in &names {
        replica.source.sql(&format!("ALTER TABLE {name} REPLICA IDENTITY FULL")).await;
    }
    replica.catch_up().await;
    for name in &names {
        let sql = format!(
            "CREATE TEMP TABLE copies AS TABLE {name}; DELETE FROM {name}; INSERT INTO {name} SELECT * FROM copies; DROP TABLE copies"
        );
        replica.source.sql(&sql).await;
    }
    replica.catch_up().await;
    for table in &tables {
        for (name, column) in &table.columns {
            let value = format!("t.{}", quote(name));
            let shown = format!("CASE WHEN num_nulls({value}) = 0 THEN format('%s', {value}) END");
            let sql = format!("SELECT {shown} FROM {} t ORDER BY id", table.qualified());
            let (source, target) = (replica.source.first_column(&sql).await, first_column(&replica.client, &sql).await);
            assert_eq!(target, source, "seed {seed}, {} column {name:?} {}", table.display(), column.sql());
        }
    }
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_followed_in_the_target() {
    let replica = Replica::new(
        "CREATE TABLE t (id int PRIMARY KEY, a int, g int GENERATED ALWAYS AS (a * 2) STORED, e text); \
         INSERT INTO t VALUES (1, 1)",
    )
    .await;
    replica.catch_up().await;
    replica
        .source
        .sql(
            "INSERT INTO t VALUES (2, 2); ALTER TABLE t ADD b text DEFAULT 'd'; INSERT INTO t VALUES (3, 3); \
             ALTER TABLE t ALTER e TYPE varchar(9); UPDATE t SET b = 'x', a = 7 WHERE id = 1",
        )
        .await;
    replica
        .source
        .sql(
            "ALTER TABLE t ALTER e TYPE text; ALTER TABLE t ADD c date; INSERT INTO t (id, c) VALUES (4, '2026-01-01')",
        )
        .await;
    replica.catch_up().await;
    let sql = "SELECT concat_ws('|', id, a, g, b, c) FROM public.t ORDER BY id";
    assert_eq!(first_column(&replica.client, sql).await, replica.source.first_column(sql).await);
    // Values that the log lacks are read again.
    replica.source.sql("ALTER TABLE t ADD u uuid DEFAULT gen_random_uuid(); INSERT INTO t (id) VALUES (5)").await;
    for _ in 0..3 {
        replica.try_catch_up(Permission::AsConfigured, &[]).await.unwrap();
    }
    let sql = "SELECT concat_ws('|', id, a, g, b, c, u) FROM public.t ORDER BY id";
    assert_eq!(first_column(&replica.client, sql).await, replica.source.first_column(sql).await);
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_masks_and_selects_the_changes_of_a_target_too() {
    let mut replica = Replica::new(
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
    replica.settings.mapping = Some(path);
    replica.catch_up().await;
    let masked = "SELECT concat_ws('|', id, name <> 'secret' AND name = (SELECT max(name) FROM public.t), kind) FROM public.t ORDER BY id";
    assert_eq!(first_column(&replica.client, masked).await, ["1|t|in"]);
    replica
        .source
        .sql(
            "INSERT INTO t VALUES (3, 'secret', 'in'), (4, 'y', 'out'); UPDATE t SET kind = 'in', name = 'secret' WHERE id = 2; \
             UPDATE t SET kind = 'out' WHERE id = 1; UPDATE t SET id = 5 WHERE id = 3",
        )
        .await;
    replica.catch_up().await;
    assert_eq!(first_column(&replica.client, masked).await, ["2|t|in", "5|t|in"]);
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_the_target_has_lost_is_read_again() {
    let replica = Replica::new(
        "CREATE TABLE t (id int PRIMARY KEY, v text, r regclass); INSERT INTO t VALUES (1, 'a', 'pg_class'), (2, 'b', 't')",
    )
    .await;
    replica.catch_up().await;
    assert_eq!(replica.rows("t").await, ["(1,a,pg_class)", "(2,b,public.t)"]);
    let key = "SELECT conname::text FROM pg_constraint WHERE conrelid = 'public.t'::regclass AND contype = 'p'";
    assert_eq!(first_column(&replica.client, key).await, ["t_pkey"]);
    execute(&replica.client, "ALTER TABLE t RENAME v TO w").await;
    replica.source.sql("INSERT INTO t VALUES (3, 'c', NULL)").await;
    replica.catch_up().await;
    let sql = "SELECT concat_ws('|', id, v) FROM public.t ORDER BY id";
    assert_eq!(first_column(&replica.client, sql).await, ["1|a", "2|b", "3|c"]);
    assert_eq!(first_column(&replica.client, key).await, ["t_pkey"]);
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_rows_stay_in_the_target() {
    let mut replica =
        Replica::new("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    replica.settings.changes.deletes = Deletes::Keep;
    replica.catch_up().await;
    replica
        .source
        .sql("DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (3, 'c'); UPDATE t SET id = 1, v = 'moved' WHERE id = 2")
        .await;
    replica.catch_up().await;
    assert_eq!(replica.rows("t").await, ["(1,moved)", "(3,c)"]);
    replica.source.sql("TRUNCATE t").await;
    replica.catch_up().await;
    replica.try_catch_up(Permission::Resync, &["public.t"]).await.unwrap();
    assert_eq!(replica.rows("t").await, ["(1,moved)", "(3,c)"]);
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_the_target_refuses_is_taken_out() {
    let replica = Replica::new(
        "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE u (id int PRIMARY KEY, v int); \
         INSERT INTO t VALUES (1, 1); INSERT INTO u VALUES (1, 1)",
    )
    .await;
    replica.catch_up().await;
    execute(&replica.client, "ALTER TABLE t ADD CHECK (v < 10)").await;
    replica.source.sql("INSERT INTO u VALUES (2, 2); INSERT INTO t VALUES (2, 20); INSERT INTO u VALUES (3, 3)").await;
    let recorder = replica.try_catch_up(Permission::AsConfigured, &[]).await.unwrap();
    let errors = recorder.errors();
    assert!(errors.len() == 1 && errors[0].contains("t_v_check"), "{errors:?}");
    replica.assert_same("u").await;
    assert_eq!(replica.rows("t").await, ["(1,1)"]);
    // It stays out, until a user asks for it.
    replica.source.sql("INSERT INTO u VALUES (4, 4)").await;
    replica.try_catch_up(Permission::AsConfigured, &[]).await.unwrap();
    assert_eq!(replica.rows("t").await, ["(1,1)"]);
    execute(&replica.client, "ALTER TABLE t DROP CONSTRAINT t_v_check").await;
    replica.try_catch_up(Permission::AsConfigured, &["public.t"]).await.unwrap();
    for table in ["t", "u"] {
        replica.assert_same(table).await;
    }
    // A row that the target lacks makes the table read again.
    execute(&replica.client, "DELETE FROM t WHERE id = 1; ALTER TABLE t ADD w text").await;
    replica
        .source
        .sql(
            "ALTER TABLE t ADD w text; ALTER TABLE t ALTER w SET STORAGE EXTERNAL; UPDATE t SET w = repeat('x', 10000)",
        )
        .await;
    replica.catch_up().await;
    execute(&replica.client, "DELETE FROM t WHERE id = 1").await;
    replica.source.sql("UPDATE t SET v = 5 WHERE id = 1").await;
    replica.catch_up().await;
    let sql = "SELECT concat_ws('|', id, v, length(w)) FROM public.t ORDER BY id";
    assert_eq!(first_column(&replica.client, sql).await, replica.source.first_column(sql).await);
    replica.end().await;
}
