//! The exact SQL of expressions. Each was also executed by PostgreSQL 15, and its original by SQLite, with equal
//! values.

use super::*;

const COLUMNS: [(&str, &str); 11] = [
    ("n", "integer"),
    ("z", "bigint"),
    ("d", "numeric"),
    ("f", "double precision"),
    ("t", "text"),
    ("c", "character(6)"),
    ("b", "boolean"),
    ("day", "date"),
    ("ts", "timestamp without time zone"),
    ("tz", "timestamp with time zone"),
    ("raw", "bytea"),
];

fn added(expression: &str, more: &str) -> Result<MappedColumn, Vec<Problem>> {
    let expression = serde_json::Value::from(expression);
    let rest = format!(r#", "value": "new", "expression": {expression} {more}"#);
    let rule = rule(2, "column", "add-column", r#""table-name": "t""#, &rest);
    plan(&rule, &COLUMNS).map(|mut planned| planned.columns.pop().expect("the added column"))
}

#[track_caller]
fn becomes(expression: &str, sql: &str) {
    match added(expression, "") {
        Ok(column) => assert_eq!(column.expression, sql, "{expression}"),
        Err(problems) => panic!("{expression}: {}", said(&problems)),
    }
}

#[track_caller]
fn is_refused(expression: &str, expected: &str) {
    let problems = added(expression, "").expect_err(expression);
    let said = said(&problems);
    assert!(said.starts_with("rule-id 2 (\"r2\"): ") && said.contains(expected), "{expression}: {said}");
}

#[test]
fn arithmetic_is_wide_and_a_division_by_zero_is_null() {
    becomes("$n + 1", r#"(CAST("n" AS bigint) + 1)"#);
    becomes("$z - $n", r#"("z" - "n")"#);
    becomes("$n / $z", r#"(CAST("n" AS bigint) / NULLIF("z", 0))"#);
    becomes("$f % 2", r#"(CAST(trunc("f") AS bigint) % NULLIF(2, 0))"#);
    becomes("-($d * 1.5)", r#"(-("d" * 1.5))"#);
    becomes("$b + 1", r#"(CAST(CAST("b" AS integer) AS bigint) + 1)"#);
    becomes("$t * 2", r#"(CAST("t" AS numeric) * 2)"#);
    is_refused("$day + 1", "\"$day\": a date is used as a number");
    is_refused("$n & 1", "the operator & is not supported");
}

#[test]
fn texts_are_joined_and_other_types_become_texts() {
    becomes("$t || '_' || $n", r#"(("t" || '_') || CAST("n" AS text))"#);
    becomes("$c || $tz", r#"(CAST("c" AS text) || CAST(("tz" AT TIME ZONE 'UTC') AS text))"#);
    becomes("'it''s $n \\'", r#"CAST(E'it''s $n \\' AS text)"#);
    is_refused("$raw || 'x'", "bytes are used as a text");
}

#[test]
fn conditions_are_booleans_inside_and_numbers_outside() {
    becomes("$n > 5", r#"CAST(("n" > 5) AS integer)"#);
    becomes("$n == 5 AND NOT $z", r#"CAST((("n" = 5) AND (NOT ("z" <> 0))) AS integer)"#);
    becomes("$t < 'm'", r#"CAST(("t" COLLATE "C" < 'm') AS integer)"#);
    becomes("$b = 1", r#"CAST((CAST("b" AS integer) = 1) AS integer)"#);
    becomes("$ts >= $tz", r#"CAST(("ts" >= ("tz" AT TIME ZONE 'UTC')) AS integer)"#);
    becomes("$t LIKE 'w%'", r#"CAST(("t" COLLATE "C" ILIKE 'w%' ESCAPE '') AS integer)"#);
    becomes("$t NOT LIKE 'a!%' ESCAPE '!'", r#"CAST(("t" COLLATE "C" NOT ILIKE 'a!%' ESCAPE '!') AS integer)"#);
    becomes("$n IN (1, 2)", r#"CAST(((("n" = 1) OR ("n" = 2))) AS integer)"#);
    becomes("$n NOT BETWEEN 1 AND 2", r#"CAST((NOT (("n" >= 1) AND ("n" <= 2))) AS integer)"#);
    becomes("$t IS NOT NULL", r#"CAST(("t" IS NOT NULL) AS integer)"#);
    is_refused("$t = $n", "a text is compared with an integer");
    is_refused("$n = 'abc'", "a number is compared with 'abc'");
    is_refused("CASE WHEN $t THEN 1 END", "is a text, not a condition");
}

#[test]
fn branches_come_in_one_type() {
    becomes("CASE $n WHEN 1 THEN 'a' ELSE 'b' END", r#"CASE WHEN ("n" = 1) THEN 'a' ELSE 'b' END"#);
    becomes("CASE WHEN $b THEN $n ELSE 'none' END", r#"CASE WHEN "b" THEN CAST("n" AS text) ELSE 'none' END"#);
    becomes("coalesce($b, 0)", r#"COALESCE(CAST("b" AS integer), 0)"#);
    becomes("ifnull($d, 'n/a')", r#"COALESCE(CAST("d" AS text), 'n/a')"#);
    becomes("nullif($t, '')", r#"NULLIF("t", '')"#);
    becomes("iif($n > 0, $n, $z)", r#"CASE WHEN ("n" > 0) THEN "n" ELSE "z" END"#);
}

#[test]
fn functions_keep_what_sqlite_means_by_them() {
    becomes("abs($n)", r#"abs("n")"#);
    becomes("lower($t)", r#"lower("t" COLLATE "C")"#);
    becomes("length($n)", r#"length(CAST("n" AS text))"#);
    becomes("substr($t, 2, 3)", r#"substr("t", 2, 3)"#);
    becomes("substring($t, -3)", r#"substr("t", length("t") - 3 + 1)"#);
    becomes("trim($t, 'x')", r#"btrim("t", 'x')"#);
    becomes("rtrim($t)", r#"rtrim("t")"#);
    becomes("replace($t, 'a', 'b')", r#"replace("t", 'a', 'b')"#);
    becomes("instr($t, 'a')", r#"strpos("t", 'a')"#);
    becomes("round($f, 1)", r#"CAST(round(CAST("f" AS numeric), 1) AS double precision)"#);
    becomes("min($n, $z)", r#"CASE WHEN "n" IS NULL OR "z" IS NULL THEN NULL ELSE LEAST("n", "z") END"#);
    becomes("hex($raw)", r#"COALESCE(upper(encode("raw", 'hex')), '')"#);
    becomes("CAST($d AS INTEGER)", r#"CAST(trunc("d") AS bigint)"#);
    becomes("CAST($n AS VARCHAR(2))", r#"CAST("n" AS text)"#);
    for (expression, function) in [("foo($n)", "foo"), ("pg_sleep(9)", "pg_sleep"), ("count(*)", "count")] {
        is_refused(expression, &format!("the function {function}() is not supported"));
        let problems = added(expression, "").unwrap_err();
        assert!(problems[0].hint.as_ref().is_some_and(|m| m.contains("coalesce, date, datetime")));
    }
    is_refused("random()", "random() makes other values in every run");
    is_refused("min($n)", "min() with 1 arguments is not supported");
    is_refused("operation_indicator('D', 'U', 'I')", "is for changes, which are not supported yet");
}

#[test]
fn dates_are_texts_in_utc() {
    becomes("date($day)", r#"to_char(CAST("day" AS timestamp), 'YYYY-MM-DD')"#);
    becomes("datetime($tz)", r#"to_char(("tz" AT TIME ZONE 'UTC'), 'YYYY-MM-DD HH24:MI:SS')"#);
    becomes("strftime('%Y-%mT\"%%\"', $ts)", r#"to_char("ts", E'YYYY-MM"T\\"%\\""')"#);
    becomes("datetime('now')", "to_char((CURRENT_TIMESTAMP AT TIME ZONE 'UTC'), 'YYYY-MM-DD HH24:MI:SS')");
    becomes("julianday($ts)", r#"CAST((EXTRACT(EPOCH FROM "ts") / 86400.0 + 2440587.5) AS double precision)"#);
    is_refused("date($ts, '+1 day')", "date() with modifiers is not supported");
    is_refused("strftime('%W', $ts)", "strftime() with %W is not supported");
}

#[test]
fn names_are_columns_or_what_dms_knows_of_the_source() {
    let column = added("$z", "").unwrap();
    assert_eq!((column.source.as_deref(), column.expression.as_str()), (Some("z"), "\"z\""));
    becomes("$AR_M_SOURCE_SCHEMA || '.' || $AR_M_SOURCE_TABLE_NAME", "(('s' || '.') || 't')");
    is_refused("$Z", "\"Z\" is not a column of the table");
    is_refused("$AR_M_SOURCE_COLUMN_NAME", "needs a column of the source");
    is_refused("$AR_H_STREAM_POSITION", "is for changes, which are not supported yet");
    is_refused("$AR_M_SOURCE_COLUMN_DATATYPE", "is not supported");
    is_refused("z", "z is neither a column nor a text");
}

#[test]
fn the_declared_type_is_cast_to_last() {
    let text = added("$n > 5", r#", "data-type": { "type": "string", "length": 1 }"#).unwrap();
    assert_eq!(text.expression, r#"CAST(CAST(("n" > 5) AS integer) AS text)"#);
    assert_eq!(text.cast.as_deref(), Some("character varying(1)"));
    let date = added("date($tz)", r#", "data-type": { "type": "date" }"#).unwrap();
    assert_eq!(date.expression, r#"CAST(to_char(("tz" AT TIME ZONE 'UTC'), 'YYYY-MM-DD') AS date)"#);
    let empty = r#", "value": "new", "data-type": { "type": "datetime" }"#;
    let planned = plan(&rule(2, "column", "add-column", r#""table-name": "t""#, empty), &COLUMNS).unwrap();
    assert_eq!(planned.columns.last().unwrap().expression, "CAST(NULL AS timestamp)");
    let taken = rule(2, "column", "add-column", r#""table-name": "t""#, r#", "value": "N", "expression": "1""#);
    refuses_plan(&taken, &COLUMNS, "rule-id 2 (\"r2\"): adds \"N\", which the table already has as \"n\"");
}

#[test]
fn other_syntax_is_refused_and_sizes_are_limited() {
    for (expression, expected) in [
        ("(SELECT 1)", "is not supported in an expression"),
        ("$n IN (SELECT 1)", "is not supported in an expression"),
        ("$n; DROP TABLE t", "follows its end"),
        ("sum($n) OVER ()", "the function sum() is not supported"),
        ("$t COLLATE NOCASE", "is not supported in an expression"),
        ("X'00'", "the literal X'00' is not supported"),
        ("'abc", "can't be read"),
        ("\"n\"", "is neither a column nor a text"),
        ("$n IN ()", "IN needs at least one value"),
    ] {
        is_refused(expression, expected);
    }
    is_refused(&["$t"; 3000].join("||"), "limited to 1000 words");
    is_refused(&["$t"; 500].join("||"), "nested deeper than");
    assert!(added(&["$t"; 90].join("||"), "").is_ok());
    is_refused(&format!("{}1{}", "(".repeat(99), ")".repeat(99)), "recursion limit");
    let doubling = (0..40).fold("$n".to_owned(), |inner, _| format!("min({inner}, 1)"));
    is_refused(&doubling, "bytes of SQL");
    is_refused(&" ".repeat(20_000), "limited to 16384 bytes");
}
