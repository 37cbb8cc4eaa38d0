//! `cargo test -p layers --test it -- measure` measures sizes, cold starts and warm invocations of this machine's R and
//! Python, and prints them. It is not a test.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use function::host::{Answer, Outcome};
use function::store::Digest;

use crate::python::PYTHON;
use crate::world::{Host, LAYERS, Root};

const NOTHING: &str = "run <- function(event) event";
const PACKAGES: &str = "library(jsonlite); library(curl); library(data.table); run <- function(event) event";
const EVENT: &str = r#"{"period": "2024-04", "inputs": [{"location": "a", "sha256": "b"}]}"#;

/// Name, mode, content.
type File = (&'static str, u32, &'static str);

pub fn measure(rounds: Option<&str>) -> ExitCode {
    let rounds: usize = rounds.and_then(|text| text.parse().ok()).unwrap_or(1);
    let began = Instant::now();
    let all = [
        ("r", &LAYERS.persistent),
        ("r, per event", &LAYERS.per_event),
        ("jsonlite curl", &LAYERS.second),
        ("data.table", &LAYERS.third),
        ("python", &*PYTHON),
    ];
    println!("packed in {:.1} s", began.elapsed().as_secs_f64());
    for (name, packed) in all {
        let (zipped, unpacked) = (packed.zipped_bytes as f64 / 1e6, packed.unpacked_bytes as f64 / 1e6);
        println!("{name}: {zipped:.2} MB zipped, {unpacked:.2} MB unpacked, {} files", packed.files);
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    for _ in 0..rounds {
        runtime.block_on(async {
            let r = vec![LAYERS.digest(&LAYERS.persistent)];
            let r_code = |text| ("bill.R", 0o100_644, text);
            let python = vec![LAYERS.digest(&PYTHON)];
            let python_code = ("bill.py", 0o100_644, "def run(event, context):\n    return event\n");
            cold("cold start, R alone", r_code(NOTHING), &r).await;
            cold("cold start, three layers attached", r_code(PACKAGES), &LAYERS.three()).await;
            cold("cold start, Python", python_code, &python).await;
            warm("warm, R", r_code(NOTHING), r, 3000).await;
            warm("warm, an R for each event", r_code(NOTHING), vec![LAYERS.digest(&LAYERS.per_event)], 20).await;
            warm("warm, Python", python_code, python, 3000).await;
        });
    }
    ExitCode::SUCCESS
}

fn answered(outcome: &Outcome) {
    assert!(matches!(outcome.answer, Answer::Response(_)), "{outcome:?}");
}

async fn cold(name: &str, code: File, layers: &[Digest]) {
    let mut took = Vec::new();
    for _ in 0..15 {
        let host = Host::of(&[code], "bill.run", layers.to_vec(), Root::Host);
        let began = Instant::now();
        answered(&host.ask(EVENT).await);
        took.push(began.elapsed());
    }
    say(name, took);
}

async fn warm(name: &str, code: File, layers: Vec<Digest>, count: usize) {
    let host = Host::of(&[code], "bill.run", layers, Root::Host);
    answered(&host.ask(EVENT).await);
    let mut took = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        answered(&host.ask(EVENT).await);
        took.push(began.elapsed());
    }
    say(name, took);
}

fn say(name: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |part: usize| took[(took.len() - 1) * part / 100].as_secs_f64() * 1e3;
    println!("{name}: min {:.2} p50 {:.2} p99 {:.2} ms, of {}", at(0), at(50), at(99), took.len());
}
