//! The Runtime API with a bootstrap in shell: what it may do, and the errors that it gets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use function::host::{Answer, Event, Function, Line, Outcome, Pool, PoolSettings};
use function::store::Store;
use libtest_mimic::{Failed, Trial};
use sandbox::Launcher;

use crate::served::until;
use crate::world::{World, is_root, user, zip_of};

/// A bootstrap that does what an event's `do` names.
pub const BOOTSTRAP: &str = r#"#!/bin/bash
set -uo pipefail
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
if [ "$_HANDLER" = init-error ]; then
  curl -s -X POST "$api/init/error" -H 'Lambda-Runtime-Function-Error-Type: Runtime.NoSuchHandler' \
    -d '{"errorMessage":"no such handler","errorType":"Runtime.NoSuchHandler"}' > /dev/null
  exit 1
fi
[ "$_HANDLER" = exit-at-once ] && exit 7
while true; do
  headers=$(mktemp)
  event=$(curl -sS -D "$headers" "$api/invocation/next")
  id=$(grep -F 'Lambda-Runtime-Aws-Request-Id: ' "$headers" | cut -d' ' -f2 | tr -d '\r')
  case "$event" in
    *'"ok"'*) curl -s -X POST "$api/invocation/$id/response" -d "{\"you\": $event}" > /dev/null ;;
    *'"log"'*) echo "said by the function"; curl -s -X POST "$api/invocation/$id/response" -d '1' > /dev/null ;;
    *'"error"'*) curl -s -X POST "$api/invocation/$id/error" -H 'Lambda-Runtime-Function-Error-Type: Function.Mine' \
        -d '{"errorMessage":"by intent","errorType":"Function.Mine","stackTrace":[]}' > /dev/null ;;
    *'"exit"'*) exit 3 ;;
    *'"memory"'*) for n in 1 2 3 4; do
        # Holds the memory until it is ended: each process is below the limit of one, all of them together are above.
        (head -c 60m /dev/zero | tail -c 60m) > >(sleep 600) & done; wait -n; exit 1 ;;
    *'"sleep"'*) (setsid sleep 600 &) ; sleep 600 ;;
    *'"large"'*) head -c 6291557 /dev/zero | tr '\0' a | curl -s -o /tmp/answer -w '%{http_code}' -X POST --data-binary @- \
        "$api/invocation/$id/response" > /tmp/code ;;
    *'"code"'*) curl -s -X POST "$api/invocation/$id/response" -d "\"$(cat /tmp/code)\"" > /dev/null ;;
    *'"unknown"'*) code=$(curl -s -o /dev/null -w '%{http_code}' -X POST "$api/invocation/not-this-one/response" -d 1)
        curl -s -X POST "$api/invocation/$id/response" -d "\"$code\"" > /dev/null ;;
    *'"twice"'*) curl -s -X POST "$api/invocation/$id/response" -d '"first"' > /dev/null
        curl -s -o /dev/null -w '%{http_code}' -X POST "$api/invocation/$id/response" -d '"second"' > /tmp/code ;;
    *'"stream"'*) (echo -n '"a'; sleep 0.1; echo -n 'b"') | curl -s -X POST -T - -H 'Transfer-Encoding: chunked' \
        -H 'Lambda-Runtime-Function-Response-Mode: streaming' "$api/invocation/$id/response" > /dev/null ;;
    *'"tmp"'*) n=$(cat /tmp/n 2>/dev/null || echo 0); echo $((n + 1)) > /tmp/n
        curl -s -X POST "$api/invocation/$id/response" -d "$n" > /dev/null ;;
  esac
  rm -f "$headers"
done
"#;

struct Host {
    /// How many seconds its `sleep` sleeps.
    sleeps: String,
    _world: World,
    pool: Pool,
    lines: Arc<Mutex<Vec<Line>>>,
}

/// A host with a long timeout.
fn host(handler: &str) -> Host {
    host_within(handler, Duration::from_secs(300))
}

