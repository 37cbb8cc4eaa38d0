use super::*;

mod expressions;

/// The tables of an aggregator's platform, as DMS's console writes such a file.
const PLATFORM: &str = r##"{ "rules": [
  { "rule-type": "selection", "rule-id": "1", "rule-name": "platform",
    "object-locator": { "schema-name": "platform", "table-name": "%" },
    "rule-action": "include", "filters": [], "parallel-load": null, "isAutoSegmentationChecked": false },
  { "rule-type": "selection", "rule-id": "2", "rule-name": "no temporary tables",
    "object-locator": { "schema-name": "platform", "table-name": "tmp[_]%" }, "rule-action": "exclude", "filters": [] },
  { "rule-type": "selection", "rule-id": "3", "rule-name": "recent measures",
    "object-locator": { "schema-name": "platform", "table-name": "measure" },
    "rule-action": "include", "load-order": "10",
    "filters": [
      { "filter-type": "source", "column-name": "measured_at",
        "filter-conditions": [ { "filter-operator": "gte", "value": "2024-01-01" } ] },
      { "filter-type": "source", "column-name": "quality",
        "filter-conditions": [ { "filter-operator": "between", "start-value": 1, "end-value": 3 },
                               { "filter-operator": "null" } ] } ] },
  { "rule-type": "selection", "rule-id": "4", "rule-name": "one view",
    "object-locator": { "schema-name": "report", "table-name": "daily_energy" }, "rule-action": "explicit" },
  { "rule-type": "transformation", "rule-id": "5", "rule-name": "schema", "rule-target": "schema",
    "object-locator": { "schema-name": "platform" }, "rule-action": "rename", "value": "raw", "old-value": null },
  { "rule-type": "transformation", "rule-id": "6", "rule-name": "plural", "rule-target": "table",
    "object-locator": { "schema-name": "platform", "table-name": "measure" },
    "rule-action": "add-suffix", "value": "s" },
  { "rule-type": "transformation", "rule-id": "7", "rule-name": "no notes", "rule-target": "column",
    "object-locator": { "schema-name": "%", "table-name": "%", "column-name": "note%" }, "rule-action": "remove-column" },
  { "rule-type": "transformation", "rule-id": "8", "rule-name": "lower", "rule-target": "column",
    "object-locator": { "schema-name": "%", "table-name": "%", "column-name": "%" }, "rule-action": "convert-lowercase" },
  { "rule-type": "transformation", "rule-id": "9", "rule-name": "energy", "rule-target": "column",
    "object-locator": { "schema-name": "platform", "table-name": "measure" },
    "rule-action": "add-column", "value": "energy_kwh", "expression": "round($power_kw * $step_s / 3600.0, 3)",
    "data-type": { "type": "numeric", "precision": "18", "scale": "3" } },
  { "rule-type": "transformation", "rule-id": "10", "rule-name": "meter", "rule-target": "column",
    "object-locator": { "schema-name": "platform", "table-name": "measure", "column-name": "meter_code" },
    "rule-action": "data-masking-hash-mask" },
  { "rule-type": "transformation", "rule-id": "11", "rule-name": "key", "rule-target": "table",
    "object-locator": { "schema-name": "platform", "table-name": "measure" }, "rule-action": "define-primary-key",
    "primary-key-def": { "name": "measure_key", "columns": ["Series_Id", "measured_at"] } },
  { "rule-type": "table-settings", "rule-id": "12", "rule-name": "in parallel",
    "object-locator": { "schema-name": "platform", "table-name": "measure" },
    "parallel-load": { "type": "ranges", "columns": ["Series_Id"], "boundaries": [["1000"], ["2000"]] },
    "lob-settings": { "mode": "limited", "bulk-max-size": "16" } }
] }"##;

const MEASURE: [(&str, &str); 7] = [
    ("Series_Id", "bigint"),
    ("measured_at", "timestamp with time zone"),
    ("power_kw", "numeric(12,3)"),
    ("step_s", "integer"),
    ("quality", "smallint"),
    ("meter_code", "character varying(20)"),
    ("note_internal", "text"),
];

fn columns<'a>(columns: &[(&'a str, &'a str)]) -> Vec<Column<'a>> {
    columns.iter().map(|&(name, type_name)| Column { name, type_name }).collect()
}

