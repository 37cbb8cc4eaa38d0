//! `bench load`: pgbench with a dashboard's queries over many connections, while rows keep arriving at
//! the source and a transfer brings them. Any error of a query or a transfer fails the run.

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

use super::contenders::Contender;
use super::copy::Profile;
use super::energy::{Energy, Size, Source};
use super::programs::Programs;
use super::query::peak_mib;
use super::report::{commit, kept_folder, machine, today};
use crate::project::{Project, output};

#[derive(Args)]
pub struct Options {
    /// Each a year in 10-minute steps: 1,900 make 100 million rows
    #[arg(long, default_value_t = 1_900)]
    series: u32,
    #[arg(long, default_value_t = 20)]
    connections: u32,
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// How pgbench sends its queries
    #[arg(long, value_enum, default_value_t = Protocol::Simple)]
    protocol: Protocol,
    /// 20 series, 10 seconds: proves that it works; its numbers mean nothing and are not kept
    #[arg(long)]
    quick: bool,
    /// Of the wattlake binary; `dev` is what the README's commands build
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

pub fn run(project: &Project, options: &Options) -> Result<()> {
    let (series, seconds) = if options.quick { (20, 10) } else { (options.series, options.seconds) };
    ensure!(series > 0 && seconds > 0 && options.connections > 0, "series, seconds and connections must be above zero");
    let work = project.root.join("bench/work");
    fs::create_dir_all(&work).with_context(|| format!("make {}", work.display()))?;
    let programs = Programs::ready(project, &work, &[Contender::Wattlake], options.profile)?;
    let wattlake = programs.wattlake.as_deref().context("wattlake was not built")?;
    let scripts = scripts(&project.root.join("bench/load"))?;

    let size = Size { series, steps: 52_560 };
    let (energy, source) = Energy::live(&project.root.join("bench"), &work, wattlake, size)?;
    let served = energy.serve()?;
    let logs = work.join("load-logs");
    if logs.exists() {
        fs::remove_dir_all(&logs).context("remove an earlier run's logs")?;
    }
    fs::create_dir_all(&logs).context("make the folder of pgbench's logs")?;
    let bench = Binaries::find(None).context("find PostgreSQL")?.path("pgbench");
    let mut pgbench = energy.client(&bench);
    let [connections, seconds_text] = [options.connections, seconds].map(|n| n.to_string());
    pgbench.args(["-n", "-l", "-c", &connections, "-j", "2", "-T", &seconds_text]);
    pgbench.args(["-M", options.protocol.name(), "-D", &format!("series={series}")]);
    pgbench.arg("--log-prefix").arg(logs.join("log"));
    for name in &scripts {
        pgbench.arg("-f").arg(project.root.join(format!("bench/load/{name}.sql")));
    }
    eprintln!("bench load: {connections} connections for {seconds} s");
    let transfers = while_rows_arrive(&energy, &source, &mut pgbench)?;
    let peak_mib = peak_mib(served.pid())?;
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
    let folder = if options.quick { work.join("quick") } else { kept_folder(project, &result)? };
    latency::write(&folder, result, &latencies)?;
    drop(served);
    source.stop()
}

/// Their names, without `.sql`.
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

/// Runs pgbench to its end, and says how many transfers brought new rows meanwhile.
fn while_rows_arrive(energy: &Energy, source: &Source, pgbench: &mut Command) -> Result<u32> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let transfers = scope.spawn(|| -> Result<u32> {
            let mut done = 0;
            while !is_over.load(Ordering::Relaxed) {
                source.run(&next_step(done))?;
                energy.follow()?;
                done += 1;
            }
            Ok(done)
        });
        let asked = output(pgbench);
        is_over.store(true, Ordering::Relaxed);
        let transfers = transfers.join().map_err(|_| anyhow!("transfers panicked"))?.context("transfer new rows")?;
        let said = asked.context("run the queries")?;
        eprintln!("{}", said.trim());
        ensure!(transfers > 0, "no transfer came to its end: the run was too short");
        Ok(transfers)
    })
}

/// Rows of all series for the next ten minutes after the year.
fn next_step(number: u32) -> String {
    format!(
        "INSERT INTO bench.measurements SELECT series_id, ts, pmax_kw / 2, (pmax_kw / 12)::numeric(12,3), 'measured', 1, \
         ts + interval '11 minutes' FROM bench.units, LATERAL (SELECT timestamptz '2026-01-01 00:00:00+00' \
         + {number} * interval '10 minutes' AS ts) AS at"
    )
}
