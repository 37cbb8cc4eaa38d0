//! Runs all tests several times while every core is busy, to find tests that depend on the machine's speed.
//! It does not stop at a failure, so that the result shows how often each test fails.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::project::{Project, command_text, run};

/// Arguments of Cargo, the same as in `./test`.
const SUITE: [&str; 4] = ["test", "--workspace", "--features", "wattlake/failpoints"];

/// Runs the tests `runs` times with `rest` as further arguments, and prints which failed. Logs are in the folder
/// `stress` of the target folder.
pub fn test(project: &Project, runs: u32, rest: &[String]) -> Result<()> {
    run(project.cargo()?.args(SUITE).arg("--no-run").args(rest))?;
    let folder = project.target_dir()?.join("stress");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let mut failed = 0;
    for number in 1..=runs {
        let log = folder.join(format!("run-{number}.log"));
        let began = Instant::now();
        let names = run_once(project, rest, &log)?;
        if names.is_empty() {
            println!("run {number}: passed in {} s", began.elapsed().as_secs());
        } else {
            failed += 1;
            println!("run {number}: failed: {}", names.join(", "));
        }
    }
    if failed > 0 {
        bail!("{failed} of {runs} runs failed; their logs are in {}", folder.display());
    }
    Ok(())
}

/// Runs the tests once; returns the names of the failed ones.
fn run_once(project: &Project, rest: &[String], log: &Path) -> Result<Vec<String>> {
    let file = || format!("write {}", log.display());
    let output = File::create(log).with_context(file)?;
    let errors = output.try_clone().with_context(file)?;
    let mut suite = project.cargo()?;
    suite.args(SUITE).arg("--no-fail-fast").args(rest).stdout(output).stderr(errors);
    let _load = CpuLoad::start();
    let status = suite.status().with_context(|| format!("start {}", command_text(&suite)))?;
    if status.success() {
        return Ok(Vec::new());
    }
    // Programs under test may write bytes that are not UTF-8.
    let output = fs::read(log).with_context(|| format!("read {}", log.display()))?;
    Ok(failures(&String::from_utf8_lossy(&output)))
}

/// The failed tests; where a test program ended without naming one, the failed programs.
fn failures(output: &str) -> Vec<String> {
    let test = |line: &str| Some(line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?.to_owned());
    let program = |line: &str| Some(line.trim().strip_prefix('`')?.strip_suffix('`')?.to_owned());
    let tests: BTreeSet<String> = output.lines().filter_map(test).collect();
    if !tests.is_empty() {
        return tests.into_iter().collect();
    }
    let programs: Vec<String> = output.lines().filter_map(program).filter(|line| line.starts_with("-p ")).collect();
    if programs.is_empty() { vec!["the suite as a whole".to_owned()] } else { programs }
}

/// Keeps every core busy with a thread until it is dropped.
struct CpuLoad {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl CpuLoad {
    fn start() -> CpuLoad {
        let is_over = Arc::new(AtomicBool::new(false));
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let spin = |is_over: Arc<AtomicBool>| {
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
        };
        let threads = (0..cores).map(|_| thread::spawn(spin(Arc::clone(&is_over)))).collect();
        CpuLoad { is_over, threads }
    }
}

impl Drop for CpuLoad {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
