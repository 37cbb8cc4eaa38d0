//! `check` of a source with faults: each is found, with the SQL that corrects it.

use serde_json::Value;

use crate::world::{Source, Warehouse};

const TABLES: &str = "
    create table hidden (id int primary key);
    create table keyless (n int);
    create table slow (id int primary key, updated_at timestamptz not null);
    create table quick (id int primary key, updated_at timestamptz not null);
    create index on quick (updated_at);
    create table silent (id bigint primary key, exact numeric);
    alter table silent replica identity nothing;
    grant select on keyless, slow, quick, silent to";

const TRANSFER: &str = "mode = 'incremental'
    on_no_cursor = 'reload'
    [tables.'public.slow']
    cursor = 'updated_at'
    [tables.'public.quick']
    cursor = 'updated_at'
";

fn about<'a>(findings: &'a [Value], table: &str) -> Vec<(&'a str, &'a str, &'a str)> {
    let of = findings.iter().filter(|finding| finding["subject"] == format!("public.{table}"));
    let text = |value: &'a Value| value.as_str().unwrap_or_default();
    of.map(|finding| (text(&finding["severity"]), text(&finding["what"]), text(&finding["hint"]))).collect()
}

#[track_caller]
fn found(findings: &[Value], table: &str, severity: &str, what: &str, hint: &str) {
    let about = about(findings, table);
    let is_it = |f: &(&str, &str, &str)| f.0 == severity && f.1.contains(what) && f.2.contains(hint);
    assert!(about.iter().any(is_it), "{severity} {what:?} {hint:?} is not in {about:?}");
}

#[test]
fn each_fault_is_found_with_its_hint() {
    let source = Source::empty();
    let role = format!("reader_{}", source.name());
    source.execute(&format!("create role {role} login; {TABLES} {role}"));
    let toml = format!("lake.url = 'lake'\nconnections.source.url = '{}'\n", source.url_as(&role));
    let transfer = format!("source = 'source'\n{TRANSFER}");
    let warehouse = Warehouse::new(&[("wattlake.toml", &toml), ("transfers/t.toml", &transfer)]);

    let said = warehouse.run(&["check", "--json"]);
    assert_eq!(said.code, 4, "{said:?}");
    let findings = said.objects();
    found(&findings, "hidden", "error", "permission denied", "GRANT SELECT ON");
    found(&findings, "keyless", "warning", "no key", "key = [...]");
    found(&findings, "keyless", "warning", "read whole each time", "");
    found(
        &findings,
        "slow",
        "warning",
        "no index starts with its cursor \"updated_at\"",
        "CREATE INDEX CONCURRENTLY ON",
    );
    found(&findings, "silent", "note", "replica identity is NOTHING", "REPLICA IDENTITY DEFAULT");
    found(&findings, "silent", "note", "is a numeric: it is carried as its exact text", "as = \"decimal(38,9)\"");
    found(&findings, "silent", "note", "later changes to old rows are not", "");
    assert_eq!(about(&findings, "quick"), []);

    // The text output has the same findings, and hints that are SQL can be run.
    let told = warehouse.run(&["check"]);
    told.has("error: t: public.hidden: ").has("warning: t: public.slow: ").has("4 tables");
    for (table, statement) in [("slow", "CREATE INDEX"), ("silent", "ALTER TABLE")] {
        let about = about(&findings, table);
        source.execute(about.iter().find(|(_, _, hint)| hint.starts_with(statement)).unwrap().2);
    }
    source.execute(&format!("grant select on hidden to {role}"));
    let said = warehouse.ok(&["check"]);
    assert!(!said.out.contains("public.slow") && !said.out.contains("replica identity"), "{}", said.out);
    said.has("no errors found");
}

#[test]
fn a_table_without_a_cursor_is_an_error_unless_it_may_be_reloaded() {
    let source = Source::empty();
    source.execute("create table keyless (n int); create table other (id int primary key)");
    let warehouse = Warehouse::of(&source, "mode = 'incremental'\n");
    let said = warehouse.run(&["check", "--json"]);
    assert_eq!(said.code, 4, "{said:?}");
    found(&said.objects(), "keyless", "error", "it has no key", "on_no_cursor = \"reload\"");

    // The run reports the same of that table, and transfers the other.
    let run = warehouse.run(&["transfer", "run", "t"]);
    assert_eq!(run.code, 4, "{run:?}");
    run.has("hint: ").has("on_no_cursor");
    assert_eq!(warehouse.count("public.other"), 0);
}

#[test]
fn a_finding_of_many_tables_is_reported_once_with_a_hint_for_all() {
    let source = Source::empty();
    source.execute(
        "do $$ begin for n in 1..7 loop execute format('create table keyless_%s (n int)', n); end loop; end $$;
         create table good (id int primary key)",
    );
    let warehouse = Warehouse::of(&source, "mode = 'incremental'\n");
    let said = warehouse.run(&["check"]);
    assert_eq!(said.code, 4, "{said:?}");
    said.has("error: t: 7 tables: no cursor shows which rows are new: public.keyless_1, ");
    said.has(" and 2 more").has("on_no_cursor = \"reload\" at the top of transfers/t.toml");
    assert_eq!(said.out.matches("error: ").count(), 1, "{}", said.out);
    // The JSON output has each finding by itself.
    let errors = warehouse.run(&["check", "--json"]).objects();
    assert_eq!(errors.iter().filter(|finding| finding["severity"] == "error").count(), 7);

    let warehouse = Warehouse::of(&source, "mode = 'incremental'\non_no_cursor = 'reload'\n");
    let said = warehouse.ok(&["check"]);
    said.has("warning: t: 7 tables: they have no key")
        .has("warning: t: 7 tables: without a cursor they are read whole");
    assert_eq!(said.out.matches("warning: ").count(), 2, "{}", said.out);
}

#[test]
fn a_finding_of_the_transfer_itself_names_it_once() {
    let warehouse = Warehouse::of(&Source::empty(), "mode = 'initial'\n");
    let said = warehouse.run(&["check"]);
    said.has("error: t: the transfer takes no table");
    assert!(!said.out.contains("t: t:"), "{}", said.out);
}
