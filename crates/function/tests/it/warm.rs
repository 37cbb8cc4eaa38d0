//! Warm instances, concurrency limits, and deployments while events run.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libtest_mimic::{Failed, Trial};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::served::{Functions, Gate, Host, Process, Reply, Served, ask, served, served_with, until};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("what_is_prewarmed_starts_before_its_first_event", || Box::pin(prewarmed())),
        trial("no_more_run_than_the_function_or_the_host_allows", || Box::pin(bounded())),
        trial("forty_at_once_are_answered", || Box::pin(forty())),
        trial("a_deployment_counts_for_the_next_event", || Box::pin(deployed())),
        trial("what_is_idle_ends", || Box::pin(idle())),
        trial("nothing_runs_between_two_events", || Box::pin(paused())),
        trial("a_caller_that_disconnects_stops_nothing", || Box::pin(gone())),
        trial("requests_of_web_pages_are_refused", || Box::pin(pages())),
        trial("variables_are_filled_in_when_it_starts", || Box::pin(variables())),
        trial("a_function_sees_nothing_of_another", || Box::pin(others())),
        trial("a_function_without_a_bootstrap_has_failed", || Box::pin(no_bootstrap())),
        trial("nothing_outlives_a_host_that_is_killed", || Box::pin(killed())),
        trial("a_spare_that_has_ended_is_replaced", || Box::pin(spares())),
        trial("a_runtime_that_dies_after_its_answer_loses_no_event", || Box::pin(dies_after())),
    ]
}

type Test = std::pin::Pin<Box<dyn Future<Output = ()>>>;

fn trial(name: &str, test: fn() -> Test) -> Trial {
    Trial::test(format!("warm::{name}"), move || -> Result<(), Failed> {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(test());
        Ok(())
    })
}

const NATIVE: &str = "handler = \"h\"\ntimeout = \"5min\"\n";
/// Allows its events to wait for a [`Gate`].
const GATED: &str = "[lake]\nsql = true\n";

async fn sleep(served: &Served, name: &str, ms: u64) -> Reply {
    served.invoke(name, json!({"do": "sleep", "ms": ms}).to_string()).await
}

/// Sends an event that ends once the gate is open.
async fn wait(served: &Served, name: &str) -> Reply {
    served.invoke(name, "{\"do\":\"wait\"}").await
}

async fn tail(served: &Served, name: &str) -> String {
    let reply = served.invoke_with(name, "", &[("x-amz-log-type", "Tail")], "{}").await;
    String::from_utf8(STANDARD.decode(reply.header("x-amz-log-result")).expect("base64")).expect("a text")
}

async fn prewarmed() {
    let functions = Functions::new();
    let folder = functions.native("bill", &format!("{NATIVE}prewarmed = 2"));
    let served = served(functions).await;
    until("two instances", || served.fleet.idle("bill") == 2).await;
    let tail = tail(&served, "bill").await;
    assert!(tail.contains("REPORT RequestId") && !tail.contains("Init Duration"), "{tail}");
    // The new version is prewarmed, and the instances of the old one end.
    std::fs::write(folder.join("function.toml"), format!("{NATIVE}prewarmed = 1\nmemory_mb = 256")).expect("a file");
    served.deploy(&folder);
    until("one instance", || served.fleet.idle("bill") == 1).await;
}

async fn paused() {
    let functions = Functions::new();
    functions.shell("bill", "timeout = \"1min\"\n", BUSY);
    let served = served(functions).await;
    let first: u64 = served.invoke("bill", "{}").await.json().as_u64().expect("a count");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let second: u64 = served.invoke("bill", "{}").await.json().as_u64().expect("a count");
    // It counts ten times a second; a tenth of a second passes until it is paused.
    assert!(second - first < 12, "it counted from {first} to {second} in three seconds without an event");
    // Events that follow one another are answered as before.
    for _ in 0..20 {
        assert_eq!(served.invoke("bill", "{}").await.status, 200);
    }
}

