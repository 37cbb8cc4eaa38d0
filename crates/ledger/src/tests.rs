//! Several handles of one file, and a process that is killed during a run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::*;

mod following;
mod functions;
mod invoking;
mod queueing;

const HOLDER_FILE: &str = "LEDGER_TEST_HOLDER_FILE";

fn file(tmp: &TempDir) -> PathBuf {
    tmp.path().join("state/deep/ledger.db")
}

fn begun(cause: &str, detail: Value) -> RunStart {
    RunStart { cause: cause.to_owned(), detail, ..RunStart::default() }
}

fn outcome(source_table: &str, state: &str, rows: u64) -> TableOutcome {
    TableOutcome {
        transfer: "platform".into(),
        source_table: source_table.into(),
        target_table: format!("lake.{source_table}"),
        state: state.into(),
        mode: "initial".into(),
        rows,
        position: Some("0/16B3748".into()),
        ..TableOutcome::default()
    }
}

#[test]
fn a_run_leaves_one_row_with_its_events_and_tables() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    let asked = json!({"z": 1, "a": "été"});
    let run = ledger.begin("transfer:platform", begun("hand", asked.clone())).unwrap();
    let id = run.id().to_owned();
    assert!(ledger.is_run_alive(&id).unwrap());
    assert_eq!(ledger.runs(9, None).unwrap()[0].state, "running");

    run.event("snapshot.created", json!({"seconds": 2})).unwrap();
    run.table(outcome("readings", "copying", 1)).unwrap();
    run.table(outcome("bills", "copied", 5)).unwrap();
    run.table(outcome("readings", "copied", u64::MAX)).unwrap();
    run.finish(Outcome::Succeeded, json!({"rows": 7})).unwrap();

    assert!(!ledger.is_run_alive(&id).unwrap());
    let runs = ledger.runs(9, None).unwrap();
    assert_eq!(runs.len(), 1);
    let row = &runs[0];
    assert_eq!((row.state.as_str(), row.cause.as_str()), ("succeeded", "hand"));
    assert_eq!((&row.detail, &row.figures), (&asked, &json!({"rows": 7})));
    assert!(row.ended_at.unwrap() >= row.started_at);
    assert_eq!(ledger.run(&id).unwrap().as_ref(), Some(row));

    let events = ledger.run_events(&id).unwrap();
    assert_eq!(events[0].fields, json!({"seconds": 2}));
    let now: Vec<_> = ledger.transfer_tables(Some("platform")).unwrap();
    let shown: Vec<_> = now.iter().map(|t| (t.source_table.as_str(), t.state.as_str())).collect();
    assert_eq!(shown, [("bills", "copied"), ("readings", "copied")]);
    assert_eq!(now[1].rows, i64::MAX as u64);
    assert_eq!(now[1].position.as_deref(), Some("0/16B3748"));
    assert!(ledger.transfer_tables(Some("other")).unwrap().is_empty());
    let history: Vec<_> = ledger.run_tables(&id).unwrap();
    let states: Vec<_> = history.iter().map(|t| t.table.state.as_str()).collect();
    assert_eq!(states, ["copying", "copied", "copied"]);

    assert!(now.iter().all(|table| table.validation.is_none()));
    let at = now[0].updated_at;
    for state in ["differs", "validated"] {
        let position = Some("0/16B3748".to_owned());
        let validation = ValidationRow { state: state.to_owned(), position, figures: json!({"lost": 1}), at };
        ledger.record_validation("platform", "bills", &validation).unwrap();
        let now = ledger.transfer_tables(Some("platform")).unwrap();
        assert_eq!((now[0].validation.as_ref(), now[1].validation.as_ref()), (Some(&validation), None));
    }
}

#[test]
fn rows_are_shown_with_instants_as_text() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    let run = ledger.begin("mart:daily", begun("hand", Value::Null)).unwrap();
    run.table(outcome("readings", "copied", 1)).unwrap();
    let shown = serde_json::to_value(&ledger.runs(1, None).unwrap()[0]).unwrap();
    let started = shown["started_at"].as_str().unwrap();
    assert_eq!(started.len(), "2026-11-23T01:45:51.729000Z".len());
    assert!(started.ends_with('Z') && shown["ended_at"].is_null());
    let shown = serde_json::to_value(&ledger.run_tables(run.id()).unwrap()[0]).unwrap();
    assert_eq!(shown["source_table"], "readings");
    assert_eq!(shown["seq"], 1);
}

