use super::{TestLake, failure, shown};
use crate::tests::chain;

/// Half-hours from one instant to before another, counted by bucket.
fn counted(bucket: &str, from: &str, to: &str) -> String {
    format!(
        "SELECT {bucket} AS b, count(*) FROM (SELECT unnest(generate_series(timestamptz '{from}', \
         timestamptz '{to}' - interval '30 min', interval '30 min')) AS ts) GROUP BY 1 ORDER BY 1"
    )
}

#[tokio::test]
async fn a_day_in_paris_has_23_24_or_25_hours() {
    let session = TestLake::new().await.session();
    let day = "time_bucket('1 day', ts, 'Europe/Paris')";
    let spring = shown(&session, &counted(day, "2026-03-27 23:00Z", "2026-03-30 22:00Z")).await;
    assert_eq!(spring, "2026-03-27 23:00:00+00,48;2026-03-28 23:00:00+00,46;2026-03-29 22:00:00+00,48");
    let autumn = shown(&session, &counted(day, "2026-10-23 22:00Z", "2026-10-26 23:00Z")).await;
    assert_eq!(autumn, "2026-10-23 22:00:00+00,48;2026-10-24 22:00:00+00,50;2026-10-25 23:00:00+00,48");
}

#[tokio::test]
async fn the_repeated_hour_in_autumn_has_two_buckets() {
    let session = TestLake::new().await.session();
    let hours = shown(
        &session,
        &counted("time_bucket('1 hour', ts, 'Europe/Paris')", "2026-10-24 23:00Z", "2026-10-25 03:00Z"),
    )
    .await;
    assert_eq!(
        hours,
        "2026-10-24 23:00:00+00,2;2026-10-25 00:00:00+00,2;2026-10-25 01:00:00+00,2;2026-10-25 02:00:00+00,2"
    );
}

#[tokio::test]
async fn longer_buckets_follow_the_local_clock() {
    let session = TestLake::new().await.session();
    // 00:00, 06:00, ... in Paris: the first bucket of the long day lasts seven hours.
    let six = "time_bucket(interval '6 hours', ts, 'Europe/Paris')";
    let autumn = shown(&session, &counted(six, "2026-10-24 22:00Z", "2026-10-25 23:00Z")).await;
    assert_eq!(
        autumn,
        "2026-10-24 22:00:00+00,14;2026-10-25 05:00:00+00,12;2026-10-25 11:00:00+00,12;2026-10-25 17:00:00+00,12"
    );
    let spring = shown(&session, &counted(six, "2026-03-28 23:00Z", "2026-03-29 22:00Z")).await;
    assert_eq!(
        spring,
        "2026-03-28 23:00:00+00,10;2026-03-29 04:00:00+00,12;2026-03-29 10:00:00+00,12;2026-03-29 16:00:00+00,12"
    );
    // The bucket 02:00-04:00 of the long day holds both passes.
    let two = "time_bucket('2 hours', ts, 'Europe/Paris')";
    let autumn = shown(&session, &counted(two, "2026-10-25 00:00Z", "2026-10-25 05:00Z")).await;
    assert_eq!(autumn, "2026-10-25 00:00:00+00,6;2026-10-25 03:00:00+00,4");
}

#[tokio::test]
async fn weeks_months_quarters_and_years_begin_at_local_midnight() {
    let session = TestLake::new().await.session();
    let sql = "SELECT time_bucket('1 week', ts, 'Europe/Paris'), time_bucket('1 month', ts, 'Europe/Paris'), \
               time_bucket('3 months', ts, 'Europe/Paris'), time_bucket('1 year', ts, 'Europe/Paris') \
               FROM (VALUES (timestamptz '2026-03-31 22:30Z')) AS t(ts)";
    assert_eq!(
        shown(&session, sql).await,
        "2026-03-29 22:00:00+00,2026-03-31 22:00:00+00,2026-03-31 22:00:00+00,2025-12-31 23:00:00+00"
    );
}