/// Counts in the background, and answers each event with the count.
const BUSY: &str = "#!/bin/bash
(n=0; while true; do n=$((n + 1)); echo $n > /tmp/next; mv /tmp/next /tmp/count; sleep 0.1; done) &
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while true; do
  id=$(curl -s -D - -o /dev/null $api/next | tr -d '\\r' | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //ip')
  while [ ! -s /tmp/count ]; do sleep 0.01; done
  curl -s -o /dev/null -d \"$(cat /tmp/count)\" $api/$id/response
done
";

async fn bounded() {
    let functions = Functions::new();
    functions.native("two", &format!("{NATIVE}concurrency = 2\n{GATED}"));
    functions.native("free", &format!("{NATIVE}{GATED}"));
    let gate = Gate::closed();
    let served = served_with(functions, Host { concurrency_max: 3, lake: gate.lake(), ..Host::default() }).await;
    let (a, b, c) = tokio::join!(wait(&served, "two"), wait(&served, "two"), async {
        until("two events run", || served.fleet.busy() == 2).await;
        let third = served.invoke("two", "{}").await;
        assert_eq!(third.error(), (429, "TooManyRequestsException"));
        assert_eq!(third.json()["Reason"], "ReservedFunctionConcurrentInvocationLimitExceeded");
        let (other, fourth) = tokio::join!(wait(&served, "free"), async {
            until("three events run", || served.fleet.busy() == 3).await;
            let fourth = served.invoke("free", "{}").await;
            gate.open();
            fourth
        });
        assert_eq!((other.status, fourth.error()), (200, (429, "TooManyRequestsException")));
        fourth.json()["Reason"].clone()
    });
    assert_eq!((a.status, b.status, c), (200, 200, json!("ConcurrentInvocationLimitExceeded")));
    assert_eq!(served.fleet.busy(), 0);
    assert_eq!(served.invoke("two", "{}").await.status, 200);
}

async fn forty() {
    let functions = Functions::new();
    functions.native("bill", &format!("{NATIVE}memory_mb = 256"));
    let served = std::sync::Arc::new(served(functions).await);
    let asked: Vec<_> = (0..40)
        .map(|n| {
            let served = std::sync::Arc::clone(&served);
            tokio::spawn(async move { (n, sleep(&served, "bill", 50 + n).await) })
        })
        .collect();
    for task in asked {
        let (n, reply) = task.await.expect("a reply");
        assert_eq!((reply.status, reply.json()), (200, json!(50 + n)), "each its own answer");
    }
}

async fn deployed() {
    let functions = Functions::new();
    let folder = functions.native("bill", &format!("{NATIVE}{GATED}[environment]\nN = \"1\""));
    let gate = Gate::closed();
    let served = served_with(functions, Host { lake: gate.lake(), ..Host::default() }).await;
    let n = |reply: &Reply| reply.json()["environment"]["N"].clone();
    assert_eq!(n(&served.invoke("bill", "{\"do\":\"context\"}").await), "1");
    let (old, ()) = tokio::join!(wait(&served, "bill"), async {
        until("an event runs", || served.fleet.busy() == 1).await;
        std::fs::write(folder.join("function.toml"), format!("{NATIVE}{GATED}[environment]\nN = \"2\""))
            .expect("a file");
        assert_eq!(served.deploy(&folder).version, 2);
        assert_eq!(n(&served.invoke("bill", "{\"do\":\"context\"}").await), "2");
        assert_eq!(n(&served.invoke("bill:1", "{\"do\":\"context\"}").await), "1");
        gate.open();
    });
    assert_eq!((old.status, old.json()), (200, json!("waited")), "it ended where it began");
    assert!(served.registry.delete("bill").expect("a deletion"));
    assert_eq!(served.invoke("bill", "{}").await.error(), (404, "ResourceNotFoundException"));
    until("its instances are gone", || served.fleet.idle("bill") == 0).await;
}

async fn idle() {
    let functions = Functions::new();
    functions.native("bill", NATIVE);
    functions.native("kept", &format!("{NATIVE}prewarmed = 1"));
    let served = served_with(functions, Host { idle_max: Duration::from_millis(500), ..Host::default() }).await;
    until("the kept one", || served.fleet.idle("kept") == 1).await;
    // Its idle instance is not checked: on a slow machine it may have ended already.
    assert_eq!(served.invoke("bill", "{}").await.status, 200);
    until("the idle one ends", || served.fleet.idle("bill") == 0).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(served.fleet.idle("kept"), 1, "what is to be warm stays");
    assert_eq!(served.invoke("bill", "{}").await.status, 200);
}

async fn gone() {
    let functions = Functions::new();
    functions.native("bill", &format!("{NATIVE}{GATED}"));
    let gate = Gate::closed();
    let served = served_with(functions, Host { lake: gate.lake(), ..Host::default() }).await;
    let mut stream = tokio::net::TcpStream::connect(served.address).await.expect("a connection");
    let body = "{\"do\":\"wait\"}";
    let head = "POST /2015-03-31/functions/bill/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length:";
    stream.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes()).await.expect("a request");
    until("it runs", || served.fleet.busy() == 1).await;
    drop(stream);
    // Time for the host to notice; on a slow machine the test passes without proving it.
    tokio::time::sleep(Duration::from_millis(400)).await;
    gate.open();
    until("it has ended", || served.fleet.busy() == 0 && served.fleet.idle("bill") == 1).await;
    let lines = served.journal.lines("bill", None, 99).expect("a journal");
    assert!(lines.iter().any(|line| line.text.starts_with("REPORT")), "{lines:?}");
}

