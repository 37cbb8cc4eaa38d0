//! A native function with AWS's runtime for Rust. Each event names what to do.

use std::io::Write;
use std::time::Duration;

use lambda_runtime::{Diagnostic, Error, LambdaEvent, run, service_fn, streaming};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

#[derive(Debug)]
struct Mine(String);

impl From<Mine> for Diagnostic {
    fn from(mine: Mine) -> Diagnostic {
        Diagnostic { error_type: "Function.Mine".into(), error_message: mine.0 }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    match std::env::var("_HANDLER").as_deref() {
        Ok("init-error") => return Err("no such handler".into()),
        Ok("exit-at-once") => std::process::exit(7),
        Ok("stream") => return run(service_fn(stream)).await,
        _ => {}
    }
    let mut count = 0_u64;
    run(service_fn(move |event| {
        count += 1;
        answer(event, count)
    }))
    .await
}

async fn answer(event: LambdaEvent<Value>, count: u64) -> Result<Value, Mine> {
    let context = &event.context;
    match event.payload["do"].as_str().unwrap_or_default() {
        "error" => Err(Mine("by intent".to_owned())),
        "exit" => std::process::exit(3),
        "memory" => {
            let mut all = Vec::new();
            loop {
                all.push(vec![1_u8; 1 << 20]);
                std::hint::black_box(&all);
            }
        }
        "sleep" => {
            let ms = event.payload["ms"].as_u64().unwrap_or(600_000);
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(json!(ms))
        }
        // Until the other end, a test's gate, closes the connection.
        "wait" => {
            wait().await.map_err(|error| Mine(error.to_string()))?;
            Ok(json!("waited"))
        }
        "unknown" => Ok(json!(post("not-this-one").to_string())),
        "twice" => {
            assert_eq!(post(&context.request_id), 202);
            Ok(json!("second"))
        }
        "large" => Ok(json!("a".repeat((6 << 20) + 101))),
        "say" => {
            println!("{}", event.payload["text"].as_str().unwrap_or_default());
            Ok(json!(null))
        }
        "log" => {
            println!("said by the function");
            Ok(json!(null))
        }
        "context" => Ok(json!({
            "request_id": context.request_id,
            "arn": context.invoked_function_arn,
            "version": context.env_config.version,
            "client": context.client_context.as_ref().map(|client| &client.custom),
            "deadline_ms": context.deadline,
            "environment": std::env::vars().collect::<std::collections::BTreeMap<_, _>>(),
        })),
        "count" => Ok(json!(count)),
        _ => Ok(json!({ "you": event.payload })),
    }
}

async fn wait() -> std::io::Result<usize> {
    tokio::net::TcpStream::connect("127.0.0.1:5432").await?.read_to_end(&mut Vec::new()).await
}

/// Sends a response to the Runtime API without the runtime, and gives the status.
fn post(request_id: &str) -> u16 {
    let address = std::env::var("AWS_LAMBDA_RUNTIME_API").unwrap_or_default();
    let head = format!("POST /2018-06-01/runtime/invocation/{request_id}/response HTTP/1.1\r\nHost: {address}\r\n");
    let request = format!("{head}Connection: close\r\nContent-Length: 7\r\n\r\n\"first\"");
    let answer = std::net::TcpStream::connect(&address).and_then(|mut stream| {
        stream.write_all(request.as_bytes())?;
        std::io::read_to_string(stream)
    });
    let status = answer.ok().and_then(|answer| answer.split(' ').nth(1).and_then(|status| status.parse().ok()));
    status.unwrap_or_default()
}

/// Streams pieces with pauses between them. With `break` the response is interrupted.
async fn stream(event: LambdaEvent<Value>) -> Result<lambda_runtime::StreamResponse<streaming::Body>, Error> {
    let pieces = event.payload["pieces"].as_u64().unwrap_or(3);
    let pause = Duration::from_millis(event.payload["pause_ms"].as_u64().unwrap_or(50));
    let breaks = event.payload["do"] == "break";
    let (mut to, body) = streaming::channel();
    tokio::spawn(async move {
        for piece in 0..pieces {
            if to.send_data(format!("piece {piece};").into()).await.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
        if breaks {
            to.abort();
        }
    });
    Ok(lambda_runtime::StreamResponse::from(body))
}
