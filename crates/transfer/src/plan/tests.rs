use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::postgres::TableKind;
use crate::settings::ChangesSettings;

fn builtin(name: &str) -> SourceType {
    SourceType::Builtin { name: name.into(), modifier: -1 }
}

fn table(schema: &str, name: &str, columns: &[(&str, &str)], key: &[&str]) -> Table {
    let column = |(number, (name, kind)): (usize, &(&str, &str))| crate::postgres::Column {
        name: (*name).into(),
        number: i16::try_from(number + 1).unwrap(),
        type_name: (*kind).into(),
        source: builtin(kind),
        nullable: true,
        readable: true,
        missing: None,
        filled: false,
        sequence: None,
        generated: None,
        type_oid: 0,
        modifier: -1,
        input_type: (*kind).into(),
    };
    Table {
        oid: 1,
        schema: schema.into(),
        name: name.into(),
        kind: TableKind::Table,
        columns: columns.iter().enumerate().map(column).collect(),
        key: key.iter().map(|k| (*k).to_owned()).collect(),
        readable: true,
        replica_identity: 'd',
        ..Table::default()
    }
}

fn measures() -> Table {
    let columns = [
        ("id", "int8"),
        ("site", "text"),
        ("updated_at", "timestamptz"),
        ("local_at", "timestamp"),
        ("power", "numeric"),
        ("load", "float8"),
    ];
    table("grid", "measures", &columns, &["id"])
}

fn settings(mode: Mode) -> Settings {
    Settings {
        name: "nightly".into(),
        program: "wattlake".into(),
        others: Vec::new(),
        mode,
        into: None,
        include: Vec::new(),
        exclude: Vec::new(),
        mapping: None,
        streams: 1,
        parallel_tables: 1,
        views: false,
        on_no_cursor: OnNoCursor::Error,
        overlap: Duration::from_secs(600),
        changes: ChangesSettings::of("nightly"),
        tables: BTreeMap::new(),
    }
}

fn with_table(mode: Mode, own: TableSettings) -> Settings {
    let mut settings = settings(mode);
    settings.tables.insert("grid.measures".into(), own);
    settings
}

fn planned(table: &Table, settings: &Settings) -> Result<TablePlan> {
    plan_unmapped(table, settings).and_then(|plan| check_table(plan, settings, "transfer"))
}

fn cursor_of(own: TableSettings) -> Result<TablePlan> {
    planned(&measures(), &with_table(Mode::Incremental, own))
}

fn named(cursor: &str) -> TableSettings {
    TableSettings { cursor: vec![cursor.into()], ..TableSettings::default() }
}

#[test]
fn patterns_take_any_run_and_any_one_character_and_nothing_else() {
    let takes = |p: &str, name: &str| pattern(p).unwrap().is_match(name);
    assert!(takes("*", "grid.measures") && takes("grid.*", "grid.measures") && takes("*.meas*", "grid.measures"));
    assert!(takes("grid.measure?", "grid.measures") && !takes("grid.measures?", "grid.measures"));
    assert!(!takes("grid", "grid.measures") && !takes("measures", "grid.measures"));
    // A dot is a dot, and what means something to a regex does not.
    assert!(!takes("grid.measures", "gridxmeasures") && takes("a.b+(c)[d]^$", "a.b+(c)[d]^$"));
    assert!(takes("grid.*", "grid.Zähler\n😀") && takes("grid.?", "grid.é"));
}

#[test]
fn include_exclude_and_views() {
    let takes = |include: &[&str], exclude: &[&str], views: bool, table: &Table| {
        let owned = |list: &[&str]| list.iter().map(|p| (*p).to_owned()).collect();
        let settings = Settings { include: owned(include), exclude: owned(exclude), views, ..settings(Mode::Initial) };
        Selector::new(&settings).unwrap().takes(table)
    };
    let table = measures();
    assert!(takes(&[], &[], false, &table) && takes(&["x.*", "grid.*"], &[], false, &table));
    assert!(!takes(&["x.*"], &[], false, &table) && !takes(&["grid.*"], &["*.meas*"], false, &table));
    let view = Table { kind: TableKind::View, ..table.clone() };
    let materialized = Table { kind: TableKind::MaterializedView, ..table };
    assert!(!takes(&["grid.measures"], &[], false, &view) && !takes(&[], &[], false, &materialized));
    assert!(takes(&[], &[], true, &view) && takes(&[], &[], true, &materialized));
}

