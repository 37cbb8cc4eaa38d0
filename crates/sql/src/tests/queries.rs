use lake::{HiddenRows, KeySet, TableName};

use super::*;
use crate::error::Kind;

#[tokio::test(flavor = "multi_thread")]
async fn rows_filters_and_exact_sums() {
    let test_lake = TestLake::with_measures().await;
    let session = test_lake.session();
    assert_eq!(rows(&session, "SELECT id FROM measures WHERE note = 'night'").await, "1");
    assert_eq!(rows(&session, "SELECT Sum(VALUE) FROM Platform.Measures").await, "3.300");
    assert_eq!(rows(&session, "SELECT sum(value) * 1.1 FROM wattlake.platform.measures").await, "3.6300");
    assert_eq!(rows(&session, "SELECT sum(v) FROM generate_series(1, 4) AS s(v)").await, "10");
    assert_eq!(rows(&session, "WITH measures AS (SELECT 7 AS id) SELECT * FROM measures").await, "7");
    assert_eq!(rows(&session, "VALUES (1e9, 1.5e-3, 2.50)").await.split(',').next_back(), Some("2.50"));
    assert_eq!(rows(&session, "SELECT 1e9 + 1 > 1000000000").await, "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn instants_as_postgresql_accepts_them() {
    let test_lake = TestLake::with_measures().await;
    let session = test_lake.session();
    for (condition, ids) in [
        ("ts >= '2020-01-02 06:00'", "2;3"),
        ("'2020-01-02T06:00' < ts", "3"),
        ("ts = '2020-01-02 07:00+01'", "2"),
        ("ts = '2020-01-02 11:30+05:30'", "2"),
        ("ts = '2020-01-02 06:00Z'", "2"),
        ("ts = timestamptz '2020-01-02 06:00'", "2"),
        ("ts = timestamp '2020-01-02 06:00'", "2"),
        ("ts = '2020-01-02 06:00'::timestamptz", "2"),
        ("ts = try_cast('2020-01-02 06:00' AS timestamp)", "2"),
        ("ts BETWEEN '2020-01-02' AND '2020-01-02 06:00'", "1;2"),
        ("ts IN ('2020-01-02 06:00', '2020-01-02 12:00:00')", "2;3"),
        ("ts < '2020-01-03'", "1;2;3"),
        ("ts IN (SELECT '2020-01-02 06:00'::timestamptz)", "2"),
        ("note = '2020-01-02 06:00'", "2"),
        ("note < '2020-01-02 06:00:00' AND note >= '2020-01-02 06:00'", "2"),
    ] {
        let sql = format!("SELECT id FROM measures WHERE {condition} ORDER BY id");
        assert_eq!(rows(&session, &sql).await, ids, "{condition}");
    }
    let named = written(&session, "SELECT timestamp '2020-01-02 06:00', '2020-01-02 06:00' AS text", Format::Csv).await;
    assert!(named.ends_with("\n2020-01-02 06:00:00,2020-01-02 06:00\n"), "{named}");
    assert_eq!(rows(&session, "SELECT arrow_typeof(now())").await, "\"Timestamp(µs, \"\"UTC\"\")\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_rows_are_not_returned() {
    let test_lake = TestLake::with_measures().await;
    let name = TableName::new("platform", "measures");
    let table = test_lake.lake.table(&name).await.unwrap().unwrap();
    let second: ArrayRef = Arc::new(Int64Array::from(vec![2]));
    let keys = KeySet::of(&RecordBatch::try_from_iter([("id", second)]).unwrap(), &["id".to_owned()]).unwrap();
    let found = table.find(&keys, &lake::OrderColumns::default(), &HiddenRows::default()).await.unwrap();
    assert_eq!(found.len(), 1);
    let mut hidden = HiddenRows::default();
    hidden.insert(&found[0].path, found[0].position);
    table.commit(RUN, "delete").hide(hidden).write().await.unwrap();

    let session = test_lake.session();
    assert_eq!(rows(&session, "SELECT id FROM measures ORDER BY id").await, "1;3");
    assert_eq!(rows(&session, "SELECT count(*) FROM measures WHERE id = 2").await, "0");
    assert_eq!(rows(&session, "SELECT count(*), count(id), max(id) FROM measures").await, "2,2,3");
    assert_eq!(rows(&session, "SELECT id FROM measures VERSION AS OF 0 ORDER BY id").await, "1;2;3");
    let of = "SELECT version, files, rows, rows_hidden FROM system.tables";
    assert_eq!(rows(&session, of).await, "1,1,2,1");
}

#[tokio::test(flavor = "multi_thread")]
async fn system_tables() {
    let test_lake = TestLake::with_measures().await;
    test_lake.append("platform", "measures", &three("2.000")).await;
    let session = test_lake.session();
    let tables = "SELECT schema, \"table\", version, files, rows, bytes > 0, bytes / rows = floor(bytes_per_row), \
                  changed_at > now() - interval '1 hour' FROM system.tables";
    assert_eq!(rows(&session, tables).await, "platform,measures,1,2,6,true,true,true");
    let versions = "SELECT version, operation, run, rows_added, rows_removed FROM system.versions ORDER BY version";
    assert_eq!(rows(&session, versions).await, "0,load,run-1,3,0;1,append,run-1,3,0");
    assert_eq!(
        rows(&session, "SELECT r.id FROM system.runs r JOIN system.versions v ON v.run = r.id").await,
        "run-1;run-1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn information_schema_lists_all() {
    let test_lake = TestLake::with_measures().await;
    test_lake.replace("billing", "bills", &three("1.000")).await;
    let session = test_lake.session();
    let tables = "SELECT table_schema, table_name FROM information_schema.tables \
                  WHERE table_schema <> 'information_schema' ORDER BY 1, 2";
    let all = "billing,bills;platform,measures;system,runs;system,tables;system,versions";
    assert_eq!(rows(&session, tables).await, all);
    let columns = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'bills' LIMIT 1";
    assert_eq!(rows(&session, columns).await, "id,Int64");
    assert!(rows(&session, "SHOW TABLES").await.contains("wattlake,platform,measures"));
    assert!(rows(&session, "DESCRIBE measures").await.starts_with("id,Int64,NO;ts,"));
    assert!(rows(&session, "SHOW COLUMNS FROM measures").await.contains(",value,"));
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_in_a_row_and_settings() {
    let test_lake = TestLake::with_measures().await;
    let session = test_lake.session();
    let results = session.query("SET timezone = 'Europe/Paris'; SELECT id FROM measures; ;").await.unwrap();
    let mut counts = Vec::new();
    for stream in results {
        let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
        counts.push(batches.iter().map(RecordBatch::num_rows).sum::<usize>());
    }
    assert_eq!(counts, [0, 3]);
    assert_eq!(rows(&session, "SHOW timezone").await, "datafusion.execution.time_zone,Europe/Paris");
    let local = "SELECT '2020-07-01 12:00'::timestamptz";
    assert_eq!(rows(&session, local).await, "2020-07-01 12:00:00+02");
    rows(&session, "RESET datafusion.execution.time_zone").await;
    assert!(rows(&session, "EXPLAIN SELECT id FROM measures").await.contains("measures"));
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_limited() {
    let test_lake = TestLake::with_measures().await;
    let session = test_lake.session_within(4 << 20);
    let error = failure(&session, "SELECT array_agg(v) FROM generate_series(1, 3000000) AS s(v)").await;
    assert_eq!(error.kind, Kind::FixSetup, "{}", chain(&error));
    assert_eq!(rows(&session, "SELECT count(*) FROM measures").await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_know_the_lake() {
    let test_lake = TestLake::with_measures().await;
    let words = test_lake.session().completions().await.unwrap();
    for word in [
        "SELECT",
        "platform",
        "measures",
        "platform.measures",
        "value",
        "system.runs",
        "date_trunc",
        "sum",
        "generate_series",
    ] {
        assert!(words.iter().any(|w| w == word), "{word}");
    }
}

#[tokio::test]
async fn joined_columns_are_known_in_conditions() {
    let test_lake = TestLake::with_measures().await;
    let session = test_lake.session();
    let join = "platform.measures JOIN platform.measures AS other USING (id)";
    assert_eq!(rows(&session, &format!("SELECT id FROM {join} WHERE id = 2")).await, "2");
    assert_eq!(rows(&session, &format!("SELECT count(*) FROM {join} WHERE id > 1 AND other.value > 1")).await, "2");
    assert_eq!(rows(&session, "SELECT -interval '1 day 2 hours' AS span").await, "-1 days -02:00:00");
    assert_eq!(rows(&session, "SELECT numeric '1.123456789012345' AS n").await, "1.123456789012345");
    let text = session.run("SELECT sum(note) FROM platform.measures").await.map(drop).unwrap_err();
    assert!(!chain(&text).contains("bug") && chain(&text).contains("No function matches"), "{}", chain(&text));
    let lateral = "SELECT x FROM platform.measures AS m, LATERAL (SELECT m.id + 1 AS x) AS l ORDER BY 1";
    assert_eq!(rows(&session, lateral).await, "2;3;4");
    let full = "SELECT (SELECT count(*) FROM platform.measures a FULL JOIN platform.measures b ON a.id = m.id) \
                FROM platform.measures AS m";
    let refused = session.run(full).await.map(drop).unwrap_err();
    assert!(chain(&refused).contains("FULL JOIN in a correlated subquery"), "{}", chain(&refused));
}

#[tokio::test]
async fn a_session_has_the_days_of_its_zone() {
    let test_lake = TestLake::new().await;
    let day = "SELECT (timestamptz '2026-06-30 22:30:00+00')::date AS day";
    assert_eq!(rows(&test_lake.session(), day).await, "2026-06-30");
    assert_eq!(rows(&test_lake.session().with_time_zone("Europe/Paris"), day).await, "2026-07-01");
}
