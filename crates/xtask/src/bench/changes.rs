//! `bench changes`: the write-ahead log into the lake, beside `pg_recvlogical`, which only receives it, and PostgreSQL's
//! own logical replication. All of them read the same log, one after the other; each has a slot of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::measure::{Run, measure};
use super::programs::{Profile, Programs, Selection};
use super::report::{self, Spread};
use super::servers::{COPY, DATABASE, Servers};
use super::stream::{ChangeCommit, StreamWarehouse};
use crate::project::{Project, output};

/// The publication and the slot of `pg_recvlogical`.
const PUBLICATION: &str = "bench";
const FLOOR_SLOT: &str = "floor";

/// The options of `bench changes`.
#[derive(Args)]
pub struct Options {
    /// Changes in transactions of one row
    #[arg(long, default_value_t = 420_000)]
    small: u64,
    /// Rows of transactions of 10,000 rows: inserts, then an update of each
    #[arg(long, default_value_t = 1_000_000)]
    bulk: u64,
    /// Rows of one transaction
    #[arg(long, default_value_t = 10_000_000)]
    large: u64,
    /// Changes a second while the lag is measured
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// How long the lag is measured
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Run few changes and one round to test the benchmark; the results are not kept
    #[arg(long)]
    quick: bool,
    /// The profile of the wattlake binary; `dev` is what the README's commands build
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    profile: Profile,
}

/// Runs the benchmark and writes its results.
pub fn run(project: &Project, options: &Options) -> Result<()> {
    let sizes = match options.quick {
        true => [("small", 5_000), ("bulk", 20_000), ("large", 100_000)],
        false => [("small", options.small), ("bulk", options.bulk), ("large", options.large)],
    };
    let (rounds, seconds) = if options.quick { (1, 5) } else { (options.rounds, options.seconds) };
    ensure!(rounds > 0, "rounds must be above zero");
    let work = project.root.join("bench/work");
    fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    let programs = Programs::prepare(project, &work, &Selection { pgcopydb: false, wattlake: Some(options.profile) })?;
    let servers = Servers::start(&work)?;
    let bench = ChangesBench::prepare(&programs, &servers, &work)?;
    let mut runs = Vec::new();
    for (load, size) in sizes {
        // One round of the largest: its time is not the point, its memory is.
        for round in 1..=if load == "large" { 1 } else { rounds } {
            eprintln!("bench changes: write {size} changes, {load}");
            let changes = bench.write(load, size)?;
            for run in bench.drain(load, round, changes)? {
                eprintln!("{}  {:.0} changes/s", run.line(), changes as f64 / run.wall_s);
                runs.push((changes, run));
            }
        }
    }
    let lag = bench.lag(options.rate, seconds)?;
    let result = json!({
        "benchmark": "changes",
        "date": report::today(project)?,
        "commit": report::commit(project)?,
        "profile": options.profile.name(),
        "machine": report::machine()?,
        "versions": programs.versions(&servers)?,
        "server_settings": servers.settings(),
        "runs": runs.iter().map(|(changes, run)| with_changes(run, *changes)).collect::<Vec<_>>(),
        "lag": lag,
    });
    let folder = if options.quick { work.join("quick") } else { report::results_folder(project, &result)? };
    write(&folder, &result, &runs)?;
    servers.stop()
}

fn with_changes(run: &Run, changes: u64) -> Value {
    let mut json = run.json();
    json["changes"] = changes.into();
    json
}

struct ChangesBench<'a> {
    programs: &'a Programs,
    servers: &'a Servers,
    warehouse: Option<StreamWarehouse>,
    work: PathBuf,
}

