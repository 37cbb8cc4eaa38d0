//! R runtimes in the form in which they are published for AWS Lambda: a shell script polls and starts
//! `Rscript runtime.R EVENT REQUEST_ID HANDLER` for each event.

use libtest_mimic::Trial;
use serde_json::json;

use crate::world::{Host, LAYERS, Root, trial, zip_of};

const SHOUT: &str = r#"
run <- function(event) {
  if (is.null(event$text)) stop("no text")
  if (event$text == "quit") quit("no", 4)
  list(pid = Sys.getpid(), text = toupper(event$text), home = R.home(), pad = nchar(event$pad))
}
"#;

/// A published bootstrap: it uses bash by its path, options that only bash has, headers in AWS's spelling, the
/// layer's R by its path, and tools from PATH.
const BOOTSTRAP: &str = r#"#!/bin/bash
set -euo pipefail
while true
do
  HEADERS="$(mktemp)"
  EVENT_DATA=$(curl -sS -LD "$HEADERS" -X GET "http://${AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation/next")
  REQUEST_ID=$(grep -F 'Lambda-Runtime-Aws-Request-Id: ' "$HEADERS" | tr -d '[:space:]' | cut -d: -f2)
  /opt/R/bin/Rscript /opt/runtime.R "$EVENT_DATA" "$REQUEST_ID" "$_HANDLER"
done
"#;

/// A runtime.R of a user's own, which sends the response with curl.
const RUNTIME: &str = r#"
arguments <- commandArgs(trailingOnly = TRUE)
event <- jsonlite::fromJSON(arguments[1])
parts <- strsplit(arguments[3], ".", fixed = TRUE)[[1]]
source(file.path("/var/task", paste0(parts[1], ".R")))
result <- do.call(parts[2], list(event))
body <- jsonlite::toJSON(result, auto_unbox = TRUE)
address <- paste0("http://", Sys.getenv("AWS_LAMBDA_RUNTIME_API"), "/2018-06-01/runtime/invocation/", arguments[2])
handle <- curl::new_handle(postfields = body)
stopifnot(curl::curl_fetch_memory(paste0(address, "/response"), handle)$status_code == 202)
"#;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("published::an_r_for_each_event", async || each_event(Root::Host).await),
        trial("published::an_r_for_each_event_on_a_root_with_nothing_else", async || each_event(Root::Bare).await),
        trial("published::errors_are_reported_and_the_next_event_is_answered", errors),
        trial("published::an_event_that_is_larger_than_an_argument", large),
        trial("published::a_bootstrap_and_a_runtime_of_ones_own", own),
    ]
}

fn host(root: Root) -> Host {
    Host::new(SHOUT, "bill.run", vec![LAYERS.digest(&LAYERS.per_event)], root)
}

async fn each_event(root: Root) {
    let host = host(root);
    let first = host.value(r#"{"text": "été"}"#).await;
    assert_eq!((&first["text"], &first["home"]), (&json!("ÉTÉ"), &json!("/opt/R")));
    let second = host.value(r#"{"text": "it's \"here\" $HOME `x`\n"}"#).await;
    assert_eq!(second["text"], json!("IT'S \"HERE\" $HOME `X`\n"));
    assert_ne!(first["pid"], second["pid"]);
    assert_eq!(host.pool.idle(), 1, "the shell lives on");
}

async fn errors() {
    let host = host(Root::Host);
    let (kind, body) = host.failure("{}").await;
    assert_eq!((kind.as_str(), &body["errorMessage"]), ("Function.SimpleError", &json!("no text")));
    assert!(body["stackTrace"].as_array().is_some_and(|stack| !stack.is_empty()), "{body}");
    let (kind, body) = host.failure(r#"{"text": "quit"}"#).await;
    assert_eq!((kind.as_str(), &body["errorMessage"]), ("Runtime.ExitError", &json!("R exited with status 4")));
    assert_eq!(host.value(r#"{"text": "on"}"#).await["text"], json!("ON"));
    let host = Host::new(SHOUT, "bill.other", vec![LAYERS.digest(&LAYERS.per_event)], Root::Host);
    let (kind, _) = host.failure("{}").await;
    assert_eq!(kind, "Runtime.NoSuchHandler");
}

async fn large() {
    let host = host(Root::Host);
    let pad = "é".repeat(500_000);
    assert_eq!(host.value(&json!({ "text": "a", "pad": pad }).to_string()).await["pad"], json!(500_000));
}

async fn own() {
    let folder = LAYERS.folder.path();
    let entries = [("bootstrap", 0o100_755, BOOTSTRAP), ("runtime.R", 0o100_644, RUNTIME)];
    let own = LAYERS.store.put(&zip_of(folder, "own.zip", &entries)).expect("a layer");
    let mut layers = LAYERS.three();
    layers.push(own);
    let host = Host::new(SHOUT, "bill.run", layers, Root::Host);
    let got = host.value(r#"{"text": "as published"}"#).await;
    assert_eq!((&got["text"], &got["home"]), (&json!("AS PUBLISHED"), &json!("/opt/R")));
    assert_eq!(host.value(r#"{"text": "again"}"#).await["text"], json!("AGAIN"));
}
