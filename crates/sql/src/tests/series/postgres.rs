//! PostgreSQL's own answers, from a private server.

use crate::tests::oracle::Oracle;

use super::{TestLake, texts};

const ZONES: [&str; 6] =
    ["Europe/Paris", "UTC", "Australia/Lord_Howe", "America/Sao_Paulo", "America/Havana", "Asia/Kathmandu"];

/// Instants around every clock change of these zones in the years 2015 to 2026, and far away.
fn instants() -> Vec<String> {
    let mut all = Vec::new();
    for year in [1900, 1950, 1999, 2000, 2001, 2015, 2017, 2026, 2037, 2090] {
        for (month, day) in [(1, 1), (3, 8), (3, 29), (4, 5), (10, 4), (10, 18), (10, 25), (11, 1), (12, 31)] {
            for time in ["00:29:59.5", "00:59:59.999999", "01:00:00", "01:30:00", "02:59:59", "03:00:00", "04:15:00"] {
                all.push(format!("{year}-{month:02}-{day:02} {time}"));
            }
            for time in ["05:30:00", "11:00:00", "13:30:00", "14:45:00", "15:00:00", "15:15:00", "22:10:00", "23:05:00"]
            {
                all.push(format!("{year}-{month:02}-{day:02} {time}"));
            }
        }
    }
    all
}

/// Both sides' results of `expression` over all instants, `ts` being of `kind`, as text in UTC.
async fn compare(postgres: &Oracle, expression: &str, kind: &str) {
    let suffix = if kind == "timestamptz" { "+00" } else { "" };
    let instants: Vec<String> = instants().iter().map(|i| format!("('{i}{suffix}')")).collect();
    let values = instants.join(",");
    let ask = |expression: &str, rendered: &str| {
        format!(
            "SELECT {rendered} FROM (SELECT {expression} AS r, ts FROM (SELECT CAST(i AS {kind}) AS ts FROM \
             (VALUES {values}) AS v(i)) AS t) AS u ORDER BY ts"
        )
    };
    let theirs = ask(expression, "CAST(CAST(extract(epoch FROM r) * 1000000 AS bigint) AS text)");
    let theirs = postgres.client.query(&theirs, &[]).await.unwrap_or_else(|e| panic!("{expression}: {e:?}"));
    let theirs: Vec<Option<String>> = theirs.iter().map(|row| row.get(0)).collect();
    let session = TestLake::new().await.session();
    let ours =
        texts(&session, &ask(expression, "arrow_cast(arrow_cast(r, 'Timestamp(Microsecond, None)'), 'Int64')")).await;
    assert_eq!(ours.len(), theirs.len());
    let wrong: Vec<_> = ours.iter().zip(&theirs).zip(sorted()).filter(|((o, t), _)| o != t).take(5).collect();
    assert!(wrong.is_empty(), "{expression} on {kind}: ours, theirs, instant: {wrong:?}");
}

fn sorted() -> Vec<String> {
    let mut all = instants();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn date_trunc_as_postgresql() {
    let postgres = Oracle::new().await;
    postgres.client.batch_execute("SET TIME ZONE 'UTC'").await.unwrap();
    let units = [
        "microseconds",
        "milliseconds",
        "second",
        "minute",
        "hour",
        "day",
        "week",
        "month",
        "quarter",
        "year",
        "decade",
        "century",
    ];
    for unit in units {
        compare(&postgres, &format!("date_trunc('{unit}', ts)"), "timestamp").await;
        compare(&postgres, &format!("date_trunc('{unit}', ts)"), "timestamptz").await;
        for zone in ZONES {
            compare(&postgres, &format!("date_trunc('{unit}', ts, '{zone}')"), "timestamptz").await;
        }
    }
    // The year 1001 is not among the instants that DataFusion's literals, in nanoseconds, can say.
    let test_lake = TestLake::new().await;
    let sql = "SELECT CAST(date_trunc('millennium', arrow_cast(timestamp '1900-05-01', 'Timestamp(Microsecond, \
               None)')) AS varchar)";
    let ours = texts(&test_lake.session(), sql).await;
    let theirs = "SELECT CAST(date_trunc('millennium', timestamp '1900-05-01') AS text)";
    let theirs: Option<String> = postgres.client.query_one(theirs, &[]).await.unwrap().get(0);
    assert_eq!(ours, [theirs]);
    assert!(postgres.server.pid() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_time_zone_as_postgresql() {
    let postgres = Oracle::new().await;
    postgres.client.batch_execute("SET TIME ZONE 'UTC'").await.unwrap();
    for zone in ZONES {
        for kind in ["timestamp", "timestamptz"] {
            compare(&postgres, &format!("ts AT TIME ZONE '{zone}'"), kind).await;
        }
        let there_and_back = format!("date_trunc('day', ts AT TIME ZONE '{zone}') AT TIME ZONE '{zone}'");
        compare(&postgres, &there_and_back, "timestamptz").await;
    }
}
