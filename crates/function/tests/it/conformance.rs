//! AWS's runtimes for Rust and Python, and a shell script, each behind the Invoke API: the same events have to give the
//! same answers.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::runtime::BOOTSTRAP;
use crate::served::{Functions, Reply, Served, served};

const SETTINGS: &str = "memory_mb = 192\ntmp_mb = 64\n";
/// For tests of the deadline. All others have a long timeout.
const DEADLINE: &str = "timeout = \"2s\"\n";

/// The function in Python. awslambdaric and its packages are a layer.
const PYTHON: &str = r#"
import http.client, os, subprocess, sys, time

if os.environ["_HANDLER"] == "app.exit_at_once":
    os._exit(7)

count = 0

def post(path, body):
    """Sends a request to the Runtime API without the runtime."""
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request("POST", "/2018-06-01/runtime/invocation/" + path, body)
    return connection.getresponse().status

def handler(event, context):
    global count
    count += 1
    do = event.get("do")
    if do == "error":
        raise ValueError("by intent")
    if do == "exit":
        os._exit(3)
    if do == "memory":
        all = []
        while True:
            all.append(bytearray(b"x" * (1 << 20)))
    if do == "sleep":
        subprocess.Popen(["sleep", "601"], start_new_session=True)
        time.sleep(601)
    if do == "large":
        return "a" * ((6 << 20) + 101)
    if do == "unknown":
        return str(post("not-this-one/response", "1"))
    if do == "twice":
        assert post(context.aws_request_id + "/response", '"first"') == 202
        return "second"
    if do == "log":
        print("said by the function")
        return None
    if do == "count":
        return count
    if do == "context":
        return {
            "request_id": context.aws_request_id,
            "arn": context.invoked_function_arn,
            "version": context.function_version,
            "remaining_ms": context.get_remaining_time_in_millis(),
            "client": context.client_context and context.client_context.custom,
        }
    return {"you": event}
"#;

/// With this machine's own Python, which the packages were installed for: `/usr` in the sandbox is this machine's.
const PYTHON_BOOTSTRAP: &str =
    "#!/bin/sh\nexport PYTHONPATH=/opt/python:/var/task\nexec /usr/bin/python3 -m awslambdaric \"$_HANDLER\"\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runtime {
    Shell,
    Native,
    Python,
}

impl Runtime {
    fn add(self, functions: &Functions, name: &str, handler: &str, more: &str) {
        let toml = format!("handler = \"{handler}\"\n{SETTINGS}{more}");
        match self {
            Runtime::Shell => drop(functions.add(name, &toml, &[("bootstrap", BOOTSTRAP.as_bytes())])),
            Runtime::Native => drop(functions.native(name, &toml)),
            Runtime::Python => {
                let handler = match handler {
                    "h" => "app.handler",
                    "init-error" => "app.missing",
                    _ => "app.exit_at_once",
                };
                let toml = format!("handler = \"{handler}\"\nlayers = [\"python\"]\n{SETTINGS}{more}");
                functions.add(name, &toml, &[("app.py", PYTHON.as_bytes())]);
            }
        }
    }

    async fn served(self, handler: &str, more: &str) -> Served {
        let functions = Functions::new();
        if self == Runtime::Python {
            python_layer(&functions);
        }
        self.add(&functions, "bill", handler, more);
        served(functions).await
    }
}

fn python_layer(functions: &Functions) {
    let packages = "import sysconfig; print(sysconfig.get_paths()['platlib'])";
    let output = Command::new(interpreter()).args(["-c", packages]).output().expect("a Python");
    let packages = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let mut files = vec![("bootstrap".to_owned(), PYTHON_BOOTSTRAP.as_bytes().to_vec())];
    for entry in walkdir::WalkDir::new(&packages).sort_by_file_name().into_iter().flatten() {
        let inner = entry.path().strip_prefix(&packages).expect("inside").to_string_lossy().into_owned();
        let wanted = ["awslambdaric", "runtime_client", "snapshot_restore_py", "simplejson"];
        if entry.file_type().is_file()
            && wanted.iter().any(|name| inner.starts_with(name))
            && !inner.contains("__pycache__")
        {
            files.push((format!("python/{inner}"), std::fs::read(entry.path()).expect("a file")));
        }
    }
    assert!(files.len() > 10, "awslambdaric is installed in {}", packages.display());
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    functions.layer("python", &files);
}

pub fn interpreter() -> PathBuf {
    let given = std::env::var_os("WATTLAKE_TEST_PYTHON").map(PathBuf::from);
    let home = std::env::var_os("HOME").unwrap_or_default();
    let path = given.unwrap_or_else(|| Path::new(&home).join(".cache/wattlake/test-venv/bin/python"));
    assert!(path.exists(), "there is no Python for the tests at {}: run ./test, which installs it", path.display());
    path
}

