//! Transfers of the example platform: changes, corrections and purges at the source, validation, and the records of
//! runs.

use serde_json::{Value, json};

use crate::world::{Source, Warehouse};

const MEASURED: &str = "platform.measurements_10min";

fn of<'a>(tables: &'a [Value], name: &str) -> &'a Value {
    let is_it = |table: &&Value| table["source"] == name || table["table"] == name || table["source_table"] == name;
    tables.iter().find(is_it).unwrap_or_else(|| panic!("no {name} in {tables:?}"))
}

fn tables(source: &Source) -> Vec<String> {
    let rows = source.rows(
        "select 'platform.' || relname from pg_class where relnamespace = 'platform'::regnamespace
         and relkind in ('r', 'p') and not relispartition order by 1",
    );
    rows.into_iter().map(|mut row| row.swap_remove(0)).collect()
}

#[test]
fn the_lake_keeps_purged_rows() {
    let source = Source::platform();
    let warehouse = Warehouse::example(&source);
    warehouse.ok(&["check"]).has("no errors found");

    let first = warehouse.json(&["transfer", "run", "platform", "--json"]);
    let names = tables(&source);
    assert_eq!(first.len(), names.len());
    for name in &names {
        let (report, rows) = (of(&first, name), source.count(name));
        assert_eq!(
            (&report["mode"], report["rows"].as_u64(), &report["version"]),
            (&json!("initial"), Some(rows), &json!(0))
        );
        assert_eq!(warehouse.count(name), rows, "{name}");
    }

    let (before, old_sum) = (source.count(MEASURED), energy(&warehouse, MEASURED));
    let changes = source.simulate_day(0);
    let measured = changes.of(MEASURED);
    assert!(measured.inserted > 0 && measured.corrected > 0 && measured.purged > 0, "{changes:?}");
    let second = warehouse.json(&["transfer", "run", "platform", "--json"]);
    for change in &changes.tables {
        let report = of(&second, &change.table);
        assert_eq!(report["mode"], "incremental");
        // No 1-second row is inserted and purged on the same day.
        assert_eq!(report["rows"].as_u64(), Some(change.inserted + change.corrected), "{change:?}");
        assert_eq!(report["replaced"].as_u64(), Some(change.corrected), "{change:?}");
    }
    assert_eq!(source.count(MEASURED), before + measured.inserted - measured.purged);
    assert_eq!(warehouse.count(MEASURED), before + measured.inserted, "purged rows are kept");

    // Rows that the source still has are equal in the lake; the first version has the values before.
    let oldest = source.value(&format!("select min(ts) at time zone 'utc' from {MEASURED}"));
    let same = format!(
        "select count(*) as n, sum(energy_wh) as wh, count(*) filter (where quality = 'corrected') as c from {MEASURED}"
    );
    let there = source.rows(&same).swap_remove(0);
    let here = &warehouse.sql(&format!("{same} where ts >= '{oldest}Z'"))[0];
    assert_eq!([&here["n"], &here["wh"], &here["c"]].map(Value::to_string).to_vec(), there);
    assert_eq!(warehouse.count("platform.\"measurements_10min@v0\""), before);
    assert_eq!(energy(&warehouse, "platform.\"measurements_10min@v0\""), old_sum);
    assert_ne!(energy(&warehouse, MEASURED), old_sum);
    assert_no_duplicates(&warehouse);
}

fn energy(warehouse: &Warehouse, table: &str) -> u64 {
    warehouse.number(&format!("select sum(energy_wh) as n from {table}"))
}

fn assert_no_duplicates(warehouse: &Warehouse) {
    let twice =
        format!("select count(*) as n from (select 1 from {MEASURED} group by series_id, ts having count(*) > 1)");
    assert_eq!(warehouse.number(&twice), 0);
}

#[test]
fn nothing_new_makes_no_version() {
    let source = Source::platform();
    let warehouse = Warehouse::example(&source);
    warehouse.ok(&["transfer", "run", "platform"]);
    let before = warehouse.ok(&["lake", "list", "--json"]).out;
    let again = warehouse.json(&["transfer", "run", "platform", "--json"]);
    for table in &again {
        assert_eq!(
            (&table["mode"], &table["rows"], &table["version"]),
            (&json!("incremental"), &json!(0), &json!(null))
        );
    }
    assert_eq!(warehouse.ok(&["lake", "list", "--json"]).out, before);
    warehouse.ok(&["transfer", "run", "platform"]).has("nothing new");
}

