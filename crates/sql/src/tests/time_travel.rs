use super::*;
use crate::error::Kind;

/// Versions 0 (three rows of 1.100), 1 (three more of 2.000), and the instant between them.
async fn two_versions() -> (TestLake, DateTime<Utc>) {
    let test_lake = TestLake::with_measures().await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let between = Utc::now();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    test_lake.append("platform", "measures", &three("2.000")).await;
    (test_lake, between)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_as_of() {
    let (test_lake, between) = two_versions().await;
    let session = test_lake.session();
    let instant = between.to_rfc3339();
    for from in [
        "\"measures@v0\"".to_owned(),
        "platform.\"measures@v0\"".to_owned(),
        format!("\"measures@{instant}\""),
        "measures VERSION AS OF 0".to_owned(),
        "measures FOR VERSION AS OF 0".to_owned(),
        "platform.measures version as of 0".to_owned(),
        format!("measures TIMESTAMP AS OF '{instant}'"),
        format!("measures FOR TIMESTAMP AS OF '{instant}'"),
        format!("measures FOR SYSTEM_TIME AS OF '{instant}'"),
        format!("measures FOR SYSTEM_TIME AS OF TIMESTAMP '{instant}' AS m"),
        format!("\"measures\" for system_time /* then */ as of '{instant}' m WHERE m.id > 0"),
    ] {
        let sql = format!("SELECT count(*), sum(value) FROM {from}");
        assert_eq!(rows(&session, &sql).await, "3,3.300", "{from}");
    }
    assert_eq!(rows(&session, "SELECT count(*) FROM measures").await, "6");
    assert_eq!(rows(&session, "SELECT count(*) FROM measures VERSION AS OF 1").await, "6");
    // The word is still usable as a name, and text that only looks like the clause is not changed.
    let named = "SELECT max(measures.id) FROM measures VERSION AS OF 0 WHERE measures.id < 3";
    assert_eq!(rows(&session, named).await, "2");
    assert_eq!(rows(&session, "SELECT version AS of FROM (VALUES (1)) t(version)").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_states_in_one_query() {
    let (test_lake, _) = two_versions().await;
    let sql = "SELECT count(*) FROM measures AS new LEFT JOIN measures VERSION AS OF 0 AS old \
               ON new.id = old.id AND new.value = old.value WHERE old.id IS NULL";
    assert_eq!(rows(&test_lake.session(), sql).await, "3");
    let sql = "SELECT (SELECT count(*) FROM measures) - (SELECT count(*) FROM measures VERSION AS OF 0)";
    assert_eq!(rows(&test_lake.session(), sql).await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_at_an_instant() {
    let (test_lake, between) = two_versions().await;
    test_lake.replace("platform", "late", &three("1.000")).await;
    let session = test_lake.session_as_of(AsOf::Instant(between));
    assert_eq!(rows(&session, "SELECT count(*) FROM measures").await, "3");
    assert_eq!(rows(&session, "SELECT count(*) FROM measures VERSION AS OF 1").await, "6");
    let error = failure(&session, "SELECT * FROM late").await;
    assert_eq!(error.kind, Kind::FixInput);
    assert!(chain(&error).contains("its first version is from "), "{}", chain(&error));
    let columns = "SELECT DISTINCT table_name FROM information_schema.columns WHERE table_schema = 'platform'";
    assert_eq!(rows(&session, columns).await, "measures");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_versions_are_refused() {
    let (test_lake, _) = two_versions().await;
    let session = test_lake.session();
    for (from, says) in [
        ("\"measures@yesterday\"", "\"yesterday\" is neither a version (v3) nor an instant"),
        ("measures FOR SYSTEM_TIME AS OF now()", "an instant in quotes or a version number must follow"),
        ("measures TIMESTAMP AS OF 'soon'", "at line 1, column 40: 'soon' is neither"),
        ("measures VERSION AS OF 'x'", "'x' is neither an instant nor a version number"),
        ("measures TIMESTAMP AS OF '1999-01-01'", "its first version is from "),
        ("measures VERSION AS OF 7", "at version 7: its newest version is 1"),
    ] {
        let error = failure(&session, &format!("SELECT * FROM {from}")).await;
        assert!(chain(&error).contains(says), "{from}: {}", chain(&error));
        assert_eq!(error.kind, Kind::FixInput, "{from}: {}", chain(&error));
    }
}

/// A role with a filter on a table sees no other rows in its history, nor in the table as of an instant.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_of_a_role_holds_for_the_history() {
    let test_lake = TestLake::new().await;
    let text = |values: [&str; 3]| Arc::new(arrow::array::StringArray::from(values.to_vec())) as ArrayRef;
    let numbers = |values: [i64; 3]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
    let instants = arrow::array::TimestampMicrosecondArray::from(vec![10_i64, 10, 20]).with_timezone("UTC");
    let entries = RecordBatch::try_from_iter([
        ("id", numbers([1, 2, 2])),
        ("v", text(["one", "two", "changed"])),
        ("_op", text(["load", "load", "update"])),
        ("_committed_at", Arc::new(instants) as ArrayRef),
        ("_lsn", numbers([5, 5, 6])),
        ("_seq", numbers([-1, -1, 0])),
        ("_generation", numbers([1, 1, 1])),
        ("_xid", numbers([0, 0, 7])),
    ])
    .unwrap();
    test_lake.replace("public", "t__history", &entries).await;
    let present = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
        ("v", Arc::new(arrow::array::StringArray::from(vec!["one", "changed"])) as ArrayRef),
    ])
    .unwrap();
    test_lake.replace("public", "t", &present).await;
    let name = TableName::new("public", "t");
    let table = test_lake.lake.table(&name).await.unwrap().unwrap();
    let state = r#"{"spans": [{"generation": 1, "key": ["id"], "since": 10, "until": null}]}"#;
    table.commit(RUN, "mark").property(lake::row_history::HISTORY, state).write().await.unwrap();
    let role = crate::Role {
        name: "r".to_owned(),
        filters: [("public.t".to_owned(), "id = 2".to_owned())].into(),
        ..crate::Role::default()
    };
    for (session, seen) in [
        (test_lake.session(), ["1|one;2|two", "1|one;2|changed", "3"]),
        (test_lake.session().with_role(Arc::new(role)), ["2|two", "2|changed", "2"]),
    ] {
        let as_of = |micros: u32| {
            format!("SELECT id || '|' || v FROM t FOR TIMESTAMP AS OF '1970-01-01T00:00:00.0000{micros}Z' ORDER BY id")
        };
        assert_eq!(rows(&session, &as_of(15)).await, seen[0]);
        assert_eq!(rows(&session, &as_of(20)).await, seen[1]);
        assert_eq!(rows(&session, "SELECT count(*) FROM t__history").await, seen[2]);
    }
}