#[tokio::test]
async fn southern_zones_and_a_change_of_half_an_hour() {
    let session = TestLake::new().await.session();
    // Sydney: 5 April 2026 has 25 hours, 4 October 23.
    let day = "time_bucket('1 day', ts, 'Australia/Sydney')";
    let autumn = shown(&session, &counted(day, "2026-04-04 13:00Z", "2026-04-06 14:00Z")).await;
    assert_eq!(autumn, "2026-04-04 13:00:00+00,50;2026-04-05 14:00:00+00,48");
    let spring = shown(&session, &counted(day, "2026-10-03 14:00Z", "2026-10-05 13:00Z")).await;
    assert_eq!(spring, "2026-10-03 14:00:00+00,46;2026-10-04 13:00:00+00,48");
    // Lord Howe goes from +11 to +10:30 at 15:00Z: the hour 01:00 lasts an hour and a half.
    let hour = "time_bucket('1 hour', ts, 'Australia/Lord_Howe')";
    let autumn = shown(&session, &counted(hour, "2026-04-04 13:00Z", "2026-04-04 16:30Z")).await;
    assert_eq!(autumn, "2026-04-04 13:00:00+00,2;2026-04-04 14:00:00+00,3;2026-04-04 15:30:00+00,2");
    // And back at 15:30Z: the hour 02:00 has only its second half.
    let spring = shown(&session, &counted(hour, "2026-10-03 14:30Z", "2026-10-03 17:00Z")).await;
    assert_eq!(spring, "2026-10-03 14:30:00+00,2;2026-10-03 15:30:00+00,1;2026-10-03 16:00:00+00,2");
}

#[tokio::test]
async fn a_skipped_midnight_begins_at_the_clock_change() {
    let session = TestLake::new().await.session();
    // Beirut put its clock forward at 00:00 on 29 March 2026: 22:00Z.
    let day = "time_bucket('1 day', ts, 'Asia/Beirut')";
    let spring = shown(&session, &counted(day, "2026-03-27 22:00Z", "2026-03-29 21:00Z")).await;
    assert_eq!(spring, "2026-03-27 22:00:00+00,48;2026-03-28 22:00:00+00,46");
}

#[tokio::test]
async fn origins_and_local_timestamps() {
    let session = TestLake::new().await.session();
    let sql = "SELECT time_bucket('10 days', timestamp '2026-01-15 12:00', timestamp '2026-01-01 06:00'), \
               time_bucket('1 day', timestamp '2026-03-29 02:30'), \
               time_bucket('1 day', timestamptz '2026-03-29 05:00Z', 'Europe/Paris', timestamptz '2026-01-01 05:00Z')";
    assert_eq!(shown(&session, sql).await, "2026-01-11 06:00:00,2026-03-29 00:00:00,2026-03-29 04:00:00+00");
}

#[tokio::test]
async fn the_sessions_zone_is_the_one_by_default() {
    let session = TestLake::new().await.session();
    shown(&session, "SET datafusion.execution.time_zone = 'Europe/Paris'").await;
    let sql = "SELECT time_bucket('1 day', ts), date_trunc('day', ts), date_trunc('day', ts, 'UTC') \
               FROM (VALUES (timestamptz '2026-03-29 12:00Z')) AS t(ts)";
    assert_eq!(shown(&session, sql).await, "2026-03-29 00:00:00+01,2026-03-29 00:00:00+01,2026-03-29 01:00:00+01");
}

#[tokio::test]
async fn nulls_stay_nulls_and_sorted_rows_stay_sorted() {
    let test_lake = TestLake::with_measures().await;
    let session = test_lake.session();
    let sql = "SELECT time_bucket('1 day', NULL) AS a, time_bucket('1 day', CAST(NULL AS timestamptz)) AS b";
    assert_eq!(shown(&session, sql).await, ",");
    let plan = "EXPLAIN SELECT * FROM (SELECT time_bucket('1 day', ts, 'Europe/Paris') AS b FROM \
                (SELECT ts FROM platform.measures ORDER BY ts LIMIT 10)) ORDER BY b";
    let plan = shown(&session, plan).await;
    assert_eq!(plan.matches("SortExec").count(), 1, "{plan}");
}

#[tokio::test]
async fn wrong_arguments_are_reported() {
    let test_lake = TestLake::with_measures().await;
    let session = test_lake.session();
    let cases = [
        ("time_bucket('1 day', ts, 'Europe/Pariss')", "the nearest is 'Europe/Paris'"),
        ("time_bucket('1 moon', ts)", "'1 moon' is not an interval"),
        ("time_bucket('1 month 3 days', ts)", "not both"),
        ("time_bucket('0 days', ts)", "greater than zero"),
        ("time_bucket(note, ts)", "the same for all rows"),
        ("time_bucket(ts, '1 day')", "takes a width"),
        ("date_trunc('moon', ts)", "'moon' is not a unit"),
        ("last(value, note)", "last_value(value ORDER BY by)"),
    ];
    for (call, said) in cases {
        let error = chain(&failure(&session, &format!("SELECT {call} FROM platform.measures")).await);
        assert!(error.contains(said), "{call}: {error}");
    }
}