impl<'a> ChangesBench<'a> {
    /// The table, the publication, and a slot for each contender.
    fn prepare(programs: &'a Programs, servers: &'a Servers, work: &Path) -> Result<Self> {
        let mut bench = ChangesBench { programs, servers, warehouse: None, work: work.to_owned() };
        output(
            programs
                .psql(servers, &servers.source.tcp_url("postgres"))
                .args(["-c", &format!("CREATE DATABASE {DATABASE}")]),
        )?;
        output(
            programs
                .psql(servers, &servers.target.tcp_url("postgres"))
                .args(["-c", &format!("CREATE DATABASE {COPY}")]),
        )?;
        bench.source(TABLE)?;
        bench.target(TABLE)?;
        bench.source(WRITERS)?;
        bench.source(&format!("CREATE PUBLICATION {PUBLICATION} FOR TABLE measures"))?;
        bench.source(&format!("SELECT pg_create_logical_replication_slot('{FLOOR_SLOT}', 'pgoutput')"))?;
        bench.target(&format!(
            "CREATE SUBSCRIPTION native CONNECTION '{}' PUBLICATION {PUBLICATION} WITH (copy_data = false, binary = true)",
            servers.source_url()
        ))?;
        bench.target("ALTER SUBSCRIPTION native DISABLE")?;
        bench.warehouse = Some(StreamWarehouse::create(programs, servers, work.join("changes"))?);
        Ok(bench)
    }

    fn warehouse(&self) -> Result<&StreamWarehouse> {
        self.warehouse.as_ref().context("the warehouse is created last")
    }

    fn source(&self, sql: &str) -> Result<String> {
        self.programs.query(self.servers, &self.servers.source_url(), sql)
    }

    fn target(&self, sql: &str) -> Result<String> {
        self.programs.query(self.servers, &self.servers.target_url(), sql)
    }

    /// Writes changes at the source and returns their number.
    fn write(&self, load: &str, size: u64) -> Result<u64> {
        self.source(&format!("CALL write_{load}({size})"))?;
        Ok(if load == "bulk" { 2 * size } else { size })
    }

    /// Each contender reads the log that was written.
    fn drain(&self, load: &'static str, round: u32, changes: u64) -> Result<Vec<Run>> {
        let end = self.source("SELECT pg_logical_emit_message(true, 'bench', 'end')")?;
        let mut runs = vec![self.floor(&end)?, self.transfer()?, self.native()?];
        for run in &mut runs {
            (run.table, run.round) = (load, round);
            run.rows = Some(changes);
        }
        self.compare()?;
        Ok(runs)
    }

