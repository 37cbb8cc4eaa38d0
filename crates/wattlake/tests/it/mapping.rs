//! A transfer with an AWS DMS table mapping.

use serde_json::{Value, json};

use crate::world::{Source, Warehouse};

const TABLES: &str = "
    create schema platform;
    create table platform.meters (id int primary key, code text not null, owner text, a_wh bigint, b_wh bigint, internal text);
    insert into platform.meters select n, 'code-' || n, 'Ève ' || n, n, n * 2, 'x' from generate_series(1, 100) n;
    create table platform.tmp_scratch (id int primary key);
    create table platform.other (id int primary key);";

fn rule(id: u32, kind: &str, locator: Value, mut rest: Value) -> Value {
    let rule = rest.as_object_mut().unwrap();
    rule.insert("rule-type".into(), json!(kind));
    rule.insert("rule-id".into(), json!(id.to_string()));
    rule.insert("rule-name".into(), json!(format!("rule {id}")));
    rule.insert("object-locator".into(), locator);
    rest
}

fn table(name: &str) -> Value {
    json!({"schema-name": "platform", "table-name": name})
}

fn column(name: &str) -> Value {
    json!({"schema-name": "platform", "table-name": "meters", "column-name": name})
}

fn rules() -> Vec<Value> {
    let filter = json!([{"filter-type": "source", "column-name": "id",
        "filter-conditions": [{"filter-operator": "between", "start-value": "11", "end-value": "60"}]}]);
    let on = |target: &str, action: &str| json!({"rule-target": target, "rule-action": action});
    let with =
        |target: &str, action: &str, value: &str| json!({"rule-target": target, "rule-action": action, "value": value});
    let sum = json!({"rule-target": "column", "rule-action": "add-column", "value": "sum_wh", "expression": "$a_wh + $b_wh",
        "data-type": {"type": "int8"}});
    vec![
        rule(1, "selection", table("%"), json!({"rule-action": "include"})),
        rule(2, "selection", table("tmp[_]%"), json!({"rule-action": "exclude"})),
        rule(3, "selection", table("meters"), json!({"rule-action": "include", "filters": filter})),
        rule(4, "transformation", table("meters"), with("table", "rename", "counters")),
        rule(5, "transformation", json!({"schema-name": "platform"}), with("schema", "rename", "history")),
        rule(6, "transformation", column("internal"), on("column", "remove-column")),
        rule(7, "transformation", table("meters"), sum),
        rule(8, "transformation", column("code"), with("column", "data-masking-digits-mask", "#")),
        rule(9, "transformation", column("owner"), on("column", "data-masking-hash-mask")),
        rule(10, "transformation", column("a_wh"), with("column", "rename", "energy_wh")),
    ]
}

fn mapped(source: &Source, rules: &[Value]) -> Warehouse {
    let warehouse = Warehouse::of(source, "mode = 'incremental'\nmapping = 'mapping.json'\n");
    warehouse.write("transfers/mapping.json", &json!({"rules": rules}).to_string());
    warehouse
}

#[test]
fn a_mapping_selects_filters_renames_adds_removes_and_masks() {
    let source = Source::empty();
    source.execute(TABLES);
    let warehouse = mapped(&source, &rules());
    warehouse.ok(&["check"]).has("no errors found");
    warehouse.ok(&["transfer", "run", "t"]);
    let listed = warehouse.json(&["lake", "list", "--json"]);
    let names: Vec<&str> = listed.iter().map(|table| table["table"].as_str().unwrap()).collect();
    assert_eq!(names, ["history.counters", "history.other"]);

    let rows = warehouse.sql("select * from history.counters order by id");
    assert_eq!((rows.len(), &rows[0]["id"], &rows[49]["id"]), (50, &json!(11), &json!(60)));
    let first = rows[0].as_object().unwrap();
    let columns: Vec<&str> = first.keys().map(String::as_str).collect();
    assert_eq!(columns, ["id", "code", "owner", "energy_wh", "b_wh", "sum_wh"]);
    assert_eq!((&first["code"], &first["energy_wh"], &first["sum_wh"]), (&json!("code-##"), &json!(11), &json!(33)));
    let owner = source.value("select encode(sha256(convert_to('Ève 11', 'UTF8')), 'hex')");
    assert_eq!(first["owner"].as_str().unwrap().to_lowercase(), owner);

    source.execute(
        "insert into platform.meters values (200, 'c', 'o', 1, 1, 'i'); insert into platform.other values (1)",
    );
    warehouse.ok(&["transfer", "run", "t"]);
    assert_eq!(
        (warehouse.count("history.counters"), warehouse.count("history.other")),
        (50, 1),
        "the filter is applied"
    );
    warehouse.ok(&["transfer", "validate", "t"]);
}

#[test]
fn an_unsupported_rule_is_reported() {
    let source = Source::empty();
    source.execute(TABLES);
    let mut with_random = rules();
    let random = json!({"rule-target": "column", "rule-action": "data-masking-digits-randomize"});
    with_random.push(rule(77, "transformation", column("code"), random));
    let mut unknown = rules();
    unknown.push(rule(78, "reticulation", table("meters"), json!({})));
    for (rules, label) in [(with_random, "rule-id 77"), (unknown, "rule-id 78")] {
        let warehouse = mapped(&source, &rules);
        for command in [&["check"][..], &["transfer", "run", "t"]] {
            let said = warehouse.run(command);
            assert_eq!(said.code, 4, "{said:?}");
            said.has(label).has("mapping.json");
        }
        assert_eq!(
            warehouse.json(&["lake", "list", "--json"]).len(),
            0,
            "no table is transferred by a part of a mapping"
        );
    }
}
