//! The queue, the schedules, concurrency keys.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::file;
use crate::ScheduleDefinition;
use crate::*;

fn entry(key: &str, not_before: DateTime<Utc>) -> QueueEntry {
    QueueEntry {
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

    let start = RunStart { queue_entry: Some(id), ..RunStart::default() };
    let run = ledger.begin("transfer:platform", start).unwrap();
    assert_eq!(ledger.queue_entry(id).unwrap().unwrap().run_id.as_deref(), Some(run.id()));
    run.finish(Outcome::Failed { error: "the source is away".into(), retryable: false }, json!({})).unwrap();

    let later = now() + TimeDelta::seconds(60);
    ledger.end_attempt(id, AttemptEnd::Retry { not_before: later, error: "the source is away".into() }).unwrap();
    assert!(ledger.due(now(), 9).unwrap().is_empty(), "not yet");
    assert_eq!(ledger.next_due().unwrap(), Some(later));
    assert_eq!(ledger.due(later, 9).unwrap()[0].attempts, 1);
    assert!(ledger.claim(id).unwrap());
    ledger.end_attempt(id, AttemptEnd::Succeeded).unwrap();
    let ended = ledger.queue_entry(id).unwrap().unwrap();
    assert_eq!((ended.state.as_str(), ended.attempts, ended.error), ("succeeded", 2, None));
    ledger.end_attempt(id, AttemptEnd::Failed { error: "too late".into() }).unwrap();
    assert_eq!(ledger.queue_entry(id).unwrap().unwrap().state, "succeeded", "an end is an end");
}

#[test]
fn a_cancellation_says_what_it_met() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    let waiting = ledger.enqueue(&entry("a", now())).unwrap().unwrap();
    let running = ledger.enqueue(&entry("b", now())).unwrap().unwrap();
    assert!(ledger.claim(running).unwrap());
    assert_eq!(ledger.cancel(waiting).unwrap(), CancelOutcome::Withdrawn);
    assert!(!ledger.claim(waiting).unwrap());
    assert_eq!(ledger.cancel(running).unwrap(), CancelOutcome::Requested);
    assert!(ledger.running().unwrap()[0].cancel_requested);
    assert_eq!(ledger.cancel(waiting).unwrap(), CancelOutcome::AlreadyEnded("cancelled".into()));
    assert_eq!(ledger.cancel(99).unwrap(), CancelOutcome::Unknown);
    // It failed just then: it is not tried again.
    ledger.end_attempt(running, AttemptEnd::Retry { not_before: now(), error: "the source is away".into() }).unwrap();
    let row = ledger.queue_entry(running).unwrap().unwrap();
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
    let start =
        || RunStart { concurrency_keys: vec!["platform-db".into(), "platform-db".into()], ..RunStart::default() };
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
    let kept = |spec: &str| ScheduleDefinition {
        name: "transfer:platform#1".into(),
        job: "transfer:platform".into(),
        spec: spec.into(),
        zone: "Europe/Paris".into(),
    };
    let first = now();
    ledger.set_schedules(&[kept("0 2 * * *")], first).unwrap();
    let later = first + TimeDelta::hours(1);
    let slots = [entry("cron/1", later), entry("cron/2", later)];
    assert_eq!(ledger.queue_slots("transfer:platform#1", later, None, Some("02:00"), &slots).unwrap(), 2);
    assert_eq!(ledger.queue_slots("transfer:platform#1", later, None, None, &slots).unwrap(), 0, "twice is once");
    let row = ledger.schedule("transfer:platform#1").unwrap().unwrap();
    assert_eq!((row.seen_to, row.last_slot.as_deref()), (later, Some("02:00")));

    ledger.set_schedules(&[kept("0 2 * * *")], later + TimeDelta::hours(5)).unwrap();
    assert_eq!(ledger.schedule("transfer:platform#1").unwrap().unwrap().seen_to, later, "a restart forgets nothing");
    let changed = later + TimeDelta::hours(6);
    ledger.set_schedules(&[kept("0 3 * * *")], changed).unwrap();
    assert_eq!(ledger.schedule("transfer:platform#1").unwrap().unwrap().seen_to, changed, "another pattern begins now");
    assert_eq!(ledger.pause("transfer:platform", true).unwrap(), 1);
    assert!(ledger.schedules().unwrap()[0].paused);
    assert_eq!(ledger.pause("transfer:platform#1", false).unwrap(), 1);
    assert!(!ledger.schedules().unwrap()[0].paused, "one by its own name");
    ledger.set_schedules(&[], changed).unwrap();
    assert!(ledger.schedules().unwrap().is_empty());
}

