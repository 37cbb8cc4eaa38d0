//! Named views, and which rows of a query a change of its tables affects.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::mart_query::AffectedRows;
use crate::marts::Views;
use crate::roles::Role;

fn views(of: &[(&str, &str)]) -> Arc<Views> {
    Arc::new(of.iter().map(|(name, sql)| (TableName::new("marts", *name), (*sql).to_owned())).collect())
}

async fn rows(session: &Session, sql: &str) -> String {
    let stream = session.run(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", chain(&error)));
    let mut out = Vec::new();
    output::write(stream, Format::Csv, &mut out, u64::MAX).await.unwrap();
    String::from_utf8(out).unwrap()
}

fn chain(error: &Error) -> String {
    let (mut text, mut source) = (error.to_string(), error.source());
    while let Some(inner) = source {
        text.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_stand_on_tables_and_on_one_another() {
    let test_lake = TestLake::with_measures().await;
    let of = [
        ("sums", "SELECT date_trunc('day', ts) AS day, sum(value) AS total FROM platform.measures GROUP BY 1"),
        ("totals", "-- a comment\nSELECT day, total * 2 AS twice FROM sums"),
    ];
    let session = test_lake.session().with_views(views(&of));
    assert_eq!(rows(&session, "SELECT twice FROM marts.totals").await, "twice\n6.600\n");
    assert_eq!(rows(&session, "SELECT total FROM sums WHERE day >= '2020-01-01'").await, "total\n3.300\n");
    let listed = "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = 'marts' ORDER BY 1";
    assert_eq!(rows(&session, listed).await, "table_name,table_type\nsums,VIEW\ntotals,VIEW\n");
    let columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'totals' ORDER BY 1";
    assert_eq!(rows(&session, columns).await, "column_name\nday\ntwice\n");
    // New rows are visible at once, and an earlier state is that of all underlying tables.
    let before = Utc::now().format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    test_lake.append("platform", "measures", &three("2.000")).await;
    assert_eq!(rows(&session, "SELECT twice FROM totals").await, "twice\n18.600\n");
    assert_eq!(rows(&session, &format!("SELECT twice FROM marts.\"totals@{before}\"")).await, "twice\n6.600\n");
    let error = session.run("SELECT * FROM \"totals@v0\"").await.err().unwrap();
    assert!(chain(&error).contains("a view has no versions"), "{}", chain(&error));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declared_table_is_empty_until_the_lake_has_it() {
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    let test_lake = TestLake::with_measures().await;
    let schema = Arc::new(Schema::new(vec![
        Field::new("order_id", DataType::Utf8, true),
        Field::new("prm", DataType::Utf8, true),
    ]));
    let declared = [("billing", "events"), ("platform", "measures")];
    let declared: crate::DeclaredTables =
        declared.into_iter().map(|(of, table)| (TableName::new(of, table), Arc::clone(&schema))).collect();
    let of = [("orders", "SELECT prm, count(*) AS n FROM billing.events GROUP BY prm")];
    let session = test_lake.session().with_views(views(&of)).with_declared(Arc::new(declared));
    assert_eq!(rows(&session, "SELECT order_id FROM billing.events WHERE prm = 'a'").await, "order_id\n");
    assert_eq!(rows(&session, "SELECT * FROM marts.orders").await, "prm,n\n");
    assert_eq!(rows(&session, "SELECT count(*) AS n FROM platform.measures").await, "n\n3\n");
    let filtered = Role { filters: [("billing.events".to_owned(), "prm = 'a'".to_owned())].into(), ..Role::default() };
    let session = session.with_role(Arc::new(filtered));
    assert_eq!(rows(&session, "SELECT count(*) AS n FROM billing.events").await, "n\n0\n");
    assert!(session.run("SELECT * FROM billing.event").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cycle_of_views_is_reported() {
    let test_lake = TestLake::with_measures().await;
    let session = test_lake.session().with_views(views(&[("a", "SELECT * FROM b"), ("b", "SELECT * FROM marts.a")]));
    let error = session.run("SELECT * FROM b").await.err().unwrap();
    assert!(chain(&error).contains("marts.b -> marts.a -> marts.b"), "{}", chain(&error));
    let session = test_lake.session().with_views(views(&[("a", "DELETE FROM x"), ("b", "SELECT 1; SELECT 2")]));
    for name in ["a", "b"] {
        let error = session.run(&format!("SELECT * FROM {name}")).await.err().unwrap();
        assert_eq!(error.kind, Kind::FixInput, "{}", chain(&error));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_sees_through_a_view_only_its_rows() {
    let test_lake = TestLake::with_measures().await;
    let role = |tables: &[&str]| Role {
        name: "analyst".into(),
        tables: tables.iter().map(|table| (*table).to_owned()).collect(),
        filters: [("platform.measures".to_owned(), "id = 2".to_owned())].into(),
        ..Role::default()
    };
    let of = views(&[("all_rows", "SELECT id FROM platform.measures")]);
    let session = test_lake.session().with_views(Arc::clone(&of)).with_role(Arc::new(role(&["marts.*"])));
    assert_eq!(rows(&session, "SELECT id FROM all_rows").await, "id\n2\n");
    assert!(session.run("SELECT id FROM platform.measures").await.is_err());
    let session = test_lake.session().with_views(of).with_role(Arc::new(role(&["platform.*"])));
    assert!(session.run("SELECT id FROM marts.all_rows").await.is_err());
}

const DAY: &str = "SELECT date_trunc('day', ts) AS day, sum(value) AS total FROM platform.measures GROUP BY 1";
/// 2 January 2020, in microseconds.
const SECOND: i64 = 1_577_923_200_000_000;

async fn affected(test_lake: &TestLake, sql: &str, change: &str) -> AffectedRows {
    let session = test_lake.session().with_views(views(&[("daily", DAY)]));
    let before = session.prepare(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", chain(&error)));
    let versions: BTreeMap<TableName, u64> =
        before.inputs().iter().map(|table| (table.name().clone(), table.version())).collect();
    assert_eq!(before.affected(Some("day"), &versions).await.unwrap(), AffectedRows::InputsUnchanged);
    test_lake.append("platform", change, &three("5.000")).await;
    let after = session.prepare(sql).await.unwrap();
    after.affected(Some("day"), &versions).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn affected_rows_are_proven_from_the_plan() {
    let test_lake = TestLake::with_measures().await;
    test_lake.replace("platform", "others", &three("1.000")).await;
    for (sql, change) in [
        (DAY, "measures"),
        ("SELECT * FROM marts.daily WHERE total > 0 ORDER BY day", "measures"),
        ("SELECT ts AS day, value FROM platform.measures UNION ALL SELECT ts, value FROM platform.others", "others"),
        ("SELECT DISTINCT date_trunc('day', m.ts) AS day, note FROM platform.measures AS m", "measures"),
        // The other table is joined by a column that equals the one of the result.
        (
            "SELECT date_trunc('day', m.ts) AS day, sum(m.value * o.value) AS s FROM platform.measures m
          JOIN platform.others o ON o.ts = m.ts AND o.id > 0 GROUP BY 1",
            "others",
        ),
        (
            "SELECT date_trunc('day', m.ts) AS day, o.value FROM platform.measures m
          LEFT JOIN platform.others o ON o.ts = m.ts",
            "others",
        ),
        (
            "SELECT d.day, o.value FROM marts.daily d JOIN platform.others o ON date_trunc('day', o.ts) = d.day",
            "others",
        ),
        (
            "SELECT date_trunc('day', m.ts) AS day FROM platform.measures m
          WHERE NOT EXISTS (SELECT 1 FROM platform.others o WHERE o.ts = m.ts)",
            "others",
        ),
        ("SELECT day, total, rank() OVER (PARTITION BY day ORDER BY total) AS place FROM marts.daily", "measures"),
        (
            "SELECT DISTINCT ON (day) date_trunc('day', ts) AS day, value FROM platform.measures ORDER BY day, id",
            "measures",
        ),
    ] {
        let reached = affected(&test_lake, sql, change).await;
        assert_eq!(reached, AffectedRows::From(SECOND), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_proven_counts_as_everything() {
    let test_lake = TestLake::with_measures().await;
    test_lake.replace("platform", "others", &three("1.000")).await;
    for (sql, change) in [
        // Other rows of the result depend on the changed one.
        ("SELECT ts AS day, value - lag(value) OVER (ORDER BY ts) AS step FROM platform.measures", "measures"),
        ("SELECT ts AS day, value FROM platform.measures ORDER BY ts DESC LIMIT 5", "measures"),
        ("SELECT max(ts) AS day, sum(value) AS total FROM platform.measures", "measures"),
        ("SELECT id, max(ts) AS day FROM platform.measures GROUP BY id", "measures"),
        ("SELECT m.ts AS day, m.value FROM platform.measures m JOIN platform.others o ON o.id = m.id", "others"),
        ("SELECT o.ts AS day, m.value FROM platform.measures m LEFT JOIN platform.others o ON o.ts = m.ts", "others"),
        (
            "SELECT coalesce(m.ts, o.ts) AS day FROM platform.measures m FULL JOIN platform.others o ON o.ts = m.ts",
            "others",
        ),
        (
            "SELECT ts AS day, value FROM platform.measures WHERE value > (SELECT avg(value) FROM platform.others)",
            "others",
        ),
        (
            "SELECT date_trunc('day', ts) AS day, id, sum(value) AS v FROM platform.measures
          GROUP BY GROUPING SETS ((date_trunc('day', ts), id), (id))",
            "measures",
        ),
    ] {
        let reached = affected(&test_lake, sql, change).await;
        assert!(matches!(reached, AffectedRows::All(_)), "{sql}: {reached:?}");
    }
    let session = test_lake.session();
    for sql in ["SELECT now() AS day", "SELECT id, random() AS r FROM platform.measures", "SELECT * FROM system.runs"] {
        assert!(session.prepare(sql).await.unwrap().is_volatile(), "{sql}");
    }
    assert!(!session.prepare(DAY).await.unwrap().is_volatile());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_to_refresh_by_must_be_there_and_in_order() {
    let test_lake = TestLake::with_measures().await;
    let query = test_lake.session().prepare("SELECT id, ts, note FROM platform.measures").await.unwrap();
    assert!(query.check_since("ts").is_ok() && query.check_since("id").is_ok());
    assert!(query.check_since("note").unwrap_err().to_string().contains("its type is"));
    assert!(
        query.check_since("day").unwrap_err().to_string().contains("returns no such column; it returns id, ts, note")
    );
}

#[tokio::test]
async fn functions_of_postgres_do_not_read_the_clock() {
    let test_lake = TestLake::with_measures().await;
    let session = test_lake.session();
    for (value, is_volatile) in [
        ("extract(epoch FROM ts)", false),
        ("value / 3", false),
        ("interval '1 day' * id", false),
        ("note::json ->> 'a'", false),
        ("id::numeric", false),
        ("age(ts, ts)", true),
        ("now()", true),
    ] {
        let query = session.prepare(&format!("SELECT {value} AS v FROM platform.measures")).await.unwrap();
        assert_eq!(query.is_volatile(), is_volatile, "{value}");
    }
}
