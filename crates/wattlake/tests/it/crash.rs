//! Runs killed with SIGKILL at each critical point: no reader sees a part of a commit, the next run
//! recovers, and no file is left. Needs a binary with the feature `failpoints`.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::world::{Referenced, Source, Warehouse, files_under, processes_in};

const TABLE: &str = "create table readings (id bigint primary key, value float8, updated_at timestamptz not null);
    create index on readings (updated_at);
    insert into readings select n, n, '2026-01-01'::timestamptz + n * interval '1 second' from generate_series(1, 100000) n";

/// 1,000 rows changed, 500 new.
const CHANGE: &str = "update readings set value = -1, updated_at = '2026-02-01' where id <= 1000;
    insert into readings select n, n, '2026-02-01' from generate_series(100001, 100500) n";

const INCREMENTAL: &str = "mode = 'incremental'\nstreams = 1\n[tables.'public.readings']\ncursor = 'updated_at'\n";

/// Starts a run that will stop at a point, waits until `reached`, and kills it.
fn kill_at(warehouse: &Warehouse, points: &str, reached: impl Fn() -> bool) {
    let mut run = warehouse.command(&["transfer", "run", "t"]);
    run.env("FAILPOINTS", points).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = run.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(180);
    while !reached() {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none() && Instant::now() < deadline, "{points} was not reached: {ended:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

fn at(point: &str) -> String {
    format!("{point}=sleep(3600000)")
}

struct Crash {
    source: Source,
    warehouse: Warehouse,
}

impl Crash {
    fn new(transfer: &str) -> Crash {
        let source = Source::empty();
        source.execute(TABLE);
        let warehouse = Warehouse::of(&source, transfer);
        Crash { source, warehouse }
    }

    /// After a first run, with changes to carry.
    fn changed(transfer: &str) -> Crash {
        let crash = Crash::new(transfer);
        crash.warehouse.ok(&["transfer", "run", "t"]);
        crash.source.execute(CHANGE);
        crash
    }

    fn data_files(&self) -> usize {
        let files = files_under(&self.warehouse.table("public.readings"));
        files.iter().filter(|name| name.starts_with("part-") && name.ends_with(".parquet")).count()
    }

    /// A local store writes `NAME#1` first and renames it.
    fn is_writing(&self) -> bool {
        files_under(&self.warehouse.table("public.readings")).iter().any(|name| name.contains('#'))
    }

    fn has_version(&self, version: u64) -> bool {
        self.warehouse.table("public.readings").join(format!("_delta_log/{version:020}.json")).exists()
    }

    /// Checks what a reader sees: no table, or all rows of this version.
    fn assert_lake_holds(&self, version: Option<u64>, rows: u64, changed: u64) {
        let listed = self.warehouse.json(&["lake", "list", "--json"]);
        let Some(version) = version else {
            assert_eq!(listed, [] as [serde_json::Value; 0]);
            return;
        };
        assert_eq!((&listed[0]["version"], &listed[0]["rows"]), (&json!(version), &json!(rows)));
        let distinct = "select count(distinct id) as n from public.readings";
        let negative = "select count(*) as n from public.readings where value = -1";
        assert_eq!(self.warehouse.count("public.readings"), rows);
        assert_eq!(self.warehouse.number(distinct), rows);
        assert_eq!(self.warehouse.number(negative), changed);
    }

    /// Checks that the killed run is recorded as crashed, that the next run completes the work, and that
    /// after a vacuum only files are left that the log names.
    fn assert_recovers(&self, runs_before: usize) {
        let runs = self.warehouse.json(&["runs", "--json"]);
        assert_eq!((runs.len(), &runs[0]["state"]), (runs_before + 1, &json!("crashed")), "{runs:?}");
        self.warehouse.ok(&["transfer", "run", "t"]);
        let (rows, changed) = (self.source.count("readings"), self.source.count("readings where value = -1"));
        let version = self.warehouse.json(&["lake", "list", "--json"])[0]["version"].as_u64();
        self.assert_lake_holds(version, rows, changed);
        self.warehouse.ok(&["transfer", "validate", "t"]);
        self.warehouse.ok(&["lake", "vacuum"]);
        self.assert_only_what_the_log_names();
        self.assert_lake_holds(version, rows, changed);
    }

    fn assert_only_what_the_log_names(&self) {
        let table = self.warehouse.table("public.readings");
        let Referenced(named) = Referenced::by_log_of(&table);
        let files = files_under(&table);
        let unnamed: BTreeSet<_> = files.difference(&named).filter(|name| !name.starts_with("_delta_log/")).collect();
        assert_eq!(unnamed, BTreeSet::new());
        assert!(!files.iter().any(|name| name.contains('#')), "{files:?}");
        assert!(named.iter().all(|name| files.contains(name)), "{named:?} {files:?}");
    }
}

#[test]
fn in_the_middle_of_the_first_copy() {
    let crash = Crash::new(INCREMENTAL);
    kill_at(&crash.warehouse, "mid-copy=1*off->sleep(3600000)", || crash.is_writing());
    crash.assert_lake_holds(None, 0, 0);
    // A vacuum without a next run also removes the folder that never became a table.
    crash.warehouse.ok(&["lake", "vacuum"]);
    assert_eq!(files_under(&crash.warehouse.path().join("lake")), BTreeSet::new());
    crash.assert_recovers(0);
}

#[test]
fn before_the_first_commit() {
    let crash = Crash::new(INCREMENTAL);
    kill_at(&crash.warehouse, &at("before-commit"), || crash.data_files() == 1);
    crash.assert_lake_holds(None, 0, 0);
    crash.assert_recovers(0);
    assert_eq!(crash.data_files(), 1);
}

#[test]
fn after_the_first_commit() {
    let crash = Crash::new(INCREMENTAL);
    kill_at(&crash.warehouse, &at("after-commit"), || crash.has_version(0));
    crash.assert_lake_holds(Some(0), 100_000, 0);
    crash.assert_recovers(0);
}

#[test]
fn before_a_replacing_commit_readers_keep_the_old() {
    let crash = Crash::changed(&INCREMENTAL.replace("incremental", "initial"));
    kill_at(&crash.warehouse, &at("before-commit"), || crash.data_files() == 2);
    crash.assert_lake_holds(Some(0), 100_000, 0);
    crash.assert_recovers(1);
}

#[test]
fn before_the_commit_of_an_increment() {
    let crash = Crash::changed(INCREMENTAL);
    kill_at(&crash.warehouse, &at("before-commit"), || crash.data_files() == 2);
    crash.assert_lake_holds(Some(0), 100_000, 0);
    crash.assert_recovers(1);
}

#[test]
fn after_the_commit_of_an_increment() {
    let crash = Crash::changed(INCREMENTAL);
    kill_at(&crash.warehouse, &at("after-commit"), || crash.has_version(1));
    crash.assert_lake_holds(Some(1), 100_500, 1000);
    crash.assert_recovers(1);
    assert!(!crash.has_version(2), "what was committed is not carried again");
}

fn assert_backup_recovers(point: &str, event: &str) {
    let crash = Crash::new(&INCREMENTAL.replace("streams", "via = 'basebackup'\nstreams"));
    let has_event = || !crash.warehouse.json(&["events", event, "--json"]).is_empty();
    kill_at(&crash.warehouse, &at(point), has_event);
    crash.assert_lake_holds(None, 0, 0);
    // The kernel ends the backup's server with the run; the next run removes the folder.
    let deadline = Instant::now() + Duration::from_secs(180);
    while !processes_in(crash.warehouse.path()).is_empty() {
        assert!(Instant::now() < deadline, "the backup's server outlives its run");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(crash.warehouse.path().join(".wattlake/basebackup/t").exists());
    crash.assert_recovers(0);
    assert_eq!(files_under(&crash.warehouse.path().join(".wattlake/basebackup")), BTreeSet::new());
    assert_eq!(processes_in(crash.warehouse.path()), Vec::<std::path::PathBuf>::new());
}

#[test]
fn after_the_backup() {
    assert_backup_recovers("after-backup", "snapshot.created");
}

#[test]
fn after_the_restore() {
    assert_backup_recovers("after-restore", "database.available");
}

/// The target is another PostgreSQL, whose transactions hide uncommitted rows.
struct ToPostgres {
    crash: Crash,
    target: Source,
}

impl ToPostgres {
    fn new() -> ToPostgres {
        let crash = Crash::new(&INCREMENTAL.replace("streams", "target = 'target'\nstreams"));
        let target = Source::empty();
        let (source_url, target_url) = (crash.source.url(), target.url());
        let toml = format!(
            "lake.url = 'lake'\nconnections.source.url = '{source_url}'\nconnections.target.url = '{target_url}'\n"
        );
        crash.warehouse.write("wattlake.toml", &toml);
        ToPostgres { crash, target }
    }

    fn assert_recovers(&self) {
        let runs = self.crash.warehouse.json(&["runs", "--json"]);
        assert_eq!(runs[0]["state"], "crashed");
        self.crash.warehouse.ok(&["transfer", "run", "t"]);
        let all = "select count(*), sum(id), sum(value), max(updated_at) from readings";
        assert_eq!(self.target.rows(all), self.crash.source.rows(all));
        let left = "select count(*) from pg_class where relname like 'staging%' and relkind = 'r'";
        assert_eq!(self.target.value(left), "0");
    }
}

#[test]
fn before_the_first_commit_to_postgresql() {
    let to = ToPostgres::new();
    let staged = "select exists (select from pg_class c where c.relname like 'staging%' and c.relnamespace = to_regnamespace('wattlake')
        and exists (select from pg_index i where i.indrelid = c.oid))";
    kill_at(&to.crash.warehouse, &at("before-commit"), || to.target.value(staged) == "t");
    assert_eq!(to.target.value("select to_regclass('public.readings') is null"), "t");
    to.assert_recovers();
}

#[test]
fn before_the_commit_of_an_increment_to_postgresql() {
    let to = ToPostgres::new();
    to.crash.warehouse.ok(&["transfer", "run", "t"]);
    to.crash.source.execute(CHANGE);
    let staged = "select count(*) > 0 from pg_stat_activity where datname = current_database()
        and application_name = 'wattlake' and state = 'idle in transaction'";
    kill_at(&to.crash.warehouse, &at("before-commit"), || to.target.value(staged) == "t");
    assert_eq!((to.target.count("readings"), to.target.count("readings where value = -1")), (100_000, 0));
    to.assert_recovers();
}
