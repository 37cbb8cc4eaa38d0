//! A function that takes all that it can, beside another one: how long the other's events take, and the server's memory.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::client::Client;
use super::contenders::Wattlake;
use super::measurements::Measurements;
use super::{EVENT, WARMING};

/// The name of the function, whose script is bench/functions/noisy.sh.
pub const NOISY: &str = "noisy";
/// What it does, as its event says, and the case of the results.
const KINDS: [(&str, &str); 4] = [
    ("busy", "beside 40 busy processes"),
    ("forks", "beside a fork bomb"),
    ("halves", "beside 120 half answers"),
    ("logs", "beside a gigabyte of logs"),
];
/// How long it runs before the other function is measured.
const BEGINS_WITHIN: Duration = Duration::from_secs(1);
const QUIET: &str = "beside nothing";

/// Measures the native function beside each kind of noise. Returns the memory that the server had more, in MiB.
pub fn measure(wattlake: &Wattlake, count: u32, measured: &mut Measurements) -> Result<Vec<Value>> {
    let mut memory = Vec::new();
    measured.add(QUIET, "native", "wattlake", invoke(wattlake, count)?);
    for (kind, case) in KINDS {
        let before = resident_mib(wattlake.process_id())?;
        let address = wattlake.address;
        // Its event ends by its timeout.
        let noise = thread::spawn(move || {
            Client::connect(address).and_then(|mut client| client.post(NOISY, &format!("{{\"do\":\"{kind}\"}}")))
        });
        thread::sleep(BEGINS_WITHIN);
        let (mut times, mut most) = (Vec::new(), before);
        let began = Instant::now();
        while !noise.is_finished() && began.elapsed() < Duration::from_secs(15) {
            times.extend(invoke(wattlake, count / 20)?);
            most = most.max(resident_mib(wattlake.process_id())?);
        }
        measured.add(case, "native", "wattlake", times);
        memory.push(json!({"case": case, "more_mib": most - before}));
        // An error of the event is what is expected.
        let _ = noise.join();
    }
    Ok(memory)
}

fn invoke(wattlake: &Wattlake, count: u32) -> Result<Vec<f64>> {
    let mut client = Client::connect(wattlake.address)?;
    for _ in 0..WARMING.min(count) {
        client.invoke("native", EVENT)?;
    }
    (0..count.max(1)).map(|_| client.invoke("native", EVENT)).collect()
}

fn resident_mib(process: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("read the server's memory")?;
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    Ok(kib.context("read the server's memory")? / 1024.0)
}