async fn pages() {
    let functions = Functions::new();
    functions.native("bill", NATIVE);
    let served = served(functions).await;
    for header in [("origin", "http://example.com"), ("sec-fetch-site", "same-origin")] {
        let reply = served.invoke_with("bill", "", &[header], "{}").await;
        assert_eq!(reply.error(), (403, "AccessDeniedException"));
    }
    assert_eq!(served.fleet.idle("bill"), 0, "nothing has run");
}

async fn variables() {
    let functions = Functions::new();
    functions.native("bill", &format!("{NATIVE}[environment]\nA = \"${{GREETING}} $$1\""));
    functions.native("lacks", &format!("{NATIVE}[environment]\nA = \"${{NOT_SET}}\""));
    let served = served(functions).await;
    let reply = served.invoke("bill", "{\"do\":\"context\"}").await;
    assert_eq!(reply.json()["environment"]["A"], "bonjour $1");
    let reply = served.invoke("lacks", "{}").await;
    assert_eq!(reply.error(), (500, "ServiceException"));
    let says = reply.json()["Message"].as_str().unwrap_or_default().to_owned();
    assert!(
        says.starts_with("fill in A of function lacks: the variable NOT_SET is not set where functions run"),
        "{says}"
    );
    let kept = served.registry.find("bill", "1").expect("a registry").expect("it").settings.environment["A"].clone();
    assert_eq!(kept, "${GREETING} $$1", "no secret is stored");
}

const LOOKS: &str = r#"#!/bin/bash
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
while true; do
  headers=$(mktemp /var/tmp/x 2>/dev/null || echo /dev/shm/headers)
  curl -sS -D "$headers" "$api/invocation/next" > /dev/null
  id=$(grep -F 'Lambda-Runtime-Aws-Request-Id: ' "$headers" | cut -d' ' -f2 | tr -d '\r')
  seen="$(ls /tmp | tr '\n' ' ')|$(ls /var/task | tr '\n' ' ')|$(ls -d /proc/[0-9]* | wc -l)|$(id -u)|$(tr '\0' ' ' < /proc/1/environ 2>/dev/null)"
  echo secret > /tmp/of-$AWS_LAMBDA_FUNCTION_NAME
  echo secret > /dev/shm/of-$AWS_LAMBDA_FUNCTION_NAME
  (setsid sleep 600 &)
  curl -s -X POST "$api/invocation/$id/response" -d "\"$seen\"" > /dev/null
done
"#;

async fn others() {
    let functions = Functions::new();
    for name in ["one", "two"] {
        let folder = functions.shell(name, "memory_mb = 256", LOOKS);
        std::fs::write(folder.join(format!("code-of-{name}")), name).expect("a file");
    }
    let served = served(functions).await;
    let seen = async |name: &str| {
        served.at_rest(name).await;
        let reply = served.invoke(name, "{}").await;
        reply.json().as_str().unwrap_or_default().split('|').map(str::to_owned).collect::<Vec<_>>()
    };
    let (one, two) = (seen("one").await, seen("two").await);
    assert_eq!((one[0].as_str(), two[0].as_str()), ("", ""), "no file of the other");
    assert_eq!((one[1].trim(), two[1].trim()), ("bootstrap code-of-one", "bootstrap code-of-two"));
    assert!(two[2].parse::<u32>().expect("a number") < 10, "no process of the other: {}", two[2]);
    assert_eq!((one[4].as_str(), two[4].as_str()), ("", ""), "no variable of the host");
    if crate::world::is_root() {
        assert_ne!(one[3], two[3], "a user each");
    }
    assert_eq!(seen("one").await[0].trim(), "of-one", "its own it keeps while it is warm");
}

