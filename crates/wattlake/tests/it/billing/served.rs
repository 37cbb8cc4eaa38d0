//! Functions served: invoked by AWS's own client, and reading the lake.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::Billing;
use crate::world::{CommandResult, python};

/// Answers with results of the lake's SQL and of HTTP requests for its files.
const READS_LAKE: &str = r#"#!/bin/bash
set -uo pipefail
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
while true; do
  curl -sS -D /tmp/head -o /tmp/event "$api/invocation/next"
  id=$(tr -d '\r' < /tmp/head | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //p')
  count=$(/usr/bin/psql -XAtc 'SELECT count(*) FROM billing.declared' 2>&1 | head -1)
  written=$(/usr/bin/psql -XAtc 'CREATE TABLE mine (a int)' 2>&1 | head -1)
  inside=$(curl -sS -o /dev/null -w '%{http_code}' "${WATTLAKE_OBJECTS_URL:-http://127.0.0.1:9}/billing/declared/_delta_log/00000000000000000000.json")
  outside=$(curl -sS -o /dev/null -w '%{http_code}' "${WATTLAKE_OBJECTS_URL:-http://127.0.0.1:9}/ingest/files/_delta_log/00000000000000000000.json")
  printf '{"count": "%s", "written": "%s", "inside": "%s", "outside": "%s"}' "$count" "${written//\"/}" "$inside" "$outside" > /tmp/answer
  curl -sS -o /dev/null -X POST --data-binary @/tmp/answer "$api/invocation/$id/response"
done
"#;

const INVOKE: &str = r#"
import boto3, json, sys, time
given = json.load(sys.stdin)
client = boto3.client("lambda", endpoint_url=given["url"], region_name="eu-west-3",
                      aws_access_key_id="x", aws_secret_access_key="x")
ran = client.invoke(FunctionName="bill", Payload=b'{"a": 1}', LogType="Tail")
queued = client.invoke(FunctionName="bill", InvocationType="Event", Payload=b'{}')
try:
    client.invoke(FunctionName="nobody")
    refused = None
except client.exceptions.ResourceNotFoundException as error:
    refused = error.response["ResponseMetadata"]["HTTPStatusCode"]
print(json.dumps({"status": ran["StatusCode"], "error": ran.get("FunctionError"), "answer": json.load(ran["Payload"]),
                  "tail": "LogResult" in ran, "queued": queued["StatusCode"], "refused": refused}))
"#;

/// Prints a line, and answers two seconds later.
const SLOW: &str = r#"#!/bin/bash
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
while true; do
  curl -sS -D /tmp/head -o /tmp/event "$api/invocation/next"
  id=$(tr -d '\r' < /tmp/head | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //p')
  echo "it works"
  sleep 2
  curl -sS -o /dev/null -X POST -d '"done"' "$api/invocation/$id/response"
done
"#;

struct TestServer<'a> {
    it: &'a Billing,
    child: Child,
    url: String,
}

impl<'a> TestServer<'a> {
    fn new(it: &'a Billing) -> TestServer<'a> {
        TestServer::start(it, true)
    }

    /// A server with or without the Invoke API.
    fn start(it: &'a Billing, has_api: bool) -> TestServer<'a> {
        let free = [(), ()].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let [http, functions] = free.map(|listener| listener.local_addr().unwrap().port());
        let toml = format!(
            "lake.url = 'lake'\n[serve]\ntimezone = 'Europe/Paris'\nsql = 'off'\nhttp = '127.0.0.1:{http}'\n\
             functions = '{}'\n",
            if has_api { format!("127.0.0.1:{functions}") } else { "off".to_owned() }
        );
        it.warehouse.write("wattlake.toml", &toml);
        let log = std::fs::File::create(it.warehouse.path().join("serve.log")).unwrap();
        let mut serve = it.warehouse.command(&["serve"]);
        let child = serve.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(180);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, if has_api { functions } else { http })).is_err() {
            let log = || std::fs::read_to_string(it.warehouse.path().join("serve.log")).unwrap();
            assert!(Instant::now() < deadline, "it does not listen:\n{}", log());
            std::thread::sleep(Duration::from_millis(30));
        }
        TestServer { it, child, url: format!("http://127.0.0.1:{functions}") }
    }
}

impl Drop for TestServer<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn boto3_invokes_and_a_function_reads_the_lake() {
    let it = Billing::new();
    it.files_in();
    it.warehouse.write("functions/bill/bootstrap", READS_LAKE);
    it.warehouse.ok(&["function", "deploy", "bill"]);
    let without = it.warehouse.json(&["function", "invoke", "bill", "--json"]);
    assert_ne!(without[0]["answer"]["count"], "2", "no right, no lake: {without:?}");
    let toml = "handler = 'bill'\nmemory_mb = 256\ntimeout = '5min'\n[lake]\nsql = true\nobjects = ['billing/']\n";
    it.warehouse.write("functions/bill/function.toml", toml);
    it.warehouse.ok(&["function", "deploy", "bill"]);

    let served = TestServer::new(&it);
    let said = python(INVOKE, &json!({"url": served.url}));
    assert_eq!((&said["status"], &said["error"], &said["tail"]), (&json!(200), &json!(null), &json!(true)), "{said}");
    assert_eq!((&said["queued"], &said["refused"]), (&json!(202), &json!(404)));
    let answer = &said["answer"];
    assert_eq!((&answer["count"], &answer["inside"], &answer["outside"]), (&json!("2"), &json!("200"), &json!("403")));
    assert!(answer["written"].as_str().unwrap().starts_with("ERROR"), "{answer}");
    let deadline = Instant::now() + Duration::from_secs(180);
    while served.it.warehouse.json(&["function", "events", "--state", "succeeded", "--json"]).is_empty() {
        assert!(Instant::now() < deadline, "the queued event did not run");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn events_of_all_processes_run_in_the_server() {
    let it = Billing::new();
    it.warehouse.ok(&["function", "deploy", "bill"]);
    it.files_in();
    let server = TestServer::new(&it);
    let invoke = || it.warehouse.json(&["function", "invoke", "bill", "--json"]).remove(0);
    let (first, second) = (invoke(), invoke());
    assert!(first["init_milliseconds"].is_number(), "{first}");
    assert!(second["init_milliseconds"].is_null(), "another process finds the instance warm: {second}");
    it.warehouse.ok(&["run", "function:bill", "--for", "2026-03"]);
    let runs = it.warehouse.json(&["runs", "function:bill", "--json"]);
    assert_eq!(runs[0]["state"], "succeeded");
    assert!(runs[0]["figures"]["init_milliseconds"].is_null(), "so does a job: {}", runs[0]);
    let socket = it.warehouse.path().join(".wattlake/functions/host.sock");
    assert!(socket.exists());
    drop(server);
    // The server was killed, and left its socket.
    assert!(socket.exists());
    assert!(invoke()["init_milliseconds"].is_number(), "it runs in a process of its own");
}

#[test]
fn an_event_runs_again_where_the_server_ends_before_it() {
    let it = Billing::new();
    it.warehouse.write("functions/bill/bootstrap", SLOW);
    it.warehouse.ok(&["function", "deploy", "bill"]);
    let server = TestServer::new(&it);
    let invoking = start_slow(&it);
    drop(server);
    let said = CommandResult::of(invoking.wait_with_output().unwrap());
    assert_eq!(said.code, 0, "{said:?}");
    said.has("\"done\"").has("runs again");
}

/// Invokes the function `SLOW`, and returns once it runs.
fn start_slow(it: &Billing) -> Child {
    let mut command = it.warehouse.command(&["function", "invoke", "bill"]);
    let invoking = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(180);
    while !it.warehouse.run(&["function", "logs", "bill"]).text().contains("it works") {
        assert!(Instant::now() < deadline, "the event does not begin");
        std::thread::sleep(Duration::from_millis(30));
    }
    invoking
}

#[test]
fn a_server_that_stops_lets_events_end() {
    let it = Billing::new();
    it.warehouse.write("functions/bill/bootstrap", SLOW);
    it.warehouse.ok(&["function", "deploy", "bill"]);
    let mut server = TestServer::new(&it);
    let invoking = start_slow(&it);
    let pid = server.child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let said = CommandResult::of(invoking.wait_with_output().unwrap());
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!said.text().contains("runs again"), "{said:?}");
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn queued_events_run_from_the_first_deployment_on() {
    let it = Billing::new();
    let server = TestServer::start(&it, false);
    it.warehouse.ok(&["function", "deploy", "bill"]);
    it.warehouse.ok(&["function", "invoke", "bill", "--detach"]);
    let deadline = Instant::now() + Duration::from_secs(180);
    while server.it.warehouse.json(&["function", "events", "--state", "succeeded", "--json"]).is_empty() {
        assert!(Instant::now() < deadline, "the queued event did not run");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn files_of_a_user_are_not_written_to() {
    let it = Billing::new();
    let files = "handler = 'bill'\nmemory_mb = 256\ntimeout = '5min'\n[files]\n";
    it.warehouse.write("functions/bill/function.toml", files);
    it.warehouse.write("functions/bill/lines.csv", "a;b\n");
    it.warehouse.ok(&["function", "deploy", "bill"]);
    let _server = TestServer::new(&it);
    it.warehouse.write("one/in.csv", "first");
    it.warehouse.write("two/in.csv", "second");
    let invoke = |arguments: &[&str]| {
        let mut command = it.warehouse.command(&[&["function", "invoke", "bill"], arguments].concat());
        let folder = it.warehouse.path().join("one");
        CommandResult::of(command.current_dir(folder).output().unwrap())
    };
    let said = invoke(&["--input", "in.csv", "--input", "../two/in.csv"]);
    assert_eq!(said.code, 3, "{said:?}");
    said.has("two inputs have the name \"in.csv\"");
    assert_eq!(std::fs::read_to_string(it.warehouse.path().join("one/in.csv")).unwrap(), "first");
    assert_eq!(invoke(&["--input", "in.csv", "--results", "out"]).code, 0);
    let written = it.warehouse.path().join("one/out/lines.csv");
    assert_eq!(std::fs::read_to_string(written).unwrap(), "a;b\n", "in the caller's folder, not in the server's");
}
