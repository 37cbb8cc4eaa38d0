//! `bench endpoints`: one LightGBM model (200 trees, 40 columns) behind InvokeEndpoint, FastAPI and MLflow, in turns; then
//! what idle endpoints cost, and their first answers.

mod contenders;
mod report;

use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::http_client::Client;
use super::report::{commit, machine, results_folder, today};
use crate::project::Project;
use contenders::{Contender, Setup};

/// The options of `bench endpoints`.
#[derive(Args)]
pub struct Options {
    /// Rounds; the contenders take turns in each
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Requests by one connection, by each contender in each round
    #[arg(long, default_value_t = 5_000)]
    requests: u32,
    /// Few requests to test the benchmark; the results are not kept
    #[arg(long)]
    quick: bool,
}

/// Requests before the measured ones.
const WARMING: u32 = 200;
/// Connections at a time, for the rate.
const CONNECTIONS: u32 = 8;
/// Requests at once to an endpoint that sleeps.
const AT_ONCE: usize = 50;
/// Endpoints that are idle.
const IDLE: usize = 200;
/// How long after its last request a program is idle in this benchmark, and some more.
const IDLE_FOR: std::time::Duration = std::time::Duration::from_millis(3_500);

/// Runs the benchmark and writes its results.
pub fn run(project: &Project, options: &Options) -> Result<()> {
    let (rounds, requests) = if options.quick { (1, 200) } else { (options.rounds, options.requests) };
    ensure!(rounds > 0 && requests > 0, "rounds and requests must be above zero");
    let setup = Setup::prepare(project, !options.quick)?;
    let mut rows = Vec::new();
    for round in 1..=rounds {
        for name in setup.contenders() {
            eprintln!("bench endpoints: round {round} of {rounds}, {name}");
            rows.push(measure(&setup, name, requests)?);
        }
    }
    let sleeping = sleeping(&setup, if options.quick { 2 } else { 10 })?;
    let result = json!({
        "benchmark": "endpoints", "date": today(project)?, "commit": commit(project)?, "profile": "release",
        "machine": machine()?, "versions": setup.versions, "rounds": rounds, "requests": requests,
        "connections": CONNECTIONS, "runs": rows, "sleeping": sleeping,
    });
    let folder = if options.quick { project.root.join("bench/work/quick") } else { results_folder(project, &result)? };
    report::write(&folder, &result)
}

/// One contender: the time of its start with its first answer, requests by one connection, the rate of several, memory.
fn measure(setup: &Setup, name: &str, requests: u32) -> Result<Value> {
    let began = Instant::now();
    let contender = Contender::start(setup, name)?;
    let idle_mib = contender.memory_mib()?;
    let asked = Instant::now();
    let first = ask(&mut Client::connect(contender.address)?, contender.path, setup.request(name))?;
    let (first_ms, start_ms) = (asked.elapsed().as_secs_f64() * 1e3, began.elapsed().as_secs_f64() * 1e3);
    ensure!((first - setup.expected).abs() < 1e-9, "{name} has predicted {first}, not {}", setup.expected);
    let mut client = Client::connect(contender.address)?;
    for _ in 0..WARMING {
        ask(&mut client, contender.path, setup.request(name))?;
    }
    let mut times = Vec::new();
    for _ in 0..requests {
        let began = Instant::now();
        ask(&mut client, contender.path, setup.request(name))?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let rate = rate(&contender, setup.request(name), (requests / CONNECTIONS).max(1))?;
    times.sort_by(f64::total_cmp);
    let percentile = |p: usize| times[(times.len() - 1) * p / 100];
    Ok(json!({
        "contender": name, "start_ms": start_ms, "first_ms": first_ms, "p50_ms": percentile(50),
        "p99_ms": percentile(99), "requests_per_s": rate, "idle_mib": idle_mib, "memory_mib": contender.memory_mib()?,
    }))
}

/// Requests by several connections at a time, in requests a second.
fn rate(contender: &Contender, request: &str, each: u32) -> Result<f64> {
    let began = Instant::now();
    let asking = || -> Result<()> {
        let mut client = Client::connect(contender.address)?;
        (0..each).try_for_each(|_| ask(&mut client, contender.path, request).map(drop))
    };
    thread::scope(|scope| {
        let all: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(asking)).collect();
        all.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| anyhow::bail!("a connection panicked")))
    })?;
    Ok(f64::from(each * CONNECTIONS) / began.elapsed().as_secs_f64())
}

/// Sends a row; returns its prediction.
fn ask(client: &mut Client, path: &str, request: &str) -> Result<f64> {
    let (head, body) = client.post(path, request)?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}\n\n{body}");
    let answer: Value = serde_json::from_str(&body).with_context(|| format!("read {body}"))?;
    answer["predictions"][0].as_f64().with_context(|| format!("read {body}"))
}

/// Endpoints that sleep: first answers, many requests at once, and the memory of many.
fn sleeping(setup: &Setup, starts: usize) -> Result<Value> {
    let mut first = Vec::new();
    let mut alone = Vec::new();
    let contender = Contender::start(setup, "wattlake")?;
    for _ in 0..starts {
        thread::sleep(IDLE_FOR);
        let began = Instant::now();
        echo(contender.address)?;
        first.push(began.elapsed().as_secs_f64() * 1e3);
        alone.push(setup.program_alone()?);
    }
    thread::sleep(IDLE_FOR);
    let barrier = Barrier::new(AT_ONCE);
    let failed: usize = thread::scope(|scope| {
        let one = || {
            barrier.wait();
            usize::from(echo(contender.address).is_err())
        };
        let all: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|one| one.join().unwrap_or(1)).sum()
    });
    drop(contender);
    let idle = |models: usize| -> Result<(f64, usize)> {
        let contender = Contender::start_with_models(setup, models)?;
        // The echo program was started once, to see that it answers.
        thread::sleep(IDLE_FOR);
        Ok((contender.memory_mib()?, contender.processes()?))
    };
    let (one, _) = idle(1)?;
    let (many_mib, processes) = idle(IDLE)?;
    Ok(json!({
        "first_ms": first, "program_alone_ms": alone, "at_once": AT_ONCE, "at_once_failed": failed,
        "idle_endpoints": IDLE, "one_endpoint_mib": one, "idle_endpoints_mib": many_mib, "processes": processes,
    }))
}

fn echo(address: SocketAddr) -> Result<()> {
    let (head, body) = Client::connect(address)?.post("/endpoints/echo/invocations", "[1]")?;
    ensure!(head.starts_with("HTTP/1.1 200") && body == "[1]", "{head}\n\n{body}");
    Ok(())
}