#[test]
fn validate_distinguishes_purged_lost_differing_and_pending_rows() {
    let source = Source::platform();
    let warehouse = Warehouse::example(&source);
    warehouse.ok(&["transfer", "run", "platform"]);
    let changes = source.simulate_day(0);
    let pending = of(&warehouse.json(&["transfer", "validate", "platform", "--json"]), MEASURED).clone();
    assert_eq!((&pending["ok"], &pending["lost"]), (&json!(true), &json!(0)), "{pending}");
    let measured = changes.of(MEASURED);
    assert_eq!(pending["pending"].as_u64(), Some(measured.inserted + measured.corrected), "{pending}");

    warehouse.ok(&["transfer", "run", "platform"]);
    let tables = warehouse.json(&["transfer", "validate", "platform", "--json"]);
    for table in &tables {
        assert_eq!(table["ok"], true, "{table}");
        let purged = changes.of(table["source"].as_str().unwrap()).purged;
        assert_eq!(table["purged"].as_u64(), Some(purged), "{table}");
        assert_eq!(
            (&table["lost"], &table["differs"], &table["pending"]),
            (&json!(0), &json!(0), &json!(0)),
            "{table}"
        );
    }

    // Changed without updated_at: no cursor shows it, so validate must report it.
    source.execute(
        "update platform.market_prices set price_eur_mwh = price_eur_mwh + 1
         where (zone, delivery_start) = (select zone, delivery_start from platform.market_prices order by 2, 1 limit 1)",
    );
    let said = warehouse.run(&["transfer", "validate", "platform", "--table", "platform.market_prices", "--json"]);
    assert_eq!(said.code, 1, "{said:?}");
    let prices = said.objects();
    assert_eq!((prices.len(), &prices[0]["ok"], &prices[0]["differs"]), (1, &json!(false), &json!(1)), "{prices:?}");
    assert_eq!(prices[0]["samples"][0]["difference"], "differs");
    warehouse.run(&["transfer", "validate", "platform"]).has("DIFFERS");
    let sql = "SELECT source_table, validation_state, validated_at > updated_at, validated_position, \
               validation ->> 'differs' FROM system.transfers WHERE validation_state <> 'validated'";
    let differing = warehouse.ok(&["sql", sql, "--format", "csv"]);
    differing.has("\nplatform.market_prices,differs,true,,1\n");
}

#[test]
fn one_table_alone_and_the_records_of_runs() {
    let source = Source::platform();
    let warehouse = Warehouse::example(&source);
    warehouse.ok(&["transfer", "list"]).has("platform").has("never");
    warehouse.ok(&["transfer", "run", "platform"]).has("rows/s");
    let one = ["transfer", "run", "platform", "--mode", "initial", "--replace", "--table", "platform.sites", "--json"];
    let reports = warehouse.json(&one);
    assert_eq!(
        (reports.len(), &reports[0]["source"], &reports[0]["mode"]),
        (1, &json!("platform.sites"), &json!("initial"))
    );
    for table in warehouse.json(&["lake", "list", "--json"]) {
        assert_eq!(table["version"], i64::from(table["table"] == "platform.sites"), "{table}");
    }

    let runs = warehouse.json(&["runs", "--json"]);
    assert_eq!(runs.len(), 2);
    for run in &runs {
        assert_eq!(
            (&run["job"], &run["state"], &run["cause"]),
            (&json!("transfer:platform"), &json!("succeeded"), &json!("hand"))
        );
    }
    assert_eq!(runs[0]["detail"]["tables"], json!(["platform.sites"]));
    assert_eq!(runs[0]["figures"]["rows"].as_u64(), Some(source.count("platform.sites")));
    assert_eq!(warehouse.json(&["runs", "upkeep:lake", "--json"]).len(), 0);
    let events = warehouse.json(&["events", "transfer.finished", "--json"]);
    assert_eq!((events.len(), &events[0]["run_id"]), (2, &runs[0]["id"]));

    let listed = warehouse.json(&["transfer", "list", "--json"]);
    assert_eq!((&listed[0]["name"], &listed[0]["last_run"]["id"]), (&json!("platform"), &runs[0]["id"]));
    let status = warehouse.json(&["transfer", "status", "platform", "--json"]);
    assert_eq!(status.len(), tables(&source).len());
    for table in &status {
        let run = if table["source_table"] == "platform.sites" { &runs[0] } else { &runs[1] };
        assert_eq!((&table["state"], &table["run_id"]), (&json!("copied"), &run["id"]), "{table}");
    }
    warehouse.ok(&["runs"]).has("transfer:platform").has("succeeded");
    warehouse.ok(&["events"]).has("transfer.finished");
    warehouse.ok(&["transfer", "status", "platform"]).has("platform.sites").has("copied");
    let asked = warehouse.number("select count(*) as n from system.runs where state = 'succeeded'");
    assert_eq!(asked, 2);
}