#[test]
fn the_cursor_is_the_key_where_it_is_one_integer() {
    let plan = cursor_of(TableSettings::default()).unwrap();
    let cursor = plan.cursor.unwrap();
    assert!(cursor.is_key && cursor.names() == ["id"] && cursor.integer().is_some());
    assert_eq!(plan.overlap, 0);
    let plan = cursor_of(named("updated_at")).unwrap();
    assert_eq!(plan.cursor.unwrap().columns[0].kind, CursorKind::Instant { utc: true });
    assert_eq!(plan.overlap, 600_000_000);
    assert_eq!(
        cursor_of(named("local_at")).unwrap().cursor.unwrap().columns[0].kind,
        CursorKind::Instant { utc: false }
    );
}

#[test]
fn a_table_without_a_cursor_is_refused_with_its_hint_or_read_whole() {
    let no_key = Table { key: Vec::new(), ..measures() };
    let two = Table { key: vec!["id".into(), "site".into()], ..measures() };
    let text = Table { key: vec!["site".into()], ..measures() };
    for (table, reason) in
        [(&no_key, "it has no key"), (&two, "its key has several columns"), (&text, "\"site\" is a text")]
    {
        let error = planned(table, &settings(Mode::Incremental)).unwrap_err();
        assert_eq!(error.kind, crate::Kind::FixSetup);
        assert!(error.context.starts_with("carry grid.measures incrementally: "), "{error}");
        assert!(error.context.contains(reason), "{error}");
        let hint = error.hint.unwrap();
        assert!(hint.contains("[tables.\"grid.measures\"]") && hint.contains("on_no_cursor = \"reload\""), "{hint}");
        assert!(planned(table, &settings(Mode::Initial)).unwrap().cursor.is_none());
        let reload = Settings { on_no_cursor: OnNoCursor::Reload, ..settings(Mode::Incremental) };
        assert!(planned(table, &reload).unwrap().no_cursor_reason.unwrap().contains(reason));
    }
}

#[test]
fn a_cursor_that_was_asked_for_and_can_not_be_is_an_error_in_every_mode() {
    for (cursor, reason) in [("gone", "\"gone\" is not a column"), ("load", "\"load\" is a float8")] {
        for mode in [Mode::Initial, Mode::Incremental] {
            let error = planned(&measures(), &with_table(mode, named(cursor))).unwrap_err();
            assert!(error.context.starts_with("plan grid.measures: ") && error.context.contains(reason), "{error}");
        }
    }
    let no_key = Table { key: Vec::new(), ..measures() };
    let error = planned(&no_key, &with_table(Mode::Incremental, named("id"))).unwrap_err();
    assert!(error.context.contains("it has no key"), "{error}");
    let keyed = TableSettings { key: vec!["id".into()], ..named("id") };
    assert_eq!(planned(&no_key, &with_table(Mode::Incremental, keyed)).unwrap().key, ["id"]);
}

#[test]
fn a_cursor_that_is_carried_as_text_has_no_order() {
    let own = TableSettings { columns: BTreeMap::from([("id".to_owned(), ColumnAs::Text)]), ..named("id") };
    let error = cursor_of(own).unwrap_err();
    assert!(error.context.contains("\"id\" is carried as a type"), "{error}");
}

#[test]
fn overlaps_are_of_the_cursors_own_sort() {
    let with = |cursor: &str, overlap| cursor_of(TableSettings { overlap: Some(overlap), ..named(cursor) });
    assert_eq!(with("id", Overlap::Ids(50)).unwrap().overlap, 50);
    assert_eq!(with("updated_at", Overlap::Time(Duration::from_secs(3))).unwrap().overlap, 3_000_000);
    assert_eq!(with("id", Overlap::Ids(u64::MAX)).unwrap().overlap, i64::MAX);
    assert_eq!(with("updated_at", Overlap::Time(Duration::MAX)).unwrap().overlap, i64::MAX);
    let error = with("id", Overlap::Time(Duration::from_secs(3))).unwrap_err();
    assert!(error.context.contains("is a time, and the cursor a number") && error.hint.is_some(), "{error}");
    let error = with("updated_at", Overlap::Ids(3)).unwrap_err();
    assert!(error.context.contains("is a number, and the cursor a time") && error.hint.is_some(), "{error}");
}

