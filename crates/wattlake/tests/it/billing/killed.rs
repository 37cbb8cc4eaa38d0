//! Runs killed with SIGKILL at critical points: nothing is lost, and nothing is billed twice.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::Billing;

/// Runs a job that stops at a point, and kills it there.
fn kill_at(it: &Billing, point: &str, arguments: &[&str]) {
    let mut run = it.warehouse.command(arguments);
    let folder = tempfile::tempdir().unwrap();
    let stopped = folder.path().join("stopped");
    run.env("WATTLAKE_TEST_STOPS_AT", point).env("WATTLAKE_TEST_STOPPED", &stopped);
    let mut child = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(180);
    while !stopped.exists() {
        assert!(child.try_wait().unwrap().is_none() && Instant::now() < deadline, "{point} was not reached");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn nothing_is_lost_and_nothing_is_billed_twice() {
    let it = Billing::new();
    it.comes("PRD0001_2026-03.csv", super::ONE.as_bytes());
    kill_at(&it, "ingest-before-note", &["run", "ingest:production"]);
    it.warehouse.ok(&["run", "ingest:production"]).has("accepted    PRD0001_2026-03.csv");
    assert_eq!(it.warehouse.count("ingest.files"), 1);
    it.warehouse.ok(&["run", "load:declared"]);

    let bill = ["run", "function:bill", "--for", "2026-03"];
    kill_at(&it, "function-before-result", &bill);
    it.warehouse.ok(&bill);
    let load = ["run", "load:lines", "--for", "2026-03"];
    kill_at(&it, "load-before-commit", &load);
    assert!(!it.warehouse.table("billing.lines").join("_delta_log").exists(), "no entry before the commit");
    kill_at(&it, "load-after-commit", &load);
    assert_eq!(it.entries().len(), 3);
    it.warehouse.ok(&load).has("0 rows of 0 files and 2 documents");
    assert_eq!(it.entries().len(), 3, "nothing is billed twice");

    let control = ["run", "control:billing", "--for", "2026-03"];
    kill_at(&it, "control-before-results", &control);
    it.warehouse.run(&control);
    assert_eq!(it.warehouse.count("controls.results"), 2);
    it.warehouse.write("controls/billing/large.sql", &super::LARGE.replace("tolerance = 10", "tolerance = 100"));
    super::statements::add(&it);
    let issue = ["run", "statement:producers", "--for", "2026-03"];
    kill_at(&it, "statement-before-register", &issue);
    assert!(it.numbers().is_empty(), "no number before the register has it");
    kill_at(&it, "statement-after-register", &issue);
    assert_eq!(it.numbers(), ["2026-03-A-1", "2026-03-B-1"]);
    it.warehouse.ok(&issue).has("0 statements issued; 2 unchanged");
    assert!(it.warehouse.path().join("outbox/statements/2026-03/2026-03-A-1.html").exists());

    let crashed = it.warehouse.json(&["runs", "--json"]).into_iter().filter(|run| run["state"] == "crashed").count();
    assert_eq!(crashed, 7);
}
