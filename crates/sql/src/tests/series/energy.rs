use super::{TestLake, failure, shown};
use crate::tests::chain;

#[tokio::test]
async fn power_by_the_rows_own_step() {
    let session = TestLake::new().await.session();
    let sql = "SELECT energy(kw, step) AS a, energy(CAST(kw AS double), step) AS b, mean_power(energy(kw, step), \
               step) AS c FROM \
               (VALUES (6.0, '10min'), (6.0, '15 minutes'), (6.0, '1 hour'), (NULL, '1h'), (1.0, '10 min')) AS t(kw, \
               step)";
    assert_eq!(
        shown(&session, sql).await,
        "1.0000000,1.0,6.0000000000000;1.5000000,1.5,6.0000000000000;6.0000000,6.0,6.0000000000000;,,;\
         0.1666667,0.16666666666666666,1.0000002000000"
    );
    let sql = "SELECT energy(10.0, 900), energy(10.0, interval '30 minutes'), energy(10.0, b - a) FROM \
               (VALUES (timestamptz '2026-01-01 00:00Z', timestamptz '2026-01-01 00:06Z')) AS t(a, b)";
    assert_eq!(shown(&session, sql).await, "2.5000000,5.0000000,1.0000000");
}

/// Rows of ten minutes around a clock change, each of 0.001 to 0.999 kWh.
const TENS: &str = "SELECT to_timestamp(1774738800 + value * 600) AS ts, \
    arrow_cast(((value * 37) % 999 + 1) / 1000.0, 'Decimal128(18, 3)') AS kwh FROM generate_series(0, 431)";

#[tokio::test]
async fn resampled_energy_is_the_energy() {
    let session = TestLake::new().await.session();
    for width in ["15 min", "30 min", "1 hour", "7 min", "1 day"] {
        let sql = format!(
            "WITH tens AS ({TENS}), pieces AS (SELECT unnest(resample(ts, kwh, '10 min', '{width}', 'Europe/Paris')) \
            AS p \
             FROM tens) SELECT (SELECT sum(kwh) FROM tens) = (SELECT sum(p['value']) FROM pieces), \
             (SELECT count(*) FROM tens) <= (SELECT count(*) FROM pieces)"
        );
        assert_eq!(shown(&session, &sql).await, "true,true", "{width}");
    }
}

#[tokio::test]
async fn ten_minutes_are_split_into_quarters_by_time() {
    let session = TestLake::new().await.session();
    let sql = "SELECT p['ts'], sum(p['value']) FROM (SELECT unnest(resample(ts, kwh, '10 min', '15 min')) AS p FROM \
               (VALUES (timestamptz '2026-01-01 00:00Z', 1.00), (timestamptz '2026-01-01 00:10Z', 0.01), \
               (timestamptz '2026-01-01 00:20Z', 3.00)) AS t(ts, kwh)) GROUP BY 1 ORDER BY 1";
    // The middle row's cent can't be halved: its first half is rounded, its second is the rest.
    assert_eq!(shown(&session, sql).await, "2026-01-01 00:00:00+00,1.01;2026-01-01 00:15:00+00,3.00");
    let nothing = "SELECT resample(CAST(NULL AS timestamptz), 1.0, '10 min', '15 min') IS NULL AS a, \
                   cardinality(resample(timestamptz '2026-01-01 00:00Z', NULL, '20 min', '15 min')) AS b";
    assert_eq!(shown(&session, nothing).await, "true,2");
}

#[tokio::test]
async fn a_paris_march_has_743_hours() {
    let session = TestLake::new().await.session();
    let sql = "SELECT expected_points('1 month', ts, '1 hour', 'Europe/Paris'), \
               expected_points('1 day', ts, '10 min', 'Europe/Paris'), expected_points('1 year', ts, 3600, 'UTC') \
               FROM (VALUES (timestamptz '2026-03-29 10:00Z'), (timestamptz '2026-10-25 10:00Z')) AS t(ts)";
    assert_eq!(shown(&session, sql).await, "743,138,8760;745,150,8760");
}

#[tokio::test]
async fn wrong_arguments_are_reported() {
    let session = TestLake::new().await.session();
    let cases = [
        ("energy(1.0, '1 month')", "months differ in length"),
        ("energy(1.0, 0)", "greater than zero"),
        ("energy('x', now())", "takes a number and a step"),
        ("resample(now(), 1.0, '10 min')", "resample takes"),
        ("expected_points('1 day', now(), '0 min')", "greater than zero"),
    ];
    for (call, said) in cases {
        let error = chain(&failure(&session, &format!("SELECT {call}")).await);
        assert!(error.contains(said), "{call}: {error}");
    }
}