fn host_within(handler: &str, timeout: Duration) -> Host {
    let world = World::new();
    let store = Store::open(&world.folder.path().join("store")).expect("a store");
    // A time that no other test's program sleeps.
    let bootstrap = BOOTSTRAP.replace("sleep 600", &format!("sleep {}", world.user));
    let zip = zip_of(world.folder.path(), "function.zip", &[("bootstrap", 0o100_755, bootstrap.as_str())]);
    let lines: Arc<Mutex<Vec<Line>>> = Arc::default();
    let kept = Arc::clone(&lines);
    let settings = PoolSettings {
        launcher: Launcher::new(std::env::current_exe().expect("this program")),
        roots: world.folder.path().join("root"),
        environment: [].into(),
        idle_max: Duration::from_secs(600),
        sink: Arc::new(move |line| kept.lock().expect("lines").push(line)),
        store: store.clone(),
    };
    let function = Function {
        name: "bill".into(),
        version: "$LATEST".into(),
        handler: handler.into(),
        code: store.put(&zip).expect("a zip"),
        layers: vec![],
        environment: [].into(),
        timeout,
        limits: sandbox::Limits { memory_mb: 128, tmp_mb: 32, ..Default::default() },
        base: None,
        files: None,
    };
    let (sleeps, user) = (world.user.to_string(), is_root().then(user));
    Host { _world: world, sleeps, pool: Pool::new(Arc::new(settings), function, 50, user), lines }
}

impl Host {
    async fn ask(&self, what: &str) -> Outcome {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let request_id = format!("00000000-0000-4000-8000-{number:012}");
        let payload = format!("{{\"do\": \"{what}\"}}").into();
        // An instance that is slow to ask for its next event is not used.
        until("each instance asks for its next event", || self.pool.is_at_rest()).await;
        self.pool.invoke(Event { request_id, payload, ..Event::default() }).await.expect("an invocation")
    }
}

fn response(outcome: &Outcome) -> String {
    match &outcome.answer {
        Answer::Response(body) => String::from_utf8_lossy(body).into_owned(),
        Answer::Error(failure) => format!("{}: {}", failure.error_type, String::from_utf8_lossy(&failure.body)),
    }
}

fn trial(name: &str, handler: &'static str, test: impl AsyncFnOnce(Host) + Send + 'static) -> Trial {
    Trial::test(format!("runtime::{name}"), move || -> Result<(), Failed> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(test(host(handler)));
        Ok(())
    })
}

pub fn trials() -> Vec<Trial> {
    answers().into_iter().chain(ends()).collect()
}