#[test]
fn the_file_of_an_older_program_is_brought_to_today() {
    let tmp = TempDir::new().unwrap();
    let path = file(&tmp);
    let ledger = Ledger::open(&path).unwrap();
    let id = ledger.begin("a:b", RunStart { detail: Value::Null, ..RunStart::default() }).unwrap().id().to_owned();
    drop(ledger);
    // As the first program left it.
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(
        "drop index runs_by_state; drop table queue; drop table schedules; drop table followers; drop table logs;
         drop table function_aliases; drop table function_versions; drop table functions; drop table layers;
         drop table invocations; drop table deliveries; drop table invocation_totals; drop table validations;
         drop table endpoint_changes; drop table endpoint_configs; drop table endpoints; drop table models;
         drop table model_aliases; drop table model_versions; drop table training_metrics; drop table training_jobs;
         drop table requests;
         alter table runs drop column logical; alter table runs drop column inputs;
         alter table runs drop column queue_id; alter table runs drop column attempt;
         alter table runs drop column retryable;
         alter table transfer_tables drop column changes; alter table run_tables drop column changes;
         alter table transfer_tables rename column hint to mend; alter table run_tables rename column hint to mend;
         insert into runs (id, job, cause, state, detail, figures, error, pid, started_at, ended_at)
         values ('1', 'a:c', 'hand', 'failed', 'null', '{\"rows\":7,\"may_pass\":true}', 'x', 1,
                 '2026-01-01T00:00:00.000000Z', '2026-01-01T00:00:00.000000Z');
         pragma user_version = 1",
    )
    .unwrap();
    drop(old);
    let ledger = Ledger::open(&path).unwrap();
    let run = ledger.run(&id).unwrap().unwrap();
    assert_eq!((run.attempt, run.logical, run.retryable), (1, None, false));
    let failed = ledger.run("1").unwrap().unwrap();
    assert_eq!((failed.retryable, failed.figures), (true, json!({"rows": 7})));
    assert!(ledger.enqueue(&entry("a", now())).unwrap().is_some());
}

#[test]
fn a_process_that_comes_late_finds_its_entry_gone() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    let id = ledger.enqueue(&entry("a", now())).unwrap().unwrap();
    let begin =
        |attempt| ledger.begin("transfer:platform", RunStart { queue_entry: Some(id), attempt, ..RunStart::default() });
    let refused = begin(1).unwrap_err();
    assert_eq!(refused.kind, Kind::FixInput, "nobody has taken it");
    assert!(ledger.claim(id).unwrap());
    // The server died before the process began; the next one takes the entry again.
    ledger.end_attempt(id, AttemptEnd::Postponed { not_before: now(), error: "it never began".into() }).unwrap();
    assert_eq!(ledger.queue_entry(id).unwrap().unwrap().attempts, 0, "that was no attempt");
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
    let mut end = |settled: AttemptEnd| {
        n += 1;
        let id = ledger.enqueue(&entry(&n.to_string(), now())).unwrap().unwrap();
        assert!(ledger.claim(id).unwrap());
        ledger.end_attempt(id, settled.clone()).unwrap();
        ledger.end_attempt(id, settled).unwrap();
    };
    end(AttemptEnd::Succeeded);
    end(AttemptEnd::Retry { not_before: now() + TimeDelta::hours(1), error: "away".into() });
    assert!(told().is_empty());
    end(AttemptEnd::Failed { error: "away".into() });
    end(AttemptEnd::Cancelled);
    end(AttemptEnd::Succeeded);
    end(AttemptEnd::Succeeded);
    assert_eq!(told(), ["job.failed", "job.recovered"]);
    let failed = ledger.events(1, Some("job.failed")).unwrap().remove(0);
    assert_eq!(
        (failed.fields["job"].as_str(), failed.fields["error"].as_str()),
        (Some("transfer:platform"), Some("away"))
    );
}
