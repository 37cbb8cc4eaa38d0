//! A stream calls a function with Kinesis's event: in order, at least once, with batches that are divided where they fail.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::{Running, wait_until};
use crate::world::{Nats, Source, Warehouse};

/// A migration function as one for AWS is written: it reads the records' data, and fails for a row that it does not take.
/// It notes what it did in a file that the test reads.
const BOOTSTRAP: &str = r#"#!/bin/bash
set -euo pipefail
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
while true; do
  event=$(curl -sS -D /tmp/head "$api/invocation/next")
  id=$(tr -d '\r' < /tmp/head | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //p')
  grep -o '"sequenceNumber":"[^"]*"' <<< "$event" | cut -d'"' -f4 > /tmp/numbers
  grep -o '"data":"[^"]*"' <<< "$event" | cut -d'"' -f4 > /tmp/data
  paste -d' ' /tmp/numbers /tmp/data | while read -r number data; do
    echo "$number $(base64 -d <<< "$data")"
  done > /tmp/messages
  if grep -q '"v":"poison"' /tmp/messages || ! grep -q '"eventSource":"aws:kinesis"' <<< "$event"; then
    echo '{"errorType": "Function.Wrong", "errorMessage": "a row that the function does not take"}' > /tmp/error
    curl -sS -o /dev/null -X POST --data-binary @/tmp/error "$api/invocation/$id/error"
  else
    sed 's/^/handled /' /tmp/messages
    curl -sS -o /dev/null -X POST --data-binary 'null' "$api/invocation/$id/response"
  fi
done
"#;

fn warehouse(source: &Source, nats: &Nats, more: &str) -> Warehouse {
    let (url, slot, stream) = (source.url(), source.name(), nats.stream("platform"));
    let warehouse = Warehouse::new(&[
        ("wattlake.toml", &format!("lake.url = 'lake'\nconnections.source.url = '{url}'\n")),
        (
            "transfers/out.toml",
            &format!("source = 'source'\nmode = 'changes'\nslot = '{slot}'\nstream = '{stream}'\nshards = 1\n"),
        ),
        ("transfers/call.toml", &format!("mode = 'changes'\nstream = '{stream}'\nfunction = 'migrate'\n{more}")),
        ("functions/migrate/function.toml", "handler = 'migrate'\ntimeout = '20s'\nmemory_mb = 256\n"),
        ("functions/migrate/bootstrap", BOOTSTRAP),
    ]);
    let bootstrap = warehouse.path().join("functions/migrate/bootstrap");
    std::fs::set_permissions(bootstrap, std::fs::Permissions::from_mode(0o755)).unwrap();
    warehouse.ok(&["function", "deploy", "migrate"]);
    warehouse
}

/// What the function has handled, in its order.
fn handled(warehouse: &Warehouse) -> Vec<Value> {
    let logs = warehouse.ok(&["function", "logs", "migrate", "--limit", "10000"]).out;
    let note = |line: &str| {
        let (number, message) = line.split_once("handled ")?.1.split_once(' ')?;
        let message: Value = serde_json::from_str(message).ok()?;
        Some(json!([number, message["metadata"]["operation"], message["data"]]))
    };
    logs.lines().filter_map(note).collect()
}

#[test]
fn a_stream_calls_a_function_as_kinesis_calls_one_of_lambda() {
    let (source, nats) = (Source::empty(), Nats::start());
    source.execute(
        "create table t (id int primary key, v text); insert into t values (1, 'a'), (2, 'b'), (3, 'poison'), (4, 'd')",
    );
    let warehouse = warehouse(&source, &nats, "batch_size = 10\nretries = 1\n");
    warehouse.ok(&["transfer", "run", "out", "--until-caught-up"]);
    warehouse.ok(&["transfer", "run", "call", "--until-caught-up"]);
    let rows: Vec<Value> = handled(&warehouse).iter().filter_map(|note| note[2].get("id").cloned()).collect();
    assert_eq!(rows, [json!(1), json!(2), json!(4)]);
    let listed = warehouse.run(&["transfer", "quarantine", "list", "call", "--json"]).objects();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert!(listed[0]["reason"].as_str().unwrap().contains("a row that the function does not take"), "{listed:?}");
    // A function that is corrected takes it.
    warehouse.write("functions/migrate/bootstrap", &BOOTSTRAP.replace(":\"poison\"", ":\"other\""));
    warehouse.ok(&["function", "deploy", "migrate"]);
    warehouse.ok(&["transfer", "quarantine", "resend", "call", "--all"]);
    source.execute("update t set v = 'changed' where id = 1; delete from t where id = 2");
    warehouse.ok(&["transfer", "run", "out", "--until-caught-up"]);
    let running = Running::start(&warehouse, &["transfer", "run", "call"], None);
    let has =
        |id: i64, operation: &str| handled(&warehouse).iter().any(|note| note[1] == operation && note[2]["id"] == id);
    wait_until("the changes are handled", || has(3, "load") && has(1, "update") && has(2, "delete"));
    drop(running);
    // After a kill, no message is lost: those of a batch that was not done come again.
    source.execute("insert into t select n, 'later' from generate_series(100, 400) n");
    warehouse.ok(&["transfer", "run", "out", "--until-caught-up"]);
    for _ in 0..3 {
        let running = Running::start(&warehouse, &["transfer", "run", "call"], None);
        std::thread::sleep(std::time::Duration::from_millis(1200));
        drop(running);
    }
    warehouse.ok(&["transfer", "run", "call", "--until-caught-up"]);
    let notes = handled(&warehouse);
    let missing: Vec<i64> = (100..=400).filter(|id| !notes.iter().any(|note| note[2]["id"] == *id)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
