//! A function reaches what its definition allows of the lake and of files, and nothing else.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use function::Kind;
use function::host::{Answer, Event, EventFiles, Input, LakeServices, Outcome, Refusal, ServiceFn};
use libtest_mimic::{Failed, Trial};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::served::{Functions, Host, Served, served, served_with};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_function_reaches_the_sql_that_it_is_allowed", || Box::pin(sql())),
        trial("each_function_has_services_of_its_own", || Box::pin(own_services())),
        trial("a_service_ends_with_its_instance", || Box::pin(ends())),
        trial("a_right_that_the_host_does_not_serve_is_an_error", || Box::pin(not_served())),
        trial("files_come_with_an_event_and_are_left_by_it", || Box::pin(files())),
        trial("results_are_bounded", || Box::pin(bounded())),
        trial("a_result_is_no_way_out", || Box::pin(no_way_out())),
        trial("after_an_error_there_are_no_results", || Box::pin(no_results())),
        trial("without_files_in_its_definition_it_gets_none", || Box::pin(no_files())),
    ]
}

type Test = std::pin::Pin<Box<dyn Future<Output = ()>>>;

fn trial(name: &str, test: fn() -> Test) -> Trial {
    Trial::test(format!("reach::{name}"), move || -> Result<(), Failed> {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(test());
        Ok(())
    })
}

/// A function that runs the event as a shell command and answers with its output.
const RUNS: &str = r#"#!/bin/bash
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
while true; do
  event=$(curl -sS -D /tmp/headers "$api/invocation/next")
  id=$(grep -F 'Lambda-Runtime-Aws-Request-Id: ' /tmp/headers | cut -d' ' -f2 | tr -d '\r')
  says=$(eval "$(printf %b "${event:1:-1}")" 2>&1)
  kind=response; [ "${says:0:4}" = fail ] && kind=error
  printf '"%s"' "$(printf %s "$says" | tr '\n"' ' .')" > /tmp/answer
  curl -s -X POST "$api/invocation/$id/$kind" --data-binary @/tmp/answer > /dev/null
done
"#;

const ASK: &str = "exec 3<>/dev/tcp/127.0.0.1/PORT && echo hello >&3 && read -t 100 line <&3 && echo $line";

fn ask(port: u16) -> String {
    ASK.replace("PORT", &port.to_string())
}

/// A service that answers each line with its own name and the function that it is for.
fn echo_service(what: &'static str, alive: &Arc<AtomicUsize>) -> ServiceFn {
    struct Ends(tokio::task::JoinHandle<()>, Arc<AtomicUsize>);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.abort();
            self.1.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let alive = Arc::clone(alive);
    Arc::new(move |found, listener| -> Box<dyn Any + Send + Sync> {
        listener.set_nonblocking(true).expect("a listener");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let who = format!("{what} for {}", found.name);
        alive.fetch_add(1, Ordering::SeqCst);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let who = who.clone();
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let mut line = String::new();
                    while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                        let answer = format!("{} from {who}\n", line.trim());
                        drop(stream.write_all(answer.as_bytes()).await);
                        line.clear();
                    }
                });
            }
        });
        Box::new(Ends(serving, Arc::clone(&alive)))
    })
}

async fn with_lake(functions: Functions) -> (Served, Arc<AtomicUsize>) {
    let alive = Arc::new(AtomicUsize::new(0));
    let lake = LakeServices { sql: Some(echo_service("SQL", &alive)), objects: Some(echo_service("objects", &alive)) };
    (served_with(functions, Host { lake, ..Host::default() }).await, alive)
}

async fn shell(served: &Served, name: &str, script: &str) -> String {
    served.at_rest(name).await;
    let reply = served.invoke(name, serde_json::json!(script).to_string()).await;
    reply.json().as_str().unwrap_or_default().to_owned()
}

