//! `bench functions`: measures invocations over loopback HTTP, warm and cold. Wattlake's Invoke API and AWS's runtime
//! interface emulator take turns with the same functions.

mod client;
mod contenders;
mod measurements;
mod neighbours;
mod report;
mod setup;

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;

use super::report::{commit, machine, results_folder, today};
use crate::project::Project;
use client::Client;
use contenders::{Emulator, Wattlake};
use measurements::{Measurements, Times};
use setup::Setup;

/// The options of `bench functions`.
#[derive(Args)]
pub struct Options {
    /// Rounds; Wattlake and the emulator take turns in each
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Warm invocations of each function by each contender, in each round
    #[arg(long, default_value_t = 2_000)]
    invocations: u32,
    /// Cold starts of each function by each contender, in each round
    #[arg(long, default_value_t = 10)]
    starts: u32,
    /// Run one round of few invocations to test the benchmark; the results are not kept
    #[arg(long)]
    quick: bool,
}

/// Concurrent callers.
const AT_ONCE: u32 = 40;
/// Invocations before the measured ones.
const WARMING: u32 = 200;
/// The pause before a cold start, so that the end of the instance before does not slow it.
const BETWEEN_STARTS: Duration = Duration::from_millis(150);
const EVENT: &str = r#"{"period":"2026-09","inputs":[{"location":"bills/2026-09","sha256":"0123456789abcdef"}]}"#;

/// Runs the benchmark and writes its results.
pub fn run(project: &Project, options: &Options) -> Result<()> {
    let (rounds, invocations, starts) =
        if options.quick { (1, 100, 2) } else { (options.rounds, options.invocations, options.starts) };
    ensure!(rounds > 0 && invocations > 0 && starts > 0, "rounds, invocations and starts must be above zero");
    let work = project.root.join("bench/work/functions");
    fs::create_dir_all(&work).with_context(|| format!("make {}", work.display()))?;
    let setup = Setup::prepare(project, &work)?;
    let wattlake = Wattlake::start(&setup)?;
    let mut measured = Measurements::default();
    for round in 1..=rounds {
        eprintln!("bench functions: round {round} of {rounds}");
        warm(&setup, &wattlake, invocations, &mut measured)?;
        cold(&setup, &wattlake, starts, &mut measured)?;
        at_once(&setup, &wattlake, invocations, &mut measured)?;
    }
    let memory = neighbours::measure(&wattlake, invocations, &mut measured)?;
    let result = json!({
        "benchmark": "functions",
        "neighbours": memory,
        "date": today(project)?,
        "commit": commit(project)?,
        "profile": "release",
        "machine": machine()?,
        "versions": setup.versions,
        "rounds": rounds,
        "invocations": invocations,
        "starts": starts,
    });
    let folder = if options.quick { project.root.join("bench/work/quick") } else { results_folder(project, &result)? };
    report::write(&folder, result, &measured)
}

/// Measures invocations by one caller on one connection, one after the other.
fn warm(setup: &Setup, wattlake: &Wattlake, count: u32, measured: &mut Measurements) -> Result<()> {
    for function in ["native", "python", "r"] {
        let mut client = Client::connect(wattlake.address)?;
        measured.add("warm", function, "wattlake", one_by_one(&mut client, function, count)?);
        if let Some(emulator) = Emulator::start(setup, function)? {
            let mut client = Client::connect(emulator.address)?;
            measured.add("warm", function, "emulator", one_by_one(&mut client, "function", count)?);
            emulator.end()?;
        }
    }
    Ok(())
}

fn one_by_one(client: &mut Client, name: &str, count: u32) -> Result<Times> {
    for _ in 0..WARMING {
        client.invoke(name, EVENT)?;
    }
    (0..count).map(|_| client.invoke(name, EVENT)).collect()
}

/// Measures the first invocation of an instance, with its start.
fn cold(setup: &Setup, wattlake: &Wattlake, count: u32, measured: &mut Measurements) -> Result<()> {
    for function in ["cold-native", "cold-python", "cold-r"] {
        let name = function.trim_start_matches("cold-");
        let (mut times, mut emulated) = (Times::new(), Times::new());
        for _ in 0..count {
            thread::sleep(BETWEEN_STARTS);
            times.push(Client::connect(wattlake.address)?.invoke(function, EVENT)?);
            wattlake.end_instances(function)?;
            if let Some(emulator) = Emulator::start(setup, name)? {
                thread::sleep(BETWEEN_STARTS);
                emulated.push(Client::connect(emulator.address)?.invoke("function", EVENT)?);
                emulator.end()?;
            }
        }
        measured.add("cold", name, "wattlake", times);
        measured.add("cold", name, "emulator", emulated);
    }
    for _ in 0..count {
        measured.add("cold", "r", "Rscript alone", vec![setup.rscript_alone()?]);
    }
    Ok(())
}

/// Measures invocations by 40 callers at a time, each with its own connection.
fn at_once(setup: &Setup, wattlake: &Wattlake, count: u32, measured: &mut Measurements) -> Result<()> {
    let each = (count / AT_ONCE).max(1);
    let (times, failed) = client::at_once(wattlake.address, "native", EVENT, AT_ONCE, each);
    ensure!(failed == 0, "{failed} of {} invocations at once failed", AT_ONCE * each);
    measured.add("40 at once", "native", "wattlake", times);
    if let Some(emulator) = Emulator::start(setup, "native")? {
        // The emulator fails some or all of these invocations: only answered ones are measured.
        let (times, failed) = client::at_once(emulator.address, "function", EVENT, AT_ONCE, each);
        measured.add("40 at once", "native", "emulator", times);
        measured.fail("40 at once", "native", "emulator", failed);
    }
    Ok(())
}