#[test]
fn a_job_runs_once_at_a_time_whichever_handle_begins_it() {
    let tmp = TempDir::new().unwrap();
    let (one, two) = (Ledger::open(&file(&tmp)).unwrap(), Ledger::open(&file(&tmp)).unwrap());
    let run = one.begin("transfer:a/../b", begun("hand", Value::Null)).unwrap();
    let error = two.begin("transfer:a/../b", begun("cron", Value::Null)).unwrap_err();
    assert_eq!(error.kind, Kind::Retry);
    assert!(error.context.contains(run.id()), "{error}");
    assert!(error.context.contains(&format!("pid {}", std::process::id())));
    assert!(two.is_run_alive(run.id()).unwrap());
    two.begin("transfer:a/../c", begun("hand", Value::Null)).unwrap();
    run.finish(Outcome::Cancelled, Value::Null).unwrap();
    two.begin("transfer:a/../b", begun("cron", Value::Null)).unwrap();
    assert_eq!(two.runs(9, Some("transfer:a/../b")).unwrap().len(), 2);
}

#[test]
fn a_run_without_a_result_failed() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    drop(ledger.begin("mart:daily", begun("hand", Value::Null)).unwrap());
    let row = &ledger.runs(1, None).unwrap()[0];
    assert_eq!((row.state.as_str(), row.error.as_deref()), ("failed", Some("ended without a result")));
    let run = ledger.begin("mart:daily", begun("hand", Value::Null)).unwrap();
    let error = "no such mart".to_owned();
    run.finish(Outcome::Failed { error, retryable: false }, Value::Null).unwrap();
    assert_eq!(ledger.runs(1, None).unwrap()[0].error.as_deref(), Some("no such mart"));
}

/// Not a test of its own: the process that the next test kills.
#[test]
#[ignore = "started by the test that kills it"]
fn hold_a_run() {
    let path = PathBuf::from(std::env::var_os(HOLDER_FILE).unwrap());
    let ledger = Ledger::open(&path).unwrap();
    let _run = ledger.begin("transfer:platform", begun("hand", json!({"depth": 3}))).unwrap();
    std::thread::sleep(Duration::from_secs(600));
}

