//! `bench chaos`: streams that are killed many times while a random workload goes on, by the test of that name; its log is
//! kept. A failure names its seed, which repeats it: `WATTLAKE_SEED=N`.

use std::fs::{self, File};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use super::report;
use crate::project::{Project, command_text};

/// Arguments of Cargo, the same as in `./test`, with the test.
const TEST: [&str; 9] = [
    "test",
    "--workspace",
    "--features",
    "wattlake/failpoints",
    "--test",
    "it",
    "--",
    "--nocapture",
    "after_crashes_source_and_lake_are_equal",
];

/// The options of `bench chaos`.
#[derive(Args)]
pub struct Options {
    /// How often a stream is killed
    #[arg(long, default_value_t = 1_000)]
    crashes: u64,
    /// The first seed; twelve crashes have one
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Few crashes to test the benchmark; the log is not kept
    #[arg(long)]
    quick: bool,
}

/// Runs the test, and keeps its log.
///
/// # Errors
/// Where source and lake differed after a crash.
pub fn run(project: &Project, options: &Options) -> Result<()> {
    let crashes = if options.quick { 3 } else { options.crashes };
    let date = json!({"date": report::today(project)?, "machine": report::machine()?});
    let folder =
        if options.quick { project.root.join("bench/work/quick") } else { report::results_folder(project, &date)? };
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let path = folder.join("chaos.log");
    let file = || format!("write {}", path.display());
    let log = File::create(&path).with_context(file)?;
    let mut test = project.cargo()?;
    test.args(TEST).stderr(log.try_clone().with_context(file)?).stdout(log);
    test.env("WATTLAKE_CHAOS", crashes.to_string()).env("WATTLAKE_SEED", options.seed.to_string());
    eprintln!("bench chaos: {crashes} crashes from seed {}; its log is {}", options.seed, path.display());
    let began = Instant::now();
    let status = test.status().with_context(|| format!("start {}", command_text(&test)))?;
    let text = fs::read(&path).with_context(file)?;
    // Without what the build and the programs under test print.
    let kept: Vec<String> = String::from_utf8_lossy(&text)
        .lines()
        .filter(|line| line.contains("WATTLAKE_SEED") || line.ends_with("crashes") || line.contains("test result"))
        .map(str::to_owned)
        .collect();
    let commit = report::commit(project)?;
    let kept =
        format!("commit {commit}, first seed {}, {} s\n{}\n", options.seed, began.elapsed().as_secs(), kept.join("\n"));
    if !status.success() {
        bail!("a crash left other rows in the lake than at the source: {}", path.display());
    }
    fs::write(&path, &kept).with_context(file)?;
    print!("{kept}");
    Ok(())
}