fn answers() -> Vec<Trial> {
    vec![
        trial("an_event_is_answered_and_the_instance_kept_warm", "h", async |host| {
            let first = host.ask("ok").await;
            assert_eq!(response(&first), r#"{"you": {"do": "ok"}}"#);
            assert!(first.init.is_some());
            assert_eq!((response(&host.ask("tmp").await), response(&host.ask("tmp").await)), ("0".into(), "1".into()));
            assert!(host.ask("ok").await.init.is_none());
            assert_eq!(host.pool.idle(), 1);
        }),
        trial("what_it_prints_is_kept_and_its_tail_returned", "h", async |host| {
            let outcome = host.ask("log").await;
            assert!(outcome.log_tail.contains("START RequestId"), "{}", outcome.log_tail);
            assert!(outcome.log_tail.contains("said by the function"), "{}", outcome.log_tail);
            assert!(outcome.log_tail.contains("REPORT RequestId"), "{}", outcome.log_tail);
            assert!(host.lines.lock().expect("lines").iter().any(|line| line.text == "said by the function"));
        }),
        trial("what_it_prints_before_its_answer_is_in_the_tail_each_time", "h", async |host| {
            for _ in 0..100 {
                let outcome = host.ask("log").await;
                assert!(outcome.log_tail.contains("said by the function"), "{}", outcome.log_tail);
            }
        }),
        trial("an_error_it_reports_is_its_own", "h", async |host| {
            assert!(response(&host.ask("error").await).starts_with("Function.Mine: {\"errorMessage\":\"by intent\""));
            assert_eq!(host.pool.idle(), 1, "and the instance lives on");
        }),
        trial("an_exit_is_an_error_and_the_next_event_starts_cold", "h", async |host| {
            let outcome = response(&host.ask("exit").await);
            assert!(outcome.contains("Runtime exited with error: exit status 3"), "{outcome}");
            assert_eq!(host.pool.idle(), 0);
            assert!(host.ask("ok").await.init.is_some());
        }),
    ]
}

fn ends() -> Vec<Trial> {
    vec![
        trial("too_much_memory_is_told_from_other_ends", "h", async |host| {
            let outcome = response(&host.ask("memory").await);
            assert!(outcome.starts_with("Runtime.OutOfMemory"), "{outcome}");
        }),
        Trial::test("runtime::the_deadline_takes_every_descendant", || -> Result<(), Failed> {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(deadline(host_within("h", Duration::from_secs(2))));
            Ok(())
        }),
        trial("a_response_that_is_too_large", "h", async |host| {
            let outcome = response(&host.ask("large").await);
            assert!(outcome.starts_with("Function.ResponseSizeTooLarge"), "{outcome}");
            assert_eq!(response(&host.ask("code").await), "\"413\"");
        }),
        trial("an_unknown_id_is_refused", "h", async |host| {
            assert_eq!(response(&host.ask("unknown").await), "\"400\"")
        }),
        trial("the_first_of_two_answers_counts", "h", async |host| {
            assert_eq!(response(&host.ask("twice").await), "\"first\"");
            assert_eq!(response(&host.ask("code").await), "\"400\"");
        }),
        trial("a_stream_is_put_together", "h", async |host| assert_eq!(response(&host.ask("stream").await), "\"ab\"")),
        trial("an_error_of_its_start", "init-error", async |host| {
            let outcome = response(&host.ask("ok").await);
            assert!(outcome.starts_with("Runtime.NoSuchHandler"), "{outcome}");
        }),
        trial("an_exit_before_the_first_event", "exit-at-once", async |host| {
            let outcome = response(&host.ask("ok").await);
            assert!(outcome.contains("exit status 7"), "{outcome}");
        }),
        Trial::test("runtime::an_idle_instance_outlives_the_thread_that_started_it", || -> Result<(), Failed> {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.enable_all().thread_keep_alive(Duration::from_millis(50)).build()?;
            runtime.block_on(async {
                let host = host("h");
                assert!(host.ask("ok").await.init.is_some());
                tokio::time::sleep(Duration::from_millis(500)).await;
                assert_eq!(response(&host.ask("ok").await), r#"{"you": {"do": "ok"}}"#);
            });
            Ok(())
        }),
        trial("forty_at_once", "h", async |host| {
            let asked = (0..40).map(|_| host.ask("ok"));
            let answers = futures_all(asked).await;
            assert!(answers.iter().all(|outcome| matches!(outcome.answer, Answer::Response(_))));
        }),
    ]
}

/// What the function starts would sleep for a day or longer.
async fn deadline(host: Host) {
    let outcome = host.ask("sleep").await;
    assert!(response(&outcome).contains("Task timed out after 2.00 seconds"), "{}", response(&outcome));
    let is_left = |process: std::fs::DirEntry| {
        let expected = format!("sleep\0{}\0", host.sleeps);
        std::fs::read(process.path().join("cmdline")).is_ok_and(|line| line == expected.as_bytes())
    };
    let none_left = || !std::fs::read_dir("/proc").expect("/proc").flatten().any(is_left);
    until("a grandchild that left its session is gone too", none_left).await;
}

async fn futures_all<F: Future<Output = Outcome>>(all: impl Iterator<Item = F>) -> Vec<Outcome> {
    let mut pinned: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<Outcome>> = pinned.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, slot) in pinned.iter_mut().zip(&mut done) {
            if slot.is_none()
                && let std::task::Poll::Ready(outcome) = future.as_mut().poll(context)
            {
                *slot = Some(outcome);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}
