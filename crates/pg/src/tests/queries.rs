use bytes::Bytes;
use futures::TryStreamExt;
use tokio_postgres::error::ErrorPosition;
use tokio_postgres::types::Type;

use super::{error_text, fixture, one_value, refused, rows};

#[tokio::test(flavor = "multi_thread")]
async fn values_are_written_as_postgres_writes_them() {
    let fixture = fixture().await;
    let client = fixture.client("analyst").await;
    for (sql, expected) in [
        ("SELECT ts FROM measures ORDER BY ts LIMIT 1", "2020-01-02 00:00:00+00"),
        ("SELECT value FROM platform.measures LIMIT 1", "1.100"),
        ("SELECT true", "t"),
        ("SELECT 1.5::float8", "1.5"),
        ("SELECT 1e20::float8", "1e+20"),
        ("SELECT DATE '2026-02-03'", "2026-02-03"),
        ("SELECT INTERVAL '1 day 2 hours'", "1 day 02:00:00"),
        ("SELECT ARRAY['a', 'b c', NULL]", "{a,\"b c\",NULL}"),
        ("SELECT ARRAY[1, 2]", "{1,2}"),
        ("SELECT NULL", "NULL"),
        ("SELECT now() > TIMESTAMP '2020-01-01'", "t"),
        ("SELECT current_user", "analyst"),
        ("SELECT 1 = ANY ('{1,2}'::int[])", "t"),
    ] {
        assert_eq!(one_value(&client, sql).await, expected, "{sql}");
    }
    assert!(one_value(&client, "SELECT version()").await.starts_with("PostgreSQL 15"));
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_and_results_go_in_binary() {
    let fixture = fixture().await;
    let client = fixture.client("analyst").await;
    let row = client
        .query_one(
            "SELECT id, name, id::bigint, id::float8, id = $1, ARRAY[id, 7] FROM platform.sites WHERE id = $1",
            &[&2_i32],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, i32>(0), 2);
    assert_eq!(row.get::<_, String>(1), "Beta, \"B\"");
    assert_eq!(row.get::<_, i64>(2), 2);
    assert_eq!(row.get::<_, f64>(3), 2.0);
    assert!(row.get::<_, bool>(4));

    let many = client.query("SELECT id FROM platform.sites WHERE id = ANY($1) ORDER BY id", &[&vec![1_i32, 3]]).await;
    assert_eq!(many.unwrap().iter().map(|row| row.get(0)).collect::<Vec<i32>>(), [1, 3]);
    let none = client.query("SELECT id FROM platform.sites WHERE id = ANY($1)", &[&Vec::<i32>::new()]).await.unwrap();
    assert!(none.is_empty());
    let others = client.query("SELECT id FROM platform.sites WHERE id <> ALL($1)", &[&vec![1_i32]]).await.unwrap();
    assert_eq!(others.len(), 2);

    let text = client.query_one("SELECT $1", &[&"free"]).await.unwrap();
    assert_eq!(text.get::<_, String>(0), "free");
    let limited = client.query("SELECT id FROM platform.sites ORDER BY id LIMIT $1", &[&2_i64]).await.unwrap();
    assert_eq!(limited.len(), 2);
    let statement = client.prepare_typed("SELECT $1::text || 'x'", &[Type::TEXT]).await.unwrap();
    assert_eq!(client.query_one(&statement, &[&"a"]).await.unwrap().get::<_, String>(0), "ax");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_statement_sees_what_came_later() {
    let fixture = fixture().await;
    let client = fixture.client("analyst").await;
    let statement = client.prepare("SELECT count(*) FROM platform.measures").await.unwrap();
    assert_eq!(client.query_one(&statement, &[]).await.unwrap().get::<_, i64>(0), 3);
    fixture.test_lake.append("platform", "measures", &sql::testing::three("2.000")).await;
    assert_eq!(client.query_one(&statement, &[]).await.unwrap().get::<_, i64>(0), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_return_as_many_rows_as_requested() {
    let fixture = fixture().await;
    let mut client = fixture.client("analyst").await;
    let block = client.transaction().await.unwrap();
    let portal = block.bind("SELECT id FROM platform.sites ORDER BY id", &[]).await.unwrap();
    let first = block.query_portal(&portal, 2).await.unwrap();
    assert_eq!(first.iter().map(|row| row.get(0)).collect::<Vec<i32>>(), [1, 2]);
    let rest = block.query_portal(&portal, 2).await.unwrap();
    assert_eq!(rest.iter().map(|row| row.get(0)).collect::<Vec<i32>>(), [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_in_each_format() {
    let fixture = fixture().await;
    let client = fixture.client("analyst").await;
    let sql = "SELECT id, name FROM platform.sites ORDER BY id";
    let copied = |options: &'static str| {
        let client = &client;
        async move {
            let stream = client.copy_out(&format!("COPY ({sql}) TO STDOUT {options}")).await.unwrap();
            let chunks: Vec<Bytes> = stream.try_collect().await.unwrap();
            chunks.concat()
        }
    };
    assert_eq!(copied("").await, b"1\tAlpha\n2\tBeta, \"B\"\n3\t\\N\n");
    assert_eq!(
        copied("WITH (FORMAT csv, HEADER, DELIMITER ';', NULL 'none')").await,
        b"id;name\n1;Alpha\n2;\"Beta, \"\"B\"\"\"\n3;none\n"
    );
    assert_eq!(copied("CSV").await, b"1,Alpha\n2,\"Beta, \"\"B\"\"\"\n3,\n");
    let binary = copied("(FORMAT binary)").await;
    assert!(binary.starts_with(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x04\0\0\0\x01\0\0\0\x05Alpha"));
    assert!(binary.ends_with(b"\xff\xff\xff\xff\xff\xff"));
    let stream = client.copy_out("COPY platform.sites (name) TO STDOUT").await.unwrap();
    assert_eq!(stream.try_collect::<Vec<Bytes>>().await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_reads_and_copies() {
    let fixture = fixture().await;
    assert_eq!(fixture.psql("analyst", &["SELECT count(*) FROM platform.sites"]).await, "3\n");
    assert_eq!(
        fixture.psql("analyst", &["\\copy (SELECT id FROM platform.sites ORDER BY id) TO STDOUT"]).await,
        "1\n2\n3\n"
    );
    assert_eq!(
        fixture.psql("analyst", &["\\set FETCH_COUNT 2", "SELECT id FROM platform.sites ORDER BY id"]).await,
        "1\n2\n3\n"
    );
    assert_eq!(fixture.psql("analyst", &["BEGIN; SELECT 1; SELECT 2; COMMIT"]).await, "1\n2\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_codes_and_hints() {
    let fixture = fixture().await;
    let client = fixture.client("analyst").await;
    for (sql, code, part) in [
        ("SELECT * FROM platform.site", "42P01", "does not exist"),
        ("SELECT nam FROM platform.sites", "42703", "nam"),
        ("SELEC 1", "42601", "syntax error"),
        ("SELECT no_such(1)", "42883", "no_such"),
        ("SELECT 'x'::int", "22P02", "x"),
        ("SELECT 1 / 0", "22012", "division by zero"),
        ("INSERT INTO platform.sites VALUES (1)", "25006", "cannot execute INSERT in a read-only transaction"),
        ("DELETE FROM platform.sites", "25006", "DELETE"),
        ("CREATE TABLE t (a int)", "25006", "CREATE"),
        ("COPY platform.sites FROM STDIN", "25006", "COPY FROM"),
        ("COPY platform.sites TO '/tmp/x'", "42501", "not allowed"),
        ("SHOW no_such_variable", "42704", "unrecognized"),
        ("SET no_such_variable = 1", "42704", "unrecognized"),
        ("SET TIME ZONE 'Mars/Olympus'", "22023", "TimeZone"),
    ] {
        let (found, message, _) = refused(&client, sql).await;
        assert_eq!(found, code, "{sql}: {message}");
        assert!(message.contains(part), "{sql}: {message}");
    }
    let (_, _, hint) = refused(&client, "SELECT * FROM platform.site").await;
    assert!(hint.unwrap().contains("platform.sites"));
    assert_eq!(rows(&client, "SELECT 1").await.len(), 1, "the connection goes on");
    let error = client.simple_query("SELECT 1,\n  nam FROM platform.sites").await.unwrap_err();
    let refusal = error.as_db_error().unwrap();
    assert_eq!(refusal.position(), Some(&ErrorPosition::Original(13)), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_have_the_names_that_postgres_gives() {
    let fixture = fixture().await;
    let client = fixture.client("analyst").await;
    let sql = "SELECT count(*), count(*), max(id)::bigint, id, id, sites.id, 1 + 1, true, s.*, sites.name, \
               lower(sites.name) AS l, CASE WHEN true THEN 1 END, pg_catalog.version(), (SELECT 1 AS one) \
               FROM platform.sites CROSS JOIN (SELECT 7 AS name, 8 AS x) s GROUP BY id, sites.name, s.name, s.x";
    let statement = client.prepare(sql).await.unwrap_or_else(|error| panic!("{}", error_text(&error)));
    let names: Vec<&str> = statement.columns().iter().map(|column| column.name()).collect();
    let expected = [
        "count", "count", "max", "id", "id", "id", "?column?", "bool", "name", "x", "name", "l", "case", "version",
        "one",
    ];
    assert_eq!(names, expected);
    assert_eq!(client.query("SELECT id, id::bigint FROM platform.sites", &[]).await.unwrap().len(), 3);
    let ordered = rows(&client, "SELECT id::text FROM platform.sites GROUP BY id ORDER BY count(*), id DESC").await;
    assert_eq!(ordered[0][0].as_deref(), Some("3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_of_a_session_are_postgresqls() {
    let fixture = fixture().await;
    // The engine has functions of these names of its own.
    for _ in 0..8 {
        let client = fixture.client("analyst").await;
        for (asked, expected) in [
            ("to_char(timestamp '2026-03-29 02:05:09.5', 'YYYY-MM')", "2026-03"),
            ("to_char(1234.5, '9,999.99')", " 1,234.50"),
            ("to_date('29/03/2026', 'DD/MM/YYYY')", "2026-03-29"),
            ("to_timestamp('2026-03-28', 'YYYY-MM-DD')", "2026-03-28 00:00:00+00"),
            ("'a1' SIMILAR TO '_[0-9]'", "t"),
        ] {
            assert_eq!(one_value(&client, &format!("SELECT {asked}")).await, expected, "{asked}");
        }
    }
}