fn start_holder(path: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::hold_a_run", "--ignored"])
        .env(HOLDER_FILE, path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_run_whose_process_was_killed_is_crashed_and_its_lease_free() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    for seen_by_listing in [true, false] {
        let mut holder = start_holder(&file(&tmp));
        let deadline = Instant::now() + Duration::from_secs(180);
        let row = loop {
            match ledger.runs(1, None).unwrap().pop() {
                Some(row) if row.pid == holder.id() => break row,
                _ => assert!(Instant::now() < deadline),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(row.state, "running");
        assert!(ledger.is_run_alive(&row.id).unwrap());
        let refused = ledger.begin("transfer:platform", begun("hand", Value::Null));
        assert!(refused.unwrap_err().context.contains(&row.id));

        holder.kill().unwrap();
        holder.wait().unwrap();
        assert!(!ledger.is_run_alive(&row.id).unwrap());
        if !seen_by_listing {
            drop(ledger.begin("transfer:platform", begun("hand", Value::Null)).unwrap());
            let raw = Connection::open(file(&tmp)).unwrap();
            let sql = "select state from runs where id = ?";
            let state: String = raw.query_row(sql, [&row.id], |r| r.get(0)).unwrap();
            assert_eq!(state, "crashed");
        }
        let row = ledger.run(&row.id).unwrap().unwrap();
        assert_eq!(row.state, "crashed");
        let event = ledger.run_events(&row.id).unwrap().pop().unwrap();
        assert_eq!((event.name.as_str(), &event.fields["crashed"]), ("run.failed", &json!(true)));
        assert_eq!(event.fields["depth"], 3, "a chain is counted through a crash");
        assert!(event.fields.get("for").is_none(), "as any end's: nothing stands for nothing");
        assert!(row.ended_at.is_some());
    }
}

#[test]
fn lists_are_ordered_and_bounded() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    let ids: Vec<String> =
        (0..50).map(|_| ledger.begin("mart:daily", begun("hand", Value::Null)).unwrap().id().to_owned()).collect();
    let newest: Vec<String> = ledger.runs(3, None).unwrap().into_iter().map(|r| r.id).collect();
    assert_eq!(newest, [&ids[49], &ids[48], &ids[47]].map(String::clone));

    let ends = ledger.events(1, None).unwrap()[0].seq;
    for n in 0..6 {
        ledger.event(["even", "odd"][n % 2], None, json!(n)).unwrap();
    }
    let fields = |events: Vec<EventRow>| -> Vec<Value> { events.into_iter().map(|e| e.fields).collect() };
    assert_eq!(fields(ledger.events(2, None).unwrap()), [5, 4]);
    assert_eq!(fields(ledger.events(9, Some("odd")).unwrap()), [5, 3, 1]);
    let first = ledger.events_after(ends, 2).unwrap();
    let next = ledger.events_after(first[1].seq, 2).unwrap();
    assert_eq!((fields(first), fields(next)), (vec![json!(0), json!(1)], vec![json!(2), json!(3)]));
}

#[test]
fn an_event_names_a_run_that_exists() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    assert!(ledger.event("lost", Some("no such run"), Value::Null).is_err());
    assert!(!ledger.is_run_alive("no such run").unwrap());
    assert!(ledger.events(9, None).unwrap().is_empty());
}

#[test]
fn handles_write_side_by_side_and_lose_nothing() {
    let tmp = TempDir::new().unwrap();
    let path = file(&tmp);
    // All of them migrate at once, too.
    std::thread::scope(|scope| {
        for worker in 0..6 {
            let path = &path;
            scope.spawn(move || {
                let ledger = Ledger::open(path).unwrap();
                let run = ledger.begin(&format!("job:{worker}"), begun("hand", Value::Null)).unwrap();
                for n in 0..20 {
                    run.event("step", json!([worker, n])).unwrap();
                    run.table(outcome(&format!("t{worker}"), "copying", n)).unwrap();
                    ledger.runs(5, None).unwrap();
                }
                run.finish(Outcome::Succeeded, Value::Null).unwrap();
            });
        }
    });
    let ledger = Ledger::open(&path).unwrap();
    assert_eq!(ledger.events(1000, Some("step")).unwrap().len(), 120);
    assert_eq!(ledger.events(1000, Some("run.succeeded")).unwrap().len(), 6);
    assert!(ledger.runs(9, None).unwrap().iter().all(|r| r.state == "succeeded"));
    let tables = ledger.transfer_tables(None).unwrap();
    assert_eq!(tables.iter().map(|t| t.rows).collect::<Vec<_>>(), [19; 6]);
}

#[test]
fn clones_share_the_connection_across_threads() {
    fn shared<T: Clone + Send + Sync>(_: &T) {}
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    shared(&ledger);
    let clone = ledger.clone();
    let noting = std::thread::spawn(move || clone.event("x", None, Value::Null));
    let seq = noting.join().unwrap().unwrap();
    assert_eq!(ledger.events(1, None).unwrap()[0].seq, seq);
}

#[test]
fn a_file_of_a_newer_program_or_no_database_is_refused_untouched() {
    let tmp = TempDir::new().unwrap();
    let path = file(&tmp);
    drop(Ledger::open(&path).unwrap());
    Ledger::open(&path).unwrap().event("kept", None, Value::Null).unwrap();
    let raw = Connection::open(&path).unwrap();
    let mode: String = raw.query_row("pragma journal_mode", [], |r| r.get(0)).unwrap();
    assert_eq!(mode, "wal");
    raw.pragma_update(None, "user_version", 999).unwrap();
    let error = Ledger::open(&path).unwrap_err();
    assert_eq!(error.kind, Kind::FixSetup);
    assert!(error.context.contains("999"), "{error}");
    let kept: u32 = raw.query_row("select count(*) from events", [], |r| r.get(0)).unwrap();
    assert_eq!(kept, 1);

    let other = tmp.path().join("notes.txt");
    std::fs::write(&other, "not a database, but quite long enough to look like one".repeat(40)).unwrap();
    assert_eq!(Ledger::open(&other).unwrap_err().kind, Kind::FixSetup);
}

#[test]
fn many_open_a_new_ledger_at_once() {
    for _ in 0..10 {
        let tmp = TempDir::new().unwrap();
        let path = file(&tmp);
        std::thread::scope(|scope| {
            let openers: Vec<_> = (0..8).map(|_| scope.spawn(|| Ledger::open(&path).map(drop))).collect();
            openers.into_iter().for_each(|opener| opener.join().unwrap().unwrap());
        });
    }
}

#[test]
fn only_its_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let tmp = TempDir::new().unwrap();
    let path = file(&tmp);
    let folder = path.parent().unwrap();
    std::fs::create_dir_all(folder).unwrap();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let ledger = Ledger::open(&path).unwrap();
    ledger.begin("transfer:a", begun("manual", Value::Null)).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder), 0o711);
    for file in std::fs::read_dir(folder).unwrap().flatten() {
        if file.file_name().to_string_lossy().starts_with("ledger.db")
            && !file.path().is_dir()
            && !file.file_name().to_string_lossy().contains("locks")
        {
            assert_eq!(mode(&file.path()), 0o600, "{:?}", file.path());
        }
    }
}
