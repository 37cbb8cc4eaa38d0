//! `bench keys`: how long updates of random keys take from their commit at the source to their commit in the lake, in
//! tables of several sizes, and how much memory they take. It has no peer: what is compared are the sizes.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::programs::{Profile, Programs, Selection};
use super::report::{self, Spread};
use super::servers::{DATABASE, Servers};
use super::stream::{CommitLog, StreamWarehouse};
use crate::project::{Project, output, run as run_command};

/// How long a change may take until it counts as lost.
const LATENCY_MAX: Duration = Duration::from_secs(60);

/// The options of `bench keys`.
#[derive(Args)]
pub struct Options {
    /// The numbers of rows of the tables
    #[arg(long, value_delimiter = ',', default_values_t = [10_000_000, 100_000_000])]
    rows: Vec<u64>,
    /// The rows of one transaction
    #[arg(long, default_value_t = 1_000)]
    keys: u64,
    #[arg(long, default_value_t = 20)]
    rounds: u32,
    /// Run a small table and few rounds to test the benchmark; the results are not kept
    #[arg(long)]
    quick: bool,
    /// The profile of the wattlake binary; `dev` is what the README's commands build
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    profile: Profile,
}

/// Runs the benchmark and writes its results.
pub fn run(project: &Project, options: &Options) -> Result<()> {
    let (sizes, rounds) = if options.quick { (vec![50_000], 3) } else { (options.rows.clone(), options.rounds) };
    ensure!(rounds > 0, "rounds must be above zero");
    let work = project.root.join("bench/work");
    fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    let programs = Programs::prepare(project, &work, &Selection { pgcopydb: false, wattlake: Some(options.profile) })?;
    let servers = Servers::start(&work)?;
    let (mut results, mut versions) = (Vec::new(), Value::Null);
    for rows in sizes {
        eprintln!("bench keys: fill a table of {rows} rows");
        let bench = KeysBench::prepare(&programs, &servers, &work, rows)?;
        let result = bench.measure(options.keys, rounds)?;
        eprintln!("{result}");
        results.push(result);
        // While the database is there.
        versions = programs.versions(&servers)?;
        bench.drop()?;
    }
    let result = json!({
        "benchmark": "keys",
        "date": report::today(project)?,
        "commit": report::commit(project)?,
        "profile": options.profile.name(),
        "machine": report::machine()?,
        "versions": versions,
        "keys": options.keys,
        "tables": results,
    });
    let folder = if options.quick { work.join("quick") } else { report::results_folder(project, &result)? };
    write(&folder, &result)?;
    servers.stop()
}

struct KeysBench<'a> {
    programs: &'a Programs,
    servers: &'a Servers,
    warehouse: StreamWarehouse,
    rows: u64,
}

impl<'a> KeysBench<'a> {
    fn prepare(programs: &'a Programs, servers: &'a Servers, work: &Path, rows: u64) -> Result<Self> {
        let postgres = servers.source.tcp_url("postgres");
        output(programs.psql(servers, &postgres).args(["-c", &format!("CREATE DATABASE {DATABASE}")]))?;
        let table = format!(
            "CREATE TABLE keyed AS SELECT g::bigint AS id, (g % 500)::int AS site, now() AS at, g / 7.0::float8 AS value \
             FROM generate_series(1, {rows}) g; ALTER TABLE keyed ADD PRIMARY KEY (id)"
        );
        programs.query(servers, &servers.source_url(), &table)?;
        let warehouse = StreamWarehouse::create(programs, servers, work.join("keys"))?;
        Ok(KeysBench { programs, servers, warehouse, rows })
    }

    fn source(&self, sql: &str) -> Result<String> {
        self.programs.query(self.servers, &self.servers.source_url(), sql)
    }

    /// Updates random keys, one transaction a round, and takes the time until each is in the lake.
    fn measure(&self, keys: u64, rounds: u32) -> Result<Value> {
        let commits = self.warehouse.commits("keyed");
        let stream = self.warehouse.start()?;
        sleep(Duration::from_secs(3));
        let before = stream.memory_peak_mib()?;
        let mut seconds = Vec::new();
        for _ in 0..rounds {
            let known = commits.newest()?;
            // The clock is read in a statement of its own, after the commit.
            let update = format!(
                "UPDATE keyed SET value = value + 1 WHERE id IN \
                 (SELECT 1 + floor(random() * {})::bigint FROM generate_series(1, {keys}))",
                self.rows
            );
            self.source(&update)?;
            let committed = self.source("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")?;
            let committed: i64 = committed.trim().parse().context("read the clock")?;
            seconds.push((in_lake(&commits, known)? - committed) as f64 / 1000.0);
            // So that no update waits for the commit before it.
            sleep(Duration::from_secs(1));
        }
        let after = stream.memory_peak_mib()?;
        stream.stop()?;
        let spread = Spread::of(seconds.iter().copied()).context("no round")?;
        Ok(json!({
            "rows": self.rows, "rounds": rounds, "seconds": seconds,
            "median_s": spread.median, "min_s": spread.min, "max_s": spread.max,
            "memory_before_mib": before, "memory_peak_mib": after,
        }))
    }

    fn drop(self) -> Result<()> {
        run_command(&mut self.warehouse.command(&["transfer", "drop-slot", "bench"])).context("drop the slot")?;
        let postgres = self.servers.source.tcp_url("postgres");
        output(self.programs.psql(self.servers, &postgres).args(["-c", &format!("DROP DATABASE {DATABASE}")]))?;
        Ok(())
    }
}

/// When the first commit of rows after version `known` was made, in milliseconds since 1970.
fn in_lake(commits: &CommitLog, known: u64) -> Result<i64> {
    let started = Instant::now();
    loop {
        if let Some(commit) = commits.changes_after(known)?.iter().find(|commit| commit.rows_added > 0) {
            return Ok(commit.at_ms);
        }
        ensure!(started.elapsed() < LATENCY_MAX, "the update did not arrive");
        sleep(Duration::from_millis(5));
    }
}

/// Writes keys.json and keys.md.
fn write(folder: &Path, result: &Value) -> Result<()> {
    let machine = &result["machine"];
    let mut page = format!(
        "# Random keys, {}\n\n{} cores, {}. Commit {}. {} updates of random keys in one transaction, from its commit at the source to \
         the commit in the lake.\n\n| rows of the table | rounds | median s | min | max | memory before MiB | peak MiB |\n\
         |---:|---:|---:|---:|---:|---:|---:|\n",
        result["date"].as_str().unwrap_or_default(),
        machine["cores"],
        machine["cpu"].as_str().unwrap_or("-"),
        result["commit"],
        result["keys"]
    );
    for table in result["tables"].as_array().into_iter().flatten() {
        let number = |name: &str, digits: usize| format!("{:.digits$}", table[name].as_f64().unwrap_or_default());
        page += &format!(
            "| {} | {} | {} | {} | {} | {} | {} |\n",
            table["rows"],
            table["rounds"],
            number("median_s", 3),
            number("min_s", 3),
            number("max_s", 3),
            number("memory_before_mib", 0),
            number("memory_peak_mib", 0)
        );
    }
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let exact = serde_json::to_string_pretty(result)? + "\n";
    for (name, content) in [("keys.json", &exact), ("keys.md", &page)] {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    println!("{page}");
    Ok(())
}