fn trial(
    runtime: Runtime,
    name: &str,
    handler: &'static str,
    test: impl AsyncFnOnce(Served) + Send + 'static,
) -> Trial {
    trial_with(runtime, name, handler, "", test)
}

/// `more` are further lines of its definition.
fn trial_with(
    runtime: Runtime,
    name: &str,
    handler: &'static str,
    more: &'static str,
    test: impl AsyncFnOnce(Served) + Send + 'static,
) -> Trial {
    let of = format!("{runtime:?}").to_lowercase();
    Trial::test(format!("conformance::{of}::{name}"), move || -> Result<(), Failed> {
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        tokio.block_on(async { test(runtime.served(handler, more).await).await });
        Ok(())
    })
}

async fn ask(served: &Served, what: &str) -> Reply {
    served.invoke("bill", json!({ "do": what }).to_string()).await
}

/// The failure's type and message. Also checks that the next event is answered.
async fn failure(served: &Served, what: &str) -> (String, String) {
    let reply = ask(served, what).await;
    assert_eq!((reply.status, reply.header("x-amz-function-error")), (200, "Unhandled"), "{what}: {reply:?}");
    served.at_rest("bill").await;
    let again = ask(served, "ok").await;
    assert_eq!(again.header("x-amz-function-error"), "", "after {what}: {again:?}");
    said(&reply)
}

fn said(reply: &Reply) -> (String, String) {
    let text = |key: &str| reply.json()[key].as_str().unwrap_or_default().to_owned();
    (text("errorType"), text("errorMessage"))
}

pub fn trials() -> Vec<Trial> {
    let mut all: Vec<Trial> =
        [Runtime::Shell, Runtime::Native, Runtime::Python].into_iter().flat_map(of_each).collect();
    all.extend([Runtime::Shell, Runtime::Native, Runtime::Python].into_iter().flat_map(against_the_rules));
    all.extend(streams());
    all.extend([Runtime::Native, Runtime::Python].into_iter().map(context));
    all
}

fn of_each(runtime: Runtime) -> Vec<Trial> {
    let own = if runtime == Runtime::Python { "ValueError" } else { "Function.Mine" };
    vec![
        trial(runtime, "an_event_is_answered", "h", async |served| {
            let reply = ask(&served, "ok").await;
            assert_eq!((reply.status, reply.json()), (200, json!({"you": {"do": "ok"}})));
            assert_eq!(reply.header("x-amz-executed-version"), "$LATEST");
            assert_eq!((reply.header("x-amz-function-error"), reply.header("x-amz-log-result")), ("", ""));
        }),
        trial(runtime, "an_error_of_the_function", "h", async move |served| {
            let (kind, says) = failure(&served, "error").await;
            assert_eq!((kind.as_str(), says.as_str()), (own, "by intent"));
            assert_eq!(served.fleet.idle("bill"), 1, "the instance lives on");
        }),
        trial(runtime, "an_exit_in_the_middle", "h", async |served| {
            let (kind, says) = failure(&served, "exit").await;
            assert_eq!(kind, "Runtime.ExitError");
            assert!(says.ends_with("Error: Runtime exited with error: exit status 3"), "{says}");
        }),
        trial(runtime, "too_much_memory", "h", async |served| {
            assert_eq!(failure(&served, "memory").await.0, "Runtime.OutOfMemory");
        }),
        trial_with(runtime, "the_deadline", "h", DEADLINE, async |served| {
            let reply = ask(&served, "sleep").await;
            assert_eq!((reply.status, reply.header("x-amz-function-error")), (200, "Unhandled"), "{reply:?}");
            let (kind, says) = said(&reply);
            assert_eq!(kind, "Sandbox.Timedout");
            assert!(says.ends_with("Error: Task timed out after 2.00 seconds"), "{says}");
            // The next event has the same deadline, which a busy machine may miss.
            let mut again = ask(&served, "ok").await;
            for _ in 0..60 {
                if again.header("x-amz-function-error").is_empty() {
                    break;
                }
                again = ask(&served, "ok").await;
            }
            assert_eq!(again.json(), json!({"you": {"do": "ok"}}), "{again:?}");
        }),
        trial(runtime, "a_response_of_more_than_6_mb", "h", async |served| {
            assert_eq!(failure(&served, "large").await.0, "Function.ResponseSizeTooLarge");
        }),
        trial(runtime, "the_tail_of_its_log", "h", async |served| log_tail(&served).await),
        trial(runtime, "an_error_before_the_first_event", "init-error", async move |served| {
            let reply = ask(&served, "ok").await;
            let (kind, says) = said(&reply);
            match runtime {
                Runtime::Shell => assert_eq!(kind, "Runtime.NoSuchHandler"),
                Runtime::Python => assert_eq!(kind, "Runtime.HandlerNotFound"),
                // This runtime reports nothing and exits.
                Runtime::Native => assert!(says.ends_with("exit status 1"), "{says}"),
            }
            assert_eq!(served.fleet.idle("bill"), 0);
        }),
        trial(runtime, "an_exit_before_the_first_event", "exit-at-once", async |served| {
            let (kind, says) = said(&ask(&served, "ok").await);
            assert_eq!(kind, "Runtime.ExitError");
            assert!(says.ends_with("exit status 7"), "{says}");
        }),
    ]
}

