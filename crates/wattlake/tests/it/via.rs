//! Ways to spare the source: a private copy that is gone afterwards, and a standby.

use std::time::{Duration, Instant};

use crate::world::{Source, Standby, Warehouse, processes_in};

const TABLE: &str = "create table readings (id bigint primary key, value float8);
    insert into readings select n, n from generate_series(1, 5000) n";

fn assert_nothing_left(warehouse: &Warehouse) {
    let left = warehouse.path().join(".wattlake/basebackup").read_dir().into_iter().flatten().count();
    assert_eq!(left, 0, "a copy is left behind");
    assert_eq!(processes_in(warehouse.path()), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_base_backup_is_a_chain_of_events_and_leaves_nothing() {
    let source = Source::empty();
    source.execute(TABLE);
    let warehouse = Warehouse::of(&source, "mode = 'incremental'\nvia = 'basebackup'\n");
    warehouse.ok(&["check"]).has("nothing stands in the way");
    warehouse.ok(&["transfer", "run", "t"]);
    assert_eq!(warehouse.count("public.readings"), 5000);
    assert_nothing_left(&warehouse);

    let run = warehouse.json(&["runs", "--json"])[0]["id"].clone();
    let mut events = warehouse.json(&["events", "--json"]);
    events.reverse();
    let names: Vec<&str> = events.iter().map(|event| event["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["snapshot.created", "database.available", "transfer.finished", "run.succeeded"]);
    assert!(events.iter().all(|event| event["run_id"] == run), "{events:?}");

    source.execute("delete from readings where id <= 1000; insert into readings values (5001, 1), (5002, 2)");
    let report = warehouse.json(&["transfer", "run", "t", "--json"]);
    assert_eq!((report[0]["mode"].as_str(), report[0]["rows"].as_u64()), (Some("incremental"), Some(2)));
    assert_eq!(warehouse.count("public.readings"), 5002);
    assert_nothing_left(&warehouse);
}

#[test]
fn a_base_backup_that_fails_leaves_nothing_either() {
    let source = Source::empty();
    source.execute(TABLE);
    let role = format!("plain_{}", source.name());
    source.execute(&format!("create role {role} login; grant select on readings to {role}"));
    let toml = format!("lake.url = 'lake'\nconnections.source.url = '{}'\n", source.url_as(&role));
    let transfer = "source = 'source'\nmode = 'initial'\nvia = 'basebackup'\n";
    let warehouse = Warehouse::new(&[("wattlake.toml", &toml), ("transfers/t.toml", transfer)]);

    let said = warehouse.run(&["check", "--json"]);
    assert_eq!(said.code, 4, "{said:?}");
    said.has("the user may not take a base backup").has("REPLICATION");
    let said = warehouse.run(&["transfer", "run", "t"]);
    assert_eq!(said.code, 4, "{said:?}");
    assert_eq!(warehouse.json(&["runs", "--json"])[0]["state"], "failed");
    assert_eq!(warehouse.json(&["events", "--json"])[1]["name"], "transfer.failed");
    assert_nothing_left(&warehouse);
}

#[test]
fn a_standby_is_read_in_place_of_its_primary() {
    let source = Source::empty();
    source.execute(TABLE);
    let on_primary = Warehouse::of(&source, "mode = 'incremental'\nvia = 'replica'\n");
    let said = on_primary.run(&["check"]);
    assert_eq!(said.code, 4, "{said:?}");
    said.has("the server is no standby").has("give the standby's address");

    let standby = Standby::start(&format!("standby-{}", source.name()));
    let toml = format!("lake.url = 'lake'\nconnections.source.url = '{}'\n", standby.url(source.name()));
    let transfer = "source = 'source'\nmode = 'incremental'\nvia = 'replica'\n";
    let warehouse = Warehouse::new(&[("wattlake.toml", &toml), ("transfers/t.toml", transfer)]);
    warehouse.ok(&["check"]).has("nothing stands in the way");
    warehouse.ok(&["transfer", "run", "t"]);
    assert_eq!(warehouse.count("public.readings"), 5000);

    source.execute("delete from readings where id <= 1000; insert into readings values (5001, 1), (5002, 2)");
    // The standby is some moments behind: until it has them, there is nothing to carry.
    let deadline = Instant::now() + Duration::from_secs(20);
    while warehouse.count("public.readings") < 5002 {
        assert!(Instant::now() < deadline, "the new rows never came");
        warehouse.ok(&["transfer", "run", "t"]);
    }
    assert_eq!(warehouse.count("public.readings"), 5002);
    warehouse.ok(&["transfer", "validate", "t"]);
}
