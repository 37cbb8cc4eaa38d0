//! Events and their followers, logs, and the deletion of old rows.

use chrono::{TimeDelta, Utc};
use serde_json::json;
use tempfile::TempDir;

use super::file;
use crate::*;

fn caused(event: &EventRow) -> Vec<QueueEntry> {
    vec![QueueEntry {
        job: "mart:daily".into(),
        key: format!("event/mart:daily/1/{}", event.seq),
        cause: format!("event {}", event.name),
        logical: None,
        detail: json!({}),
        not_before: event.at,
    }]
}

#[test]
fn a_follower_sees_each_event_once_and_begins_at_the_present() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    ledger.event("before", None, json!({})).unwrap();
    assert_eq!(ledger.follow("scheduler", 10, caused).unwrap(), 0);
    ledger.event("one", None, json!({})).unwrap();
    ledger.event("two", None, json!({})).unwrap();
    assert_eq!(ledger.follow("scheduler", 1, caused).unwrap(), 1);
    // Another process goes on where the first stopped.
    let other = Ledger::open(&file(&tmp)).unwrap();
    assert_eq!(other.follow("scheduler", 10, caused).unwrap(), 1);
    assert_eq!(other.follow("scheduler", 10, caused).unwrap(), 0);
    let causes: Vec<String> = ledger.queue(9, None).unwrap().into_iter().map(|row| row.cause).collect();
    assert_eq!(causes, ["event two", "event one"]);
}

#[test]
fn a_runs_end_is_an_event_of_its_own() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    let start = RunStart { logical: Some("2026-09".into()), cause: "cron 0 2 * * *".into(), ..RunStart::default() };
    ledger.begin("transfer:platform", start).unwrap().finish(Outcome::Succeeded, json!({"rows": 7})).unwrap();
    drop(ledger.begin("transfer:platform", RunStart::default()).unwrap());
    let events = ledger.events(9, None).unwrap();
    assert_eq!(events[0].name, "run.failed");
    assert_eq!(events[1].name, "run.succeeded");
    assert_eq!(
        events[1].fields,
        json!({"job": "transfer:platform", "cause": "cron 0 2 * * *", "for": "2026-09", "attempt": 1, "rows": 7})
    );
    let counts = ledger.counts().unwrap();
    assert_eq!((counts.jobs[0].succeeded, counts.jobs[0].failed, counts.events), (1, 1, 2));
    assert!(counts.jobs[0].last_success_at.is_some());
}

#[test]
fn a_log_without_end_keeps_its_beginning_and_its_newest() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    for batch in 0..6 {
        let lines: Vec<_> =
            (0..2500).map(|n| (Utc::now(), "info".to_owned(), format!("line {}", batch * 2500 + n + 1))).collect();
        ledger.log("run", &lines).unwrap();
    }
    let lines = ledger.logs("run", 100_000).unwrap();
    assert_eq!(lines.len(), 10_001);
    assert_eq!((lines[0].line.as_str(), lines[4999].line.as_str()), ("line 1", "line 5000"));
    assert!(lines[5000].line.starts_with("(5000 lines were left out"), "{}", lines[5000].line);
    assert_eq!((lines[5001].line.as_str(), lines[10_000].line.as_str()), ("line 10001", "line 15000"));
    assert_eq!(ledger.all_logs(100_000).unwrap().len(), 10_001);
    assert_eq!(ledger.logs("run", 10).unwrap().len(), 10, "nothing is missing among the newest");
    ledger.log("run", &[(Utc::now(), "info".into(), "é".repeat(10_000))]).unwrap();
    assert_eq!(ledger.logs("run", 1).unwrap()[0].line.len(), 8192, "a line is bounded too");
}

