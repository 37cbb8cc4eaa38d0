//! Asynchronous events: they are retried and recorded, and no kill loses one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use function::event_queue;
use function::host::Journal;
use ledger::{InvocationLimits, Ledger};
use libtest_mimic::{Failed, Trial};
use serde_json::json;

use crate::served::{Functions, Gate, Host, Process, Served, ask, served, served_with, until};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("an_event_is_accepted_and_run", || Box::pin(accepted())),
        trial("what_fails_is_retried_recorded_and_kept", || Box::pin(exhausted())),
        trial("an_event_that_is_too_old_is_not_retried", || Box::pin(aged())),
        trial("records_go_to_functions_and_folders", || Box::pin(destinations())),
        trial("functions_that_invoke_one_another_come_to_an_end", || Box::pin(endless())),
        trial("a_dead_letter_is_sent_again", || Box::pin(sent_again())),
        trial("the_queue_is_bounded", || Box::pin(full())),
        trial("one_at_a_time_where_the_function_says_so", || Box::pin(one_at_a_time())),
        trial("a_kill_loses_nothing_and_causes_nothing_twice", || Box::pin(killed())),
    ]
}

type Test = std::pin::Pin<Box<dyn Future<Output = ()>>>;

fn trial(name: &str, test: fn() -> Test) -> Trial {
    Trial::test(format!("queued::{name}"), move || -> Result<(), Failed> {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(test());
        Ok(())
    })
}

const NATIVE: &str = "handler = \"h\"\n";

fn said(served: &Served, function: &str, text: &str) -> usize {
    served.journal.lines(function, None, 10_000).expect("a journal").iter().filter(|line| line.text == text).count()
}

async fn accepted() {
    let functions = Functions::new();
    functions.native("bill", NATIVE);
    let served = served(functions).await;
    let id = served.defer("bill", "{\"do\":\"say\",\"text\":\"here\"}").await;
    let row = served.wait_for(&id, "succeeded").await;
    assert_eq!((row.attempts, row.executed_version.as_deref(), row.cause.as_str()), (1, Some("$LATEST"), "api"));
    assert_eq!(said(&served, "bill", "here"), 1);
    assert_eq!(served.registry.ledger().invocation_totals().expect("totals").kept, 0);
}

async fn exhausted() {
    let functions = Functions::new();
    let toml = format!("{NATIVE}retry_after = [\"300ms\", \"100ms\"]\non_failure = {{ event = \"bill.failed\" }}");
    functions.native("bill", &toml);
    let served = served(functions).await;
    let began = Instant::now();
    let id = served.defer("bill", "{\"do\":\"error\"}").await;
    let row = served.wait_for(&id, "dead").await;
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    assert_eq!((row.attempts, row.error.as_deref()), (3, Some("Function.Mine: by intent")));
    let events = served.registry.ledger().events(9, Some("bill.failed")).expect("events");
    assert_eq!(events.len(), 1);
    let record = &events[0].fields;
    assert_eq!(record["version"], "1.0");
    let context = &record["requestContext"];
    assert_eq!((&context["condition"], &context["approximateInvokeCount"]), (&json!("RetriesExhausted"), &json!(3)));
    assert_eq!((&context["requestId"], &record["requestPayload"]), (&json!(id), &json!({"do": "error"})));
    let response = &record["responseContext"];
    assert_eq!((&response["functionError"], &response["statusCode"]), (&json!("Unhandled"), &json!(200)));
    assert_eq!(record["responsePayload"]["errorType"], "Function.Mine");
}

async fn aged() {
    let functions = Functions::new();
    let toml = "retry_after = [\"2h\"]\nevent_age_max = \"1h\"\ndead_letters = false\n";
    functions.native("bill", &format!("{NATIVE}{toml}on_failure = {{ event = \"bill.failed\" }}"));
    // It may not run: its event fails at once, with its record.
    functions.native("off", &format!("{NATIVE}concurrency = 0\non_failure = {{ event = \"off.failed\" }}"));
    let served = served(functions).await;
    let exact = "{\"amount\":100.10,\"a\":12345678901234567890123}";
    let (id, off) = (served.defer("bill", "{\"do\":\"error\"}").await, served.defer("off", exact).await);
    assert_eq!(served.wait_for(&id, "failed").await.attempts, 1);
    let events = served.registry.ledger().events(9, Some("bill.failed")).expect("events");
    assert_eq!(events[0].fields["requestContext"]["condition"], "EventAgeExceeded");
    let row = served.wait_for(&off, "dead").await;
    assert_eq!(row.error.as_deref(), Some("its function has concurrency = 0"));
    let events = served.registry.ledger().events(9, Some("off.failed")).expect("events");
    assert_eq!(events[0].fields["requestContext"]["condition"], "ZeroReservedConcurrency");
}

