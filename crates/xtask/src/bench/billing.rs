//! `bench billing`: a month of many plants, from their files to statements. Writes billing.json and billing.md.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::programs::{Profile, Programs, Selection};
use super::report::{describe, keep, results_folder};
use crate::project::{Project, run as run_command};

/// The options of `bench billing`.
#[derive(Args)]
pub struct Options {
    /// How many plants, each with a file of quarter hours
    #[arg(long, default_value_t = 300)]
    plants: u32,
    /// Three plants only, to test the benchmark; the results are not kept
    #[arg(long)]
    quick: bool,
    /// How Wattlake is built
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    profile: Profile,
}

/// Runs the benchmark and writes its results.
pub fn run(project: &Project, options: &Options) -> Result<()> {
    let plants = if options.quick { 3 } else { options.plants };
    ensure!((1..=9999).contains(&plants), "--plants: expected 1 to 9999");
    let work = project.root.join("bench/work/billing");
    fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    let path = work.join("result.json");
    let selection = Selection { pgcopydb: false, wattlake: Some(options.profile) };
    let programs = Programs::prepare(project, &project.root.join("bench/work"), &selection)?;
    let wattlake = programs.wattlake.as_ref().context("Wattlake is not built")?;
    let mut month = Command::new(&programs.python);
    month.arg(programs.script("billing/month.py")).arg(wattlake).arg(work.join("run"));
    run_command(month.arg(plants.to_string()).arg(&path))?;
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut result: Value = serde_json::from_str(&text).context("read the result")?;
    describe(project, "billing", &mut result)?;
    result["profile"] = json!(options.profile.name());
    let folder = if options.quick { project.root.join("bench/work/quick") } else { results_folder(project, &result)? };
    keep(&folder, "billing", &result, &markdown(&result))
}

fn markdown(result: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let machine = &result["machine"];
    // Writing to a String can't fail.
    let mut page = format!("# A month of billing, {}\n\n", text(&result["date"]));
    let _ = writeln!(
        page,
        "{} cores, {}, {} GiB, {}. Commit {}, built as {}. {} plants, {} rows of quarter hours, from their files to statements; each job \
         is a process of its own, and its memory is the peak of the largest process.\n",
        machine["cores"],
        text(&machine["cpu"]),
        machine["memory_gib"],
        text(&machine["os"]),
        text(&result["commit"]),
        text(&result["profile"]),
        result["plants"],
        result["rows"],
    );
    page.push_str("| | seconds | MiB |\n|---|---:|---:|\n");
    let total = json!({"step": "**all**", "seconds": result["seconds"], "memory_mib": result["memory_mib"]});
    let peer = &result["peer"];
    let peer = json!({"step": peer["name"], "seconds": peer["seconds"], "memory_mib": peer["memory_mib"]});
    for step in result["steps"].as_array().into_iter().flatten().chain([&total, &peer]) {
        let (seconds, memory) = (number(&step["seconds"]), number(&step["memory_mib"]));
        let _ = writeln!(page, "| {} | {seconds:.1} | {memory:.0} |", text(&step["step"]));
    }
    page
}
