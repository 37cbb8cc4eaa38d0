//! Transfers with mode = "changes": the lake follows the source's log, whatever happens in between.

#[cfg(feature = "failpoints")]
mod chaos;
mod versions;
mod workload;

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{Source, Warehouse, python};

/// A stream with a slot of its own: the slots of all tests are on one server.
pub fn stream_of(source: &Source, more: &str) -> Warehouse {
    Warehouse::of(source, &format!("mode = 'changes'\nslot = '{}'\n{more}", source.name()))
}

/// A stream into another PostgreSQL.
pub fn replica_of(source: &Source, target: &Source, more: &str) -> Warehouse {
    let toml = format!(
        "lake.url = 'lake'\nconnections.source.url = '{}'\nconnections.target.url = '{}'\n",
        source.url(),
        target.url()
    );
    let slot = source.name();
    let transfer = format!("source = 'source'\ntarget = 'target'\nmode = 'changes'\nslot = '{slot}'\n{more}");
    Warehouse::new(&[("wattlake.toml", &toml), ("transfers/t.toml", &transfer)])
}

/// A stream or a server in the background, which is killed where it is dropped.
pub struct Running(Child);

impl Running {
    #[cfg(feature = "failpoints")]
    pub fn start(warehouse: &Warehouse, failpoints: Option<&str>) -> Running {
        let mut command = warehouse.command(&["transfer", "run", "t"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(points) = failpoints {
            command.env("FAILPOINTS", points);
        }
        Running(command.spawn().unwrap())
    }

    /// Ends it by SIGKILL.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Panics where a table of the lake has other rows than the source's.
pub fn assert_same(source: &Source, warehouse: &Warehouse, table: &str, what: &str) {
    let query = format!("select {} from {table}", texts_of(source, warehouse, table));
    assert_same_rows(source, warehouse, [&query, &query], &format!("{what}: {table}"));
}

/// The columns of a table as texts, in a SELECT list.
pub fn texts_of(source: &Source, warehouse: &Warehouse, table: &str) -> String {
    let listed = source.rows(&format!(
        "select column_name from information_schema.columns where table_schema = 'public' and table_name = '{table}' order by ordinal_position"
    ));
    let present = warehouse.json(&["lake", "describe", &format!("public.{table}"), "--json"]).swap_remove(0);
    let present = present["columns"].to_string();
    // A column that no row has had a value in since it was added is not in the lake yet.
    let columns = listed.into_iter().flatten().filter(|name| present.contains(&format!("\"{name}\"")));
    columns.map(|name| format!("{name}::text as {name}")).collect::<Vec<_>>().join(", ")
}

/// Panics where the second query, of the lake, has other rows than the first, of the source.
pub fn assert_same_rows(source: &Source, warehouse: &Warehouse, [expected, found]: [&str; 2], what: &str) {
    let mut expected: Vec<Vec<String>> = source.rows(expected);
    let values = |row: &Value| row.as_object().unwrap().values().map(text_of).collect();
    let mut found: Vec<Vec<String>> = warehouse.sql(found).iter().map(values).collect();
    expected.sort();
    found.sort();
    if let Some(at) = (0..expected.len().max(found.len())).find(|at| expected.get(*at) != found.get(*at)) {
        panic!(
            "{what}: the source has {} rows and the lake {}; the first that differs: {:?} and {:?}",
            expected.len(),
            found.len(),
            expected.get(at),
            found.get(at)
        );
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "NULL".to_owned(),
        other => other.to_string(),
    }
}

#[test]
fn a_stream_is_a_service_of_the_server() {
    let source = Source::empty();
    source.execute("create table t (id int primary key, v text); insert into t values (1, 'a')");
    let warehouse = stream_of(&source, "");
    let toml = std::fs::read_to_string(warehouse.path().join("wattlake.toml")).unwrap();
    let free = [(), ()].map(|()| std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap());
    let [sql, http] = free.map(|listener| listener.local_addr().unwrap().port());
    warehouse.write("wattlake.toml", &format!("{toml}[serve]\nsql = '127.0.0.1:{sql}'\nhttp = '127.0.0.1:{http}'\n"));
    let server = serve(&warehouse);
    wait_for_rows(&warehouse, &json!([{"v": "a"}]));
    source.execute("update t set v = 'b'; insert into t values (2, 'c')");
    wait_for_rows(&warehouse, &json!([{"v": "b"}, {"v": "c"}]));
    let state = warehouse.sql("select state, inserts, updates from system.transfers");
    assert_eq!(state[0]["state"], "streaming");
    warehouse.ok(&["transfer", "validate", "t"]).has("both sides were compared at ");
    let validated = "select validation_state, validated_position ~ '^[0-9A-F]+/[0-9A-F]+$' as at from system.transfers";
    assert_eq!(warehouse.sql(validated), [json!({"validation_state": "validated", "at": true})]);
    // The service ends with its server, however that ends, and the next server starts it again.
    server.kill();
    source.execute("delete from t where id = 1");
    let mut server = serve(&warehouse);
    wait_for_rows(&warehouse, &json!([{"v": "c"}]));
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        let runs = warehouse.json(&["runs", "--json"]);
        assert!(runs.iter().all(|run| run["cause"] == "service"), "{runs:?}");
        if runs.len() >= 2 && runs[0]["state"] == "running" {
            break;
        }
        assert!(Instant::now() < deadline, "{runs:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let stopped = std::process::Command::new("kill").args(["-INT", &server.0.id().to_string()]).status();
    assert!(stopped.unwrap().success());
    assert!(server.0.wait().unwrap().success());
    assert_eq!(warehouse.json(&["runs", "--json"])[0]["state"], "cancelled");
    warehouse.ok(&["transfer", "drop-slot", "t"]).has("dropped the slot");
    assert_eq!(source.value("select count(*) from pg_replication_slots where database = current_database()"), "0");
}

#[test]
fn an_interruption_is_the_state_of_the_tables_until_it_passes() {
    let source = Source::empty();
    source.execute("create table t (id int primary key, v text); insert into t values (1, 'a')");
    let warehouse = stream_of(&source, "");
    let running = Running(warehouse.command(&["transfer", "run", "t"]).stdout(Stdio::null()).spawn().unwrap());
    wait_for_rows(&warehouse, &json!([{"v": "a"}]));
    wait_for_state(&warehouse, "streaming");
    let postgres = Source::at(&source.url().replace(source.name(), "postgres"));
    postgres.execute(&format!(
        "alter database {0} allow_connections false; \
         select pg_terminate_backend(active_pid) from pg_replication_slots where database = '{0}' and active",
        source.name()
    ));
    let state = wait_for_state(&warehouse, "interrupted");
    assert!(!state["reason"].as_str().unwrap_or_default().is_empty(), "{state}");
    postgres.execute(&format!("alter database {} allow_connections true", source.name()));
    source.execute("insert into t values (2, 'b')");
    drop(running);
    warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
    assert_eq!(wait_for_state(&warehouse, "streaming")["reason"], Value::Null);
    wait_for_rows(&warehouse, &json!([{"v": "a"}, {"v": "b"}]));
    warehouse.ok(&["transfer", "drop-slot", "t"]);
}

#[test]
fn a_disk_that_is_full_interrupts_the_stream_and_nothing_is_lost() {
    let source = Source::empty();
    source.execute("create table t (id int primary key, v text); insert into t values (1, 'a')");
    let warehouse = stream_of(&source, "history = true\n");
    warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
    source.execute(
        "insert into t select n, md5(n::text) from generate_series(2, 60000) n; update t set v = 'b' where id = 1",
    );
    // No file may have more than so many blocks: as on a full disk, a write of the lake's files fails.
    let program = warehouse.command(&["transfer", "run", "t", "--until-caught-up"]);
    let mut limited = std::process::Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 600; exec \"$0\" \"$@\""]).arg(program.get_program());
    limited.args(program.get_args()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    if let Some(folder) = program.get_current_dir() {
        limited.current_dir(folder);
    }
    let output = limited.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("File too large"), "{said}");
    assert_eq!(wait_for_state(&warehouse, "interrupted")["hint"], Value::Null);
    warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
    assert_same(&source, &warehouse, "t", "after the disk was full");
    let entries = warehouse.sql("select count(*) as n from t__history");
    assert_eq!(entries[0]["n"], 60_001);
    warehouse.ok(&["transfer", "drop-slot", "t"]);
}

#[test]
fn other_readers_read_the_tables_while_the_stream_writes() {
    let source = Source::empty();
    source.execute(
        "create table t (id int primary key, v int); insert into t select n, 0 from generate_series(1, 5000) n",
    );
    let warehouse = stream_of(&source, "commit_interval = '1s'\n");
    let running = Running(warehouse.command(&["transfer", "run", "t"]).stdout(Stdio::null()).spawn().unwrap());
    wait_for_state(&warehouse, "streaming");
    let folder = warehouse.path().join("lake/public/t");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let read = std::thread::scope(|scope| {
        scope.spawn(|| {
            // Each transaction adds one to all rows, so that a reader sees one value in all of them.
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                source
                    .execute("begin; update t set v = v + 1; delete from t where id = (select max(id) from t); commit");
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        let read = python(include_str!("../readers_beside.py"), &json!({"folder": folder, "seconds": 8}));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        read
    });
    drop(running);
    for reader in ["deltalake", "polars", "duckdb"] {
        let states = read[reader].as_array().unwrap();
        assert!(states.len() >= 3, "{reader}: {read}");
        for state in states {
            let [rows, least, greatest] = [0, 1, 2].map(|at| state[at].as_i64().unwrap());
            assert!(least == greatest && rows == 5_000 - least, "{reader} saw half a transaction: {state}");
        }
        assert_ne!(states[0], states[states.len() - 1], "{reader} saw no change");
    }
    warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
    assert_same(&source, &warehouse, "t", "at the end");
    warehouse.ok(&["transfer", "drop-slot", "t"]);
}

fn wait_for_state(warehouse: &Warehouse, wanted: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        let rows = warehouse.sql("select state, reason, hint from system.transfers");
        if let Some(row) = rows.first().filter(|row| row["state"] == wanted) {
            return row.clone();
        }
        assert!(Instant::now() < deadline, "the state is not {wanted}: {rows:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn serve(warehouse: &Warehouse) -> Running {
    let mut command = warehouse.command(&["serve"]);
    Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

fn wait_for_rows(warehouse: &Warehouse, wanted: &Value) {
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        let result = warehouse.run(&["sql", "--format", "json", "select v from public.t order by id"]);
        if result.code == 0 && serde_json::from_str::<Value>(&result.out).unwrap() == *wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{wanted} did not arrive: {}", result.text());
        std::thread::sleep(Duration::from_millis(100));
    }
}