async fn sql() {
    let functions = Functions::new();
    functions.shell("reads", "[lake]\nsql = true", RUNS);
    functions.shell("apart", "", RUNS);
    let (served, _) = with_lake(functions).await;
    assert_eq!(shell(&served, "reads", &ask(5432)).await, "hello from SQL for reads");
    assert_eq!(
        shell(&served, "reads", "echo $PGHOST:$PGPORT $PGUSER $WATTLAKE_SQL_URL").await,
        "127.0.0.1:5432 reads postgresql://reads@127.0.0.1:5432/wattlake"
    );
    assert!(shell(&served, "reads", &ask(9000)).await.contains("Connection refused"), "objects are not its own");
    for port in [5432, 9000, served.address.port()] {
        let says = shell(&served, "apart", &ask(port)).await;
        assert!(says.contains("Connection refused"), "{port}: {says}");
    }
    assert_eq!(shell(&served, "apart", "echo =$PGHOST$WATTLAKE_SQL_URL$WATTLAKE_OBJECTS_URL").await, "=");
}

async fn own_services() {
    let functions = Functions::new();
    for name in ["one", "two"] {
        functions.shell(name, "[lake]\nsql = true\nobjects = [\"bills\"]", RUNS);
    }
    let (served, _) = with_lake(functions).await;
    for name in ["one", "two", "one"] {
        assert_eq!(shell(&served, name, &ask(5432)).await, format!("hello from SQL for {name}"));
        assert_eq!(shell(&served, name, &ask(9000)).await, format!("hello from objects for {name}"));
    }
    assert_eq!(shell(&served, "two", "echo $WATTLAKE_OBJECTS_URL").await, "http://127.0.0.1:9000");
}

