//! Statements after each pass that changes them, compared with `golden.txt`. `WATTLAKE_UPDATE=1` writes that file.

use std::fmt::Write as _;

use datafusion::sql::parser::Statement;

use super::{PASSES, PASSES_AT_PARSE, rewrite_array_comparisons};
use crate::statement::{self, parse_any};

const STATEMENTS: [&str; 29] = [
    "SELECT x = ANY (ARRAY[1, 2]), x <> ALL (ARRAY['a']), x = ANY ('{a,\"b c\"}'), x = ANY ('{1,2}'::int[])",
    "SELECT x FROM t WHERE x = ANY (SELECT y FROM u) AND x <> ALL (SELECT y FROM u)",
    "SELECT pg_catalog.version(), x COLLATE \"C\", current_user",
    "SELECT t.* FROM s.t",
    "SELECT EXISTS (SELECT 1 FROM t)",
    "SELECT x LIKE 'a/_' ESCAPE '/', x SIMILAR TO '[0-9]+', ~5",
    "SELECT count(*), count(*), sum(a) AS total, 1 + 1, a::int, b.c FROM b",
    "SELECT ts AT TIME ZONE 'Europe/Paris' FROM t",
    "SELECT l.k, k, r.v FROM l FULL JOIN r USING (k) WHERE l.k IS NULL ORDER BY l.k",
    "SELECT l.k FROM l LEFT JOIN r USING (k)",
    "SELECT generate_series(1, 3), n FROM generate_series(1, 2) AS n",
    "SELECT t.id, e, e.value FROM t, jsonb_array_elements_text(t.doc) AS e ORDER BY e",
    "SELECT key, value FROM jsonb_each('{\"a\": 1}')",
    "SELECT n, regexp_split_to_table('a b', ' ') FROM t, generate_series(1, t.n) AS n",
    "SELECT a FROM t ORDER BY a OFFSET 1 ROW FETCH FIRST 2 ROWS ONLY",
    "SELECT a::varchar(3), b::char(2), c::numeric, '1.50'::numeric, d::numeric(9, 2), '\\xde'::bytea, e::jsonb",
    "SELECT a FROM t WHERE (a, b) IN (SELECT c, d FROM u)",
    "SELECT every(a), mod(a, 3), age(ts), localtimestamp FROM t",
    "SELECT make_interval(days => 3, hours => 2)",
    "SELECT json_array_length(j -> 'l'), json_agg(x ORDER BY x) FROM t",
    "SELECT a FROM t FOR SYSTEM_TIME AS OF '2026-01-01'",
    "SELECT 1.5e3",
    "WITH w AS (SELECT count(*) FROM t) SELECT count FROM w",
    "EXPLAIN SELECT a::varchar(3) FROM t",
    "SELECT a FROM t ASOF JOIN u MATCH_CONDITION (t.ts >= u.ts) ON t.k = u.k",
    "SELECT a FROM (SELECT count(*) FROM t) AS s (a)",
    "SELECT DISTINCT count(*) FROM t",
    "SELECT x FROM unnest(ARRAY[1, 2]) WITH ORDINALITY AS u(x, n) WHERE array_length(ARRAY[1], 1) > 0",
    "SELECT count(*) FROM (VALUES (1)) AS l(k) NATURAL FULL JOIN (VALUES (2)) AS r(k) WHERE k IS NULL",
];

fn script() -> String {
    let mut script = String::new();
    for sql in STATEMENTS {
        let _ = writeln!(script, "{sql}");
        let tokens = read_without_passes(sql);
        let Statement::Statement(mut tree) = tokens else {
            let prepared = statement::rewrite(parse_any(sql).unwrap().remove(0));
            let _ = writeln!(script, "    explained         {prepared}\n");
            continue;
        };
        let mut before = tree.to_string();
        if before != sql {
            let _ = writeln!(script, "    {:<17} {before}", "tokens");
        }
        for pass in &PASSES {
            (pass.apply)(&mut tree);
            let after = tree.to_string();
            if after != before {
                let _ = writeln!(script, "    {:<17} {after}", pass.name);
                before = after;
            }
        }
        script.push('\n');
    }
    script
}

/// The parsed statement; the passes of parsing change nothing when they run again.
fn read_without_passes(sql: &str) -> Statement {
    parse_any(sql).unwrap().remove(0)
}

#[test]
fn statements_after_each_pass() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/frontend/golden.txt");
    let script = script();
    if std::env::var_os("WATTLAKE_UPDATE").is_some() {
        std::fs::write(file, &script).unwrap();
    }
    let expected = std::fs::read_to_string(file).unwrap();
    for (at, (came, expected)) in script.lines().zip(expected.lines()).enumerate() {
        assert_eq!(came, expected, "line {} of golden.txt", at + 1);
    }
    assert_eq!(script.lines().count(), expected.lines().count());
}

#[test]
fn passes_have_names_and_those_of_parsing_come_first() {
    let names: std::collections::BTreeSet<&str> = PASSES.iter().map(|pass| pass.name).collect();
    assert_eq!(names.len(), PASSES.len());
    assert_eq!(
        PASSES[..PASSES_AT_PARSE].iter().map(|pass| pass.name).collect::<Vec<_>>(),
        ["asof_joins", "at_time_zone"]
    );
}

#[test]
fn parameters_that_are_arrays_are_returned() {
    let sql = "SELECT 1 WHERE x = ANY ($2) AND y <> ALL ($1::text[]) AND z = $3";
    let Statement::Statement(mut tree) = parse_any(sql).unwrap().remove(0) else { panic!("no query") };
    assert_eq!(rewrite_array_comparisons(&mut tree).into_iter().collect::<Vec<_>>(), ["$1", "$2"]);
    assert_eq!(tree.to_string(), "SELECT 1 WHERE x = $2 AND y <> CAST($1 AS TEXT) AND z = $3");
}
