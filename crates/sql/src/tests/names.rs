use super::*;
use crate::error::Kind;

#[tokio::test(flavor = "multi_thread")]
async fn the_default_schema_comes_first() {
    let test_lake = TestLake::with_measures().await;
    test_lake.replace("billing", "measures", &measures(&[])).await;
    let ambiguous = failure(&test_lake.session(), "SELECT * FROM measures").await;
    assert_eq!(ambiguous.kind, Kind::FixInput);
    assert_eq!(
        ambiguous.to_string(),
        "find measures: several tables have this name: billing.measures, platform.measures"
    );

    test_lake.replace("public", "measures", &measures(&[(9, "2020-01-01T00:00:00Z", None, None)])).await;
    assert_eq!(rows(&test_lake.session(), "SELECT id FROM measures").await, "9");
    assert_eq!(rows(&test_lake.session(), "SELECT count(*) FROM platform.measures").await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn quoted_names_are_exact() {
    let test_lake = TestLake::new().await;
    test_lake.replace("platform", "Metering Points", &three("1.000")).await;
    test_lake.replace("platform", "a@b", &three("1.000")).await;
    let session = test_lake.session();
    assert_eq!(rows(&session, "SELECT count(*) FROM \"Metering Points\"").await, "3");
    assert_eq!(rows(&session, "SELECT count(*) FROM platform.\"a@b\"").await, "3");
    assert_eq!(rows(&session, "SELECT count(*) FROM \"a@b@v0\"").await, "3");
    let error = failure(&session, "SELECT * FROM \"metering points\"").await;
    assert!(error.to_string().ends_with("the nearest are platform.\"Metering Points\""), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_get_suggestions() {
    let test_lake = TestLake::with_measures().await;
    test_lake.replace("platform", "meters", &three("1.000")).await;
    let session = test_lake.session();
    for (name, hint) in [
        ("mesures", "find table mesures: the nearest are platform.measures"),
        ("platform.mesures", "find table platform.mesures: the nearest are platform.measures"),
        ("\"mesures@v1\"", "find table mesures@v1: the nearest are platform.measures"),
        ("meterss", "find table meterss: the nearest are platform.meters"),
        ("invoices", "find table invoices: no table has a similar name"),
        ("other.platform.measures", "find other.platform.measures: the only catalog is wattlake"),
        ("system.run", "find system.run: there is no such table; the system tables are tables, versions, runs"),
    ] {
        let error = failure(&session, &format!("SELECT * FROM {name}")).await;
        assert_eq!((error.kind, error.to_string().as_str()), (Kind::FixInput, hint), "{name}");
    }
    let empty = TestLake::new().await;
    let error = failure(&empty.session(), "SELECT * FROM measures").await;
    assert_eq!(error.to_string(), "find table measures: the lake has no tables yet");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_table_is_visible_at_once() {
    let test_lake = TestLake::new().await;
    let session = test_lake.session();
    failure(&session, "SELECT * FROM measures").await;
    test_lake.replace("platform", "measures", &three("1.000")).await;
    assert_eq!(rows(&session, "SELECT count(*) FROM measures").await, "3");
    test_lake.append("platform", "measures", &three("1.000")).await;
    assert_eq!(rows(&session, "SELECT count(*) FROM measures").await, "6");
}