    /// `pg_recvlogical`, whose output is only counted.
    fn floor(&self, end: &str) -> Result<Run> {
        let receive = format!(
            "{} -d '{}' --slot {FLOOR_SLOT} --start --endpos {end} -o proto_version=1 -o binary=true \
             -o publication_names={PUBLICATION} --no-loop -f - | wc -c",
            self.servers.bin.path("pg_recvlogical").display(),
            self.servers.source_url()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &receive]);
        let run = measure(self.programs, &command, &self.work.join("floor.log"))?;
        Ok(Run { contender: "receive", ..run })
    }

    fn transfer(&self) -> Result<Run> {
        let command = self.warehouse()?.command(&["transfer", "run", "bench", "--until-caught-up"]);
        let run = measure(self.programs, &command, &self.work.join("transfer.log"))?;
        Ok(Run { contender: "wattlake", ..run })
    }

    /// PostgreSQL's logical replication, until the source knows that everything is applied.
    fn native(&self) -> Result<Run> {
        let end = self.source("SELECT pg_current_wal_lsn()")?;
        let start = Instant::now();
        self.target("ALTER SUBSCRIPTION native ENABLE")?;
        let applied =
            format!("SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots WHERE slot_name = 'native'");
        while self.source(&applied)? != "t" {
            ensure!(start.elapsed() < Duration::from_secs(3_600), "logical replication takes more than an hour");
            sleep(Duration::from_millis(20));
        }
        let wall_s = start.elapsed().as_secs_f64();
        self.target("ALTER SUBSCRIPTION native DISABLE")?;
        Ok(Run {
            contender: "native",
            table: "",
            round: 0,
            wall_s,
            cpu_s: None,
            rss_max_mib: None,
            inside_s: None,
            bytes: None,
            rows: None,
        })
    }

    /// All of them must have the same rows. The sum is of whole numbers, since that of others depends on their order.
    fn compare(&self) -> Result<()> {
        let sql = "SELECT count(*), sum(round(value * 7))::bigint, max(id) FROM measures";
        let (source, target) = (self.source(sql)?, self.target(sql)?);
        let lake = "SELECT count(*) || '|' || sum(round(value * 7))::bigint || '|' || max(id) AS v FROM measures";
        let lake = output(&mut self.warehouse()?.command(&["sql", "--format", "csv", lake]))?;
        let lake = lake.lines().nth(1).unwrap_or_default();
        ensure!(
            source == target && source == lake,
            "the rows differ: {source} at the source, {target} in the target, {lake} in the lake"
        );
        Ok(())
    }

    /// How long changes take from their commit at the source to their commit in the lake.
    fn lag(&self, rate: u64, seconds: u64) -> Result<Value> {
        eprintln!("bench changes: {rate} changes a second for {seconds} s");
        let commits = self.warehouse()?.commits("measures");
        let known = commits.newest()?;
        let stream = self.warehouse()?.start()?;
        sleep(Duration::from_secs(2));
        self.source(&format!("CALL write_at_rate({rate}, {seconds})"))?;
        sleep(Duration::from_secs(5));
        stream.stop()?;
        let lags = lags(&commits.changes_after(known)?)?;
        let total: u64 = lags.iter().map(|(_, rows)| rows).sum();
        ensure!(total > 0, "no change has arrived");
        let quantile = |share: f64| {
            let mut left = (total as f64 * share) as u64;
            let found = lags.iter().find(|(_, rows)| {
                let is_it = left < *rows;
                left = left.saturating_sub(*rows);
                is_it
            });
            found.or(lags.last()).map_or(0.0, |(lag, _)| *lag)
        };
        Ok(json!({
            "rate": rate, "seconds": seconds, "changes": total, "commits": lags.len(),
            "p50_s": quantile(0.5), "p99_s": quantile(0.99), "max_s": lags.last().map(|(lag, _)| *lag),
        }))
    }
}

/// For each file of the commits the lag of its oldest change, and the number of its rows; in ascending order.
fn lags(commits: &[ChangeCommit]) -> Result<Vec<(f64, u64)>> {
    let mut lags = Vec::new();
    for commit in commits {
        for add in commit.actions.iter().filter_map(|action| action.get("add")) {
            let stats: Value = serde_json::from_str(add["stats"].as_str().unwrap_or("{}"))?;
            let Some(oldest) = stats["minValues"]["at"].as_str() else { bail!("a file has no statistics of `at`") };
            let oldest = chrono::DateTime::parse_from_rfc3339(oldest).context("read the time of a change")?;
            let lag = (commit.at_ms - oldest.timestamp_millis()) as f64 / 1000.0;
            lags.push((lag, stats["numRecords"].as_u64().unwrap_or(0)));
        }
    }
    lags.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(lags)
}

