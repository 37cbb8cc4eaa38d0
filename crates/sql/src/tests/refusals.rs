use super::*;
use crate::error::Kind;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_writes() {
    let test_lake = TestLake::with_measures().await;
    let session = test_lake.session();
    let target = test_lake.lake.folder().unwrap().join("out.csv");
    let copy = format!("COPY (SELECT 1) TO '{}'", target.display());
    let external = format!("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '{}'", target.display());
    for sql in [
        "INSERT INTO measures SELECT * FROM measures",
        "UPDATE measures SET id = 1",
        "DELETE FROM measures",
        "TRUNCATE measures",
        "DROP TABLE measures",
        "CREATE TABLE x AS SELECT 1",
        "CREATE VIEW x AS SELECT 1",
        "CREATE SCHEMA x",
        "CREATE FUNCTION f(int) RETURNS int RETURN $1",
        "MERGE INTO measures m USING measures n ON m.id = n.id WHEN MATCHED THEN DELETE",
        "SELECT * INTO x FROM measures",
        "EXPLAIN ANALYZE INSERT INTO measures SELECT * FROM measures",
        "EXPLAIN DELETE FROM measures",
        "PREPARE p AS INSERT INTO measures SELECT * FROM measures",
        "WITH gone AS (DELETE FROM measures RETURNING *) SELECT * FROM gone",
        "BEGIN",
        &copy,
        &external,
    ] {
        let error = failure(&session, sql).await;
        assert_eq!(error.kind, Kind::FixInput, "{sql}: {}", chain(&error));
        let read_only = error.to_string().contains("is read-only");
        assert!(
            read_only || error.to_string().starts_with("read the query") || sql.starts_with("WITH"),
            "{sql}: {}",
            chain(&error)
        );
    }
    assert!(!target.exists());
    assert_eq!(test_lake.lake.tables().await.unwrap().len(), 1);
    let table = test_lake.lake.table(&TableName::new("platform", "measures")).await.unwrap().unwrap();
    assert_eq!(table.version(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_writes_stops_the_whole_text() {
    let test_lake = TestLake::with_measures().await;
    let Err(error) = test_lake.session().query("SELECT 1; DROP TABLE measures").await else { panic!("it ran") };
    assert!(error.to_string().starts_with("run DROP TABLE: "), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_limit_a_session_cannot_be_changed() {
    let test_lake = TestLake::with_measures().await;
    let session = test_lake.session();
    for sql in [
        "SET datafusion.runtime.memory_limit = '100G'",
        "RESET datafusion.runtime.memory_limit",
        "SET datafusion.catalog.default_schema = 'x'",
        "SET datafusion.sql_parser.enable_ident_normalization = false",
    ] {
        let error = failure(&session, sql).await;
        assert!(error.to_string().ends_with("it can't be changed in a session"), "{sql}: {}", chain(&error));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_positions() {
    let test_lake = TestLake::with_measures().await;
    let session = test_lake.session();
    let error = failure(&session, "SELECT id,\n  valeu FROM measures").await;
    assert_eq!((error.kind, error.to_string().as_str()), (Kind::FixInput, "plan the query, at line 2, column 3"));
    assert!(chain(&error).contains("valeu"), "{}", chain(&error));
    let error = failure(&session, "SELECT id FROM measures WHERE )").await;
    assert_eq!(error.kind, Kind::FixInput);
    assert!(chain(&error).contains("Line: 1"), "{}", chain(&error));
    assert_eq!(failure(&session, "SELECT 'open").await.kind, Kind::FixInput);
    assert_eq!(failure(&session, " ; ").await.to_string(), "run the query: the text has no statement");
    assert_eq!(
        failure(&session, "SELECT 1; SELECT 2").await.to_string(),
        "run the query: the text has 2 statements, not one"
    );
    assert_eq!(failure(&session, "SELECT 1 / (id - id) FROM measures").await.kind, Kind::FixInput);
    assert_eq!(failure(&session, "SELECT id FROM measures WHERE ts > 'soon'").await.kind, Kind::FixInput);
}
