//! Transactions that are so large that the server sends them before their commit.

use super::fixture::*;
use super::streaming::{catch_up, drop_slot, source_rows, start, streaming};

/// A database whose transactions count as large from 64 kB on.
async fn fixture(sql: &str) -> Fixture {
    let fixture = Fixture::new(sql).await;
    let name = fixture.source.database().to_owned();
    fixture.sql(&format!("ALTER DATABASE {name} SET logical_decoding_work_mem = '64kB'")).await;
    fixture
}

/// Panics where the server has sent no transaction before its commit.
async fn assert_streamed(fixture: &Fixture, slot: &str) {
    let sql = format!("SELECT stream_txns > 0 FROM pg_stat_replication_slots WHERE slot_name = '{slot}'");
    fixture.wait_for(&sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_are_sent_before_their_commit() {
    let fixture = fixture(
        "CREATE TABLE t (id bigint PRIMARY KEY, v text); CREATE TABLE u (id bigint PRIMARY KEY, v text); \
         INSERT INTO t SELECT i, 'first' FROM generate_series(1, 100) i",
    )
    .await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    let running = start(&fixture, &settings);
    let (one, other) = (fixture.session().await, fixture.session().await);
    let insert = |table: &str, from: u32| {
        format!("INSERT INTO {table} SELECT i, md5(i::text) FROM generate_series({from}, {}) i", from + 4999)
    };
    // Two at a time, with subtransactions that are rolled back: one of them is the first to change its table.
    execute(&one, &format!("BEGIN; {}", insert("t", 1000))).await;
    execute(&other, &format!("BEGIN; {}", insert("t", 10_000))).await;
    execute(&one, &format!("SAVEPOINT s; {}; UPDATE t SET v = 'lost' WHERE id < 2000; ROLLBACK TO s", insert("u", 1)))
        .await;
    execute(&one, "SAVEPOINT s; ALTER TABLE u ADD w int; INSERT INTO u SELECT i, 'w', i FROM generate_series(1, 5000) i; ROLLBACK TO s").await;
    fixture.sql("INSERT INTO t VALUES (101, 'small')").await;
    execute(
        &one,
        &format!("{}; UPDATE t SET v = 'new' WHERE id % 7 = 0; DELETE FROM t WHERE id % 11 = 0", insert("u", 1)),
    )
    .await;
    execute(&other, &format!("{}; ROLLBACK", insert("u", 20_000))).await;
    assert_streamed(&fixture, &settings.changes.slot).await;
    // What was committed meanwhile is there, and nothing else.
    let new =
        async || fixture.rows("public.t").await.into_iter().filter(|row| !row.contains("first")).collect::<Vec<_>>();
    for _ in 0..1_800 {
        if !new().await.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(new().await, ["101|small"]);
    execute(&one, "COMMIT; INSERT INTO u VALUES (0, 'last')").await;
    running.stop().await;
    catch_up(&fixture, &settings).await;
    for table in ["t", "u"] {
        let rows = source_rows(&fixture, &format!("SELECT concat_ws('|', id, v) FROM public.{table}")).await;
        assert!(rows.len() > 4000, "{table}");
        assert_eq!(fixture.rows(&format!("public.{table}")).await, rows, "{table}");
    }
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_change_within_a_large_transaction() {
    let fixture = fixture("CREATE TABLE t (id bigint PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'first')").await;
    let mut settings = streaming(&fixture);
    settings.changes.history = true;
    catch_up(&fixture, &settings).await;
    let running = start(&fixture, &settings);
    let insert = |from: u32, more: &str| {
        format!("INSERT INTO t SELECT i, md5(i::text){more} FROM generate_series({from}, {}) i", from + 4999)
    };
    let sql = [
        "BEGIN".to_owned(),
        insert(1000, ""),
        "ALTER TABLE t ADD w int".to_owned(),
        insert(10_000, ", i"),
        "SAVEPOINT s; ALTER TABLE t ADD x int".to_owned(),
        insert(20_000, ", i, i"),
        "ROLLBACK TO s; TRUNCATE t".to_owned(),
        insert(30_000, ", i"),
        "UPDATE t SET v = 'new' WHERE id % 5 = 0; COMMIT".to_owned(),
    ];
    fixture.sql(&sql.join("; ")).await;
    assert_streamed(&fixture, &settings.changes.slot).await;
    running.stop().await;
    catch_up(&fixture, &settings).await;
    let rows = source_rows(&fixture, "SELECT concat_ws('|', id, v, w) FROM public.t").await;
    assert_eq!(fixture.rows("public.t").await, rows);
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_stopped_within_a_large_transaction_receives_it_again() {
    let fixture = fixture("CREATE TABLE t (id bigint PRIMARY KEY, v text)").await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    let session = fixture.session().await;
    let running = start(&fixture, &settings);
    execute(&session, "BEGIN; INSERT INTO t SELECT i, 'a' FROM generate_series(1, 5000) i").await;
    assert_streamed(&fixture, &settings.changes.slot).await;
    fixture.sql("INSERT INTO t VALUES (0, 'small')").await;
    running.stop().await;
    let running = start(&fixture, &settings);
    execute(&session, "INSERT INTO t SELECT i, 'b' FROM generate_series(5001, 10000) i; COMMIT").await;
    running.stop().await;
    catch_up(&fixture, &settings).await;
    assert_eq!(fixture.rows("public.t").await.len(), 10_001);
    drop_slot(&fixture, &settings).await;
}