/// Writes changes.json and changes.md.
fn write(folder: &Path, result: &Value, runs: &[(u64, Run)]) -> Result<()> {
    let mut page = format!("# Changes, {}\n\n", result["date"].as_str().unwrap_or_default());
    let machine = &result["machine"];
    page += &format!(
        "{} cores, {}. Commit {}.\n",
        machine["cores"],
        machine["cpu"].as_str().unwrap_or("-"),
        result["commit"]
    );
    page += "\n| load | contender | wall s | min | max | changes/s | of receive | CPU-s | peak MiB |\n|---|---|---:|---:|---:|---:|---:|---:|---:|\n";
    for load in ["small", "bulk", "large"] {
        let of = |contender: &str| {
            runs.iter().filter(|(_, run)| run.table == load && run.contender == contender).collect::<Vec<_>>()
        };
        let floor = Spread::of(of("receive").iter().map(|(_, run)| run.wall_s)).map(|spread| spread.median);
        for contender in ["receive", "wattlake", "native"] {
            let mine = of(contender);
            let Some(wall) = Spread::of(mine.iter().map(|(_, run)| run.wall_s)) else { continue };
            let cell =
                |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
            let cpu = Spread::of(mine.iter().filter_map(|(_, run)| run.cpu_s)).map(|spread| spread.median);
            let memory = Spread::of(mine.iter().filter_map(|(_, run)| run.rss_max_mib)).map(|spread| spread.max);
            page += &format!(
                "| {load} | {contender} | {:.2} | {:.2} | {:.2} | {:.0} | {} | {} | {} |\n",
                wall.median,
                wall.min,
                wall.max,
                mine[0].0 as f64 / wall.median,
                cell(floor.map(|floor| floor / wall.median), 2),
                cell(cpu, 2),
                cell(memory, 0)
            );
        }
    }
    let lag = &result["lag"];
    page += &format!(
        "\nLag at {} changes a second for {} s, from the clock at the source's statement to the commit in the lake: p50 {} s, p99 {} s, at most {} s, in {} commits.\n",
        lag["rate"], lag["seconds"], lag["p50_s"], lag["p99_s"], lag["max_s"], lag["commits"]
    );
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let exact = serde_json::to_string_pretty(result)? + "\n";
    for (name, content) in [("changes.json", &exact), ("changes.md", &page)] {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    println!("{page}");
    Ok(())
}

const TABLE: &str = "CREATE TABLE measures (id bigint PRIMARY KEY, site int NOT NULL, at timestamptz NOT NULL, \
    value float8, quality smallint, note text)";

const WRITERS: &str = "
CREATE SEQUENCE ids;
CREATE PROCEDURE write_small(n bigint) LANGUAGE plpgsql AS $$ BEGIN
  SET synchronous_commit = off;
  FOR i IN 1..n LOOP
    INSERT INTO measures VALUES (nextval('ids'), i % 500, clock_timestamp(), i / 7.0, 1, 'one of many');
    COMMIT;
  END LOOP; END $$;
CREATE PROCEDURE write_bulk(n bigint) LANGUAGE plpgsql AS $$ DECLARE first bigint := nextval('ids'); BEGIN
  FOR i IN 0..n / 10000 - 1 LOOP
    INSERT INTO measures SELECT first + i * 10000 + g, g % 500, clock_timestamp(), g / 7.0, 1, 'one of many' FROM generate_series(1, 10000) g;
    COMMIT;
  END LOOP;
  FOR i IN 0..n / 10000 - 1 LOOP
    UPDATE measures SET value = value + 1 WHERE id BETWEEN first + i * 10000 + 1 AND first + i * 10000 + 10000;
    COMMIT;
  END LOOP;
  PERFORM setval('ids', first + n + 1); END $$;
CREATE PROCEDURE write_large(n bigint) LANGUAGE plpgsql AS $$ DECLARE first bigint := nextval('ids'); BEGIN
  INSERT INTO measures SELECT first + g, g % 500, clock_timestamp(), g / 7.0, 1, 'one of many' FROM generate_series(1, n) g;
  COMMIT;
  PERFORM setval('ids', first + n + 1); END $$;
CREATE PROCEDURE write_at_rate(rate bigint, seconds bigint) LANGUAGE plpgsql AS $$ DECLARE
  start timestamptz := clock_timestamp(); done bigint := 0; due bigint; BEGIN
  WHILE clock_timestamp() < start + seconds * interval '1 second' LOOP
    due := extract(epoch FROM clock_timestamp() - start) * rate;
    WHILE done < due LOOP
      INSERT INTO measures SELECT nextval('ids'), g, clock_timestamp(), g / 7.0, 1, 'one of many' FROM generate_series(1, 20) g;
      COMMIT;
      done := done + 20;
    END LOOP;
    PERFORM pg_sleep(0.002);
    COMMIT;
  END LOOP; END $$";
