//! Streams that are killed at failpoints and at random moments, and whose connections are cut, while a random workload
//! goes on: afterwards, source and lake have the same rows.
//!
//! `WATTLAKE_CHAOS` is the number of crashes, `WATTLAKE_SEED` the first seed; a failure names its own.

use std::time::{Duration, Instant};

use rand::Rng;

use super::workload::{NAMES, TABLES, Workload};
use super::{Running, assert_same, assert_same_rows, replica_of, stream_of, texts_of};
use crate::world::{Source, Warehouse};

/// Where a stream is stopped, to be killed there: at the first time, or at a later one.
const POINTS: [&str; 8] = [
    "before-commit=sleep(3600000)",
    "before-commit=2*off->sleep(3600000)",
    "after-commit=sleep(3600000)",
    "after-commit=3*off->sleep(3600000)",
    "after-history=sleep(3600000)",
    "after-history=2*off->sleep(3600000)",
    "after-slot=sleep(3600000)",
    "mid-copy=sleep(3600000)",
];

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn after_crashes_source_and_lake_are_equal() {
    crash(number_of("WATTLAKE_CHAOS").unwrap_or(12), crash_and_compare);
}

#[test]
fn after_crashes_source_and_replica_are_equal() {
    crash(number_of("WATTLAKE_CHAOS").unwrap_or(6), crash_and_compare_replica);
}

fn crash(crashes: u64, crash_and_compare: impl Fn(u64, u64)) {
    let seed = number_of("WATTLAKE_SEED").unwrap_or(1);
    // A source of its own for each few crashes, so that first copies are interrupted, too.
    let mut done = 0;
    for number in 0.. {
        let of_source = (crashes - done).min(12);
        if of_source == 0 {
            break;
        }
        crash_and_compare(seed + number, of_source);
        done += of_source;
        println!("{done} of {crashes} crashes");
    }
}

/// Creates the tables of the workload.
fn fill(source: &Source, seed: u64) {
    source.execute(TABLES);
    // A stream that is stopped while it reads a table holds a lock on it.
    source.execute("set lock_timeout = '300ms'");
    if !seed.is_multiple_of(3) {
        // Transactions are sent before their commit where they are larger.
        source.execute(&format!("alter database {} set logical_decoding_work_mem = '64kB'", source.name()));
    }
}

/// Starts a stream, which may stop at a failpoint, and runs transactions beside it for a moment.
fn run_beside(source: &Source, warehouse: &Warehouse, workload: &mut Workload) -> Running {
    let point = match workload.random().random_range(0..POINTS.len() * 2) {
        at if at < POINTS.len() => Some(POINTS[at]),
        _ => None,
    };
    let running = Running::start(warehouse, point);
    let until = Instant::now() + Duration::from_millis(workload.random().random_range(50..1500));
    while Instant::now() < until {
        source.attempt(&workload.transaction());
        if workload.random().random_bool(0.01) {
            cut(source);
        }
    }
    running
}

fn crash_and_compare(seed: u64, crashes: u64) {
    let source = Source::empty();
    fill(&source, seed);
    // A table whose columns were changed may be read again: its history has a gap then, and is tested without them.
    let has_history = seed.is_multiple_of(2);
    let warehouse =
        stream_of(&source, &format!("include = ['public.*']\ncommit_interval = '1s'\nhistory = {has_history}\n"));
    let mut workload = Workload::new(seed, !has_history);
    let mut moments: Vec<Moment> = Vec::new();
    let mut is_recorded = false;
    for crash in 0..crashes {
        let what = format!("WATTLAKE_SEED={seed}, crash {crash}");
        let running = run_beside(&source, &warehouse, &mut workload);
        if is_recorded {
            moments.push(Moment::of(&source));
        }
        running.kill();
        if workload.random().random_bool(0.5) {
            catch_up(&source, &warehouse, &what);
            is_recorded = has_history;
        }
    }
    catch_up(&source, &warehouse, &format!("WATTLAKE_SEED={seed}, at the end"));
    for moment in &moments {
        moment.compare(&source, &warehouse, &format!("WATTLAKE_SEED={seed}"));
    }
    warehouse.ok(&["transfer", "drop-slot", "t"]);
}

/// As [`crash_and_compare`], where the target is another PostgreSQL.
fn crash_and_compare_replica(seed: u64, crashes: u64) {
    let (source, target) = (Source::empty(), Source::empty());
    fill(&source, seed);
    let warehouse = replica_of(&source, &target, "include = ['public.*']\n");
    let mut workload = Workload::new(seed, true);
    for crash in 0..crashes {
        let what = format!("WATTLAKE_SEED={seed}, crash {crash}");
        let running = run_beside(&source, &warehouse, &mut workload);
        running.kill();
        if workload.random().random_bool(0.5) || crash + 1 == crashes {
            run_until_caught_up(&warehouse, &what);
            for table in NAMES {
                let sql = format!(
                    "select string_agg(format('%I::text as %1$I', column_name), ', ' order by column_name) \
                     from information_schema.columns where table_schema = 'public' and table_name = '{table}'"
                );
                // A column that no row has had a value in since it was added is not in the target yet.
                let columns = target.value(&sql);
                let rows = format!("select format('%s', t) from (select {columns} from {table}) t order by 1");
                assert_eq!(target.rows(&rows), source.rows(&rows), "{what}: {table}");
            }
        }
    }
    warehouse.ok(&["transfer", "drop-slot", "t"]);
}

/// The tables at the source at an instant.
struct Moment {
    at: String,
    /// The name of each table's copy.
    copies: Vec<(&'static str, String)>,
}

impl Moment {
    fn of(source: &Source) -> Moment {
        let at =
            source.value("select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
        let number: String = at.chars().filter(char::is_ascii_digit).collect();
        source.execute("create schema if not exists copies");
        let copies = NAMES.map(|name| (name, format!("copies.{name}_{number}")));
        for (name, copy) in &copies {
            source.execute(&format!("create table {copy} as table {name}"));
        }
        Moment { at, copies: copies.into() }
    }

    fn compare(&self, source: &Source, warehouse: &Warehouse, what: &str) {
        for (name, copy) in &self.copies {
            let texts = texts_of(source, warehouse, name);
            let as_of = format!("select {texts} from {name} for timestamp as of '{}'", self.at);
            let copied = format!("select {texts} from {copy}");
            assert_same_rows(source, warehouse, [&copied, &as_of], &format!("{what}, {name} at {}", self.at));
        }
    }
}

/// Ends the server's side of the stream's connections.
fn cut(source: &Source) {
    source.execute(
        "select pg_terminate_backend(active_pid) from pg_replication_slots \
         where active_pid is not null and database = current_database()",
    );
}

fn catch_up(source: &Source, warehouse: &Warehouse, what: &str) {
    run_until_caught_up(warehouse, what);
    for table in NAMES {
        assert_same(source, warehouse, table, what);
    }
}

fn run_until_caught_up(warehouse: &Warehouse, what: &str) {
    // The server may not have noticed yet that the killed stream is gone.
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        let result = warehouse.run(&["transfer", "run", "t", "--until-caught-up"]);
        if result.code == 0 {
            break;
        }
        assert!(result.text().contains("is in use") && Instant::now() < deadline, "{what}: {}", result.text());
        std::thread::sleep(Duration::from_millis(100));
    }
}