async fn no_bootstrap() {
    let functions = Functions::new();
    functions.add("bill", "handler = \"h\"", &[("readme", b"x")]);
    let served = served(functions).await;
    let reply = served.invoke("bill", "{}").await;
    assert_eq!((reply.status, reply.header("x-amz-function-error")), (200, "Unhandled"));
    assert_eq!(reply.json()["errorType"], "Runtime.InvalidEntrypoint");
    let says = reply.json()["errorMessage"].as_str().unwrap_or_default().to_owned();
    assert!(says.contains("none of /var/task/bootstrap, /opt/bootstrap, /var/runtime/bootstrap"), "{says}");
    let id = served.defer("bill", "{}").await;
    assert!(served.wait_for(&id, "dead").await.error.unwrap_or_default().contains("find its bootstrap"));
}

/// A bootstrap that answers one event and ends a moment later without asking for the next.
const DIES: &str = r#"#!/bin/bash
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
curl -sS -D /tmp/headers "$api/invocation/next" > /tmp/event
id=$(grep -F 'Lambda-Runtime-Aws-Request-Id: ' /tmp/headers | cut -d' ' -f2 | tr -d '\r')
curl -s -X POST "$api/invocation/$id/response" -d @/tmp/event > /dev/null
[ "$_HANDLER" = slow ] && exec sleep 600
sleep 0.02
exit 1
"#;

async fn dies_after() {
    let functions = Functions::new();
    functions.add("dies", "handler = \"h\"", &[("bootstrap", DIES.as_bytes())]);
    functions.add("hangs", "handler = \"slow\"", &[("bootstrap", DIES.as_bytes())]);
    let served = served(functions).await;
    for name in ["dies", "hangs"] {
        for n in 0..6 {
            let reply = served.invoke(name, n.to_string()).await;
            let got = (reply.status, reply.header("x-amz-function-error").to_owned(), reply.json());
            assert_eq!(got, (200, String::new(), json!(n)), "{name}");
        }
    }
}

async fn running(process: &Process, name: &str) {
    let path = format!("/2015-03-31/functions/{name}/invocations");
    let reply = ask(process.address, "POST", &path, &[], "{\"do\":\"ok\"}".into()).await;
    assert_eq!((reply.status, reply.json()), (200, json!({"you": {"do": "ok"}})), "{reply:?}");
}

/// Ends instances, spare sandboxes and the processes that a function has started.
async fn killed() {
    let functions = Functions::new();
    functions.native("bill", NATIVE);
    functions.shell("looks", "memory_mb = 256", LOOKS);
    let process = Process::start(functions.folder.path());
    running(&process, "bill").await;
    ask(process.address, "POST", "/2015-03-31/functions/looks/invocations", &[], "{}".into()).await;
    // Two processes of each of four sandboxes, two bootstraps and a sleeping grandchild.
    until("its processes", || process.descendants().len() >= 2 * 4 + 3).await;
    let all = process.descendants();
    process.kill();
    let alive = |process: &u32| {
        let state = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        state.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
    };
    until("all of them have ended", || !all.iter().any(alive)).await;
}

async fn spares() {
    let functions = Functions::new();
    for n in 0..4 {
        functions.native(&format!("bill-{n}"), NATIVE);
    }
    let process = Process::start(functions.folder.path());
    for n in 0..4 {
        until("two spares", || process.descendants().len() >= 2 * 2 + 3 * n).await;
        let spares = process.descendants();
        let names = |process: &&u32| {
            let line = std::fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default();
            let has_bootstrap = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
            line.contains("sandbox-inside") && has_bootstrap.is_ok_and(|children| children.trim().is_empty())
        };
        for spare in spares.iter().filter(names) {
            let spare = rustix::process::Pid::from_raw(i32::try_from(*spare).expect("a number")).expect("a process");
            let _ = rustix::process::kill_process(spare, rustix::process::Signal::KILL);
        }
        running(&process, &format!("bill-{n}")).await;
    }
}
