use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::*;

mod connections;
mod forecast;
mod job;
mod known_from;
mod marts;
mod new_warehouse;
mod streams;
mod unset;

const SECRET: &str = "p@ss/w:rd?#%&=+ $é";

fn env(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some(SECRET.to_owned()),
        "WHOLE" => Some("postgresql://eva:p%40ss@db:6000/platform".to_owned()),
        "MODE" => Some("require".to_owned()),
        "PORT" => Some("6543".to_owned()),
        _ => None,
    }
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn problems(files: &[(&str, &str)]) -> Vec<String> {
    let dir = folder(files);
    let problems = Warehouse::load(dir.path(), &env).expect_err("problems");
    problems.iter().map(Problem::to_string).collect()
}

fn warehouse_problems(text: &str) -> Vec<String> {
    problems(&[("wattlake.toml", text)])
}

const BASE: &str = "lake.url = 'lake'\nconnections.platform.host = 'db'\nconnections.copy.host = 'db2'\n";

fn transfer_problems(text: &str) -> Vec<String> {
    problems(&[("wattlake.toml", BASE), ("transfers/x.toml", text)])
}

/// The problems of a valid transfer with these lines added, from line 3 on.
fn problems_with(lines: &str) -> Vec<String> {
    transfer_problems(&format!("source = 'platform'\nmode = 'initial'\n{lines}"))
}

const FULL_WAREHOUSE: &str = r#"
[lake]
url = "s3://bucket/prefix"
[lake.options]
aws_region = "eu-west-3"
aws_secret_access_key = "${SECRET}"
[connections.platform]
url = "postgresql://user:${SECRET}@host:5433/db?sslmode=require"
[connections.copy]
host = "copy"
[postgres]
bin_dir = "/usr/lib/postgresql/15/bin"
"#;

const FULL_TRANSFER: &str = r#"
source = "platform"
target = "copy"
mode = "incremental"
via = "basebackup"
into = "history"
include = ["public.*", "platform.measure_?"]
exclude = ["*.tmp_*"]
streams = 32
parallel_tables = 16
views = true
on_no_cursor = "reload"
overlap = "2d"
[tables."platform.measurements_10min"]
cursor = "updated_at"
overlap = "1h"
key = ["series_id", "ts"]
on_no_cursor = "error"
[tables."platform.measurements_10min".columns.price]
as = "text"
[tables."platform.orders"]
overlap = 1_000
columns.volume.as = "double"
columns.amount.as = "decimal(38, 9)"
"#;

#[test]
fn everything_written_is_read() {
    let dir = folder(&[
        ("wattlake.toml", FULL_WAREHOUSE),
        ("transfers/full-1.toml", FULL_TRANSFER),
        ("transfers/mapped.toml", "source = 'platform'\nmode = 'initial'\nmapping = 'dms/mapping.json'\n"),
        ("transfers/dms/mapping.json", "{}"),
        ("transfers/notes.md", "not a transfer"),
        ("transfers/.x.toml", "an editor's"),
    ]);
    let root = dir.path();
    let warehouse = Warehouse::load(root, &env).unwrap();
    let lake = warehouse.lake.unwrap();
    assert_eq!(lake.url, "s3://bucket/prefix");
    assert_eq!(lake.options()["aws_region"], "eu-west-3");
    assert_eq!(lake.options()["aws_secret_access_key"], SECRET);
    assert_eq!(warehouse.postgres_bin_dir.unwrap().as_deref(), Some(Path::new("/usr/lib/postgresql/15/bin")));
    assert_eq!(warehouse.connections.keys().collect::<Vec<_>>(), ["copy", "platform"]);
    assert_eq!(warehouse.transfers.keys().collect::<Vec<_>>(), ["full-1", "mapped"]);

    let full = &warehouse.transfers["full-1"];
    assert_eq!(full.file, root.join("transfers/full-1.toml"));
    assert_eq!((full.source.as_str(), &full.target), ("platform", &Target::Postgres("copy".to_owned())));
    assert_eq!((full.mode, full.via, full.into.as_deref()), (Mode::Incremental, Via::Basebackup, Some("history")));
    assert_eq!(
        (&full.include[..], &full.exclude[..]),
        (&["public.*".to_owned(), "platform.measure_?".to_owned()][..], &["*.tmp_*".to_owned()][..])
    );
    assert_eq!((full.streams, full.parallel_tables, full.views), (32, 16, true));
    assert_eq!((full.on_no_cursor, full.overlap), (OnNoCursor::Reload, Duration::from_secs(172_800)));
    let orders =
        BTreeMap::from([("amount".to_owned(), ColumnAs::Decimal(38, 9)), ("volume".to_owned(), ColumnAs::Double)]);
    let measurements = TableSettings {
        cursor: vec!["updated_at".to_owned()],
        overlap: Some(Overlap::Time(Duration::from_secs(3_600))),
        key: vec!["series_id".to_owned(), "ts".to_owned()],
        on_no_cursor: Some(OnNoCursor::Error),
        columns: BTreeMap::from([("price".to_owned(), ColumnAs::Text)]),
    };
    let orders = TableSettings { overlap: Some(Overlap::Ids(1_000)), columns: orders, ..TableSettings::default() };
    let expected = [("platform.measurements_10min".to_owned(), measurements), ("platform.orders".to_owned(), orders)];
    assert_eq!(full.tables, BTreeMap::from(expected));
    assert_eq!(warehouse.transfers["mapped"].mapping, Some(root.join("transfers/dms/mapping.json")));
}

