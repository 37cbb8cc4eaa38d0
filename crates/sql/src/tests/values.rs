//! Compares the values of expressions with those of a PostgreSQL server.

use tokio_postgres::SimpleQueryMessage;

use super::oracle::Oracle;
use super::{Session, TestLake};

impl Oracle {
    async fn in_utc() -> Oracle {
        let oracle = Oracle::new().await;
        oracle.client.batch_execute("SET timezone = 'UTC'").await.unwrap();
        oracle
    }

    /// The texts of the only row; `None` if the query fails.
    async fn row(&self, sql: &str) -> Option<Vec<Option<String>>> {
        let messages = self.client.simple_query(sql).await.ok()?;
        messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()),
            _ => None,
        })
    }
}

/// Compares expressions with the server: both must return the same text, or both an error.
async fn same(oracle: &Oracle, session: &Session, expressions: &[String]) {
    let mut wrong = Vec::new();
    for expression in expressions {
        let expected = oracle.row(&format!("SELECT ({expression})::text")).await;
        let expected = expected.map(|row| row[0].clone().unwrap_or_else(|| "NULL".to_owned()));
        let actual = one(session, &format!("SELECT ({expression})::text AS value")).await;
        match (&expected, &actual) {
            (Some(expected), Ok(actual)) if expected == actual => {}
            (None, Err(_)) => {}
            _ => wrong.push(format!("{expression}\n    PostgreSQL {expected:?}\n    here       {actual:?}")),
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
async fn integers_overflow_at_the_limits_of_their_type() {
    let (oracle, test_lake) = (Oracle::in_utc().await, TestLake::new().await);
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
    same(&oracle, &test_lake.session(), &expressions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_have_the_types_of_postgresql() {
    let (oracle, test_lake) = (Oracle::in_utc().await, TestLake::new().await);
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
    same(&oracle, &test_lake.session(), &expressions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_and_intervals() {
    let (oracle, test_lake) = (Oracle::in_utc().await, TestLake::new().await);
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
    same(&oracle, &test_lake.session(), &expressions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instants_by_a_pattern() {
    let (oracle, test_lake) = (Oracle::in_utc().await, TestLake::new().await);
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
    same(&oracle, &test_lake.session(), &expressions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_read_by_a_pattern() {
    let (oracle, test_lake) = (Oracle::in_utc().await, TestLake::new().await);
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
    same(&oracle, &test_lake.session(), &expressions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_by_a_pattern() {
    let (oracle, test_lake) = (Oracle::in_utc().await, TestLake::new().await);
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
    same(&oracle, &test_lake.session(), &expressions).await;
    for pattern in ["RN", "9.99EEEE", "L999", "999V9", "SG999", "PL999", "999PR", "999TH"] {
        let refused = one(&test_lake.session(), &format!("SELECT to_char(1.5, '{pattern}')")).await.unwrap_err();
        assert!(refused.contains("not supported"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn similar_to() {
    let (oracle, test_lake) = (Oracle::in_utc().await, TestLake::new().await);
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
    same(&oracle, &test_lake.session(), &expressions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numerics_have_the_requested_scales() {
    let (oracle, test_lake) = (Oracle::in_utc().await, TestLake::new().await);
    let mut expressions = Vec::new();
    let values = ["0", "1", "-7", "2.5", "-2.345", "1234.5678", "0.004", "99999.995"];
    for value in values {
        let n = format!("{value}::numeric(20,5)");
        for digits in [0, 1, 2, 4, 7, -2] {
            expressions.push(format!("round({n}, {digits})"));
            expressions.push(format!("trunc({n}, {digits})"));
        }
        for call in ["round", "trunc", "ceil", "floor", "abs"] {
            expressions.push(format!("{call}({n})"));
        }
        expressions.push(format!("({n})::int"));
        expressions.push(format!("('{value}'::float8)::int"));
        expressions.push(format!("('{value}'::float8)::numeric(12,2)"));
        expressions.push(format!("({n})::numeric"));
        expressions.push(format!("'{value}'::float8 > 0.0"));
        expressions.push(format!("'{value}'::float8 = {value}"));
        expressions.push(format!("coalesce(NULL::float8, {n}) / 4"));
        expressions.push(format!("CASE WHEN {n} > 1 THEN round({n}, 0) ELSE -2.345 END::numeric(12,3)"));
    }
    expressions.extend(
        ["1e-18::float8 > 0.0", "1.0::float8 / 0", "1.0 / 0", "1 / 0", "2147483647 + 1", "1e10::float8::int"]
            .map(str::to_owned),
    );
    same(&oracle, &test_lake.session(), &expressions).await;
    // Quotients have the scale of their column: the same number with other trailing zeros.
    let mut quotients = Vec::new();
    for (left, right) in values.iter().flat_map(|left| values.iter().map(move |right| (left, right))) {
        if *right != "0" {
            quotients.push(format!("trim_scale(({left}::numeric(20,5) / {right}::numeric(12,3)) :: numeric(38,20))"));
            quotients.push(
                format!("trim_scale(({left} / {right}.0::numeric(9,1))::numeric(38,20))").replace(".5678.0", ".5678"),
            );
        }
    }
    let rows = "(VALUES (1, 1.5, 3::bigint), (2, 2.25, 4), (4, 4.1, NULL)) AS v(i, n, b)";
    for average in [
        "avg(i)",
        "avg(n)",
        "avg(b)",
        "avg(DISTINCT i)",
        "avg(i) FILTER (WHERE i > 1)",
        "avg(NULL::int)",
        "avg(i::float8)",
        "avg(i::float4)",
    ] {
        quotients.push(format!("(SELECT trim_scale({average}::numeric(38,20)) FROM {rows})"));
    }
    quotients.push(format!(
        "(SELECT trim_scale(max(a)::numeric(38,20)) FROM (SELECT avg(n) OVER (ORDER BY i) AS a FROM {rows}) AS w)"
    ));
    quotients.push(format!(
        "(SELECT trim_scale(sum(a)::numeric(38,20)) FROM (SELECT avg(n) AS a FROM {rows} GROUP BY i % 2) AS g)"
    ));
    numbers(&oracle, &test_lake.session(), &quotients).await;
}

/// Compares numbers with the server by their values.
async fn numbers(oracle: &Oracle, session: &Session, expressions: &[String]) {
    let mut wrong = Vec::new();
    for expression in expressions {
        let expected = oracle.row(&format!("SELECT ({expression})::text")).await;
        let expected = expected.map(|row| row[0].clone().unwrap_or_else(|| "NULL".to_owned()));
        let here = expression.replace("trim_scale", "");
        let actual = one(session, &format!("SELECT ({here})::text AS value")).await;
        let plain = |text: &str| match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text.to_owned(),
        };
        match (&expected, &actual) {
            (Some(expected), Ok(actual)) if plain(expected) == plain(actual) => {}
            (None, Err(_)) => {}
            _ => wrong.push(format!("{expression}\n    PostgreSQL {expected:?}\n    here       {actual:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), expressions.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn intervals_are_counted_and_compared() {
    let (oracle, test_lake) = (Oracle::in_utc().await, TestLake::new().await);
    let mut expressions = Vec::new();
    let intervals =
        ["15 min", "1 month", "1 day", "25 hours", "-3 days 2 hours", "1 year 2 mons 3 days 04:05:06.5", "30 days"];
    for left in intervals {
        for factor in ["3", "2.5", "-1", "0.1", "7"] {
            expressions.push(format!("interval '{left}' * {factor}"));
            expressions.push(format!("{factor} * interval '{left}'"));
            expressions.push(format!("interval '{left}' / {factor}"));
        }
        expressions.push(format!("interval '{left}' / 0"));
        expressions.push(format!("-(interval '{left}')"));
        for call in ["justify_hours", "justify_days", "justify_interval"] {
            expressions.push(format!("{call}(interval '{left}')"));
        }
        for field in ["epoch", "day", "hour", "minute", "second", "month", "year"] {
            expressions.push(format!("extract({field} FROM interval '{left}')"));
        }
        for right in intervals {
            for op in ["=", "<", ">="] {
                expressions.push(format!("interval '{left}' {op} interval '{right}'"));
            }
        }
    }
    let instants = ["2026-03-30 00:00", "2026-03-28 12:00", "2024-02-29 23:59:59.5", "1999-12-31"];
    for (left, right) in instants.iter().flat_map(|left| instants.iter().map(move |right| (left, right))) {
        expressions.push(format!("timestamp '{left}' - timestamp '{right}'"));
        expressions.push(format!("(timestamp '{left}' - timestamp '{right}') > interval '1 day'"));
        expressions.push(format!("(timestamp '{left}' - timestamp '{right}') * 2"));
        expressions.push(format!("age(timestamp '{left}', timestamp '{right}')"));
        expressions.push(format!("extract(epoch FROM timestamp '{left}' - timestamp '{right}')"));
    }
    for field in [
        "epoch",
        "second",
        "millisecond",
        "microsecond",
        "minute",
        "hour",
        "dow",
        "isodow",
        "doy",
        "week",
        "quarter",
        "isoyear",
    ] {
        for at in instants {
            expressions.push(format!("extract({field} FROM timestamp '{at}')"));
        }
    }
    expressions.extend(
        [
            "make_interval(days => 3, hours => 2)",
            "make_interval(secs => 1.5)",
            "make_interval(1, 2, 3, 4, 5, 6, 7)",
            "extract(hour FROM timestamp '2026-03-30 17:00') / 5 > 3",
            "(SELECT sum(x) FROM (VALUES (interval '1 day'), (interval '2 hours')) AS v(x))",
        ]
        .map(str::to_owned),
    );
    same(&oracle, &test_lake.session(), &expressions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instants_move_and_compare_in_the_sessions_zone() {
    let (oracle, test_lake) = (Oracle::in_utc().await, TestLake::new().await);
    oracle.client.batch_execute("SET timezone = 'Europe/Paris'").await.unwrap();
    let session = test_lake.session();
    session.run("SET datafusion.execution.time_zone = 'Europe/Paris'").await.unwrap();
    let rows = "(VALUES (timestamptz '2026-03-28 23:00:00Z'), (timestamptz '2026-10-24 22:00:00Z'), (timestamptz \
                '2026-10-25 00:30:00Z'), \
        (timestamptz '2024-02-29 12:00:00Z')) AS v(ts)";
    let mut expressions = Vec::new();
    for interval in ["1 day", "1 month", "-1 day", "1 year 3 hours", "24 hours", "1 day 30 minutes"] {
        for call in ["min", "max"] {
            expressions.push(format!("(SELECT {call}(ts + interval '{interval}') FROM {rows})"));
            expressions.push(format!("(SELECT {call}(ts - interval '{interval}') FROM {rows})"));
            expressions.push(format!("(SELECT {call}(date_trunc('day', ts) + interval '{interval}') FROM {rows})"));
        }
    }
    for clock in
        ["timestamp '2026-03-29 00:00'", "timestamp '2026-10-25 02:30'", "date '2026-03-29'", "date '2026-10-25'"]
    {
        for op in ["=", "<", ">="] {
            expressions.push(format!("(SELECT count(*) FROM {rows} WHERE ts {op} {clock})"));
            expressions.push(format!("(SELECT count(*) FROM {rows} WHERE {clock} {op} ts)"));
        }
        expressions.push(format!("({clock})::timestamptz"));
        expressions.push(format!("(SELECT max(ts - {clock}) FROM {rows})"));
    }
    same(&oracle, &session, &expressions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_subqueries_and_rows() {
    let (oracle, test_lake) = (Oracle::in_utc().await, TestLake::new().await);
    let (l, r) = ("(VALUES (1, 'x'), (2, 'y')) AS l(k, a)", "(VALUES (2, 'p'), (3, 'q')) AS r(k, b)");
    let t = "(VALUES (1, 'A', 'one'), (2, 'A', 'two'), (3, 'B', 'three')) AS t(id, grp, name)";
    let s = "(VALUES (1), (2), (3)) AS s(id)";
    let listed = |query: &str| format!("(SELECT string_agg(q::text, ';' ORDER BY q::text) FROM ({query}) AS z(q))");
    let mut expressions = Vec::new();
    for join in ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"] {
        for value in ["k", "l.k", "r.k", "coalesce(a, '-') || coalesce(b, '-')"] {
            expressions
                .push(listed(&format!("SELECT coalesce(({value})::text, 'NULL') FROM {l} {join} {r} USING (k)")));
        }
        expressions.push(format!("(SELECT count(*) FROM {l} NATURAL {join} {r} WHERE k IS NULL)"));
        expressions.push(format!("(SELECT count(*) FROM {l} {join} {r} USING (k) WHERE l.k IS NULL)"));
        expressions.push(format!("(SELECT sum(k) FROM (SELECT * FROM {l} {join} {r} USING (k)) AS w)"));
        expressions.push(format!(
            "(SELECT max(n) FROM (SELECT k, count(*) AS n FROM {l} {join} {r} USING (k) GROUP BY k) AS w WHERE k = 3)"
        ));
    }
    expressions.extend([
        "(SELECT 1 WHERE false)".to_owned(),
        "(SELECT x FROM (VALUES (1), (2)) AS v(x))".to_owned(),
        listed(&format!("SELECT s.id::text || coalesce((SELECT name FROM {t} WHERE t.id = s.id - 1), '-') FROM {s}")),
        listed(&format!(
            "SELECT s.id::text || coalesce((SELECT name FROM {t} WHERE t.id = s.id ORDER BY grp LIMIT 1), '-') FROM {s}"
        )),
        listed(&format!("SELECT s.id::text || coalesce((SELECT max(name) FROM {t} WHERE t.id = s.id), '-') FROM {s}")),
        format!("(SELECT count(*) FROM {t} WHERE (id, grp) IN (SELECT 3, 'B'))"),
        format!("(SELECT count(*) FROM {t} WHERE id = ANY (SELECT x FROM (VALUES (1), (2)) AS v(x)))"),
        format!("(SELECT count(*) FROM {t} WHERE id <> ALL (SELECT x FROM (VALUES (1), (2)) AS v(x)))"),
        format!("(SELECT count(*) FROM {t} WHERE name = ANY ('{{\"one\",\"two\"}}'))"),
        format!("(SELECT count(*) FROM {t} WHERE name <> ALL ('{{\"one\",\"two\"}}'::text[]))"),
        "(SELECT count(*) FROM (SELECT generate_series(1, 3)) AS g)".to_owned(),
        "(SELECT sum(x) FROM (SELECT generate_series(1, 3) AS x) AS g)".to_owned(),
        "(SELECT sum(x) FROM unnest(ARRAY[1, 2, 3]) AS x)".to_owned(),
        "(SELECT x FROM (VALUES (1), (2), (3)) AS v(x) ORDER BY x OFFSET 1 ROW FETCH FIRST 1 ROW ONLY)".to_owned(),
    ]);
    same(&oracle, &test_lake.session(), &expressions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_documents_and_bytes() {
    let (oracle, test_lake) = (Oracle::in_utc().await, TestLake::new().await);
    let document = r#"'{"a": 1, "b": {"c": "x y"}, "l": [1, 2], "n": null, "t": true}'"#;
    let mut expressions: Vec<String> =
        ["->> 'a'", "-> 'b' ->> 'c'", "->> 'b'", "-> 'l' ->> 0", "-> 'l' ->> -1", "->> 'n'", "->> 'none'"]
            .iter()
            .map(|steps| format!("{document}::json {steps}"))
            .collect();
    expressions.extend([
        format!("{document}::jsonb #>> '{{b,c}}'"),
        format!("{document}::jsonb #>> '{{l,1}}'"),
        format!("jsonb_array_length({document}::jsonb -> 'l')"),
        format!("{document}::jsonb ? 'a'"),
        format!("{document}::jsonb ? 'z'"),
        format!("jsonb_typeof({document}::jsonb -> 'l')"),
        "(SELECT json_agg(x ORDER BY x) FROM (VALUES (1), (2)) AS w(x))".to_owned(),
        "(SELECT json_agg(x ORDER BY x) FROM (VALUES ('a'), ('b\"')) AS w(x))".to_owned(),
    ]);
    expressions.extend(
        [
            "CAST('abcdef' AS varchar(3))",
            "'abcdef'::char(3)",
            "'ab'::char(5) = 'ab'",
            "length('ab'::char(5))",
            "length('\\x00ff01'::bytea)",
            "'\\xde'::bytea || '\\xad'::bytea",
            "ARRAY['a', NULL, 'b c']::text",
            "ARRAY[1.5, 2.5]::text",
            "(7::float8)::text",
            "('Infinity'::float8)::text",
            "1e20::float8",
            "1e-5::float8",
            "0.1::float4",
            "interval '-1 day 2 hours'",
            "mod(7, 3)",
            "~5",
            "5 # 3",
            "(SELECT every(x > 0) FROM (VALUES (1), (2)) AS v(x))",
            "'1.50'::numeric",
            "'12'::numeric",
            "power(2, 3)",
            "x IS NULL FROM (VALUES (NULL::int)) AS v(x) WHERE (SELECT true",
        ]
        .map(str::to_owned),
    );
    expressions.pop();
    same(&oracle, &test_lake.session(), &expressions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_several_types_agree_before_they_are_summed() {
    let (oracle, test_lake) = (Oracle::in_utc().await, TestLake::new().await);
    let mut expressions = Vec::new();
    let flags = "(VALUES (true), (false)) AS v(x)";
    for (one, other) in
        [("round(1234.5678, 0)", "2.345"), ("1::bigint", "2.5"), ("1", "5000000000"), ("NULL", "1.25"), ("0.5", "1")]
    {
        for (one, other) in [(one, other), (other, one)] {
            expressions
                .push(format!("(SELECT sum(CASE WHEN x THEN {one} ELSE {other} END)::numeric(15,3) FROM {flags})"));
            // PostgreSQL gives an untyped NULL the type text.
            if one != "NULL" {
                expressions.push(format!(
                    "(SELECT sum(coalesce(CASE WHEN x THEN {one} END, {other}))::numeric(15,3) FROM {flags})"
                ));
            }
        }
    }
    same(&oracle, &test_lake.session(), &expressions).await;
}
