//! Transfers into another PostgreSQL.

use serde_json::json;

use crate::world::{Source, Warehouse};

fn between(source: &Source, target: &Source, transfer: &str) -> Warehouse {
    let toml = format!(
        "lake.url = 'lake'\nconnections.source.url = '{}'\nconnections.target.url = '{}'\n",
        source.url(),
        target.url()
    );
    let transfer = format!("source = 'source'\ntarget = 'target'\n{transfer}");
    Warehouse::new(&[("wattlake.toml", &toml), ("transfers/t.toml", &transfer)])
}

const ODD: &str = r#"
    create schema "Été";
    create type "Été".color as enum ('rouge', 'vert');
    create table "Été"."Deux mots" ("Id" bigint primary key, "select" numeric, tags text[], j jsonb, c "Été".color,
        span tstzrange, raw bytea, updated_at timestamptz not null);
    create index on "Été"."Deux mots" (updated_at);
    insert into "Été"."Deux mots" select n, n / 7.0, array['é', null], '{"a": [1, null]}', 'vert', '[2026-01-01,2026-02-01)',
        '\x00ff', '2026-01-01'::timestamptz + n * interval '1 s' from generate_series(1, 1000) n"#;

const CHECKSUM: &str = r#"select count(*), sum("Id"), sum("select"), md5(string_agg(concat_ws('|', "Id", "select", tags, j, c, span, raw,
    updated_at), '' order by "Id")) from "Été"."Deux mots""#;

#[test]
fn all_rows_then_new_rows_are_carried_and_purged_rows_stay() {
    let (source, target) = (Source::empty(), Source::empty());
    source.execute(ODD);
    let warehouse = between(
        &source,
        &target,
        "mode = 'incremental'\n[tables.'Été.Deux mots']\ncursor = 'updated_at'\noverlap = '0s'\n",
    );
    warehouse.ok(&["check"]).has("no errors found");
    warehouse.ok(&["transfer", "run", "t"]);
    assert_eq!(target.rows(CHECKSUM), source.rows(CHECKSUM));
    let key = r#"select count(*) from pg_index where indisprimary and indrelid = '"Été"."Deux mots"'::regclass"#;
    assert_eq!(target.value(key), "1");

    source.execute(
        r#"delete from "Été"."Deux mots" where "Id" <= 100;
        update "Été"."Deux mots" set "select" = 0, updated_at = '2026-02-01' where "Id" between 101 and 110;
        insert into "Été"."Deux mots" values (2000, 1.5, null, null, 'rouge', null, null, '2026-02-01')"#,
    );
    let report = warehouse.json(&["transfer", "run", "t", "--json"]);
    assert_eq!((&report[0]["mode"], &report[0]["rows"]), (&json!("incremental"), &json!(11)), "{report:?}");
    assert_eq!(target.count(r#""Été"."Deux mots""#), 1001, "what was purged stays");
    target.execute(r#"delete from "Été"."Deux mots" where "Id" <= 100"#);
    assert_eq!(target.rows(CHECKSUM), source.rows(CHECKSUM));
    assert_eq!(warehouse.json(&["transfer", "run", "t", "--json"])[0]["rows"], 0);
    assert_eq!(warehouse.json(&["runs", "--json"]).len(), 3);
}

#[test]
fn a_table_with_dependents_is_replaced_in_place() {
    let (source, target) = (Source::empty(), Source::empty());
    source.execute("create table a (id int primary key, v text); insert into a values (1, 'one'), (2, 'two')");
    let warehouse = between(&source, &target, "mode = 'initial'\n");
    warehouse.ok(&["transfer", "run", "t"]);
    target.execute("create view ones as select * from a where id = 1");
    source.execute("update a set v = 'uno' where id = 1; delete from a where id = 2");
    warehouse.ok(&["transfer", "run", "t"]);
    assert_eq!(target.rows("select * from ones"), [["1", "uno"]]);
    assert_eq!(target.count("a"), 1);
}

#[test]
fn long_and_reserved_names_do_not_collide() {
    let (source, target) = (Source::empty(), Source::empty());
    // 63 bytes each, and different only in the last; then a name that Wattlake itself uses in the target.
    let long = ["a", "b"].map(|end| format!("{}{end}", "n".repeat(62)));
    let names = [&long[0], &long[1], "positions"];
    for (name, rows) in names.iter().zip([10, 20, 30]) {
        source.execute(&format!(
            "create table {name} (id int primary key); insert into {name} select generate_series(1, {rows})"
        ));
    }
    let warehouse = between(&source, &target, "mode = 'incremental'\nparallel_tables = 2\n");
    warehouse.ok(&["transfer", "run", "t"]);
    assert_eq!(names.map(|name| target.count(name)), [10, 20, 30]);
}