/// A caller can request the last lines that a function printed.
async fn log_tail(served: &Served) {
    let headers = [("x-amz-log-type", "Tail")];
    let reply = served.invoke_with("bill", "", &headers, "{\"do\":\"log\"}").await;
    let tail = String::from_utf8(STANDARD.decode(reply.header("x-amz-log-result")).expect("base64")).expect("text");
    let id = reply.header("x-amzn-requestid").to_owned();
    assert!(tail.contains(&format!("START RequestId: {id} Version: $LATEST\n")), "{tail}");
    assert!(tail.contains("said by the function\n") && tail.contains(&format!("END RequestId: {id}\n")), "{tail}");
    assert!(
        tail.contains(&format!("REPORT RequestId: {id}\tDuration: ")) && tail.contains("Init Duration: "),
        "{tail}"
    );
    let kept = served.journal.lines("bill", Some(&id), 99).expect("a journal");
    assert!(kept.iter().any(|line| line.text == "said by the function"), "{kept:?}");
}

fn against_the_rules(runtime: Runtime) -> Vec<Trial> {
    vec![
        trial(runtime, "an_answer_to_an_unknown_event", "h", async |served| {
            assert_eq!(ask(&served, "unknown").await.json(), "400");
            assert_eq!(ask(&served, "ok").await.json(), json!({"you": {"do": "ok"}}), "and it goes on");
        }),
        trial(runtime, "two_answers_to_one_event", "h", async |served| {
            // Some runtimes end when their answer is refused: the event after it is answered all the same.
            for _ in 0..3 {
                let reply = ask(&served, "twice").await;
                assert_eq!((reply.header("x-amz-function-error"), reply.json()), ("", json!("first")));
                let reply = ask(&served, "ok").await;
                assert_eq!((reply.header("x-amz-function-error"), reply.json()), ("", json!({"you": {"do": "ok"}})));
            }
        }),
    ]
}

/// Without Python: awslambdaric does not stream.
fn streams() -> Vec<Trial> {
    vec![
        trial(Runtime::Shell, "a_response_in_pieces", "h", async |served| {
            assert_eq!(ask(&served, "stream").await.json(), "ab");
        }),
        trial(Runtime::Native, "a_response_in_pieces", "stream", async |served| {
            let reply = served.invoke("bill", "{\"pieces\": 3}").await;
            assert_eq!((reply.status, reply.header("x-amz-function-error")), (200, ""));
            assert!(reply.body.ends_with(b"piece 0;piece 1;piece 2;"), "{reply:?}");
        }),
        trial(Runtime::Native, "a_response_that_is_interrupted", "stream", async |served| {
            let reply = ask(&served, "break").await;
            assert_eq!(reply.header("x-amz-function-error"), "Unhandled", "{reply:?}");
            let reply = served.invoke("bill", "{\"pieces\": 1}").await;
            assert_eq!(reply.header("x-amz-function-error"), "", "the next one is whole: {reply:?}");
        }),
    ]
}

fn context(runtime: Runtime) -> Trial {
    trial(runtime, "its_context", "h", async |served| {
        let client = json!({"installationId": "", "appTitle": "", "appVersionName": "", "appVersionCode": "", "appPackageName": ""});
        let client = STANDARD.encode(json!({"custom": {"who": "été"}, "client": client, "env": {}}).to_string());
        let headers = [("x-amz-client-context", client.as_str())];
        served.registry.point_alias("bill", "prod", 1).expect("an alias");
        let reply = served.invoke_with("bill:prod", "", &headers, "{\"do\":\"context\"}").await;
        let context: Value = reply.json();
        assert_eq!(reply.header("x-amz-executed-version"), "1");
        assert_eq!(context["request_id"], reply.header("x-amzn-requestid"), "{context}");
        assert_eq!(context["arn"], "arn:aws:lambda:local:000000000000:function:bill:prod");
        assert_eq!((&context["version"], &context["client"]["who"]), (&json!("1"), &json!("été")), "{context}");
        if let Some(remaining) = context["remaining_ms"].as_u64() {
            assert!((200_000..=300_000).contains(&remaining), "{remaining}");
        }
    })
}