async fn destinations() {
    let functions = Functions::new();
    functions.native("first", &format!("{NATIVE}on_success = {{ function = \"second\" }}"));
    functions.native("second", &format!("{NATIVE}on_success = {{ folder = \"out\" }}"));
    let served = served(functions).await;
    let sent = "{\"do\":\"count\",\"amount\":100.10,\"a\":12345678901234567890123}";
    let id = served.defer("first", sent).await;
    served.wait_for(&id, "succeeded").await;
    let caused = served.registry.ledger().invocations(9, Some("second"), None).expect("events");
    assert_eq!((caused.len(), caused[0].cause.clone()), (1, format!("on_success of first, request {id}")));
    served.wait_for(&caused[0].request_id, "succeeded").await;
    let out = served.functions.folder.path().join("functions/second/out");
    let began = Instant::now();
    let file = loop {
        if let Some(file) = std::fs::read_dir(&out)
            .into_iter()
            .flatten()
            .flatten()
            .find(|f| !f.file_name().to_string_lossy().starts_with('.'))
        {
            break file.path();
        }
        assert!(began.elapsed() < Duration::from_secs(180), "a file");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let text = std::fs::read_to_string(file).expect("a file");
    assert!(text.contains(sent), "its digits were changed: {text}");
    let record: serde_json::Value = serde_json::from_str(&text).expect("a record");
    assert_eq!(record["requestContext"]["condition"], "Success");
    let inner = &record["requestPayload"];
    assert_eq!(
        (&inner["requestPayload"], &inner["responsePayload"]),
        (&serde_json::from_str(sent).expect("JSON"), &json!(1))
    );
    assert_eq!(record["responsePayload"]["you"], *inner);
}

async fn endless() {
    let functions = Functions::new();
    functions.native("bill", &format!("{NATIVE}on_success = {{ function = \"bill\" }}"));
    let served = served(functions).await;
    served.defer("bill", "{\"do\":\"count\"}").await;
    let began = Instant::now();
    let dead = loop {
        let dead = served.registry.ledger().invocations(9, Some("bill"), Some("dead")).expect("events");
        if let Some(dead) = dead.into_iter().next() {
            break dead;
        }
        assert!(began.elapsed() < Duration::from_secs(180), "an end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(dead.error.unwrap_or_default().contains("functions that invoke one another"));
    assert_eq!(served.registry.ledger().invocations(99, Some("bill"), None).expect("events").len(), 18);
}

async fn sent_again() {
    let functions = Functions::new();
    let folder = functions.shell("bill", "retries = 0", "#!/bin/sh\nexit 9\n");
    let served = served(functions).await;
    let id = served.defer("bill", "{\"do\":\"say\",\"text\":\"at last\"}").await;
    let row = served.wait_for(&id, "dead").await;
    assert!(row.error.as_deref().unwrap_or_default().ends_with("exit status 9"), "{row:?}");
    let program = std::fs::read(crate::served::example("native")).expect("the native function");
    crate::served::write(&folder, &[("bootstrap", &program)]);
    served.deploy(&folder);
    let again = served.queue.resend(&id).expect("a ledger").expect("a dead letter");
    assert_eq!(served.wait_for(&again, "succeeded").await.cause, format!("sent again: {id}"));
    assert_eq!(said(&served, "bill", "at last"), 1);
    assert_eq!(served.queue.resend(&id).expect("a ledger"), None, "once");
}

async fn full() {
    let functions = Functions::new();
    functions.native("busy", &format!("{NATIVE}concurrency = 0"));
    let bounds = InvocationLimits { kept_max: 2, bytes_max: 1 << 30 };
    let rules = event_queue::QueueSettings { bounds, ..Default::default() };
    let served = served_with(functions, Host { rules, ..Host::default() }).await;
    served.defer("busy", "{}").await;
    served.defer("busy", "{}").await;
    let reply = served.invoke_with("busy", "", &[("x-amz-invocation-type", "Event")], "{}").await;
    assert_eq!(reply.error(), (429, "TooManyRequestsException"));
    assert_eq!(reply.json()["Reason"], "QueueFull");
}

async fn one_at_a_time() {
    let functions = Functions::new();
    functions.native("bill", &format!("{NATIVE}concurrency = 1\n[lake]\nsql = true"));
    functions.native("other", NATIVE);
    let gate = Gate::closed();
    let served = served_with(functions, Host { lake: gate.lake(), ..Host::default() }).await;
    let mut all = Vec::new();
    for _ in 0..10 {
        all.push(served.defer("bill", "{\"do\":\"wait\"}").await);
    }
    // Another function's event does not wait: it ends while none of the ten can.
    let other = served.defer("other", "{}").await;
    served.wait_for(&other, "succeeded").await;
    gate.open();
    for id in all {
        assert_eq!(served.wait_for(&id, "succeeded").await.attempts, 1);
    }
    let mut running: Option<String> = None;
    for line in served.journal.lines("bill", None, 10_000).expect("a journal") {
        let id = |rest: &str| rest.split(' ').next().unwrap_or_default().to_owned();
        if let Some(begins) = line.text.strip_prefix("START RequestId: ").map(id) {
            // A second line where an instance that was slow to ask for its next event has not taken this one.
            assert!(running.as_ref().is_none_or(|running| *running == begins), "{begins} runs beside {running:?}");
            running = Some(begins);
        } else if let Some(ends) = line.text.strip_prefix("END RequestId: ").map(id) {
            assert_eq!(running.take(), Some(ends));
        }
    }
    assert_eq!(running, None);
}

/// Events are put while the server is killed again and again.
async fn killed() {
    let functions = Functions::new();
    functions.native("bill", &format!("{NATIVE}on_success = {{ event = \"bill.made\" }}\nmemory_mb = 256"));
    let folder = functions.folder.path().to_owned();
    let mut accepted = Vec::new();
    let mut number = 0;
    for round in 0..4_u64 {
        let server = Process::start(&folder);
        let (began, least) = (Instant::now(), accepted.len() + 20);
        // On a slow machine for longer, until enough events are accepted.
        while began.elapsed() < Duration::from_millis(150 + 130 * round) || accepted.len() < least {
            number += 1;
            let event = json!({"do": "say", "text": format!("event {number}")}).to_string();
            let path = "/2015-03-31/functions/bill/invocations";
            let reply = ask(server.address, "POST", path, &[("x-amz-invocation-type", "Event")], event.into()).await;
            assert_eq!(reply.status, 202);
            accepted.push((number, reply.header("x-amzn-requestid").to_owned()));
        }
        if round == 3 {
            let ledger = Ledger::open(&folder.join("state/ledger.db")).expect("a ledger");
            let one = || !ledger.invocations(1, Some("bill"), Some("succeeded")).expect("events").is_empty();
            until("one of them has run", one).await;
        }
        server.kill();
    }
    let ledger = Ledger::open(&folder.join("state/ledger.db")).expect("a ledger");
    let done_before = |id: &str| ledger.invocation(id).expect("a ledger").expect("what was accepted is there").state;
    let before: Vec<String> = accepted.iter().map(|(_, id)| done_before(id)).collect();
    let _server = Process::start(&folder);
    let began = Instant::now();
    while accepted.iter().any(|(_, id)| done_before(id) != "succeeded") {
        assert!(began.elapsed() < Duration::from_secs(180), "all of them run");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut made: BTreeMap<String, usize> = BTreeMap::new();
    for event in ledger.events(100_000, Some("bill.made")).expect("events") {
        *made
            .entry(event.fields["requestContext"]["requestId"].as_str().unwrap_or_default().to_owned())
            .or_default() += 1;
    }
    assert!(accepted.iter().all(|(_, id)| made.get(id) == Some(&1)), "each end has caused one event");
    assert_eq!(made.len(), accepted.len());
    let lines = Journal::open(&folder.join("state/logs"), 8 << 20).expect("a journal").lines("bill", None, 1_000_000);
    let mut ran: BTreeMap<String, usize> = BTreeMap::new();
    for line in lines.expect("lines") {
        *ran.entry(line.text).or_default() += 1;
    }
    let runs = |number: &i32| ran.get(&format!("event {number}")).copied().unwrap_or_default();
    assert!(accepted.iter().all(|(number, _)| runs(number) >= 1), "each has run");
    // Only what a kill interrupted runs twice: at most as many events as run at a time.
    let twice = accepted.iter().filter(|(number, _)| runs(number) > 1).count();
    assert!(twice <= 4 * 32, "{twice} of {} ran twice", accepted.len());
    let done = before.iter().zip(&accepted).filter(|(state, _)| *state == "succeeded");
    assert!(accepted.len() > 50 && done.count() > 0, "{} events", accepted.len());
}
