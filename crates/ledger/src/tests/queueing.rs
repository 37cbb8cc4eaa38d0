//! The queue, the schedules, concurrency keys.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::file;
use crate::schedule::Kept;
use crate::*;

fn entry(key: &str, not_before: DateTime<Utc>) -> Entry {
    Entry {
        job: "transfer:platform".into(),
        key: key.into(),
        cause: "cron 0 2 * * *".into(),
        logical: Some("2026-03-29T02:00:00+01:00".into()),
        detail: json!({"depth": 1}),
        not_before,
    }
}

fn now() -> DateTime<Utc> {
    crate::instant::now()
}

#[test]
fn an_entry_happens_once_and_its_attempts_are_counted() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    let id = ledger.enqueue(&entry("a", now())).unwrap().unwrap();
    assert_eq!(ledger.enqueue(&entry("a", now())).unwrap(), None, "the same key is the same entry");
    assert!(ledger.claim(id).unwrap());
    assert!(!ledger.claim(id).unwrap(), "one takes it");
    assert!(ledger.due(now(), 9).unwrap().is_empty());

    let start = Start { queued: Some(id), ..Start::default() };
    let run = ledger.begin("transfer:platform", start).unwrap();
    assert_eq!(ledger.queued(id).unwrap().unwrap().run_id.as_deref(), Some(run.id()));
    run.finish(Outcome::Failed { error: "the source is away".into() }, json!({})).unwrap();

    let later = now() + TimeDelta::seconds(60);
    ledger.settle(id, Settled::Again { not_before: later, error: "the source is away".into() }).unwrap();
    assert!(ledger.due(now(), 9).unwrap().is_empty(), "not yet");
    assert_eq!(ledger.next_due().unwrap(), Some(later));
    assert_eq!(ledger.due(later, 9).unwrap()[0].attempts, 1);
    assert!(ledger.claim(id).unwrap());
    ledger.settle(id, Settled::Succeeded).unwrap();
    let ended = ledger.queued(id).unwrap().unwrap();
    assert_eq!((ended.state.as_str(), ended.attempts, ended.error), ("succeeded", 2, None));
    ledger.settle(id, Settled::Failed { error: "too late".into() }).unwrap();
    assert_eq!(ledger.queued(id).unwrap().unwrap().state, "succeeded", "an end is an end");
}

#[test]
fn a_cancellation_says_what_it_met() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    let waiting = ledger.enqueue(&entry("a", now())).unwrap().unwrap();
    let running = ledger.enqueue(&entry("b", now())).unwrap().unwrap();
    assert!(ledger.claim(running).unwrap());
    assert_eq!(ledger.cancel(waiting).unwrap(), Cancel::Withdrawn);
    assert!(!ledger.claim(waiting).unwrap());
    assert_eq!(ledger.cancel(running).unwrap(), Cancel::Requested);
    assert!(ledger.running().unwrap()[0].cancel_requested);
    assert_eq!(ledger.cancel(waiting).unwrap(), Cancel::AlreadyEnded("cancelled".into()));
    assert_eq!(ledger.cancel(99).unwrap(), Cancel::Unknown);
    // It failed just then: it is not tried again.
    ledger.settle(running, Settled::Again { not_before: now(), error: "the source is away".into() }).unwrap();
    let row = ledger.queued(running).unwrap().unwrap();
    assert_eq!((row.state.as_str(), row.ended_at.is_some()), ("cancelled", true));
    assert_eq!(ledger.next_due().unwrap(), None);
}

