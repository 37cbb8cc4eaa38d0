//! Values as PostgreSQL has them: each expression is asked of a real server too.

use tokio_postgres::SimpleQueryMessage;

use super::oracle::Oracle;
use super::{House, Session};

impl Oracle {
    async fn in_utc() -> Oracle {
        let oracle = Oracle::new().await;
        oracle.client.batch_execute("SET timezone = 'UTC'").await.unwrap();
        oracle
    }

    /// The texts of the only row, or `None` where it is an error.
    async fn row(&self, sql: &str) -> Option<Vec<Option<String>>> {
        let messages = self.client.simple_query(sql).await.ok()?;
        messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()),
            _ => None,
        })
    }
}

/// Holds expressions against the server: the same texts, or an error on both sides.
async fn same(oracle: &Oracle, session: &Session, expressions: &[String]) {
    let mut wrong = Vec::new();
    for expression in expressions {
        let expected = oracle.row(&format!("SELECT ({expression})::text")).await;
        let expected = expected.map(|row| row[0].clone().unwrap_or_else(|| "NULL".to_owned()));
        let came = one(session, &format!("SELECT ({expression})::text AS value")).await;
        match (&expected, &came) {
            (Some(expected), Ok(came)) if expected == came => {}
            (None, Err(_)) => {}
            _ => wrong.push(format!("{expression}\n    PostgreSQL {expected:?}\n    here       {came:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), expressions.len(), wrong.join("\n"));
}

async fn one(session: &Session, sql: &str) -> Result<String, String> {
    use futures::TryStreamExt;
    let chain = |error: &dyn std::error::Error| format!("{error}: {:?}", error.source().map(ToString::to_string));
    let stream = session.run(sql).await.map_err(|error| chain(&error))?;
    let batches: Vec<arrow::array::RecordBatch> = stream.try_collect().await.map_err(|error| chain(&error))?;
    let batch = batches.iter().find(|batch| batch.num_rows() > 0).ok_or("no row")?;
    let column = batch.column(0);
    if arrow::array::Array::is_null(column, 0) {
        return Ok("NULL".to_owned());
    }
    arrow::util::display::array_value_to_string(column, 0).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn integers_end_where_their_type_does() {
    let (oracle, house) = (Oracle::in_utc().await, House::new().await);
    let values = ["0", "1", "-7", "2147483647", "-2147483648", "46341", "9223372036854775807", "-9223372036854775808"];
    let mut expressions = Vec::new();
    for type_name in ["int", "bigint", "smallint"] {
        for left in values {
            expressions.push(format!("-('{left}'::{type_name})"));
            for (right, op) in values.iter().flat_map(|right| ["+", "-", "*"].map(|op| (right, op))) {
                expressions.push(format!("'{left}'::{type_name} {op} '{right}'::{type_name}"));
            }
        }
    }
    expressions.extend(
        [
            "(SELECT sum(x) FROM (VALUES (9223372036854775807), (1)) AS v(x))",
            "round(2.5::float8)::int",
            "round(-3.5::float8)::int",
            "round(0.49999999999999994::float8)::int",
        ]
        .map(str::to_owned),
    );
    same(&oracle, &house.session(), &expressions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_have_the_types_of_what_they_add() {
    let (oracle, house) = (Oracle::in_utc().await, House::new().await);
    let rows =
        "(VALUES (1::int, 5::bigint, true), (2::int, 6::bigint, false), (4::int, 9::bigint, false)) AS v(i, b, ok)";
    let mut expressions = Vec::new();
    for sum in ["CASE WHEN ok THEN 1 ELSE 0 END", "i", "i + 1", "coalesce(i, 0)", "b", "b + i", "i::bigint", "1"] {
        expressions.push(format!("(SELECT sum({sum}) FROM {rows})"));
        expressions.push(format!("(SELECT round((sum({sum}) / 2) * 100)::bigint FROM {rows})"));
        expressions.push(format!("(SELECT max(s) FROM (SELECT sum({sum}) OVER (ORDER BY i) AS s FROM {rows}) AS w)"));
    }
    expressions.push(format!(
        "(SELECT max(x)::text || '/' || count(*)::text || '/' || count(x)::text \
          FROM (SELECT i + 1 AS x FROM {rows} GROUP BY ROLLUP (i + 1)) AS r)"
    ));
    expressions.push(
        "(WITH RECURSIVE t(n) AS (SELECT 1::bigint UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT sum(n) FROM t)"
            .to_owned(),
    );
    same(&oracle, &house.session(), &expressions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_and_intervals() {
    let (oracle, house) = (Oracle::in_utc().await, House::new().await);
    let mut expressions = Vec::new();
    for interval in ["90 minutes", "1 day", "1 month", "-3 hours", "1 year 2 days 1.5 seconds"] {
        for date in ["2026-03-29", "2024-02-29", "1999-12-31"] {
            expressions.push(format!("date '{date}' + interval '{interval}'"));
            expressions.push(format!("date '{date}' - interval '{interval}'"));
            expressions.push(format!("interval '{interval}' + date '{date}'"));
            expressions
                .push(format!("(SELECT d + i::interval FROM (VALUES (date '{date}', '{interval}')) AS v(d, i))"));
        }
    }
    same(&oracle, &house.session(), &expressions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instants_by_a_pattern() {
    let (oracle, house) = (Oracle::in_utc().await, House::new().await);
    let patterns = [
        "YYYY-MM-DD HH24:MI:SS",
        "YYYY-MM-DD HH24:MI:SS.MS",
        "HH12:MI:SS.US AM",
        "hh:mi p.m.",
        "DD/MM/YY",
        "Dy IW Q",
        "FMDay, FMDD FMMonth YYYY",
        "DAY Day day|MONTH Month month|",
        "MON Mon mon DY Dy dy",
        "DDD IDDD D ID W WW CC J",
        "IYYY-IW-ID IYY IY I",
        "Y,YYY YYY YY Y",
        "RM rm|FMRM",
        "SSSS SSSSS",
        "FF1 FF2 FF3 FF4 FF5 FF6",
        "YYYY\"T\"MM\"\\\"x\"",
        "DDth DDTH FMDDth FMMMth",
        "FMHH24:FMMI",
        "YYYY AD YYYY b.c.",
        "no words: 12 é",
        "OF TZH:TZM",
        "yyyy-mm-dd hh24:mi",
    ];
    let mut expressions = Vec::new();
    for at in [
        "2026-03-29 02:05:09.5",
        "2000-01-01 00:00:00",
        "1999-12-31 23:59:59.999999",
        "2024-02-29 12:30:00.000123",
        "2021-01-03 13:01:02",
    ] {
        for pattern in patterns {
            let pattern = pattern.replace('\'', "''");
            expressions.push(format!("to_char(timestamp '{at}', '{pattern}')"));
            expressions.push(format!("to_char(timestamptz '{at}Z', '{pattern}')"));
        }
        expressions.push(format!("to_char('{at}'::timestamp::date, 'DD.MM.YYYY HH24')"));
    }
    same(&oracle, &house.session(), &expressions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_read_by_a_pattern() {
    let (oracle, house) = (Oracle::in_utc().await, House::new().await);
    let mut expressions = Vec::new();
    for (text, pattern) in [
        ("2026-03-28 00:00:00.000000", "YYYY-MM-DD HH24:MI:SS.US"),
        ("29/03/2026 14:05", "DD/MM/YYYY HH24:MI"),
        ("20260329140509", "YYYYMMDDHH24MISS"),
        ("March 5, 1999 11 pm", "Month DD, YYYY HH12 AM"),
        ("5 mar 99", "DD Mon YY"),
        ("2024-366", "YYYY-DDD"),
        ("2026-03-29 12:00:00.5", "YYYY-MM-DD HH24:MI:SS.MS"),
        ("2026-03-29 12:00 +02", "YYYY-MM-DD HH24:MI TZH"),
        ("2026.03.29", "YYYY-MM-DD"),
        ("2026-13-01", "YYYY-MM-DD"),
        ("2026-02-30", "YYYY-MM-DD"),
        ("x", "YYYY"),
        ("25:00", "HH24:MI"),
        ("2026-03-29 24:00", "YYYY-MM-DD HH24:MI"),
        ("12:00:60", "HH24:MI:SS"),
        ("14:05 PM", "HH24:MI AM"),
        ("00:30 AM", "HH24:MI AM"),
        ("2026-01-01 11:30 pm", "YYYY-MM-DD HH24:MI AM"),
        ("2026-03-29 12:00 +00:30", "YYYY-MM-DD HH24:MI TZH:TZM"),
        ("2026-03-29 12:00 -05:45", "YYYY-MM-DD HH24:MI TZH:TZM"),
        ("2026-03-29 12:00 +99", "YYYY-MM-DD HH24:MI TZH"),
        ("29th March 2026", "DDth Month YYYY"),
        ("099", "YYY"),
        ("69", "YY"),
        ("70", "YY"),
    ] {
        expressions.push(format!("to_timestamp('{text}', '{pattern}')"));
        expressions.push(format!("to_date('{text}', '{pattern}')"));
    }
    expressions.push("to_timestamp(1774750509.25)".to_owned());
    same(&oracle, &house.session(), &expressions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_by_a_pattern() {
    let (oracle, house) = (Oracle::in_utc().await, House::new().await);
    let patterns = [
        "9,999.99",
        "FM9,999.99",
        "FM9,990.00",
        "000",
        "FM000",
        "999",
        "9.9",
        "0.9",
        "99D99",
        "9G999",
        "S999",
        "999S",
        "999MI",
        "FM999MI",
        "FM999.990",
        "FM999.999",
        "9999999999.999",
        "\"EUR \"999.00",
        "0,000.00",
        "FM9.9",
    ];
    let values = ["0", "1", "-1", "12.5", "-12.345", "1234.5", "0.1", "-0.004", "148.5", "999.999", "123456789"];
    let mut expressions = Vec::new();
    for pattern in patterns {
        for value in values {
            expressions.push(format!("to_char({value}::numeric(20,5), '{pattern}')"));
            expressions.push(format!("to_char('{value}'::float8, '{pattern}')"));
        }
        expressions.push(format!("to_char(42, '{pattern}')"));
    }
    same(&oracle, &house.session(), &expressions).await;
    for pattern in ["RN", "9.99EEEE", "L999", "999V9", "SG999", "PL999", "999PR", "999TH"] {
        let refused = one(&house.session(), &format!("SELECT to_char(1.5, '{pattern}')")).await.unwrap_err();
        assert!(refused.contains("not supported"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn similar_to() {
    let (oracle, house) = (Oracle::in_utc().await, House::new().await);
    let mut expressions = Vec::new();
    for text in ["123", "a1", "abc", "a.c", "100%", "a\nb", "", "FR-12", "ab"] {
        for pattern in [
            "_[0-9]",
            "%b%",
            "(a|b)+",
            "a.c",
            "[[:alpha:]]+",
            "\\d{3}",
            "\\w+",
            "100\\%",
            "[A-Z]{2}-[0-9]+",
            "a_b",
            "[^0-9]*",
            "ab?",
            "%",
        ] {
            expressions.push(format!("E'{}' SIMILAR TO '{pattern}'", text.replace('\n', "\\n")));
            expressions.push(format!("E'{}' NOT SIMILAR TO '{pattern}'", text.replace('\n', "\\n")));
        }
        expressions.push(format!("E'{}' SIMILAR TO '100#%' ESCAPE '#'", text.replace('\n', "\\n")));
    }
    same(&oracle, &house.session(), &expressions).await;
}
