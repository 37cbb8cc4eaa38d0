//! The queue of events for functions.

use chrono::{TimeDelta, Utc};
use serde_json::json;
use tempfile::TempDir;

use super::file;
use crate::*;

const LIMITS: InvocationLimits = InvocationLimits { kept_max: 100, bytes_max: 1000 };

fn event(request_id: &str, function: &str, payload: &str) -> Invocation {
    Invocation {
        request_id: request_id.into(),
        function: function.into(),
        qualifier: "$LATEST".into(),
        payload: payload.into(),
        client_context: Some("{}".into()),
        cause: "api".into(),
        depth: 0,
    }
}

fn take(ledger: &Ledger) -> Vec<ClaimedInvocation> {
    ledger.claim_invocations(Utc::now() + TimeDelta::seconds(1), 10, &|_| 10).unwrap()
}

#[test]
fn an_event_is_taken_once_and_its_end_is_an_end() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    let events = [event("1", "bill", "{}"), event("2", "bill", "{}"), event("1", "bill", "other")];
    assert_eq!(ledger.put_invocations(&events, LIMITS).unwrap(), [PutOutcome::Queued; 3]);
    assert_eq!(
        ledger.invocation_totals().unwrap(),
        InvocationTotals { kept: 2, bytes: 4 },
        "the same id is the same event"
    );
    let taken = take(&ledger);
    assert_eq!(taken.iter().map(|t| &t.invocation).collect::<Vec<_>>(), [&events[0], &events[1]]);
    assert!(take(&ledger).is_empty());

    let succeeded = InvocationEnd::Succeeded { executed_version: "3".into() };
    let follow = FollowUp::Event { name: "bill.made".into(), fields: json!({"n": 1}) };
    assert!(ledger.end_invocation(taken[0].id, &succeeded, Some(&follow)).unwrap());
    assert!(!ledger.end_invocation(taken[0].id, &succeeded, Some(&follow)).unwrap());
    assert_eq!(ledger.events(9, Some("bill.made")).unwrap().len(), 1, "caused once");
    assert_eq!(ledger.invocation("1").unwrap().unwrap().executed_version.as_deref(), Some("3"));
    assert_eq!(ledger.invocation_totals().unwrap(), InvocationTotals { kept: 1, bytes: 2 });
}

#[test]
fn attempts_are_counted_and_throttles_are_none() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    ledger.put_invocations(&[event("1", "bill", "{}")], LIMITS).unwrap();
    let first = take(&ledger).remove(0);
    ledger.end_invocation(first.id, &InvocationEnd::Throttled { not_before: Utc::now(), error: None }, None).unwrap();
    let second = take(&ledger).remove(0);
    assert_eq!((first.attempts, second.attempts, second.throttles), (1, 1, 1));
    let later = Utc::now() + TimeDelta::seconds(60);
    ledger.end_invocation(first.id, &InvocationEnd::Retry { not_before: later, error: "no".into() }, None).unwrap();
    assert!(take(&ledger).is_empty(), "not yet");
    assert!(ledger.next_invocation().unwrap().unwrap() > Utc::now() + TimeDelta::seconds(50));
    let third = ledger.claim_invocations(later + TimeDelta::seconds(1), 1, &|_| 1).unwrap().remove(0);
    assert_eq!(third.attempts, 2);
}

#[test]
fn what_was_interrupted_runs_again_however_often() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    ledger.put_invocations(&[event("1", "bill", "{}")], LIMITS).unwrap();
    for interruption in 1..=8 {
        assert_eq!(take(&ledger)[0].attempts, 1, "an interruption is no attempt");
        assert_eq!(ledger.requeue_interrupted().unwrap(), 1, "{interruption}");
    }
    // After that it waits, since it may be what ends the process.
    assert_eq!(take(&ledger)[0].attempts, 1);
    assert_eq!(ledger.requeue_interrupted().unwrap(), 1);
    assert!(take(&ledger).is_empty());
    assert_eq!(ledger.invocation("1").unwrap().unwrap().state, "waiting");
    let later = Utc::now() + TimeDelta::seconds(61);
    assert_eq!(ledger.claim_invocations(later, 1, &|_| 1).unwrap()[0].attempts, 1);
}