#[test]
fn missing_keys_have_defaults() {
    let dir = folder(&[("wattlake.toml", BASE), ("transfers/x.toml", "source = 'platform'\nmode = 'initial'")]);
    let warehouse = Warehouse::load(dir.path(), &env).unwrap();
    assert_eq!(warehouse.lake.unwrap().url, dir.path().join("lake").to_string_lossy());
    let transfer = &warehouse.transfers["x"];
    assert_eq!((&transfer.target, transfer.mode, transfer.via), (&Target::Lake, Mode::Initial, Via::Direct));
    assert_eq!((transfer.streams, transfer.parallel_tables, transfer.views), (2, 1, false));
    assert_eq!((transfer.on_no_cursor, transfer.overlap), (OnNoCursor::Error, Duration::from_secs(600)));
    assert!(transfer.include.is_empty() && transfer.exclude.is_empty() && transfer.tables.is_empty());

    let defaults = json_schema(FileKind::Transfer);
    let default = |key: &str| defaults["properties"][key]["default"].clone();
    assert_eq!([default("streams"), default("parallel_tables"), default("views")], [json!(2), json!(1), json!(false)]);
    assert_eq!([default("target"), default("via")], [json!("lake"), json!("direct")]);
    assert_eq!([default("on_no_cursor"), default("overlap")], [json!("error"), json!("10min")]);
}

