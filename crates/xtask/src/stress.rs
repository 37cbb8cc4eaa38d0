//! The whole suite, again and again, while something else keeps every core busy: what passes on a quiet
//! machine only by its speed fails here. It never stops early, so that one look shows how often what fails.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::project::{Project, run, shown};

/// As `./test` runs it.
const SUITE: [&str; 4] = ["test", "--workspace", "--features", "wattlake/failpoints"];

pub fn test(project: &Project, runs: u32, rest: &[String]) -> Result<()> {
    run(project.cargo()?.args(SUITE).arg("--no-run").args(rest))?;
    let folder = project.target_dir()?.join("stress");
    fs::create_dir_all(&folder).with_context(|| format!("make folder {}", folder.display()))?;
    let mut failed = 0;
    for number in 1..=runs {
        let log = folder.join(format!("run-{number}.log"));
        let began = Instant::now();
        let names = one(project, rest, &log)?;
        if names.is_empty() {
            println!("run {number}: passed in {} s", began.elapsed().as_secs());
        } else {
            failed += 1;
            println!("run {number}: failed: {}", names.join(", "));
        }
    }
    if failed > 0 {
        bail!("{failed} of {runs} runs failed; what they said is in {}", folder.display());
    }
    Ok(())
}

/// What failed.
fn one(project: &Project, rest: &[String], log: &Path) -> Result<Vec<String>> {
    let file = || format!("write {}", log.display());
    let output = File::create(log).with_context(file)?;
    let errors = output.try_clone().with_context(file)?;
    let mut suite = project.cargo()?;
    suite.args(SUITE).arg("--no-fail-fast").args(rest).stdout(output).stderr(errors);
    let _busy = Busy::everywhere();
    let status = suite.status().with_context(|| format!("start {}", shown(&suite)))?;
    if status.success() {
        return Ok(Vec::new());
    }
    // Programs under test may write bytes that are no text.
    let said = fs::read(log).with_context(|| format!("read {}", log.display()))?;
    Ok(failures(&String::from_utf8_lossy(&said)))
}

/// The tests that failed; where a program ended without naming one, the programs that failed.
fn failures(said: &str) -> Vec<String> {
    let test = |line: &str| Some(line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?.to_owned());
    let program = |line: &str| Some(line.trim().strip_prefix('`')?.strip_suffix('`')?.to_owned());
    let tests: BTreeSet<String> = said.lines().filter_map(test).collect();
    if !tests.is_empty() {
        return tests.into_iter().collect();
    }
    let programs: Vec<String> = said.lines().filter_map(program).filter(|line| line.starts_with("-p ")).collect();
    if programs.is_empty() { vec!["the suite as a whole".to_owned()] } else { programs }
}

/// As many threads as there are cores, at normal priority, until it is dropped.
struct Busy {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    fn everywhere() -> Busy {
        let ends = Arc::new(AtomicBool::new(false));
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let spin = |ends: Arc<AtomicBool>| {
            move || {
                while !ends.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
        };
        let threads = (0..cores).map(|_| thread::spawn(spin(Arc::clone(&ends)))).collect();
        Busy { ends, threads }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