async fn ends() {
    let functions = Functions::new();
    functions.shell("reads", "[lake]\nsql = true", RUNS);
    let (served, alive) = with_lake(functions).await;
    shell(&served, "reads", "echo").await;
    assert_eq!(alive.load(Ordering::SeqCst), 1);
    // The event may go to another instance, where the first does not wait for one yet: each call ends one instance.
    for _ in 0..100 {
        let reply = served.invoke("reads", "\"kill -9 $$; sleep 9\"").await;
        assert_eq!(reply.header("x-amz-function-error"), "Unhandled");
        for _ in 0..100 {
            if alive.load(Ordering::SeqCst) == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    panic!("it serves a function that has ended");
}

async fn not_served() {
    let functions = Functions::new();
    functions.shell("reads", "[lake]\nsql = true", RUNS);
    let served = served(functions).await;
    let reply = served.invoke("reads", "{}").await;
    assert_eq!(reply.error(), (500, "ServiceException"));
    assert_eq!(reply.json()["Message"], "serve the lake's SQL to function reads: this host does not serve it");
}

async fn run(served: &Served, name: &str, script: &str, files: EventFiles) -> Result<Outcome, Refusal> {
    let event = Event {
        request_id: uuid::Uuid::now_v7().to_string(),
        payload: serde_json::json!(script).to_string().into(),
        files: Some(files),
        ..Event::default()
    };
    served.at_rest(name).await;
    let (fleet, name) = (served.fleet.clone(), name.to_owned());
    let ran = tokio::spawn(async move { fleet.invoke(&name, "$LATEST", event, None).await });
    ran.await.expect("a task").map(|ran| ran.outcome)
}

fn answer(outcome: &Outcome) -> String {
    match &outcome.answer {
        Answer::Response(body) => String::from_utf8_lossy(body).trim_matches('"').to_owned(),
        Answer::Error(failure) => format!("{}: {}", failure.error_type, String::from_utf8_lossy(&failure.body)),
    }
}

async fn with_files(results_mb: u64) -> Served {
    let functions = Functions::new();
    let files = format!("memory_mb = 256\n[files]\nresults_mb = {results_mb}");
    functions.shell("bill", &files, RUNS);
    served(functions).await
}

fn place(served: &Served, name: &str) -> PathBuf {
    served.functions.folder.path().join(name)
}

async fn files() {
    let served = with_files(8).await;
    let meters = place(&served, "meters.csv");
    std::fs::write(&meters, "1\n2\n").expect("a file");
    let brings = |name: &str, into: &str| EventFiles {
        inputs: vec![Input { name: name.to_owned(), path: meters.clone() }],
        results: Some(place(&served, into)),
    };
    let script = "echo x > /inputs/x; cat /inputs/2026-09/meters.csv; mkdir /results/lines; \
        wc -l < /inputs/2026-09/meters.csv > /results/lines/count.csv";
    let outcome = run(&served, "bill", script, brings("2026-09/meters.csv", "first")).await.expect("an outcome");
    let says = answer(&outcome);
    assert!(says.contains("Read-only file system") && says.ends_with("1 2"), "{says}");
    assert_eq!(outcome.results.len(), 1);
    assert_eq!((outcome.results[0].name.as_str(), outcome.results[0].bytes), ("lines/count.csv", 2));
    assert_eq!(std::fs::read_to_string(place(&served, "first/lines/count.csv")).expect("a result"), "2\n");
    // The next event, in the same instance, has its own.
    let outcome =
        run(&served, "bill", "find /inputs /results -type f", brings("m.csv", "second")).await.expect("an outcome");
    assert_eq!((answer(&outcome).as_str(), outcome.init), ("/inputs/m.csv", None));
    assert!(outcome.results.is_empty() && place(&served, "second").is_dir());
    // And one without any has none.
    assert_eq!(shell(&served, "bill", "find /inputs /results -type f; echo done").await, "done");
    let again = run(&served, "bill", "true", brings("m.csv", "first")).await;
    assert!(matches!(again, Err(Refusal::Failed(error)) if error.kind == Kind::FixInput), "results are never replaced");
    let left = std::fs::read_dir(place(&served, "state/roots")).expect("a folder").count();
    assert!(left <= 1, "only the living instance's: {left}");
}

async fn bounded() {
    let served = with_files(2).await;
    let files = || EventFiles { results: Some(place(&served, "out")), ..EventFiles::default() };
    let script = "head -c 4m /dev/zero > /results/x; rm -f /results/x; \
        i=0; while (( i < 6000 )) && : > /results/$i; do (( ++i )); done; echo $i; rm -f /results/*";
    let says = answer(&run(&served, "bill", script, files()).await.expect("an outcome"));
    assert!(says.contains("No space left on device"), "{says}");
    let made: Vec<u32> = says.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(made.last().is_some_and(|made| *made < 6000), "as many files as pages: {says}");
    std::fs::remove_dir_all(place(&served, "out")).expect("its folder");
    // A sparse file is larger than its folder.
    let outcome = run(&served, "bill", "truncate -s 1T /results/holes", files()).await.expect("an outcome");
    let says = answer(&outcome);
    assert!(
        says.starts_with("Function.ResultsRefused") && says.contains("/results/holes: the results are larger than"),
        "{says}"
    );
    assert!(!place(&served, "out").exists());
}

async fn no_way_out() {
    let served = with_files(2).await;
    std::fs::write(place(&served, "secret"), "of the host").expect("a file");
    let link = format!("ln -s {} /results/link", place(&served, "secret").display());
    for (script, says) in [
        (link.as_str(), "/results/link: neither a file nor a folder"),
        ("ln -s / /results/root", "/results/root: neither a file nor a folder"),
        ("mkfifo /results/pipe", "/results/pipe: neither a file nor a folder"),
    ] {
        let files = EventFiles { results: Some(place(&served, "out")), ..EventFiles::default() };
        let outcome = answer(&run(&served, "bill", script, files).await.expect("an outcome"));
        assert!(outcome.contains(says), "{script}: {outcome}");
        assert!(!place(&served, "out").exists(), "{script}");
    }
}

async fn no_results() {
    let served = with_files(2).await;
    for script in ["echo fail; echo half > /results/bill.csv", "echo half > /results/bill.csv; kill -9 $$; sleep 9"] {
        let files = EventFiles { results: Some(place(&served, "out")), ..EventFiles::default() };
        let outcome = run(&served, "bill", script, files).await.expect("an outcome");
        assert!(matches!(outcome.answer, Answer::Error(_)) && outcome.results.is_empty());
        assert!(!place(&served, "out").exists(), "{script}");
    }
}

async fn no_files() {
    let functions = Functions::new();
    functions.shell("bill", "", RUNS);
    let served = served(functions).await;
    let Err(Refusal::Failed(error)) = run(&served, "bill", "true", EventFiles::default()).await else {
        panic!("it has no files");
    };
    assert_eq!(error.to_string(), "pass files to function bill: its function.toml has no [files]");
    assert!(shell(&served, "bill", "ls /inputs /results").await.contains("No such file"));
}
