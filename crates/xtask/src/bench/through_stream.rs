//! `bench stream`: the log into the lake through NATS JetStream, with one and with two workers, beside the direct way. The
//! steps are those of bench/stream/through.py. Writes stream.json and stream.md.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use super::programs::{Profile, Programs, Selection};
use super::report::{describe, keep, results_folder};
use super::servers::{DATABASE, Servers};
use crate::project::{Project, output, run as run_command};

/// Where Debian and others install the server.
const NATS: [&str; 3] = ["/usr/sbin/nats-server", "/usr/bin/nats-server", "/usr/local/bin/nats-server"];

/// The options of `bench stream`.
#[derive(Args)]
pub struct Options {
    /// Changes of each step, in transactions of 1,000 rows
    #[arg(long, default_value_t = 1_000_000)]
    changes: u64,
    /// Changes a second while the lag is measured
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// How long the lag is measured
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Few changes, to test the benchmark; the results are not kept
    #[arg(long)]
    quick: bool,
    /// How Wattlake is built
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    profile: Profile,
}

/// Runs the benchmark and writes its results.
pub fn run(project: &Project, options: &Options) -> Result<()> {
    let (changes, seconds) = if options.quick { (20_000, 5) } else { (options.changes, options.seconds) };
    let work = project.root.join("bench/work");
    fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    let selection = Selection { pgcopydb: false, wattlake: Some(options.profile) };
    let programs = Programs::prepare(project, &work, &selection)?;
    let nats = NATS.iter().map(PathBuf::from).find(|path| path.exists());
    let nats = nats.context("nats-server is not installed: run ./test, which installs it")?;
    let servers = Servers::start(&work)?;
    let create = format!("CREATE DATABASE {DATABASE}");
    output(programs.psql(&servers, &servers.source.tcp_url("postgres")).args(["-c", &create]))?;
    let path = work.join("stream.json");
    let mut measure = Command::new(&programs.python);
    measure.arg(programs.script("stream/through.py"));
    measure.arg(programs.wattlake.as_ref().context("Wattlake is not built")?).arg(servers.source_url());
    measure.arg(servers.bin.path("psql")).arg(nats).arg(work.join("stream"));
    measure.args([changes, options.rate, seconds].map(|number| number.to_string())).arg(&path);
    run_command(&mut measure)?;
    servers.stop()?;
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut result: Value = serde_json::from_str(&text).context("read the result")?;
    describe(project, "stream", &mut result)?;
    result["profile"] = json!(options.profile.name());
    let quick = work.join("quick");
    let folder: &Path = if options.quick { &quick } else { &results_folder(project, &result)? };
    keep(folder, "stream", &result, &markdown(&result))
}

fn markdown(result: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let machine = &result["machine"];
    // Writing to a String can't fail.
    let mut page = format!("# Changes through a stream, {}\n\n", text(&result["date"]));
    let _ = writeln!(
        page,
        "{} cores, {}, {} GiB, {}. Commit {}, built as {}. {} changes a step, half of them inserts and half updates, in \
         transactions of 1,000 rows. PostgreSQL, nats-server and Wattlake share the cores.\n",
        machine["cores"],
        text(&machine["cpu"]),
        machine["memory_gib"],
        text(&machine["os"]),
        text(&result["commit"]),
        text(&result["profile"]),
        result["changes"],
    );
    page.push_str(
        "| step | changes/s | wall s | CPU-s | CPU-s of nats-server | peak MiB |\n|---|---:|---:|---:|---:|---:|\n",
    );
    for step in result["steps"].as_array().into_iter().flatten() {
        let nats = step["nats_cpu_s"].as_f64().map_or("-".to_owned(), |seconds| format!("{seconds:.1}"));
        let (wall, cpu, memory) = (number(&step["wall_s"]), number(&step["cpu_s"]), number(&step["memory_mib"]));
        let (name, rate) = (text(&step["step"]), number(&step["per_s"]));
        let _ = writeln!(page, "| {name} | {rate:.0} | {wall:.1} | {cpu:.1} | {nats} | {memory:.0} |");
    }
    page.push_str("\n| way | changes/s | p50 s | p99 s | max s |\n|---|---:|---:|---:|---:|\n");
    for lag in result["lags"].as_array().into_iter().flatten() {
        let [p50, p99, max] = ["p50_s", "p99_s", "max_s"].map(|key| number(&lag[key]));
        let _ = writeln!(page, "| {} | {} | {p50:.2} | {p99:.2} | {max:.2} |", text(&lag["way"]), lag["rate"]);
    }
    page.push_str(
        "\nThe lag is from the clock at the source's statement to the commit in the lake, by the oldest change of each file.\n",
    );
    page
}
