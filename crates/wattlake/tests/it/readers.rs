//! The lake by other readers: Delta's own Python package, polars and DuckDB return the same rows as
//! Wattlake, deletion vectors included. What they can't read yet is in docs/lake.md.

use std::fs;

use serde_json::{Map, Value, json};

use crate::world::{Source, Warehouse, python};

const SCRIPT: &str = include_str!("readers.py");

/// The rows of every table by every reader, with Wattlake's SQL as the reader `wattlake`.
fn read(warehouse: &Warehouse, names: &[(String, String)], postgres: Value) -> Map<String, Value> {
    let (mut tables, mut parquet) = (Map::new(), Map::new());
    for (name, quoted) in names {
        let described = warehouse.json(&["lake", "describe", name, "--json"]).swap_remove(0);
        let folder = described["url"].as_str().unwrap().strip_prefix("file://").unwrap().to_owned();
        // A URL's own escapes; the lake's folders have none.
        assert!(std::path::Path::new(&folder).is_dir(), "{folder}");
        tables.insert(name.clone(), json!(folder));
        let file = warehouse.path().join(format!("{}.parquet", tables.len()));
        let mut query = warehouse.command(&["sql", "--format", "parquet", &format!("select * from {quoted}")]);
        assert!(query.stdout(fs::File::create(&file).unwrap()).status().unwrap().success(), "{quoted}");
        parquet.insert(name.clone(), json!(file));
    }
    let read = python(SCRIPT, &json!({"tables": tables, "parquet": parquet, "postgres": postgres}));
    read.as_object().unwrap().clone()
}

#[track_caller]
fn assert_all_the_same(table: &str, by_reader: &Value, readers: usize) {
    let by_reader = by_reader.as_object().unwrap();
    assert_eq!(by_reader.len(), readers, "{table}");
    let ours = by_reader["wattlake"].as_array().unwrap();
    for (reader, rows) in by_reader {
        let rows = rows.as_array().unwrap();
        assert_eq!(rows.len(), ours.len(), "{table} by {reader}");
        for (theirs, ours) in rows.iter().zip(ours) {
            assert_eq!(theirs, ours, "{table} by {reader}");
        }
    }
}

#[test]
fn every_table_of_the_platform_is_the_same_to_all_readers() {
    let source = Source::platform();
    let warehouse = Warehouse::example(&source);
    warehouse.ok(&["transfer", "run", "platform"]);
    let changes = source.simulate_day(0);
    warehouse.ok(&["transfer", "run", "platform"]);

    let listed = warehouse.json(&["lake", "list", "--json"]);
    let names: Vec<(String, String)> =
        listed.iter().map(|t| t["table"].as_str().unwrap().to_owned()).map(|name| (name.clone(), name)).collect();
    // Never purged: the platform itself still has all of it.
    assert_eq!(changes.of("platform.system_tension").purged, 0);
    let whole = json!({"platform.system_tension": [source.url(), "select * from platform.system_tension"]});
    let read = read(&warehouse, &names, whole);
    assert_eq!(read.len(), names.len());
    for (table, by_reader) in &read {
        assert_all_the_same(table, by_reader, if table == "platform.system_tension" { 5 } else { 4 });
    }
    let vectors = warehouse.table("platform.measurements_10min").read_dir().unwrap().flatten();
    let vectors = vectors.filter(|entry| entry.file_name().to_string_lossy().starts_with("dv-"));
    assert_eq!(vectors.count(), 1, "a deletion vector hides the corrected rows: without one this test proves nothing");
}

