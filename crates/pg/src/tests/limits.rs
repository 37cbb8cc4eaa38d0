use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Bounds, Fixture, fixture, one_value, refused, settings, within};

/// How long a test waits for an event that must occur, also on a slow machine.
const TEST_TIMEOUT: Duration = Duration::from_secs(180);

/// Waits until `number` queries run.
async fn wait_for_running(fixture: &Fixture, number: i64) {
    within(TEST_TIMEOUT, async {
        while fixture.server.figures().queries_running != number {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// A query that runs longer than any test waits.
const LONG: &str = "SELECT count(*) FROM generate_series(1, 1000000000000) a WHERE a.a < 0";

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_cancelled_by_its_client() {
    let fixture = fixture().await;
    let client = fixture.client("analyst").await;
    let token = client.cancel_token();
    let ((code, message, _), ()) = tokio::join!(within(TEST_TIMEOUT, refused(&client, LONG)), async {
        wait_for_running(&fixture, 1).await;
        token.cancel_query(tokio_postgres::NoTls).await.unwrap();
    });
    assert_eq!((code.as_str(), message.as_str()), ("57014", "canceling statement due to user request"));
    assert_eq!(one_value(&client, "SELECT 1").await, "1");
    assert_eq!(fixture.server.figures().cancelled, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_has_a_time_limit() {
    let fixture =
        super::fixture_with(settings(Bounds { query_time_max: Some(Duration::from_millis(700)), ..Bounds::default() }))
            .await;
    let client = fixture.client("analyst").await;
    let (code, message, _) = within(TEST_TIMEOUT, refused(&client, LONG)).await;
    assert_eq!((code.as_str(), message.as_str()), ("57014", "canceling statement due to statement timeout"));
    // The session's limit is shorter; that of the server would end the query long after the test's.
    let hour = Some(Duration::from_secs(3600));
    let fixture = super::fixture_with(settings(Bounds { query_time_max: hour, ..Bounds::default() })).await;
    let client = fixture.client("analyst").await;
    client.batch_execute("SET statement_timeout = '200ms'").await.unwrap();
    assert_eq!(within(TEST_TIMEOUT, refused(&client, LONG)).await.0, "57014");
    client.batch_execute("SET statement_timeout = 0").await.unwrap();
    assert_eq!(one_value(&client, "SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_ends_when_its_client_disconnects() {
    let fixture = fixture().await;
    let url = format!("host=127.0.0.1 port={} user=analyst password=right dbname=wattlake", fixture.port);
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    tokio::spawn(async move {
        let _ = client.simple_query(LONG).await;
    });
    wait_for_running(&fixture, 1).await;
    // The socket closes with the task that owns it.
    connection.abort();
    wait_for_running(&fixture, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_has_a_memory_limit() {
    let bounds =
        Bounds { query_memory_bytes_max: Some(2 << 20), memory_bytes_max: Some(64 << 20), ..Bounds::default() };
    let fixture = super::fixture_with(settings(bounds)).await;
    let client = fixture.client("analyst").await;
    let sql = "SELECT count(*) FROM generate_series(1, 1000000) a JOIN generate_series(1, 1000000) b ON a.a = b.b";
    let (code, message, hint) = refused(&client, sql).await;
    assert_eq!(code, "53200", "{message}");
    assert!(message.contains("query_memory_max") && message.contains("requested"), "{message}");
    assert!(hint.unwrap().contains("[serve]"));
    assert_eq!(one_value(&client, "SELECT 1").await, "1");
    within(TEST_TIMEOUT, async {
        while fixture.server.figures().memory_bytes > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_functions_are_bounded() {
    let fixture = super::fixture_with(settings(Bounds::default())).await;
    let client = fixture.client("analyst").await;
    for sql in [
        "SELECT length(repeat('x', 2000000000))",
        "SELECT sum(length(repeat('x', 1000000 + n::int))) FROM generate_series(1, 100000) AS g(n)",
        "SELECT length(lpad('x', 1000000000))",
        "SELECT length(replace(repeat('x', 1000000), 'x', repeat('y', 10000)))",
        "SELECT count(*) FROM (SELECT unnest(generate_series(1, 9000000000))) AS s",
        "SELECT array_length(array_repeat(1, 100000000), 1)",
    ] {
        let (code, message, _) = refused(&client, sql).await;
        assert_eq!(code, "53200", "{sql}: {message}");
    }
    assert_eq!(one_value(&client, "SELECT length(repeat('x', 1000000))").await, "1000000");
    assert_eq!(
        one_value(&client, "SELECT count(*) FROM (SELECT unnest(generate_series(1, 100000))) AS s").await,
        "100000"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_query_ends_before_the_server() {
    // Any process holds more than this.
    let fixture = super::fixture_with(settings(Bounds { process_bytes_max: Some(1), ..Bounds::default() })).await;
    let client = fixture.client("analyst").await;
    let (code, message, hint) = refused(&client, LONG).await;
    assert_eq!(code, "53200", "{message}");
    assert!(message.contains("near the memory") && hint.is_some(), "{message}");
    wait_for_running(&fixture, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_limited() {
    let fixture = super::fixture_with(settings(Bounds { connections_max: 1, ..Bounds::default() })).await;
    let first = fixture.client("analyst").await;
    let error = fixture.connect("guest", "right").await.err().unwrap();
    assert_eq!(error.as_db_error().unwrap().code().code(), "53300");
    assert_eq!(one_value(&first, "SELECT 1").await, "1");
    drop(first);
    within(TEST_TIMEOUT, async {
        while fixture.connect("guest", "right").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn running_queries_are_seen_and_stopped() {
    let fixture = fixture().await;
    let (worker, watcher, guest) =
        (fixture.client("analyst").await, fixture.client("analyst").await, fixture.client("guest").await);
    let asking = tokio::spawn(async move { refused(&worker, LONG).await });
    let find = "SELECT pid FROM pg_stat_activity \
                WHERE state = 'active' AND query LIKE '%generate_series(1, 1000000000000) a%' \
                AND pid <> pg_backend_pid()";
    let pid = within(TEST_TIMEOUT, async {
        loop {
            if let [row] = &super::rows(&watcher, find).await[..] {
                return row[0].clone().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(super::rows(&guest, find).await.is_empty(), "who may not see the system sees only his own");
    assert_eq!(one_value(&guest, &format!("SELECT pg_cancel_backend({pid})")).await, "f");
    assert_eq!(one_value(&watcher, &format!("SELECT pg_cancel_backend({pid})")).await, "t");
    assert_eq!(within(TEST_TIMEOUT, asking).await.unwrap().0, "57014");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heavy_query_does_not_delay_others() {
    let fixture = fixture().await;
    let (heavy, light) = (fixture.client("analyst").await, fixture.client("analyst").await);
    let token = heavy.cancel_token();
    let asking = tokio::spawn(async move { refused(&heavy, LONG).await });
    wait_for_running(&fixture, 1).await;
    // It is answered while the heavy one runs, which never ends by itself.
    let count = within(TEST_TIMEOUT, one_value(&light, "SELECT count(*) FROM platform.sites")).await;
    assert_eq!(count, "3");
    assert!(!asking.is_finished());
    token.cancel_query(tokio_postgres::NoTls).await.unwrap();
    asking.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_tells_its_clients() {
    let fixture = fixture().await;
    let (idle, busy) = (fixture.client("analyst").await, fixture.client("analyst").await);
    let asking = tokio::spawn(async move { refused(&busy, LONG).await });
    wait_for_running(&fixture, 1).await;
    fixture.stop.cancel();
    within(TEST_TIMEOUT, async {
        while !idle.is_closed() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(fixture.connect("analyst", "right").await.is_err());
    assert_eq!(within(TEST_TIMEOUT, asking).await.unwrap().0, "57P01");
    within(TEST_TIMEOUT, fixture.serving).await.unwrap().unwrap();
}

/// A message of a client: its letter and its body.
fn message(letter: u8, body: &[u8]) -> Vec<u8> {
    [&[letter][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat()
}

fn startup() -> Vec<u8> {
    let body = [&196_608_i32.to_be_bytes()[..], b"user\0nobody\0database\0wattlake\0\0"].concat();
    [&u32::try_from(body.len() + 4).unwrap().to_be_bytes()[..], &body].concat()
}

/// Sends bytes, and returns what the server sends until it closes the connection.
async fn read_until_closed(fixture: &Fixture, sent: &[&[u8]]) -> Vec<u8> {
    let mut socket = TcpStream::connect(("127.0.0.1", fixture.port)).await.unwrap();
    for bytes in sent {
        // The server may have closed it by then.
        let _ = socket.write_all(bytes).await;
    }
    let mut received = Vec::new();
    let _ = within(TEST_TIMEOUT, socket.read_to_end(&mut received)).await;
    received
}

/// Sends bytes and closes the connection.
async fn send_and_disconnect(fixture: &Fixture, sent: &[&[u8]]) {
    let mut socket = TcpStream::connect(("127.0.0.1", fixture.port)).await.unwrap();
    for bytes in sent {
        let _ = socket.write_all(bytes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_without_a_login_do_not_block_others() {
    let fixture = super::fixture_with(settings(Bounds { connections_max: 2, ..Bounds::default() })).await;
    let claim = message(b'p', &[b"SCRAM-SHA-256\0", &1_000_000_000_i32.to_be_bytes()[..], b"x"].concat());
    for _ in 0..5 {
        read_until_closed(&fixture, &[&startup(), &claim]).await;
        send_and_disconnect(&fixture, &[&[0, 0, 0, 4]]).await;
        send_and_disconnect(&fixture, &[&startup(), &message(b'p', b"SCRAM-SHA-256\0\xff\xff\xff\xfe")]).await;
        // A query of a gigabyte, before a login.
        let long = [&[b'Q'][..], &1_000_000_000_i32.to_be_bytes(), &[b' '; 200_000]].concat();
        read_until_closed(&fixture, &[&startup(), &long]).await;
    }
    // Connections that send nothing are closed to admit new ones.
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(("127.0.0.1", fixture.port)).await.unwrap());
    }
    let (first, second) = (fixture.client("analyst").await, fixture.client("analyst").await);
    assert_eq!((one_value(&first, "SELECT 1").await, one_value(&second, "SELECT 1").await), ("1".into(), "1".into()));
    assert_eq!(fixture.server.figures().connections, 2);
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_is_too_large_for_the_server() {
    let fixture = fixture().await;
    let client = fixture.client("analyst").await;
    let many = 100_000;
    for sql in [
        format!("SELECT 1 = 2{}", " OR 1 = 2".repeat(many)),
        format!("SELECT 1{}", " + 1".repeat(many)),
        format!("SELECT 1{}", "::int".repeat(many)),
        format!("SELECT 'a'{}", " || 'a'".repeat(many)),
        format!("SELECT {}true", "NOT ".repeat(many)),
        format!("SELECT {}1{}", "(".repeat(many), ")".repeat(many)),
        format!("SELECT {}1{}", "abs(".repeat(many), ")".repeat(many)),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(many)),
    ] {
        let (code, message, _) = refused(&client, &sql).await;
        assert_eq!(code, "54001", "{}: {message}", &sql[..40]);
    }
    // Statements up to the limit are executed.
    assert_eq!(one_value(&client, &format!("SELECT 1 = 2{}", " OR 1 = 2".repeat(300))).await, "f");
    assert_eq!(one_value(&client, &format!("SELECT 1{}", " + 1".repeat(190))).await, "191");
    let nested = |depth: usize| format!("{}name{}", "replace(".repeat(depth), ", 'a', 'b')".repeat(depth));
    let asked = format!("SELECT count({}) FROM platform.sites", nested(40));
    assert_eq!(one_value(&client, &asked).await, "2");
    let asked = format!("SELECT count({}) >= 0 FROM pg_class", nested(40).replace("name", "relname"));
    assert_eq!(one_value(&client, &asked).await, "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn engine_settings_that_change_limits_are_refused() {
    let fixture = fixture().await;
    let client = fixture.client("analyst").await;
    for setting in ["execution.batch_size", "execution.target_partitions", "runtime.memory_limit", "catalog.location"] {
        let (_, message, _) = refused(&client, &format!("SET datafusion.{setting} = 2000000")).await;
        assert!(message.contains("it can't be changed in a session"), "{setting}: {message}");
    }
    client.batch_execute("SET datafusion.explain.format = 'tree'").await.unwrap();
}