#[test]
fn a_log_of_long_lines_is_bounded_by_bytes() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    // Short lines come late: none of them slips into the beginning that was cut before.
    for batch in 0..40 {
        let line = if batch < 30 { "x".repeat(8000) } else { format!("late {batch}") };
        ledger.log("run", &vec![(Utc::now(), "info".to_owned(), line); 10]).unwrap();
        let bytes: usize = ledger.logs("run", 1000).unwrap().iter().map(|row| row.line.len()).sum();
        assert!(bytes < 1200 * 1024, "{bytes}");
    }
    let lines = ledger.logs("run", 1000).unwrap();
    let gap = lines.iter().position(|row| row.line.contains("left out")).unwrap();
    assert_eq!(gap, 65, "512 KiB of the beginning");
    assert!(lines[..gap].iter().all(|row| row.line.len() == 8000));
    assert_eq!(lines.iter().filter(|row| row.line.contains("left out")).count(), 1);
    assert_eq!(lines.last().unwrap().line, "late 39");
    assert_eq!(lines.last().unwrap().seq, 400);
}

#[test]
fn what_is_old_is_forgotten_except_the_last_of_each_job() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    for _ in 0..3 {
        let run = ledger.begin("mart:daily", RunStart::default()).unwrap();
        ledger.log(run.id(), &[(Utc::now(), "info".into(), "said".into())]).unwrap();
        run.finish(Outcome::Succeeded, json!({})).unwrap();
    }
    let living = ledger.begin("mart:hourly", RunStart::default()).unwrap();
    let pruned = ledger.prune(Utc::now() + TimeDelta::seconds(1)).unwrap();
    assert_eq!((pruned.runs, pruned.log_lines), (2, 2));
    let left = ledger.runs(9, None).unwrap();
    assert_eq!(left.iter().map(|run| run.state.as_str()).collect::<Vec<_>>(), ["running", "succeeded"]);
    drop(living);
}

#[test]
fn what_a_follower_has_not_seen_and_the_last_success_are_not_forgotten() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    ledger.follow("scheduler", 10, |_| vec![]).unwrap();
    let end = |outcome| ledger.begin("mart:daily", RunStart::default()).unwrap().finish(outcome, json!({})).unwrap();
    end(Outcome::Succeeded);
    end(Outcome::Succeeded);
    for _ in 0..3 {
        end(Outcome::Failed { error: "the source is away".into(), retryable: false });
    }
    let soon = || Utc::now() + TimeDelta::seconds(1);
    assert_eq!(ledger.prune(soon()).unwrap(), PruneCounts::default(), "the server was down all the while");
    assert_eq!(ledger.follow("scheduler", 10, |_| vec![]).unwrap(), 5);
    let pruned = ledger.prune(soon()).unwrap();
    assert_eq!((pruned.runs, pruned.events), (3, 5));
    let counts = ledger.counts().unwrap();
    assert_eq!((counts.jobs[0].succeeded, counts.jobs[0].failed), (1, 1));
    assert!(counts.jobs[0].last_success_at.is_some(), "for who asks how long it has been failing");
}

#[test]
fn very_many_old_entries_go_in_portions() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    ledger
        .write("fill", |tx| {
            tx.execute_batch(
                "with recursive n (i) as (select 1 union all select i + 1 from n where i < 2500)
                 insert into runs (id, job, cause, state, detail, pid, started_at, ended_at)
                 select printf('%09d', i), 'mart:daily', 'cron', 'succeeded', '{}', 1,
                        '2026-01-01T00:00:00.000000Z', '2026-01-01T00:00:01.000000Z' from n;
                 insert into events (at, name, run_id, fields) select ended_at, 'run.succeeded', id, '{}' from runs;
                 insert into events (at, name, fields) select ended_at, 'file.stored', '{}' from runs;",
            )
        })
        .unwrap();
    let pruned = ledger.prune(Utc::now()).unwrap();
    assert_eq!((pruned.runs, pruned.events), (2499, 5000));
    assert_eq!(ledger.runs(9, None).unwrap().len(), 1);
}

#[test]
fn one_process_holds_what_only_one_may() {
    let tmp = TempDir::new().unwrap();
    let (one, two) = (Ledger::open(&file(&tmp)).unwrap(), Ledger::open(&file(&tmp)).unwrap());
    let held = one.take_lease("serve").unwrap();
    assert!(held.is_some());
    assert!(two.take_lease("serve").unwrap().is_none());
    drop(held);
    assert!(two.take_lease("serve").unwrap().is_some());
}