#[test]
fn an_unknown_key_has_a_suggestion() {
    assert_eq!(
        transfer_problems("mode = 'initial'\n\nsorce = 'platform'\n"),
        [r#"transfers/x.toml:3:1: unknown key "sorce"; nearest known key: "source""#]
    );
    assert_eq!(
        problems_with("[tables.\"p.t\"]\ncurser = 'a'\n[tables.\"p.t\".columns.\"é\"]\n'as' = 'text'\n  \"é\" = 1"),
        [
            r#"transfers/x.toml:4:1: unknown key "curser"; nearest known key: "cursor""#,
            r#"transfers/x.toml:7:3: unknown key "é"; known keys: "as""#,
        ]
    );
    assert_eq!(
        warehouse_problems("  lak = 1\n[connections.a]\nhots = 'x'\n"),
        [
            r#"wattlake.toml:1:3: unknown key "lak"; nearest known key: "lake""#,
            r#"wattlake.toml:3:1: unknown key "hots"; nearest known key: "host""#,
        ]
    );
}

#[test]
fn a_missing_key_is_reported_at_its_section() {
    assert_eq!(
        transfer_problems("views = true"),
        [
            "transfers/x.toml:1:1: the file has no \"mode\"; add \"mode\": one of \"initial\", \"incremental\", \"changes\"",
        ]
    );
    assert_eq!(
        warehouse_problems("[postgres]\n[connections.a]\nport = 1\n [lake]\n"),
        [
            r#"wattlake.toml:2:1: "a" has neither "url" nor "host""#,
            "wattlake.toml:4:2: \"lake\" has no \"url\"; add \"url\": a folder, relative to this file, \
             or an object store's URL: `s3://bucket/prefix`, `gs://`, `az://`",
        ]
    );
    assert_eq!(
        problems_with("[tables.'p.t'.columns.c]\n"),
        [
            r#"transfers/x.toml:3:1: "c" has no "as"; add "as": `text`, `double`, `decimal(PRECISION,SCALE)`, or `bytes` for a text whose bytes are in no known encoding"#
        ]
    );
}

#[test]
fn wrong_types_are_all_found() {
    let lines = "streams = 'two'\nviews = 1\ninclude = 'a.b'\nexclude = ['a.b', 3, true]\ninto = 7\noverlap = 1.5\n\
                 tables = []\n";
    assert_eq!(
        problems_with(lines),
        [
            r#"transfers/x.toml:3:11: "streams": expected an integer, found a string"#,
            r#"transfers/x.toml:4:9: "views": expected a boolean, found an integer"#,
            r#"transfers/x.toml:5:11: "include": expected an array, found a string"#,
            r#"transfers/x.toml:6:19: "exclude": expected a string, found an integer; put the value in quotes"#,
            r#"transfers/x.toml:6:22: "exclude": expected a string, found a boolean; put the value in quotes"#,
            r#"transfers/x.toml:7:8: "into": expected a string, found an integer; put the value in quotes"#,
            r#"transfers/x.toml:8:11: "overlap": expected a string, found a float; put the value in quotes"#,
            r#"transfers/x.toml:9:10: "tables": expected a table, found an array"#,
        ]
    );
    assert_eq!(
        problems_with("mapping = ['m']\n[tables.'p.t']\noverlap = true\nkey = []\n[tables.'p.u']\nkey = ['']\n"),
        [
            r#"transfers/x.toml:3:11: "mapping": expected a string, found an array"#,
            r#"transfers/x.toml:5:11: "overlap": expected an integer or a string, found a boolean"#,
            r#"transfers/x.toml:6:7: "key" is empty"#,
            r#"transfers/x.toml:8:8: "key" is empty"#,
        ]
    );
    assert_eq!(
        warehouse_problems("lake = 'lake'\nconnections = 3\n"),
        [
            r#"wattlake.toml:1:8: "lake": expected a table, found a string"#,
            r#"wattlake.toml:2:15: "connections": expected a table, found an integer"#,
        ]
    );
}

#[test]
fn numbers_have_bounds() {
    assert_eq!(
        problems_with("streams = 33\nparallel_tables = 0\n[tables.\"p.t\"]\noverlap = -1\n"),
        [
            r#"transfers/x.toml:3:11: "streams": expected 1 to 32, found 33"#,
            r#"transfers/x.toml:4:19: "parallel_tables": expected 1 to 16, found 0"#,
            r#"transfers/x.toml:6:11: "overlap": expected 0 or more, found -1"#,
        ]
    );
    assert_eq!(
        problems_with("streams = 99_999_999_999_999_999_999\n"),
        [r#"transfers/x.toml:3:11: "streams": expected 1 to 32, found 99_999_999_999_999_999_999"#]
    );
}

#[test]
fn an_unknown_word_lists_the_known() {
    assert_eq!(
        transfer_problems("source = 'platform'\nmode = 'incrementl'\nvia = 'ssh'\non_no_cursor = \"\""),
        [
            "transfers/x.toml:2:8: unknown mode 'incrementl': expected one of \"initial\", \"incremental\", \"changes\"; \
             nearest: \"incremental\"",
            "transfers/x.toml:3:7: unknown via 'ssh': expected one of \"direct\", \"replica\", \"basebackup\"",
            "transfers/x.toml:4:16: unknown on_no_cursor \"\": expected one of \"error\", \"reload\"",
        ]
    );
}

#[test]
fn what_is_not_implemented_is_refused() {
    assert_eq!(
        transfer_problems("source = 'platform'\nmode = 'initial'\nvia = 'rds'\n"),
        ["transfers/x.toml:3:7: via \"rds\" is not implemented yet; use via = \"replica\" to relieve the source"]
    );
}

#[test]
fn keys_of_changes_belong_to_its_mode() {
    assert_eq!(
        transfer_problems("source = 'platform'\nmode = 'initial'\nslot = 's'\ndeletes = 'keep'"),
        [
            "transfers/x.toml:3:8: \"slot\" belongs to mode \"changes\"; set mode = \"changes\", or remove \"slot\"",
            "transfers/x.toml:4:11: \"deletes\" belongs to mode \"changes\"; set mode = \"changes\", or remove \"deletes\"",
        ]
    );
    assert_eq!(
        transfer_problems(
            "source = 'platform'\nmode = 'changes'\nvia = 'basebackup'\ntarget = 'copy'\nhistory = true\ndeletes = 'mark'\n[[triggers]]\ncron = '0 8 * * *'"
        ),
        [
            "transfers/x.toml:3:7: a base backup has no log to follow; set via = \"direct\", or \"replica\" for a standby \
             of PostgreSQL 16 or newer",
            "transfers/x.toml:5:11: history is for tables of the lake; set target = \"lake\", or remove history",
            "transfers/x.toml:6:11: deletes = \"mark\" is for tables of the lake; set target = \"lake\", or remove deletes \
             = \"mark\"",
            "transfers/x.toml:7:1: mode \"changes\" is a service, which no trigger starts; remove the triggers: `wattlake \
             serve` runs it all the time",
        ]
    );
}

#[test]
fn a_connection_must_exist() {
    assert_eq!(
        transfer_problems("source = 'platfrom'\ntarget = 'cpy'\nmode = 'initial'"),
        [
            r#"transfers/x.toml:1:10: unknown connection "platfrom"; nearest connection: "platform""#,
            r#"transfers/x.toml:2:10: unknown target "cpy"; nearest target: "copy""#,
        ]
    );
    let text = "source = 'a'\ntarget = 'elsewhere'\nmode = 'initial'";
    assert_eq!(
        problems(&[("wattlake.toml", "lake.url = 'lake'"), ("transfers/x.toml", text)]),
        [
            r#"transfers/x.toml:1:10: unknown connection "a"; add [connections."a"] to wattlake.toml"#,
            r#"transfers/x.toml:2:10: unknown target "elsewhere"; targets: "lake""#,
        ]
    );
}

#[test]
fn a_broken_connection_is_still_known_to_the_transfers() {
    let files = [
        ("wattlake.toml", "lake.url = 'lake'\nconnections.a = 1\n"),
        ("transfers/x.toml", "source = 'a'\nmode = 'initial'"),
    ];
    assert_eq!(problems(&files), [r#"wattlake.toml:2:17: "a": expected a table, found an integer"#]);
    let files = [("wattlake.toml", "lake.url = \n"), files[1]];
    assert_eq!(problems(&files).len(), 1, "{:?}", problems(&files));
}

#[test]
fn the_source_is_not_overwritten() {
    let what = "transfers/x.toml:3:10: the target is the source: its tables would be overwritten; \
                choose another target, or a schema for the copies with into = \"...\"";
    assert_eq!(problems_with("target = 'platform'"), [what]);
    let text = "source = 'platform'\nmode = 'initial'\ntarget = 'platform'\ninto = 'copies'";
    let dir = folder(&[("wattlake.toml", BASE), ("transfers/x.toml", text)]);
    assert!(Warehouse::load(dir.path(), &env).is_ok());
}

#[test]
fn a_mapping_excludes_patterns_and_must_exist() {
    assert_eq!(
        problems_with("include = ['a.*']\nmapping = 'no.json'\nexclude = ['b.*']"),
        [
            "transfers/x.toml:3:11: \"include\" can't be used with \"mapping\", which selects the tables; \
             remove \"include\" or \"mapping\"",
            "transfers/x.toml:4:11: there is no file \"no.json\"; the path is relative to the transfer's file",
            "transfers/x.toml:5:11: \"exclude\" can't be used with \"mapping\", which selects the tables; \
             remove \"exclude\" or \"mapping\"",
        ]
    );
}

#[test]
fn tables_and_patterns_carry_their_schema() {
    assert_eq!(
        problems_with("include = ['*', '?.a', 'measures']\n[tables.orders]\ncursor = 'id'\n"),
        [
            "transfers/x.toml:3:24: the pattern \"measures\" matches no \"schema.table\"; \
             write \"public.measures\" or \"*.measures\"",
            "transfers/x.toml:4:9: the table \"orders\" is named without its schema; write [tables.\"public.orders\"]",
        ]
    );
    assert_eq!(
        problems_with("[tables.platform.orders]\ncursor = 'id'\n"),
        ["transfers/x.toml:3:9: a table's name must be in quotes; write [tables.\"platform.orders\"]"]
    );
}

#[test]
fn durations_keys_and_types_are_checked() {
    assert_eq!(
        problems_with(
            "overlap = '10m'\n[tables.'p.t']\noverlap = '1 week'\nkey = ['a', 'b', 'a']\n\
             columns.a.as = 'decimal(39,2)'\ncolumns.b.as = 'float'\n"
        ),
        [
            "transfers/x.toml:3:11: \"10m\" is not a duration; write a whole number and s, min, h or d: \"10min\"",
            "transfers/x.toml:5:11: \"1 week\" is not a duration; write a whole number and s, min, h or d: \"10min\"",
            "transfers/x.toml:6:18: \"a\" is in the key twice",
            "transfers/x.toml:7:16: a column can't be transferred as \"decimal(39,2)\"; \
             write text, double, bytes or decimal(P,S) with P of 1 to 38 and S of 0 to P",
            "transfers/x.toml:8:16: a column can't be transferred as \"float\"; \
             write text, double, bytes or decimal(P,S) with P of 1 to 38 and S of 0 to P",
        ]
    );
    for wrong in ["", "s", "min", "-1s", "+1s", "1.5h", "1  s", "1s ", "99999999999999999999s", "40000d", "1h30min"] {
        assert_eq!(problems_with(&format!("overlap = '{wrong}'")).len(), 1, "{wrong:?}");
    }
    for wrong in ["decimal(5,6)", "decimal(0,0)", "decimal(5)", "decimal(5,-1)", "decimal(+5,1)", "TEXT", ""] {
        assert_eq!(problems_with(&format!("tables.'p.t'.columns.c.as = '{wrong}'")).len(), 1, "{wrong:?}");
    }
}

/// An editor must accept and refuse the same texts as the check, where a pattern can express it.
#[test]
fn the_patterns_of_the_schema_say_what_the_check_says() {
    let schema = json_schema(FileKind::Transfer);
    let table = &schema["properties"]["tables"]["additionalProperties"]["properties"];
    let pattern = |field: &serde_json::Value| regex::Regex::new(field["pattern"].as_str().unwrap()).unwrap();
    let carried = pattern(&table["columns"]["additionalProperties"]["properties"]["as"]);
    let loads = |lines: &str| {
        let text = format!("source = 'platform'\nmode = 'initial'\n{lines}");
        let dir = folder(&[("wattlake.toml", BASE), ("transfers/x.toml", &text)]);
        Warehouse::load(dir.path(), &env).is_ok()
    };
    for overlap in [pattern(&schema["properties"]["overlap"]), pattern(&table["overlap"])] {
        for text in ["10min", "10 min", "1s", "0h", "7d", "10m", "min", "-1s", "1  s", "1.5h", "1h30min", ""] {
            assert_eq!(overlap.is_match(text), loads(&format!("overlap = '{text}'")), "{text:?}");
        }
    }
    for text in ["text", "double", "decimal(38,9)", "decimal( 5 , 2 )", "decimal(5)", "decimal(5,-1)", "Text", " text"]
    {
        assert_eq!(carried.is_match(text), loads(&format!("tables.'p.t'.columns.c.as = '{text}'")), "{text:?}");
    }
}

#[test]
fn toml_errors_have_their_place() {
    let found = transfer_problems("source = 'platform'\nmode = initial\n[tables\n");
    assert!(found[0].starts_with("transfers/x.toml:2:8: not TOML: "), "{found:?}");
    assert!(found.len() > 1 && found[1].starts_with("transfers/x.toml:3:"), "{found:?}");
    let found = transfer_problems("source = 'platform'\nsource = 'copy'\nmode = 'initial'\n");
    assert_eq!(found, ["transfers/x.toml:2:1: not TOML: duplicate key"]);
}

#[test]
fn files_that_cannot_be_read() {
    let dir = folder(&[("transfers/x.toml", "source = 'a'\nmode = 'initial'")]);
    let found = Warehouse::load(dir.path(), &env).unwrap_err();
    assert_eq!(
        found.iter().map(Problem::to_string).collect::<Vec<_>>(),
        [format!(
            "wattlake.toml:1:1: there is no such file in {}; name the warehouse's folder with -C, \
             or write a new one with `wattlake init DIR`",
            dir.path().display()
        )]
    );
    let dir = folder(&[("wattlake.toml", BASE), ("transfers/Day.toml", "source = 'platform'\nmode = 'initial'")]);
    fs::write(dir.path().join("transfers/latin.toml"), b"# ok\n# caf\xe9\n").unwrap();
    fs::create_dir(dir.path().join("transfers/z.toml")).unwrap();
    let found: Vec<String> = Warehouse::load(dir.path(), &env).unwrap_err().iter().map(Problem::to_string).collect();
    assert_eq!(
        found[..2],
        [
            "transfers/Day.toml:1:1: \"Day\" is not a valid name for a transfer; \
             name the file with a-z, 0-9, _ and - only",
            "transfers/latin.toml:2:6: this is not UTF-8; save the file as UTF-8",
        ]
    );
    assert!(found[2].starts_with("transfers/z.toml:1:1: can't be read: "), "{found:?}");
    assert_eq!(found.len(), 3);
}

#[test]
fn problems_of_all_files_come_together() {
    let files = [
        ("wattlake.toml", "lake.url = 'lake'\nconnections.p.url = 'postgresql://${NOBODY}@h/d'\n"),
        ("transfers/b.toml", "source = 'p'\nmode = 'initial'\nstreams = 0\nviwes = true\n"),
        ("transfers/a.toml", "source = 'q'\nmode = 'initial'\n"),
    ];
    assert_eq!(
        problems(&files),
        [
            "wattlake.toml:2:35: the environment variable NOBODY is not set; set it: export NOBODY=...",
            r#"transfers/a.toml:1:10: unknown connection "q"; nearest connection: "p""#,
            r#"transfers/b.toml:3:11: "streams": expected 1 to 32, found 0"#,
            r#"transfers/b.toml:4:1: unknown key "viwes"; nearest known key: "views""#,
        ]
    );
}

#[test]
fn the_schema_describes_every_key() {
    fn walk(schema: &serde_json::Value, path: &str, keys: &mut usize) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            *keys += 1;
            let is_table = field["type"] == "object";
            // A list of tables has its keys inside.
            let items = &field["items"];
            let is_known =
                field["description"].is_string() || is_table || ["user", "database"].contains(&name.as_str());
            assert!(is_known, "{path} has no description");
            if field["properties"].is_object() {
                assert_eq!(field["additionalProperties"], false, "{path}");
            }
            let types = field.to_string().replace("\"const\":\"null\"", "").replace("\"default\":\"null\"", "");
            assert!(!types.contains("\"null\""), "{path}: TOML has no null: {field}");
            walk(field, &path, keys);
            walk(&field["additionalProperties"], &path, keys);
            walk(items, &path, keys);
        }
    }
    let mut keys = 0;
    let jobs = [
        FileKind::Layer,
        FileKind::FunctionJob,
        FileKind::Ingest,
        FileKind::Load,
        FileKind::Controls,
        FileKind::Control,
        FileKind::Statement,
        FileKind::Container,
        FileKind::Endpoint,
        FileKind::Training,
        FileKind::Collect,
        FileKind::Prediction,
    ];
    for which in [FileKind::Warehouse, FileKind::Transfer, FileKind::Mart].into_iter().chain(jobs) {
        let schema = json_schema(which);
        assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
        assert_eq!(schema["additionalProperties"], false);
        walk(&schema, "", &mut keys);
    }
    assert_eq!(keys, 400);
}
