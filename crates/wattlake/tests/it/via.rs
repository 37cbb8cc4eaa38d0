//! Transfers that spare the source: by a base backup, which is removed afterwards, also where the
//! run is interrupted, and by a standby.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::{CommandResult, Source, Standby, Warehouse, processes_in, stalling_proxy_to};

const TABLE: &str = "create table readings (id bigint primary key, value float8);
    insert into readings select n, n from generate_series(1, 5000) n";

fn assert_nothing_left(warehouse: &Warehouse) {
    let left = warehouse.path().join(".wattlake/basebackup").read_dir().into_iter().flatten().count();
    assert_eq!(left, 0, "a base backup is left");
    assert_eq!(processes_in(warehouse.path()), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_base_backup_is_a_chain_of_events_and_leaves_nothing() {
    let source = Source::empty();
    source.execute(TABLE);
    let warehouse = Warehouse::of(&source, "mode = 'incremental'\nvia = 'basebackup'\n");
    warehouse.ok(&["check"]).has("no errors found");
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

/// A transfer whose base backup never ends.
struct Stalled {
    source: Source,
    warehouse: Warehouse,
    /// A role of this test alone, since tests share the server.
    role: String,
}

impl Stalled {
    fn new() -> Stalled {
        let source = Source::empty();
        source.execute(TABLE);
        let role = format!("copier_{}", source.name());
        source.execute(&format!("create role {role} login replication; grant select on readings to {role}"));
        let url = source.url_as(&role);
        let (before, after) = url.rsplit_once(':').unwrap();
        let (port, database) = after.split_once('/').unwrap();
        let stalled = stalling_proxy_to(port.parse().unwrap());
        let toml = format!(
            "lake.url = 'lake'\nconnections.source.url = '{url}'\n\
             connections.stalled.url = '{before}:{stalled}/{database}'\n"
        );
        let copied = "source = 'stalled'\nmode = 'initial'\nvia = 'basebackup'\n";
        let direct = "source = 'source'\nmode = 'initial'\n";
        let files = [("wattlake.toml", toml.as_str()), ("transfers/t.toml", copied), ("transfers/direct.toml", direct)];
        Stalled { source, warehouse: Warehouse::new(&files), role }
    }

    fn sessions(&self) -> String {
        let sql = "select count(*) from pg_stat_activity where backend_type = 'walsender' and usename = ";
        self.source.value(&format!("{sql}'{}'", self.role))
    }

    fn until(what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < deadline, "not so: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts the transfer, and waits until the files and the log are being received, each by its connection.
    fn run(&self) -> Child {
        let mut command = self.warehouse.command(&["transfer", "run", "t"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self::until("the base backup is under way", || self.sessions() == "2" && self.has_copy());
        child
    }

    fn has_copy(&self) -> bool {
        self.warehouse.path().join(".wattlake/basebackup/t/data").exists()
    }

    fn kill(&self) {
        let mut child = self.run();
        child.kill().unwrap();
        child.wait().unwrap();
        Self::until("the sessions at the source have ended", || self.sessions() == "0");
        Self::until("the programs have ended", || processes_in(self.warehouse.path()).is_empty());
        assert!(self.has_copy());
    }
}

#[test]
fn a_base_backup_that_is_stopped_is_gone_before_the_run_ends() {
    let stalled = Stalled::new();
    for signal in ["-INT", "-TERM"] {
        let child = stalled.run();
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let said = CommandResult::of(child.wait_with_output().unwrap());
        assert_eq!(said.code, 130, "{said:?}");
        assert_nothing_left(&stalled.warehouse);
        assert_eq!(stalled.warehouse.json(&["runs", "--json"])[0]["state"], "cancelled");
        Stalled::until("the sessions at the source have ended", || stalled.sessions() == "0");
    }
}

#[test]
fn a_base_backup_whose_run_is_killed_ends_and_the_next_run_of_any_kind_removes_the_copy() {
    let stalled = Stalled::new();
    stalled.kill();
    stalled.warehouse.ok(&["run", "upkeep:lake"]);
    assert_nothing_left(&stalled.warehouse);
    let upkeep = stalled.warehouse.json(&["runs", "upkeep:lake", "--json"]);
    assert_eq!(upkeep[0]["figures"]["removed_base_backups"], 1, "{upkeep:?}");

    stalled.kill();
    stalled.warehouse.ok(&["transfer", "run", "direct"]);
    assert_nothing_left(&stalled.warehouse);

    // Not that of a living run.
    let mut living = stalled.run();
    stalled.warehouse.ok(&["transfer", "run", "direct"]);
    assert!(stalled.has_copy() && stalled.sessions() == "2");
    living.kill().unwrap();
    living.wait().unwrap();
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
    warehouse.ok(&["check"]).has("no errors found");
    warehouse.ok(&["transfer", "run", "t"]);
    assert_eq!(warehouse.count("public.readings"), 5000);

    source.execute("delete from readings where id <= 1000; insert into readings values (5001, 1), (5002, 2)");
    // The standby is some moments behind: until it has them, there is nothing to carry.
    let deadline = Instant::now() + Duration::from_secs(180);
    while warehouse.count("public.readings") < 5002 {
        assert!(Instant::now() < deadline, "the new rows never came");
        warehouse.ok(&["transfer", "run", "t"]);
    }
    assert_eq!(warehouse.count("public.readings"), 5002);
    warehouse.ok(&["transfer", "validate", "t"]);
}