#[test]
fn the_bounds_hold_for_all_that_is_kept() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    let limits = InvocationLimits { kept_max: 3, bytes_max: 100 };
    let large = "x".repeat(90);
    let events = [event("1", "a", &large), event("2", "a", &large), event("3", "a", "{}"), event("4", "a", "{}")];
    let put = ledger.put_invocations(&events, limits).unwrap();
    assert_eq!(put, [PutOutcome::Queued, PutOutcome::Full, PutOutcome::Queued, PutOutcome::Queued]);
    assert_eq!(ledger.put_invocations(&[event("5", "a", "")], limits).unwrap(), [PutOutcome::Full]);
    let taken = take(&ledger);
    let dead = InvocationEnd::Failed { executed_version: None, error: "no".into(), dead: true };
    ledger.end_invocation(taken[0].id, &dead, None).unwrap();
    assert_eq!(
        ledger.put_invocations(&[event("5", "a", "")], limits).unwrap(),
        [PutOutcome::Full],
        "dead letters count"
    );
    let gone = InvocationEnd::Failed { executed_version: None, error: "no".into(), dead: false };
    ledger.end_invocation(taken[1].id, &gone, None).unwrap();
    assert_eq!(ledger.put_invocations(&[event("5", "a", "")], limits).unwrap(), [PutOutcome::Queued]);
}

#[test]
fn no_function_keeps_the_others_out() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    let many: Vec<_> = (0..50).map(|n| event(&format!("a{n}"), "a", "")).collect();
    ledger.put_invocations(&many, LIMITS).unwrap();
    ledger.put_invocations(&[event("b", "b", ""), event("c", "c", "")], LIMITS).unwrap();
    let room = |name: &str| if name == "c" { 0 } else { 8 };
    let taken = ledger.claim_invocations(Utc::now() + TimeDelta::seconds(1), 6, &room).unwrap();
    let of = |name: &str| taken.iter().filter(|t| t.invocation.function == name).count();
    assert_eq!((of("a"), of("b"), of("c"), taken.len()), (3, 1, 0, 4));
}

#[test]
fn a_dead_letter_is_sent_again_once() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    ledger.put_invocations(&[event("1", "bill", "{\"n\":1}")], LIMITS).unwrap();
    assert!(!ledger.resend_invocation("1", "2").unwrap(), "it is not dead");
    let taken = take(&ledger).remove(0);
    let dead = InvocationEnd::Failed { executed_version: Some("1".into()), error: "no".into(), dead: true };
    ledger.end_invocation(taken.id, &dead, None).unwrap();
    assert_eq!(ledger.invocations(9, None, Some("dead")).unwrap().len(), 1);
    assert_eq!(ledger.invocation_payload("1").unwrap().unwrap(), b"{\"n\":1}");
    assert!(ledger.resend_invocation("1", "2").unwrap());
    assert!(!ledger.resend_invocation("1", "3").unwrap());
    assert_eq!(take(&ledger)[0].invocation.payload, b"{\"n\":1}");
    assert_eq!(ledger.invocation("1").unwrap().unwrap().state, "resent");
    assert!(!ledger.drop_invocation("1").unwrap());
}

#[test]
fn a_file_is_to_be_delivered_until_it_is() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    ledger.put_invocations(&[event("1", "bill", "{}")], LIMITS).unwrap();
    let follow = FollowUp::File { folder: "out".into(), name: "1.json".into(), body: b"[]".to_vec() };
    let id = take(&ledger)[0].id;
    ledger.end_invocation(id, &InvocationEnd::Succeeded { executed_version: "1".into() }, Some(&follow)).unwrap();
    assert_eq!(ledger.invocation_totals().unwrap(), InvocationTotals { kept: 1, bytes: 2 });
    let now = Utc::now() + TimeDelta::seconds(1);
    let delivery = ledger.deliveries(now, 9).unwrap().remove(0);
    assert_eq!((delivery.name.as_str(), delivery.body.as_slice()), ("1.json", &b"[]"[..]));
    ledger.postpone_delivery(delivery.id, now + TimeDelta::seconds(9), "disk full").unwrap();
    assert!(ledger.deliveries(now, 9).unwrap().is_empty());
    ledger.remove_delivery(delivery.id).unwrap();
    assert_eq!(ledger.invocation_totals().unwrap(), InvocationTotals::default());
}