const ODD: &str = r#"
    create schema "Été 2026";
    create type "Été 2026".place as (x float8, y integer);
    create table "Été 2026"."Mesures d'été" (
        "Id" bigint primary key,
        énergie numeric(20,6),
        huge numeric(38,10),
        instant timestamptz,
        local timestamp,
        day date,
        tags text[],
        steps integer[],
        place "Été 2026".place,
        during tstzrange,
        note text,
        raw bytea,
        flag boolean,
        small smallint,
        single real,
        "select" text,
        "日本" text,
        updated_at timestamptz not null);
    insert into "Été 2026"."Mesures d'été"
        select n, n * 1.000001, 12345678901234567890.0123456789 - n, '2026-03-29 01:30:00.123456+01'::timestamptz + n * interval '1 hour',
            '2026-03-29 02:30:00.654321'::timestamp - n * interval '1 day', '1582-10-15'::date + n,
            array['a', null, 'ç"''\' || n], array[n, null, -n], row(n / 3.0, n)::"Été 2026".place, tstzrange('2026-01-01', '2026-02-01', '[]'),
            'naïve 🌞 ' || n, decode('00ff' || lpad(to_hex(n), 4, '0'), 'hex'), n % 2 = 0, n, n / 3.0, 'from', '電力',
            '2026-01-01'::timestamptz + n * interval '1 second'
        from generate_series(1, 200) n;
    insert into "Été 2026"."Mesures d'été" ("Id", updated_at) values (0, '2026-01-01');
"#;

const CHANGE: &str = r#"
    update "Été 2026"."Mesures d'été" set énergie = -0.000001, note = null, tags = '{}', updated_at = '2026-01-02'
        where "Id" % 10 = 0;
    insert into "Été 2026"."Mesures d'été" ("Id", note, updated_at) values (500, '', '2026-01-02');
"#;

/// The columns without the two structs, which psycopg returns as texts.
const FLAT: &str = r#"select "Id", énergie, huge, instant, local, day, tags, steps, note, raw, flag, small, single::float8,
    "select", "日本", updated_at from "Été 2026"."Mesures d'été""#;

#[test]
fn unusual_names_and_many_types_are_the_same_to_all_readers() {
    let source = Source::empty();
    source.execute(ODD);
    let warehouse =
        Warehouse::of(&source, "mode = 'incremental'\n[tables.\"Été 2026.Mesures d'été\"]\ncursor = 'updated_at'\n");
    warehouse.ok(&["transfer", "run", "t"]);
    source.execute(CHANGE);
    let report = warehouse.json(&["transfer", "run", "t", "--json"]);
    assert_eq!((&report[0]["rows"], &report[0]["replaced"]), (&json!(22), &json!(21)), "{report:?}");

    let name = "Été 2026.Mesures d'été".to_owned();
    let quoted = "\"Été 2026\".\"Mesures d'été\"".to_owned();
    let mut read = read(&warehouse, &[(name.clone(), quoted)], json!({&name: [source.url(), FLAT]}));
    let by_reader = read[&name].as_object_mut().unwrap();
    let postgres = by_reader.remove("postgres").unwrap();
    assert_all_the_same(&name, &read[&name], 4);

    // PostgreSQL's rows, without the two structs that its driver has only as text.
    let ours = read[&name]["wattlake"].as_array().unwrap().clone();
    let flat = ours.iter().map(|row| {
        let columns = row.as_array().unwrap().iter();
        Value::Array(columns.filter(|column| column[0] != "place" && column[0] != "during").cloned().collect())
    });
    let mut flat: Vec<Value> = flat.collect();
    let mut postgres = postgres.as_array().unwrap().clone();
    let by_id = |row: &Value| row[0][1].as_i64();
    flat.sort_by_key(by_id);
    postgres.sort_by_key(by_id);
    assert_eq!(flat.len(), 202);
    for (ours, theirs) in flat.iter().zip(&postgres) {
        assert_eq!(ours, theirs);
    }
    let seventh = ours.iter().find(|row| row[0][1] == 7).unwrap().as_array().unwrap();
    let value = |name: &str| &seventh.iter().find(|column| column[0] == name).unwrap()[1];
    assert_eq!(*value("place"), json!([["x", "2.3333333333333335"], ["y", 7]]));
    assert_eq!(value("during")[1], json!(["lower", "2026-01-01T00:00:00+00:00"]), "{}", value("during"));
}
