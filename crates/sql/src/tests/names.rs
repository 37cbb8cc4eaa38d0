use super::*;
use crate::error::Kind;

#[tokio::test(flavor = "multi_thread")]
async fn the_default_schema_comes_first() {
    let house = House::with_measures().await;
    house.replace("billing", "measures", &measures(&[])).await;
    let ambiguous = failure(&house.session(), "SELECT * FROM measures").await;
    assert_eq!(ambiguous.kind, Kind::FixInput);
    assert_eq!(ambiguous.to_string(), "find measures: it may be billing.measures, platform.measures");

    house.replace("public", "measures", &measures(&[(9, "2020-01-01T00:00:00Z", None, None)])).await;
    assert_eq!(rows(&house.session(), "SELECT id FROM measures").await, "9");
    assert_eq!(rows(&house.session(), "SELECT count(*) FROM platform.measures").await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn quoted_names_are_exact() {
    let house = House::new().await;
    house.replace("platform", "Metering Points", &three("1.000")).await;
    house.replace("platform", "a@b", &three("1.000")).await;
    let session = house.session();
    assert_eq!(rows(&session, "SELECT count(*) FROM \"Metering Points\"").await, "3");
    assert_eq!(rows(&session, "SELECT count(*) FROM platform.\"a@b\"").await, "3");
    assert_eq!(rows(&session, "SELECT count(*) FROM \"a@b@v0\"").await, "3");
    let error = failure(&session, "SELECT * FROM \"metering points\"").await;
    assert!(error.to_string().ends_with("the nearest are platform.\"Metering Points\""), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_have_neighbours() {
    let house = House::with_measures().await;
    house.replace("platform", "meters", &three("1.000")).await;
    let session = house.session();
    for (name, hint) in [
        ("mesures", "find table mesures: the nearest are platform.measures"),
        ("platform.mesures", "find table platform.mesures: the nearest are platform.measures"),
        ("\"mesures@v1\"", "find table mesures@v1: the nearest are platform.measures"),
        ("meterss", "find table meterss: the nearest are platform.meters"),
        ("invoices", "find table invoices: no table has a name like it"),
        ("other.platform.measures", "find other.platform.measures: the only catalog is wattlake"),
        ("system.run", "find system.run: there are tables, versions, runs"),
    ] {
        let error = failure(&session, &format!("SELECT * FROM {name}")).await;
        assert_eq!((error.kind, error.to_string().as_str()), (Kind::FixInput, hint), "{name}");
    }
    let empty = House::new().await;
    let error = failure(&empty.session(), "SELECT * FROM measures").await;
    assert_eq!(error.to_string(), "find table measures: the lake has no tables yet");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_seen_as_soon_as_it_is_there() {
    let house = House::new().await;
    let session = house.session();
    failure(&session, "SELECT * FROM measures").await;
    house.replace("platform", "measures", &three("1.000")).await;
    assert_eq!(rows(&session, "SELECT count(*) FROM measures").await, "3");
    house.append("platform", "measures", &three("1.000")).await;
    assert_eq!(rows(&session, "SELECT count(*) FROM measures").await, "6");
}