#[test]
fn of_many_who_want_an_entry_one_has_it() {
    let tmp = TempDir::new().unwrap();
    let path = file(&tmp);
    let ledger = Ledger::open(&path).unwrap();
    let ids: Vec<i64> = (0..20).map(|n| ledger.enqueue(&entry(&n.to_string(), now())).unwrap().unwrap()).collect();
    let claimed: usize = std::thread::scope(|scope| {
        let claim_all = || {
            let ledger = Ledger::open(&path).unwrap();
            ids.iter().filter(|id| ledger.claim(**id).unwrap()).count()
        };
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(claim_all)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(claimed, 20);
    assert!(ledger.running().unwrap().iter().all(|row| row.attempts == 1));
}

#[test]
fn a_concurrency_key_holds_back_other_jobs() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    // Named twice, it is still one key.
    let start = || Start { keys: vec!["platform-db".into(), "platform-db".into()], ..Start::default() };
    let run = ledger.begin("transfer:a", start()).unwrap();
    assert!(ledger.key_is_held("platform-db").unwrap());
    let refused = ledger.begin("transfer:b", start()).unwrap_err();
    assert_eq!(refused.kind, Kind::Retry);
    assert!(refused.to_string().contains("platform-db"), "{refused}");
    assert!(refused.to_string().contains(&format!("transfer:a, run {}", run.id())), "and says who has it: {refused}");
    assert!(!ledger.job_is_running("transfer:b").unwrap(), "and gives its own lease back");
    drop(run);
    ledger.begin("transfer:b", start()).unwrap();
}

#[test]
fn a_schedule_moves_together_with_what_it_queues() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    let kept = |spec: &str| Kept {
        name: "transfer:platform#1".into(),
        job: "transfer:platform".into(),
        spec: spec.into(),
        zone: "Europe/Paris".into(),
    };
    let first = now();
    ledger.keep_schedules(&[kept("0 2 * * *")], first).unwrap();
    let later = first + TimeDelta::hours(1);
    let slots = [entry("cron/1", later), entry("cron/2", later)];
    assert_eq!(ledger.fire("transfer:platform#1", later, None, Some("02:00"), &slots).unwrap(), 2);
    assert_eq!(ledger.fire("transfer:platform#1", later, None, None, &slots).unwrap(), 0, "twice is once");
    let row = ledger.schedule("transfer:platform#1").unwrap().unwrap();
    assert_eq!((row.seen_to, row.last_slot.as_deref()), (later, Some("02:00")));

    ledger.keep_schedules(&[kept("0 2 * * *")], later + TimeDelta::hours(5)).unwrap();
    assert_eq!(ledger.schedule("transfer:platform#1").unwrap().unwrap().seen_to, later, "a restart forgets nothing");
    let changed = later + TimeDelta::hours(6);
    ledger.keep_schedules(&[kept("0 3 * * *")], changed).unwrap();
    assert_eq!(ledger.schedule("transfer:platform#1").unwrap().unwrap().seen_to, changed, "another pattern begins now");
    assert_eq!(ledger.pause("transfer:platform", true).unwrap(), 1);
    assert!(ledger.schedules().unwrap()[0].paused);
    assert_eq!(ledger.pause("transfer:platform#1", false).unwrap(), 1);
    assert!(!ledger.schedules().unwrap()[0].paused, "one by its own name");
    ledger.keep_schedules(&[], changed).unwrap();
    assert!(ledger.schedules().unwrap().is_empty());
}

#[test]
fn the_file_of_an_older_program_is_brought_to_today() {
    let tmp = TempDir::new().unwrap();
    let path = file(&tmp);
    let ledger = Ledger::open(&path).unwrap();
    let id = ledger.begin("a:b", Start { detail: Value::Null, ..Start::default() }).unwrap().id().to_owned();
    drop(ledger);
    // As the first program left it.
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(
        "drop index runs_by_state; drop table queue; drop table schedules; drop table followers; drop table logs;
         drop table function_aliases; drop table function_versions; drop table functions; drop table layers;
         drop table invocations; drop table deliveries; drop table invocation_totals;
         alter table runs drop column logical; alter table runs drop column inputs;
         alter table runs drop column queue_id; alter table runs drop column attempt;
         pragma user_version = 1",
    )
    .unwrap();
    drop(old);
    let ledger = Ledger::open(&path).unwrap();
    let run = ledger.run(&id).unwrap().unwrap();
    assert_eq!((run.attempt, run.logical), (1, None));
    assert!(ledger.enqueue(&entry("a", now())).unwrap().is_some());
}

#[test]
fn a_process_that_comes_late_finds_its_entry_gone() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    let id = ledger.enqueue(&entry("a", now())).unwrap().unwrap();
    let begin = |attempt| ledger.begin("transfer:platform", Start { queued: Some(id), attempt, ..Start::default() });
    let refused = begin(1).unwrap_err();
    assert_eq!(refused.kind, Kind::FixInput, "nobody has taken it");
    assert!(ledger.claim(id).unwrap());
    // The server died before the process began; the next one takes the entry again.
    ledger.settle(id, Settled::Later { not_before: now(), error: "it never began".into() }).unwrap();
    assert_eq!(ledger.queued(id).unwrap().unwrap().attempts, 0, "that was no attempt");
    assert!(ledger.claim(id).unwrap());
    let run = begin(1).unwrap();
    run.finish(Outcome::Succeeded, json!({})).unwrap();
    assert!(begin(1).is_err(), "an attempt has one run");
    assert_eq!(ledger.runs(9, None).unwrap().len(), 1, "and a refused one leaves no row");
}

#[test]
fn failures_and_recoveries_of_a_job_are_told_once() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    let told = || {
        let events = ledger.events_after(0, 99).unwrap();
        events.into_iter().filter(|event| event.name.starts_with("job.")).map(|event| event.name).collect::<Vec<_>>()
    };
    let mut n = 0;
    let mut end = |settled: Settled| {
        n += 1;
        let id = ledger.enqueue(&entry(&n.to_string(), now())).unwrap().unwrap();
        assert!(ledger.claim(id).unwrap());
        ledger.settle(id, settled.clone()).unwrap();
        ledger.settle(id, settled).unwrap();
    };
    end(Settled::Succeeded);
    end(Settled::Again { not_before: now() + TimeDelta::hours(1), error: "away".into() });
    assert!(told().is_empty());
    end(Settled::Failed { error: "away".into() });
    end(Settled::Cancelled);
    end(Settled::Succeeded);
    end(Settled::Succeeded);
    assert_eq!(told(), ["job.failed", "job.recovered"]);
    let failed = ledger.events(1, Some("job.failed")).unwrap().remove(0);
    assert_eq!(
        (failed.fields["job"].as_str(), failed.fields["error"].as_str()),
        (Some("transfer:platform"), Some("away"))
    );
}
