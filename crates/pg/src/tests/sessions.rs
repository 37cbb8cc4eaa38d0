use tokio_postgres::types::Type;

use super::{fixture, one_value, refused, rows};

#[tokio::test(flavor = "multi_thread")]
async fn a_block_sees_one_state() {
    let fixture = fixture().await;
    let client = fixture.client("analyst").await;
    let count = "SELECT count(*) FROM platform.measures";
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(one_value(&client, count).await, "3");
    fixture.test_lake.append("platform", "measures", &sql::testing::three("2.000")).await;
    assert_eq!(one_value(&client, count).await, "3");
    client.batch_execute("SAVEPOINT a").await.unwrap();
    refused(&client, "SELECT no_such").await;
    assert_eq!(refused(&client, "SELECT 1").await.0, "25P02");
    client.batch_execute("ROLLBACK TO SAVEPOINT a").await.unwrap();
    assert_eq!(one_value(&client, count).await, "3");
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(one_value(&client, count).await, "6");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_zone_is_the_sessions() {
    let fixture = fixture().await;
    let client = fixture.client("analyst").await;
    client.batch_execute("SET TIME ZONE 'Europe/Paris'").await.unwrap();
    assert_eq!(one_value(&client, "SHOW TimeZone").await, "Europe/Paris");
    assert_eq!(
        one_value(&client, "SELECT ts FROM platform.measures ORDER BY ts LIMIT 1").await,
        "2020-01-02 01:00:00+01"
    );
    let day = "SELECT date_trunc('day', ts) FROM platform.measures ORDER BY ts LIMIT 1";
    assert_eq!(one_value(&client, day).await, "2020-01-02 00:00:00+01");
    let late = "SELECT TIMESTAMP WITH TIME ZONE '2020-01-01T23:30:00Z'";
    for (of, expected) in
        [("::date", "2020-01-02"), ("::timestamp", "2020-01-02 00:30:00"), ("", "2020-01-02 00:30:00+01")]
    {
        assert_eq!(one_value(&client, &format!("{late}{of}")).await, expected);
    }
    let hours = "SELECT extract(hour FROM ts) FROM platform.measures ORDER BY ts LIMIT 1";
    assert_eq!(one_value(&client, hours).await, "1");
    let days = "SELECT count(*) FROM platform.measures WHERE ts::date = '2020-01-02'";
    assert_eq!(one_value(&client, days).await, "3");
    let from = "SELECT count(*) FROM platform.measures WHERE ts >= '2020-01-02 07:00'";
    assert_eq!(one_value(&client, from).await, "2");
    let given =
        client.prepare_typed("SELECT count(*) FROM platform.measures WHERE ts = $1", &[Type::TEXT]).await.unwrap();
    let found = client.query_one(&given, &[&"2020-01-02 07:00"]).await.unwrap();
    assert_eq!(found.get::<_, i64>(0), 1);
    client.batch_execute("BEGIN; SET LOCAL TIME ZONE 'UTC'").await.unwrap();
    assert_eq!(one_value(&client, "SHOW TimeZone").await, "UTC");
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(one_value(&client, "SELECT current_setting('TimeZone')").await, "Europe/Paris");
    client.batch_execute("RESET TimeZone").await.unwrap();
    assert_eq!(one_value(&client, "SHOW TIME ZONE").await, "UTC");
    assert_eq!(one_value(&client, "SELECT set_config('TimeZone', 'Asia/Tokyo', false)").await, "Asia/Tokyo");
    assert_eq!(
        one_value(&client, "SELECT ts FROM platform.measures ORDER BY ts LIMIT 1").await,
        "2020-01-02 09:00:00+09"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_go_forward() {
    let fixture = fixture().await;
    let client = fixture.client("analyst").await;
    assert_eq!(refused(&client, "DECLARE c CURSOR FOR SELECT 1").await.0, "25P01");
    client.batch_execute("BEGIN; DECLARE c CURSOR FOR SELECT id FROM platform.sites ORDER BY id").await.unwrap();
    assert_eq!(one_value(&client, "FETCH c").await, "1");
    assert_eq!(rows(&client, "FETCH FORWARD 5 FROM c").await.len(), 2);
    assert_eq!(rows(&client, "FETCH ALL FROM c").await.len(), 0);
    client.batch_execute("CLOSE c; COMMIT").await.unwrap();
    assert_eq!(refused(&client, "FETCH c").await.0, "34000");
    client.batch_execute("DECLARE h CURSOR WITH HOLD FOR SELECT id FROM platform.sites ORDER BY id").await.unwrap();
    assert_eq!(one_value(&client, "FETCH 1 FROM h").await, "1");
    client.batch_execute("CLOSE ALL").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_drivers_send_are_accepted() {
    let fixture = fixture().await;
    let client = fixture.client("analyst").await;
    client
        .batch_execute(
            "SET extra_float_digits = 3; SET application_name = 'x'; SET client_encoding TO 'UTF8'; \
             SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; SET search_path TO platform, public; \
             BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION READ ONLY; END; \
             LISTEN a; UNLISTEN *; DEALLOCATE ALL; CLOSE ALL; RESET ALL; DISCARD ALL; ;",
        )
        .await
        .unwrap_or_else(|error| panic!("{}", super::error_text(&error)));
    assert_eq!(one_value(&client, "SHOW transaction_isolation").await, "repeatable read");
    assert_eq!(one_value(&client, "SHOW TRANSACTION ISOLATION LEVEL").await, "repeatable read");
    assert!(rows(&client, "SHOW ALL").await.len() > 20);
    assert!(client.simple_query("").await.is_ok());
    assert!(client.query("", &[]).await.unwrap().is_empty());
}
