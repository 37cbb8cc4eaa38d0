use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Bounds, Place, one, place, refused, settings, within};

/// How long a test waits for what must come, on any machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// So many queries run; with them they can be cancelled.
async fn running(place: &Place, number: i64) {
    within(PATIENCE, async {
        while place.server.figures().queries_running != number {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Long enough that nobody waits for it.
const LONG: &str = "SELECT count(*) FROM generate_series(1, 1000000000000) a WHERE a.a < 0";

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_cancelled_by_its_client() {
    let place = place().await;
    let client = place.client("analyst").await;
    let token = client.cancel_token();
    let ((code, message, _), ()) = tokio::join!(within(PATIENCE, refused(&client, LONG)), async {
        running(&place, 1).await;
        token.cancel_query(tokio_postgres::NoTls).await.unwrap();
    });
    assert_eq!((code.as_str(), message.as_str()), ("57014", "canceling statement due to user request"));
    assert_eq!(one(&client, "SELECT 1").await, "1");
    assert_eq!(place.server.figures().cancelled, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_has_its_time() {
    let place =
        super::with(settings(Bounds { query_time_max: Some(Duration::from_millis(700)), ..Bounds::default() })).await;
    let client = place.client("analyst").await;
    let (code, message, _) = within(PATIENCE, refused(&client, LONG)).await;
    assert_eq!((code.as_str(), message.as_str()), ("57014", "canceling statement due to statement timeout"));
    // A session's own is the shorter one: the server's would come long after the test gave up.
    let hour = Some(Duration::from_secs(3600));
    let place = super::with(settings(Bounds { query_time_max: hour, ..Bounds::default() })).await;
    let client = place.client("analyst").await;
    client.batch_execute("SET statement_timeout = '200ms'").await.unwrap();
    assert_eq!(within(PATIENCE, refused(&client, LONG)).await.0, "57014");
    client.batch_execute("SET statement_timeout = 0").await.unwrap();
    assert_eq!(one(&client, "SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_takes_its_query_with_it() {
    let place = place().await;
    let url = format!("host=127.0.0.1 port={} user=analyst password=right dbname=wattlake", place.port);
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    tokio::spawn(async move {
        let _ = client.simple_query(LONG).await;
    });
    running(&place, 1).await;
    // The socket closes with the task that owns it.
    connection.abort();
    running(&place, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_has_its_memory() {
    let bounds =
        Bounds { query_memory_bytes_max: Some(2 << 20), memory_bytes_max: Some(64 << 20), ..Bounds::default() };
    let place = super::with(settings(bounds)).await;
    let client = place.client("analyst").await;
    let sql = "SELECT count(*) FROM generate_series(1, 1000000) a JOIN generate_series(1, 1000000) b ON a.a = b.b";
    let (code, message, hint) = refused(&client, sql).await;
    assert_eq!(code, "53200", "{message}");
    assert!(message.contains("query_memory_max") && message.contains("asked for"), "{message}");
    assert!(hint.unwrap().contains("[serve]"));
    assert_eq!(one(&client, "SELECT 1").await, "1");
    within(PATIENCE, async {
        while place.server.figures().memory_bytes > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_functions_make_of_little_is_bounded() {
    let place = super::with(settings(Bounds::default())).await;
    let client = place.client("analyst").await;
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
    assert_eq!(one(&client, "SELECT length(repeat('x', 1000000))").await, "1000000");
    assert_eq!(one(&client, "SELECT count(*) FROM (SELECT unnest(generate_series(1, 100000))) AS s").await, "100000");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_query_ends_before_the_server() {
    // Any process holds more than this.
    let place = super::with(settings(Bounds { process_bytes_max: Some(1), ..Bounds::default() })).await;
    let client = place.client("analyst").await;
    let (code, message, hint) = refused(&client, LONG).await;
    assert_eq!(code, "53200", "{message}");
    assert!(message.contains("near the memory") && hint.is_some(), "{message}");
    running(&place, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_come_in() {
    let place = super::with(settings(Bounds { connections_max: 1, ..Bounds::default() })).await;
    let first = place.client("analyst").await;
    let error = place.connect("guest", "right").await.err().unwrap();
    assert_eq!(error.as_db_error().unwrap().code().code(), "53300");
    assert_eq!(one(&first, "SELECT 1").await, "1");
    drop(first);
    within(PATIENCE, async {
        while place.connect("guest", "right").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn running_queries_are_seen_and_stopped() {
    let place = place().await;
    let (worker, watcher, guest) =
        (place.client("analyst").await, place.client("analyst").await, place.client("guest").await);
    let asking = tokio::spawn(async move { refused(&worker, LONG).await });
    let find = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%generate_series(1, 1000000000000) a%' \
                AND pid <> pg_backend_pid()";
    let pid = within(PATIENCE, async {
        loop {
            if let [row] = &super::rows(&watcher, find).await[..] {
                return row[0].clone().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(super::rows(&guest, find).await.is_empty(), "who may not see the system sees only his own");
    assert_eq!(one(&guest, &format!("SELECT pg_cancel_backend({pid})")).await, "f");
    assert_eq!(one(&watcher, &format!("SELECT pg_cancel_backend({pid})")).await, "t");
    assert_eq!(within(PATIENCE, asking).await.unwrap().0, "57014");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heavy_query_keeps_nobody_waiting() {
    let place = place().await;
    let (heavy, light) = (place.client("analyst").await, place.client("analyst").await);
    let token = heavy.cancel_token();
    let asking = tokio::spawn(async move { refused(&heavy, LONG).await });
    running(&place, 1).await;
    // It is answered while the heavy one runs, which never ends by itself.
    let version = within(PATIENCE, one(&light, "SHOW server_version")).await;
    assert_eq!(version.split('.').next(), Some("15"));
    assert!(!asking.is_finished());
    token.cancel_query(tokio_postgres::NoTls).await.unwrap();
    asking.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_says_so() {
    let place = place().await;
    let (idle, busy) = (place.client("analyst").await, place.client("analyst").await);
    let asking = tokio::spawn(async move { refused(&busy, LONG).await });
    running(&place, 1).await;
    place.stop.cancel();
    within(PATIENCE, async {
        while !idle.is_closed() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(place.connect("analyst", "right").await.is_err());
    assert_eq!(within(PATIENCE, asking).await.unwrap().0, "57P01");
    within(PATIENCE, place.serving).await.unwrap().unwrap();
}

/// A message of a client: its letter and its body.
fn message(letter: u8, body: &[u8]) -> Vec<u8> {
    [&[letter][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat()
}

fn startup() -> Vec<u8> {
    let body = [&196_608_i32.to_be_bytes()[..], b"user\0nobody\0database\0wattlake\0\0"].concat();
    [&u32::try_from(body.len() + 4).unwrap().to_be_bytes()[..], &body].concat()
}

/// What the server says until it closes the connection.
async fn closed(place: &Place, sent: &[&[u8]]) -> Vec<u8> {
    let mut socket = TcpStream::connect(("127.0.0.1", place.port)).await.unwrap();
    for bytes in sent {
        // The server may have closed it by then.
        let _ = socket.write_all(bytes).await;
    }
    let mut said = Vec::new();
    let _ = within(PATIENCE, socket.read_to_end(&mut said)).await;
    said
}

/// A client that says something and goes.
async fn left(place: &Place, sent: &[&[u8]]) {
    let mut socket = TcpStream::connect(("127.0.0.1", place.port)).await.unwrap();
    for bytes in sent {
        let _ = socket.write_all(bytes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_without_a_login_keeps_nobody_out() {
    let place = super::with(settings(Bounds { connections_max: 2, ..Bounds::default() })).await;
    let claim = message(b'p', &[b"SCRAM-SHA-256\0", &1_000_000_000_i32.to_be_bytes()[..], b"x"].concat());
    for _ in 0..5 {
        closed(&place, &[&startup(), &claim]).await;
        left(&place, &[&[0, 0, 0, 4]]).await;
        left(&place, &[&startup(), &message(b'p', b"SCRAM-SHA-256\0\xff\xff\xff\xfe")]).await;
        // A query of a gigabyte, before anybody has logged in.
        let long = [&[b'Q'][..], &1_000_000_000_i32.to_be_bytes(), &[b' '; 200_000]].concat();
        closed(&place, &[&startup(), &long]).await;
    }
    // Those that say nothing make room for those that come.
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(("127.0.0.1", place.port)).await.unwrap());
    }
    let (first, second) = (place.client("analyst").await, place.client("analyst").await);
    assert_eq!((one(&first, "SELECT 1").await, one(&second, "SELECT 1").await), ("1".into(), "1".into()));
    assert_eq!(place.server.figures().connections, 2);
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_is_too_large_for_the_server() {
    let place = place().await;
    let client = place.client("analyst").await;
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
    // As large as they may be, they are answered.
    assert_eq!(one(&client, &format!("SELECT 1 = 2{}", " OR 1 = 2".repeat(300))).await, "f");
    assert_eq!(one(&client, &format!("SELECT 1{}", " + 1".repeat(190))).await, "191");
    let nested = |depth: usize| format!("{}name{}", "replace(".repeat(depth), ", 'a', 'b')".repeat(depth));
    let asked = format!("SELECT count({}) FROM platform.sites", nested(40));
    assert_eq!(one(&client, &asked).await, "2");
    let asked = format!("SELECT count({}) >= 0 FROM pg_class", nested(40).replace("name", "relname"));
    assert_eq!(one(&client, &asked).await, "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_engine_that_change_bounds_are_closed() {
    let place = place().await;
    let client = place.client("analyst").await;
    for setting in ["execution.batch_size", "execution.target_partitions", "runtime.memory_limit", "catalog.location"] {
        let (_, message, _) = refused(&client, &format!("SET datafusion.{setting} = 2000000")).await;
        assert!(message.contains("fixed for the session"), "{setting}: {message}");
    }
    client.batch_execute("SET datafusion.explain.format = 'tree'").await.unwrap();
}