fn table<'a>(schema: &'a str, name: &'a str) -> Table<'a> {
    Table { schema, name, kind: TableKind::Table }
}

const INCLUDE: &str = r#"{ "rule-type": "selection", "rule-id": 1, "rule-name": "all", "rule-action": "include",
    "object-locator": { "schema-name": "%", "table-name": "%" } }"#;

/// Everything is included, and these rules are added.
fn with(rules: &str) -> String {
    format!("{{ \"rules\": [{INCLUDE}, {rules}] }}")
}

fn rule(id: u32, target: &str, action: &str, locator: &str, rest: &str) -> String {
    format!(
        r#"{{ "rule-type": "transformation", "rule-id": "{id}", "rule-name": "r{id}", "rule-target": "{target}",
             "rule-action": "{action}", "object-locator": {{ "schema-name": "s", {locator} }} {rest} }}"#
    )
    .replace(", }", " }")
}

fn on_table(id: u32, action: &str, rest: &str) -> String {
    rule(id, "table", action, r#""table-name": "t""#, rest)
}

fn on_column(id: u32, column: &str, action: &str, rest: &str) -> String {
    rule(id, "column", action, &format!(r#""table-name": "t", "column-name": "{column}""#), rest)
}

fn plan(rules: &str, of: &[(&str, &str)]) -> Result<MappedTable, Vec<Problem>> {
    let mapping = Mapping::parse(&with(rules))?;
    let table = table("s", "t");
    mapping.plan(&table, &columns(of), &mapping.select(&table).expect("everything is included"))
}

fn said(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn refuses(json: &str, expected: &str) {
    let problems = Mapping::parse(json).expect_err("the mapping must be refused");
    assert!(said(&problems).contains(expected), "{}", said(&problems));
}

#[track_caller]
fn refuses_plan(rules: &str, of: &[(&str, &str)], expected: &str) {
    let problems = plan(rules, of).expect_err("the plan must be refused");
    assert!(said(&problems).contains(expected), "{}", said(&problems));
}

#[test]
fn a_platform_mapping_becomes_names_expressions_and_a_filter() {
    let mapping = Mapping::parse(PLATFORM).unwrap();
    let measure = table("platform", "measure");
    let selection = mapping.select(&measure).unwrap();
    assert!(selection.parallel);
    let planned = mapping.plan(&measure, &columns(&MEASURE), &selection).unwrap();
    assert_eq!((planned.schema.as_str(), planned.table.as_str(), planned.load_order), ("raw", "measures", 10));
    let seen: Vec<_> = planned.columns.iter().map(|c| (c.name.as_str(), c.expression.as_str())).collect();
    assert_eq!(
        seen,
        [
            ("series_id", "\"Series_Id\""),
            ("measured_at", "\"measured_at\""),
            ("power_kw", "\"power_kw\""),
            ("step_s", "\"step_s\""),
            ("quality", "\"quality\""),
            ("meter_code", "upper(encode(sha256(convert_to(CAST(\"meter_code\" AS text), 'UTF8')), 'hex'))"),
            ("energy_kwh", "CAST(round(((\"power_kw\" * \"step_s\") / NULLIF(3600.0, 0)), 3) AS numeric(18,3))"),
        ]
    );
    assert_eq!(planned.columns[0].source.as_deref(), Some("Series_Id"));
    assert_eq!(planned.columns[5].source, None);
    assert_eq!(planned.columns[6].cast.as_deref(), Some("numeric(18,3)"));
    assert_eq!(planned.primary_key, Some(vec!["series_id".to_owned(), "measured_at".to_owned()]));
    assert_eq!(
        planned.filter.as_deref(),
        Some("\"measured_at\" >= '2024-01-01' AND ((\"quality\" BETWEEN '1' AND '3') OR \"quality\" IS NULL)")
    );
}

#[test]
fn selection_includes_excludes_and_names_explicitly() {
    let mapping = Mapping::parse(PLATFORM).unwrap();
    let takes = |schema, name, kind| mapping.select(&Table { schema, name, kind }).is_some();
    assert!(takes("platform", "series", TableKind::Table));
    assert!(!takes("platform", "series", TableKind::View));
    assert!(!takes("platform", "tmp_load", TableKind::Table));
    assert!(takes("platform", "tmpload", TableKind::Table));
    assert!(takes("report", "daily_energy", TableKind::View));
    assert!(!takes("report", "dailyXenergy", TableKind::View));
    assert!(!takes("Platform", "series", TableKind::Table));
    let series = mapping.select(&table("platform", "series")).unwrap();
    assert_eq!(series, Selection { load_order: 0, filters: vec![], parallel: false });
    let unmatched = mapping.unmatched(&[(table("platform", "series"), columns(&[("id", "bigint")]))]);
    let ids: Vec<_> = unmatched.iter().filter_map(|p| p.rule.as_deref()).collect();
    assert_eq!(
        ids,
        [
            "rule-id 3 (\"recent measures\")",
            "rule-id 4 (\"one view\")",
            "rule-id 6 (\"plural\")",
            "rule-id 7 (\"no notes\")",
            "rule-id 9 (\"energy\")",
            "rule-id 10 (\"meter\")",
            "rule-id 11 (\"key\")",
            "rule-id 12 (\"in parallel\")"
        ]
    );
}

#[test]
fn a_rule_for_columns_that_are_not_there_touches_nothing() {
    let mapping = Mapping::parse(&with(&on_column(2, "IBAN", "data-masking-hash-mask", ""))).unwrap();
    let tables = |name| [(table("s", "t"), columns(&[("id", "bigint"), (name, "text")]))];
    let unmatched = mapping.unmatched(&tables("iban"));
    assert_eq!(unmatched.len(), 1);
    assert!(unmatched[0].to_string().contains("rule-id 2") && unmatched[0].what.contains("no column"));
    assert_eq!(unmatched[0].hint.as_deref(), Some("write \"iban\": names are case-sensitive"));
    assert!(mapping.unmatched(&tables("IBAN")).is_empty());
}

#[test]
fn an_explicit_rule_stands_against_a_wildcard_but_not_against_its_own_name() {
    let selection = |id, table: &str, action: &str| {
        format!(
            r#"{{ "rule-type": "selection", "rule-id": {id}, "rule-action": "{action}",
                 "object-locator": {{ "schema-name": "s", "table-name": "{table}" }} }}"#
        )
    };
    let both = |a: String, b: String| format!("{{ \"rules\": [{a}, {b}] }}");
    let mapping = Mapping::parse(&both(selection(1, "a", "explicit"), selection(2, "%", "exclude"))).unwrap();
    assert!(mapping.select(&table("s", "a")).is_some());
    assert!(mapping.select(&table("s", "b")).is_none());
    refuses(
        &both(selection(1, "a", "explicit"), selection(2, "a", "exclude")),
        "rule-id 1: selects the table that rule-id 2 excludes",
    );
    refuses(
        &both(selection(1, "a%", "explicit"), selection(2, "a", "include")),
        "an explicit rule must name one table",
    );
}

#[test]
fn wildcards_match_runs_characters_sets_and_ranges() {
    let matches = |pattern: &str, name: &str| pattern::Pattern::parse(pattern).unwrap().matches(name);
    for (pattern, name, expected) in [
        ("%", "", true),
        ("%", "anything", true),
        ("a%z", "az", true),
        ("a%z", "abcz", true),
        ("a%z", "abc", false),
        ("%ab%ab", "xabyabab", true),
        ("a_c", "abc", true),
        ("a_c", "ac", false),
        ("a[_]c", "a_c", true),
        ("a[_]c", "abc", false),
        ("[ab]x", "bx", true),
        ("[ab]x", "cx", false),
        ("[a-d]x", "dx", true),
        ("[a-d]x", "ex", false),
        ("[a-cx]%", "xyz", true),
        ("[%]", "%", true),
        ("[%]", "a", false),
        ("é_", "éü", true),
        ("T", "t", false),
        ("t", "t2", false),
    ] {
        assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
    }
    for pattern in ["[ab", "[]", "[d-a]"] {
        assert!(pattern::Pattern::parse(pattern).is_err(), "{pattern}");
    }
    let slow = "%a".repeat(200);
    assert!(!matches(&slow, &"a".repeat(199)));
}

#[test]
fn filters_become_one_predicate_of_quoted_literals() {
    let filtered = |conditions: &str| {
        let json = format!(
            r#"{{ "rules": [ {{ "rule-type": "selection", "rule-id": 1, "rule-action": "include",
                 "object-locator": {{ "schema-name": "s", "table-name": "t" }},
                 "filters": [ {{ "filter-type": "source", "column-name": "a\"b",
                                 "filter-conditions": [{conditions}] }} ] }} ] }}"#
        );
        let mapping = Mapping::parse(&json)?;
        let t = table("s", "t");
        mapping.plan(&t, &columns(&[("a\"b", "text")]), &mapping.select(&t).unwrap()).map(|p| p.filter.unwrap())
    };
    let one = |operator: &str, value: &str| {
        filtered(&format!(r#"{{ "filter-operator": "{operator}", "value": {value} }}"#)).unwrap()
    };
    assert_eq!(one("lte", "5"), r#""a""b" <= '5'"#);
    assert_eq!(one("ste", "0.10"), r#""a""b" <= '0.1'"#);
    assert_eq!(one("gte", r#""x""#), r#""a""b" >= 'x'"#);
    assert_eq!(one("eq", r#""""#), r#""a""b" = ''"#);
    assert_eq!(one("noteq", r#""it's; -- \\' OR 1""#), r#""a""b" <> E'it''s; -- \\'' OR 1'"#);
    let between = r#"{ "filter-operator": "notbetween", "start-value": "1", "end-value": "2" }"#;
    assert_eq!(filtered(between).unwrap(), r#"("a""b" NOT BETWEEN '1' AND '2')"#);
    assert_eq!(filtered(r#"{ "filter-operator": "notnull" }"#).unwrap(), r#""a""b" IS NOT NULL"#);
    for (condition, expected) in [
        (r#"{ "filter-operator": "like", "value": "x" }"#, "rule-id 1: filter-operator \"like\" is unknown"),
        (r#"{ "filter-operator": "eq" }"#, "rule-id 1: the filter condition needs a value"),
        (r#"{ "filter-operator": "null", "value": "x" }"#, "\"value\" is not a key of the filter condition"),
        (
            r#"{ "filter-operator": "noteq", "value": 1 }, { "filter-operator": "noteq", "value": 2 }"#,
            "two negative conditions",
        ),
    ] {
        let problems = filtered(condition).expect_err(condition);
        assert!(said(&problems).contains(expected), "{}", said(&problems));
    }
}

#[test]
fn a_filter_on_no_column_and_two_filtering_rules_are_named() {
    let filtering = |id: u32, column: &str| {
        format!(
            r#"{{ "rule-type": "selection", "rule-id": {id}, "rule-name": "f{id}", "rule-action": "include",
                 "object-locator": {{ "schema-name": "s", "table-name": "t" }},
                 "filters": [ {{ "filter-type": "source", "column-name": "{column}",
                                 "filter-conditions": [ {{ "filter-operator": "notnull" }} ] }} ] }}"#
        )
    };
    let of = [("a", "integer"), ("b", "integer")];
    refuses_plan(&filtering(2, "c"), &of, "rule-id 2 (\"f2\"): filters by \"c\", which is not a column of the table");
    let two = format!("{}, {}", filtering(2, "a"), filtering(3, "b"));
    refuses_plan(&two, &of, "rule-id 3 (\"f3\"): filters the table differently from rule-id 2 (\"f2\")");
    let same = format!("{}, {}", filtering(2, "a"), filtering(3, "a"));
    assert_eq!(plan(&same, &of).unwrap().filter.as_deref(), Some("\"a\" IS NOT NULL"));
}

#[test]
fn names_are_renamed_first_and_then_in_the_order_of_rule_ids() {
    let name_of = |rules: &[String]| plan(&rules.join(","), &[("a", "text")]).unwrap().table;
    let value = |v: &str| format!(r#", "value": "{v}""#);
    let lower = |id| on_table(id, "convert-lowercase", "");
    let upper = |id| on_table(id, "convert-uppercase", "");
    assert_eq!(name_of(&[upper(2)]), "T");
    assert_eq!(name_of(&[lower(3), upper(2)]), "T");
    assert_eq!(name_of(&[upper(2), on_table(3, "add-prefix", &value("dms_"))]), "dms_T");
    assert_eq!(name_of(&[upper(3), on_table(2, "add-prefix", &value("dms_"))]), "DMS_T");
    assert_eq!(name_of(&[upper(2), on_table(3, "rename", &value("m"))]), "M");
    assert_eq!(name_of(&[on_table(3, "rename", &value("x")), on_table(2, "rename", &value("y"))]), "y");
    let named = |from: &str, rules: &[String]| {
        let rename = on_table(2, "rename", &value(from));
        name_of(&[&[rename], rules].concat())
    };
    assert_eq!(named("old_m", &[on_table(3, "remove-prefix", &value("old_"))]), "m");
    assert_eq!(named("m_old", &[on_table(3, "remove-suffix", &value("_old"))]), "m");
    assert_eq!(named("m", &[on_table(3, "add-suffix", &value("_x"))]), "m_x");
    let replace = |id, what: &str, old: &str| {
        on_table(id, &format!("replace-{what}"), &format!(r#", "value": "n_", "old-value": "{old}""#))
    };
    assert_eq!(named("a_m", &[replace(3, "prefix", "b_"), replace(4, "prefix", "a_")]), "n_m");
    assert_eq!(named("m_a", &[replace(3, "suffix", "_a")]), "mn_");
    refuses_plan(
        &on_table(2, "remove-prefix", &value("t")),
        &[("a", "text")],
        "rule-id 2 (\"r2\"): makes the name \"t\" empty",
    );
}

#[test]
fn columns_are_removed_included_and_may_not_meet() {
    let of = [("a", "integer"), ("b", "text"), ("b2", "text")];
    let names = |rules: &str| {
        let planned = plan(rules, &of).unwrap();
        planned.columns.into_iter().map(|c| c.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&on_column(2, "b%", "remove-column", "")), ["a"]);
    assert_eq!(names(&on_column(2, "b%", "include-column", "")), ["b", "b2"]);
    let both = [on_column(2, "b2", "remove-column", ""), on_column(3, "b%", "include-column", "")];
    assert_eq!(names(&both.join(",")), ["b"]);
    refuses_plan(&on_column(2, "%", "remove-column", ""), &of, "no column of s.t is left to copy");
    refuses_plan(&on_column(2, "b", "rename", r#", "value": "a""#), &of, "two columns of s.t would become \"a\"");
    refuses_plan(
        &on_column(2, "emial", "data-masking-hash-mask", ""),
        &of,
        "rule-id 2 (\"r2\"): \"emial\" is not a column of the table",
    );
    let by_type = rule(
        2,
        "column",
        "change-data-type",
        r#""table-name": "t", "column-name": "%", "data-type": "int4""#,
        r#", "data-type": { "type": "int8" }"#,
    );
    let planned = plan(&by_type, &of).unwrap();
    let casts: Vec<_> = planned.columns.iter().map(|c| c.cast.as_deref()).collect();
    assert_eq!(casts, [Some("bigint"), None, None]);
}

#[test]
fn masks_come_after_the_change_of_type_that_they_need() {
    let of = [("pin", "integer"), ("code", "character(8)")];
    let digits = |id| on_column(id, "pin", "data-masking-digits-mask", r##", "value": "#""##);
    let string = |id| on_column(id, "pin", "change-data-type", r#", "data-type": { "type": "string", "length": "9" }"#);
    let planned = plan(&[string(2), digits(3)].join(","), &of).unwrap();
    assert_eq!(planned.columns[0].expression, "regexp_replace(CAST(CAST(\"pin\" AS text) AS text), '[0-9]', '#', 'g')");
    assert_eq!(planned.columns[0].cast.as_deref(), Some("character varying(9)"));
    refuses_plan(
        &[string(3), digits(2)].join(","),
        &of,
        "rule-id 2 (\"r2\"): \"pin\": a mask needs a text, not an integer",
    );
    let backslash = on_column(2, "code", "data-masking-digits-mask", r#", "value": "\\""#);
    assert_eq!(
        plan(&backslash, &of).unwrap().columns[1].expression,
        r#"regexp_replace(CAST("code" AS text), '[0-9]', E'\\\\', 'g')"#
    );
    refuses(&with(&on_column(2, "code", "data-masking-digits-mask", r#", "value": "xx""#)), "one printable ASCII");
    refuses(
        &with(&on_column(2, "code", "data-masking-digits-randomize", "")),
        "rule-id 2 (\"r2\"): data-masking-digits-randomize makes other digits in every run",
    );
}

#[test]
fn a_primary_key_has_target_names_and_no_masked_digits() {
    let of = [("id", "text"), ("v", "integer")];
    let key = |columns: &str| {
        on_table(2, "define-primary-key", &format!(r#", "primary-key-def": {{ "columns": [{columns}] }}"#))
    };
    let rename = on_column(3, "id", "rename", r#", "value": "series_id""#);
    let planned = plan(&[key("\"id\""), rename].join(","), &of).unwrap();
    assert_eq!(planned.primary_key, Some(vec!["series_id".to_owned()]));
    refuses_plan(&key("\"nope\""), &of, "\"nope\" of the key is not a column of the target");
    let mask = on_column(3, "id", "data-masking-digits-mask", r#", "value": "x""#);
    refuses_plan(&[key("\"id\""), mask].join(","), &of, "is masked by digits");
    let wild =
        rule(2, "table", "define-primary-key", r#""table-name": "%""#, r#", "primary-key-def": { "columns": ["id"] }"#);
    refuses(&with(&wild), "define-primary-key takes no wildcards");
}

#[test]
fn types_are_those_that_dms_documents() {
    let cast = |source: &str, data_type: &str| {
        let rule = on_column(2, "c", "change-data-type", &format!(r#", "data-type": {{ {data_type} }}"#));
        plan(&rule, &[("c", source)]).map(|p| {
            let column = p.columns.into_iter().next().unwrap();
            (column.cast.unwrap(), column.expression)
        })
    };
    for (source, data_type, declared, expression) in [
        ("bigint", r#""type": "int1""#, "smallint", r#"CAST("c" AS smallint)"#),
        ("text", r#""type": "uint2""#, "integer", r#"CAST("c" AS integer)"#),
        ("boolean", r#""type": "int8""#, "bigint", r#"CAST(CAST("c" AS integer) AS bigint)"#),
        ("smallint", r#""type": "boolean""#, "boolean", r#"("c" <> 0)"#),
        ("real", r#""type": "numeric", "precision": 9"#, "numeric(9,0)", r#"CAST("c" AS numeric(9,0))"#),
        ("date", r#""type": "datetime", "precision": 6"#, "timestamp(6)", r#"CAST("c" AS timestamp(6))"#),
        ("timestamp(3) with time zone", r#""type": "date""#, "date", r#"CAST(("c" AT TIME ZONE 'UTC') AS date)"#),
        ("integer", r#""type": "string", "length": 50"#, "character varying(50)", r#"CAST("c" AS text)"#),
        ("text", r#""type": "wstring", "length": "", "scale": """#, "text", r#"CAST("c" AS text)"#),
        ("text", r#""type": "bytes""#, "bytea", r#"convert_to("c", 'UTF8')"#),
        ("jsonb", r#""type": "clob""#, "text", r#"CAST("c" AS text)"#),
    ] {
        let (cast, sql) = cast(source, data_type).unwrap_or_else(|p| panic!("{}", said(&p)));
        assert_eq!((cast.as_str(), sql.as_str()), (declared, expression), "{source} to {data_type}");
    }
    for (source, data_type, expected) in [
        ("integer", r#""type": "date""#, "rule-id 2 (\"r2\"): \"c\": an integer can't be cast to date"),
        ("text", r#""type": "map""#, "rule-id 2 (\"r2\"): data-type \"map\" is not supported"),
        ("text", r#""type": "numeric", "precision": 2, "scale": 3"#, "can't have the precision 2 and the scale 3"),
        ("integer[]", r#""type": "int4""#, "a value of another type can't be cast to integer"),
    ] {
        let problems = cast(source, data_type).expect_err(data_type);
        assert!(said(&problems).contains(expected), "{}", said(&problems));
    }
}

#[test]
fn all_problems_come_at_once_and_each_names_its_rule() {
    let json = r#"{ "rules": [
      { "rule-type": "selection", "rule-id": "1", "rule-name": "a", "rule-action": "includes",
        "object-locator": { "schema-name": "s", "table-name": "[" } },
      { "rule-type": "object-mapping", "rule-id": "2", "rule-name": "b" },
      { "rule-type": "transformation", "rule-id": "2", "rule-name": "c", "rule-target": "table",
        "rule-action": "drop", "object-locator": { "schema-name": "s", "table-name": "t", "columns": "x" } },
      { "rule-type": "transformation", "rule-id": "3", "rule-name": "d", "rule-target": "column",
        "rule-action": "add-before-image-columns", "object-locator": { "schema-name": "s", "table-name": "t" } },
      { "rule-type": "transformation", "rule-name": "e", "rule-target": "table-tablespace",
        "rule-action": "rename", "value": "x", "object-locator": { "schema-name": "s", "table-name": "t" } },
      { "rule-type": "transformation", "rule-id": 4, "rule-name": "f", "rule-target": "table", "valeu": "y",
        "rule-action": "remove-column", "object-locator": { "schema-name": "s", "table-name": "t" } },
      { "rule-type": "table-settings", "rule-id": 5, "object-locator": { "schema-name": "s", "table-name": "t" },
        "parallel-load": { "type": "quick" }, "lob-settings": { "chunk": 64 } } ] }"#;
    let problems = Mapping::parse(json).unwrap_err();
    let said = said(&problems);
    for expected in [
        "rule-id 1 (\"a\"): the pattern \"[\" has a [ without a ]",
        "rule-id 2 (\"b\"): rule-type \"object-mapping\" is not supported",
        "rule-id 2 (\"c\"): has the same rule-id as rule-id 2 (\"b\")",
        "rule-id 2 (\"c\"): rule-action \"drop\" is unknown for a transformation",
        "rule-id 2 (\"c\"): \"columns\" is not a key of the object-locator",
        "rule-id 3 (\"d\"): add-before-image-columns is for changes, which are not supported yet",
        "rule 5 of the list: needs a rule-id, a number that no other rule has",
        "rule 5 of the list: rule-target \"table-tablespace\" is for Oracle sources only",
        "rule-id 4 (\"f\"): \"valeu\" is not a key of the rule",
        "rule-id 4 (\"f\"): remove-column needs the rule-target column",
        "rule-id 5: parallel-load type \"quick\" is unknown",
        "rule-id 5: \"chunk\" is not a key of the lob-settings",
    ] {
        assert!(said.contains(expected), "{expected}\nis missing in\n{said}");
    }
}

#[test]
fn json_is_read_strictly() {
    refuses(
        "{ \"rules\": [\n  { \"rule-id\": } ] }",
        "the mapping is not valid JSON: expected value at line 2 column 16",
    );
    refuses(r#"{ "rules": [], "rules": [] }"#, "the key \"rules\" occurs twice");
    refuses(r#"{ "rules": [] }"#, "no selection rule includes anything");
    refuses(r#"[]"#, "the mapping must be an object");
    refuses(&with("{}").replace("\"rules\"", "\"rule\""), "the mapping needs a list \"rules\"");
    refuses(&with(r#"{ "rule-id": 123456789012345678901234567890 }"#), "too large to be exact");
    refuses(&" ".repeat(MAPPING_BYTES_MAX + 1), "2 MB is the limit");
    refuses(&"[".repeat(100_000), "recursion limit exceeded");
}

#[test]
fn tables_that_meet_in_the_target_are_found() {
    let rename = rule(2, "table", "rename", r#""table-name": "t%""#, r#", "value": "t""#);
    let mapping = Mapping::parse(&with(&rename)).unwrap();
    let planned = |name| {
        let table = table("s", name);
        mapping.plan(&table, &columns(&[("a", "text")]), &mapping.select(&table).unwrap()).unwrap()
    };
    let (t1, t2, other) = (planned("t1"), planned("t2"), planned("other"));
    let problems = collisions(&[("s.t1", &t1), ("s.other", &other), ("s.t2", &t2)]);
    assert_eq!(said(&problems), "the tables s.t1, s.t2 would all become s.t");
}

#[test]
fn random_mappings_are_planned_or_refused() {
    testkit::read_changed_bytes(&[PLATFORM.as_bytes()], |bytes| {
        let Ok(mapping) = Mapping::parse(&String::from_utf8_lossy(bytes)) else { return };
        let table = Table { schema: "platform", name: "measure", kind: TableKind::Table };
        if let Some(selection) = mapping.select(&table) {
            let _ = mapping.plan(&table, &columns(&MEASURE), &selection);
        }
    });
}