#[test]
fn queries_put_filter_and_condition_together() {
    let mut plan =
        planned(&table("g\"x", "t", &[("i\"d", "int4"), ("at", "money")], &[]), &settings(Mode::Initial)).unwrap();
    let columns = "SELECT \"i\"\"d\", (\"at\")::numeric FROM";
    assert_eq!(plan.select(&plan.source.qualified(), None), format!("{columns} \"g\"\"x\".\"t\""));
    assert_eq!(plan.select("t", Some("a OR b")), format!("{columns} t WHERE (a OR b)"));
    plan.filter = Some("c OR d".into());
    assert_eq!(plan.select("t", Some("a")), format!("{columns} t WHERE (c OR d) AND (a)"));
    // A target in PostgreSQL needs no casts of built-in types.
    assert_eq!(plan.select_for_postgres("t", None), "SELECT \"i\"\"d\", \"at\" FROM t WHERE (c OR d)");
}

#[test]
fn columns_carried_another_way() {
    let ways = [
        (ColumnAs::Text, ColumnKind::Text, "text", "text"),
        (ColumnAs::Double, ColumnKind::F64, "float8", "double precision"),
        (ColumnAs::Decimal(20, 4), ColumnKind::Decimal { precision: 20, scale: 4 }, "numeric", "numeric"),
    ];
    for (carried_as, kind, cast, type_name) in ways {
        let own =
            TableSettings { columns: BTreeMap::from([("power".to_owned(), carried_as)]), ..TableSettings::default() };
        let plan = planned(&measures(), &with_table(Mode::Initial, own)).unwrap();
        let column = plan.columns.iter().find(|c| c.name == "power").unwrap();
        assert_eq!((&column.kind, column.type_name.as_str()), (&kind, type_name));
        assert_eq!(column.expression, format!("(\"power\")::{cast}"));
    }
    let own =
        TableSettings { columns: BTreeMap::from([("gone".to_owned(), ColumnAs::Text)]), ..TableSettings::default() };
    let error = planned(&measures(), &with_table(Mode::Initial, own)).unwrap_err();
    assert!(error.context.contains("there is no column \"gone\""), "{error}");
}

#[test]
fn a_user_made_type_goes_to_postgres_as_what_it_is_made_of_or_its_text() {
    let of = |source: &SourceType, name: &str| for_postgres("c", source, name, None);
    assert_eq!(of(&builtin("int4"), "integer"), ("c".into(), "integer".into()));
    assert_eq!(of(&builtin("numeric"), "grid.amount"), ("(c)::numeric".into(), "numeric".into()));
    assert_eq!(of(&SourceType::Enum, "grid.state"), ("(c)::text".into(), "text".into()));
    assert_eq!(of(&SourceType::Composite(Vec::new()), "\"x\".pair"), ("(c)::text".into(), "text".into()));
}

#[test]
fn what_would_fail_half_way_is_refused() {
    let refused = |table: &Table| planned(table, &settings(Mode::Initial)).unwrap_err();
    let error = refused(&Table { readable: false, ..measures() });
    assert!(error.context.contains("permission denied"));
    assert_eq!(
        error.hint.unwrap(),
        "GRANT USAGE ON SCHEMA \"grid\" TO \"transfer\"; GRANT SELECT ON \"grid\".\"measures\" TO \"transfer\";"
    );
    assert!(refused(&table("g", "t", &[], &[])).context.contains("it has no columns"));
    let error = refused(&table("g", "t", &[("Power", "int4"), ("power", "int4")], &[]));
    assert_eq!(error.context, "carry g.t: columns \"Power\" and \"power\" differ by case only");
    let own = TableSettings { key: vec!["gone".into()], ..TableSettings::default() };
    let error = planned(&measures(), &with_table(Mode::Initial, own)).unwrap_err();
    assert!(error.context.contains("its key [\"gone\"] is not among its columns"), "{error}");
}

#[test]
fn two_tables_do_not_become_one() {
    let settings = Settings { into: Some("lake".into()), ..settings(Mode::Initial) };
    let tables = ["a", "b"].map(|schema| planned(&table(schema, "t", &[("id", "int4")], &["id"]), &settings).unwrap());
    assert_eq!(tables[0].target, TableName::new("lake", "t"));
    let error =
        check_distinct_targets(&TransferPlan { tables: tables.into(), ..TransferPlan::default() }, false).unwrap_err();
    assert_eq!(error.context, "a.t and b.t would both become lake.t");
}
