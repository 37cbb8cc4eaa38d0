//! `bench load`: pgbench runs a dashboard's queries over many connections while rows are added to the source and
//! transferred. Any error of a query or a transfer fails the benchmark.

mod latency;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use clap::{Args, ValueEnum};
use pgserver::Binaries;
use serde_json::json;

use super::programs::{Profile, Programs, Selection};
use super::query::peak_mib;
use super::report::{commit, machine, results_folder, today};
use super::warehouse::{BenchWarehouse, Size, Source};
use crate::project::{Project, output};

/// The options of `bench load`.
#[derive(Args)]
pub struct Options {
    /// Series of the portfolio, each a year in 10-minute steps: 1,900 make 100 million rows
    #[arg(long, default_value_t = 1_900)]
    series: u32,
    #[arg(long, default_value_t = 20)]
    connections: u32,
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// How pgbench sends its queries
    #[arg(long, value_enum, default_value_t = Protocol::Simple)]
    protocol: Protocol,
    /// Run 20 series and 10 seconds to test the benchmark; the results are not kept
    #[arg(long)]
    quick: bool,
    /// The profile of the wattlake binary; `dev` is what the README's commands build
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    profile: Profile,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Simple,
    Extended,
    Prepared,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Extended => "extended",
            Self::Prepared => "prepared",
        }
    }
}

/// Runs the benchmark and writes its results.
pub fn run(project: &Project, options: &Options) -> Result<()> {
    let (series, seconds) = if options.quick { (20, 10) } else { (options.series, options.seconds) };
    ensure!(series > 0 && seconds > 0 && options.connections > 0, "series, seconds and connections must be above zero");
    let work = project.root.join("bench/work");
    fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    let selection = Selection { pgcopydb: false, wattlake: Some(options.profile) };
    let programs = Programs::prepare(project, &work, &selection)?;
    let wattlake = programs.wattlake.as_deref().context("wattlake was not built")?;
    let scripts = scripts(&project.root.join("bench/load"))?;

    let size = Size { series, steps: 52_560 };
    let (warehouse, source) = BenchWarehouse::with_source(&project.root.join("bench"), &work, wattlake, size)?;
    let server = warehouse.serve()?;
    let logs = work.join("load-logs");
    if logs.exists() {
        fs::remove_dir_all(&logs).context("remove an earlier run's logs")?;
    }
    fs::create_dir_all(&logs).context("create the folder of pgbench's logs")?;
    let bench = Binaries::find(None).context("find PostgreSQL")?.path("pgbench");
    let mut pgbench = warehouse.client(&bench);
    let [connections, seconds_text] = [options.connections, seconds].map(|n| n.to_string());
    pgbench.args(["-n", "-l", "-c", &connections, "-j", "2", "-T", &seconds_text]);
    pgbench.args(["-M", options.protocol.name(), "-D", &format!("series={series}")]);
    pgbench.arg("--log-prefix").arg(logs.join("log"));
    for name in &scripts {
        pgbench.arg("-f").arg(project.root.join(format!("bench/load/{name}.sql")));
    }
    eprintln!("bench load: {connections} connections for {seconds} s");
    let transfers = while_rows_arrive(&warehouse, &source, &mut pgbench)?;
    let peak_mib = peak_mib(server.pid())?;
    let latencies = latency::read(&logs, &scripts)?;
    let result = json!({
        "benchmark": "load",
        "date": today(project)?,
        "commit": commit(project)?,
        "profile": options.profile.name(),
        "machine": machine()?,
        "series": series,
        "connections": options.connections,
        "seconds": seconds,
        "protocol": options.protocol.name(),
        "transfers": transfers,
        "server_peak_mib": peak_mib,
    });
    let folder = if options.quick { work.join("quick") } else { results_folder(project, &result)? };
    latency::write(&folder, result, &latencies)?;
    drop(server);
    source.stop()
}

/// The sorted names of the scripts, without `.sql`.
fn scripts(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.context("list the scripts")?.file_name();
        names.extend(name.to_str().and_then(|name| name.strip_suffix(".sql")).map(str::to_owned));
    }
    names.sort();
    ensure!(!names.is_empty(), "there are no scripts in {}", folder.display());
    Ok(names)
}

/// Runs pgbench while rows are added and transferred; returns the number of transfers.
fn while_rows_arrive(warehouse: &BenchWarehouse, source: &Source, pgbench: &mut Command) -> Result<u32> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let transfers = scope.spawn(|| -> Result<u32> {
            let mut done = 0;
            while !is_over.load(Ordering::Relaxed) {
                source.run(&next_step(done))?;
                warehouse.transfer_new_rows()?;
                done += 1;
            }
            Ok(done)
        });
        let pgbench_output = output(pgbench);
        is_over.store(true, Ordering::Relaxed);
        let transfers = transfers.join().map_err(|_| anyhow!("transfers panicked"))?.context("transfer new rows")?;
        let pgbench_output = pgbench_output.context("run the queries")?;
        eprintln!("{}", pgbench_output.trim());
        ensure!(transfers > 0, "no transfer ended: the run was too short");
        Ok(transfers)
    })
}

/// SQL that adds a row to each series, `number` steps of ten minutes after the year.
fn next_step(number: u32) -> String {
    format!(
        "INSERT INTO bench.measurements SELECT series_id, ts, pmax_kw / 2, (pmax_kw / 12)::numeric(12,3), 'measured', 1, \
         ts + interval '11 minutes' FROM bench.units, LATERAL (SELECT timestamptz '2026-01-01 00:00:00+00' \
         + {number} * interval '10 minutes' AS ts) AS at"
    )
}
