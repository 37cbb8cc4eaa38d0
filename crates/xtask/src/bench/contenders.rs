//! The contenders of `bench copy` and how each copies. Each starts with an empty target; its rows are counted and
//! removed before the next one starts.

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde_json::Value;

use super::fill::{self, Rows, TABLES};
use super::measure::{Run, measure};
use super::programs::Programs;
use super::servers::{COPY, Servers};
use crate::project::output;

/// A program that copies the tables, or a way in which one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Contender {
    /// COPY in binary to /dev/null by psql over one connection: the time that the server alone needs
    #[value(name = "floor-1")]
    Floor1,
    /// The same over two connections, half of the pages each
    #[value(name = "floor-2")]
    Floor2,
    Wattlake,
    /// DuckDB's postgres extension to one Parquet file, zstd
    Duckdb,
    /// The same with DuckDB's default compression
    DuckdbDefault,
    /// connectorx to Arrow, then write_deltalake
    Connectorx,
    /// Wattlake into the second server
    WattlakePg,
    /// Logical replication's initial copy into the second server
    Native,
    /// pgcopydb clone into the second server
    Pgcopydb,
}

/// What a contender's run needs.
pub struct CopyBench<'a> {
    pub programs: &'a Programs,
    pub servers: &'a Servers,
    /// The folder that contenders write to.
    pub out: PathBuf,
    pub rows: Rows,
}

impl Contender {
    /// Whether it runs Wattlake.
    pub fn is_wattlake(self) -> bool {
        matches!(self, Self::Wattlake | Self::WattlakePg)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Floor1 => "floor-1",
            Self::Floor2 => "floor-2",
            Self::Wattlake => "wattlake",
            Self::Duckdb => "duckdb",
            Self::DuckdbDefault => "duckdb-default",
            Self::Connectorx => "connectorx",
            Self::WattlakePg => "wattlake-pg",
            Self::Native => "native",
            Self::Pgcopydb => "pgcopydb",
        }
    }

    /// Runs it: once for each table, or once for both where it copies a database.
    pub fn run(self, bench: &CopyBench<'_>, round: u32) -> Result<Vec<Run>> {
        let named = |run: Run, table| Run { contender: self.name(), table, round, ..run };
        let doing = || format!("round {round}: {}", self.name());
        match self {
            Self::WattlakePg | Self::Native | Self::Pgcopydb => {
                Ok(vec![named(self.to_server(bench).with_context(doing)?, "both")])
            }
            _ => TABLES
                .into_iter()
                .map(|table| Ok(named(self.to_files(bench, table).with_context(doing)?, table)))
                .collect(),
        }
    }

    fn to_files(self, bench: &CopyBench<'_>, table: &str) -> Result<Run> {
        bench.reset()?;
        let name = format!("bench.{table}");
        let url = bench.servers.source_url();
        let to =
            bench.out.join(if matches!(self, Self::Duckdb | Self::DuckdbDefault) { "copy.parquet" } else { "copy" });
        let python = |script: &str, rest: &[&str]| {
            let mut command = Command::new(&bench.programs.python);
            command.arg(bench.programs.script(script)).args([&url, &name]).arg(&to).args(rest);
            command
        };
        let command = match self {
            Self::Floor1 => return bench.measure(&copy_to_nowhere(bench, &[name])),
            Self::Floor2 => return bench.measure(&copy_to_nowhere(bench, &bench.halves(&name)?)),
            Self::Duckdb => python("duckdb_copy.py", &["zstd"]),
            Self::DuckdbDefault => python("duckdb_copy.py", &["default"]),
            Self::Connectorx => python("connectorx_copy.py", &[]),
            _ => wattlake(bench, &to, table, &format!("include = [\"{name}\"]\n"))?,
        };
        let run = bench.measure(&command)?;
        bench.with_row_count(run, &to, table)
    }

    fn to_server(self, bench: &CopyBench<'_>) -> Result<Run> {
        bench.reset()?;
        bench.admin(&format!("CREATE DATABASE {COPY}"))?;
        let run = match self {
            Self::Native => native(bench)?,
            Self::Pgcopydb => {
                let mut command = Command::new("pgcopydb");
                command.args(["clone", "--table-jobs", "2", "--index-jobs", "2", "--skip-large-objects", "--source"]);
                command.arg(bench.servers.source_url()).arg("--target").arg(bench.servers.target_url());
                bench.measure(command.arg("--dir").arg(bench.out.join("pgcopydb")))?
            }
            _ => {
                let rest = "target = \"copy\"\ninclude = [\"bench.measures\", \"bench.wide\"]\n";
                bench.measure(&wattlake(bench, &bench.out.join("copy"), "pg", rest)?)?
            }
        };
        fill::check(bench.programs, bench.servers, &bench.servers.target_url(), bench.rows)?;
        let sql = "SELECT pg_total_relation_size('bench.measures') + pg_total_relation_size('bench.wide')";
        let bytes = bench.programs.query(bench.servers, &bench.servers.target_url(), sql)?.parse()?;
        bench.admin(&format!("DROP DATABASE {COPY} WITH (FORCE)"))?;
        Ok(Run { bytes: Some(bytes), rows: Some(bench.rows.long + bench.rows.wide), ..run })
    }
}

impl CopyBench<'_> {
    fn measure(&self, command: &Command) -> Result<Run> {
        measure(self.programs, command, &self.out.join("output.log"))
    }

    /// Empties the folder, and flushes the servers' and the system's writes of the run before.
    fn reset(&self) -> Result<()> {
        if self.out.exists() {
            fs::remove_dir_all(&self.out).context("remove an earlier run's files")?;
        }
        fs::create_dir_all(&self.out).context("create the folder for copies")?;
        self.programs.query(self.servers, &self.servers.source_url(), "CHECKPOINT")?;
        self.admin("CHECKPOINT")?;
        output(&mut Command::new("sync"))?;
        Ok(())
    }

    fn admin(&self, sql: &str) -> Result<String> {
        self.programs.query(self.servers, &self.servers.target.tcp_url("postgres"), sql)
    }

    /// Queries of the two halves of a table's pages.
    fn halves(&self, name: &str) -> Result<[String; 2]> {
        let sql = format!("SELECT pg_relation_size('{name}') / current_setting('block_size')::int / 2");
        let middle = self.programs.query(self.servers, &self.servers.source_url(), &sql)?;
        Ok(["<", ">="].map(|side| format!("(SELECT * FROM ONLY {name} WHERE ctid {side} '({middle},0)'::tid)")))
    }

    /// Counts the rows with programs that did not write them: DuckDB and Delta's own library.
    fn with_row_count(&self, run: Run, written: &Path, table: &str) -> Result<Run> {
        let mut command = Command::new(&self.programs.python);
        let counts = output(command.arg(self.programs.script("count.py")).arg(written).arg(table))?;
        let counts: Value = serde_json::from_str(&counts).context("parse the output of count.py")?;
        let rows = counts["rows"].as_u64().context("count.py printed no rows")?;
        ensure!(rows == self.rows.of(table), "it wrote {rows} rows, not {}", self.rows.of(table));
        Ok(Run { rows: Some(rows), bytes: counts["bytes"].as_u64(), ..run })
    }
}

/// COPY to /dev/null, over one connection for each table or query.
fn copy_to_nowhere(bench: &CopyBench<'_>, what: &[String]) -> Command {
    let script = "status=0; pids=''; program=$1; url=$2; shift 2
for sql; do \"$program\" -X -q -v ON_ERROR_STOP=1 -d \"$url\" -c \"$sql\" > /dev/null & pids=\"$pids $!\"; done
for pid in $pids; do wait \"$pid\" || status=1; done
exit $status";
    let mut command = Command::new("sh");
    command.args(["-c", script, "floor"]).arg(bench.servers.bin.path("psql")).arg(bench.servers.source_url());
    command.args(what.iter().map(|from| format!("COPY {from} TO STDOUT (FORMAT binary)")));
    command
}

/// A warehouse with only this transfer.
fn wattlake(bench: &CopyBench<'_>, warehouse: &Path, transfer: &str, rest: &str) -> Result<Command> {
    let transfer = if transfer == "measures" { "long" } else { transfer };
    let binary = bench.programs.wattlake.as_ref().context("wattlake was not built")?;
    let (source, target) = (bench.servers.source_url(), bench.servers.target_url());
    let main = format!(
        "[lake]\nurl = \"lake\"\n\n[connections.bench]\nurl = \"{source}\"\n\n[connections.copy]\nurl = \"{target}\"\n"
    );
    let own = format!("source = \"bench\"\nmode = \"initial\"\nstreams = 2\n{rest}");
    let doing = || format!("write a warehouse in {}", warehouse.display());
    fs::create_dir_all(warehouse.join("transfers")).with_context(doing)?;
    fs::write(warehouse.join("wattlake.toml"), main).with_context(doing)?;
    fs::write(warehouse.join(format!("transfers/{transfer}.toml")), own).with_context(doing)?;
    let mut command = Command::new(binary);
    command.arg("-C").arg(warehouse).args(["transfer", "run", transfer, "--mode", "initial"]);
    Ok(command)
}

/// Logical replication, from CREATE SUBSCRIPTION until both tables are ready. It needs the tables with their keys to
/// exist. The servers do the work, so only the time is measured.
fn native(bench: &CopyBench<'_>) -> Result<Run> {
    let CopyBench { programs, servers, .. } = bench;
    let (source, target) = (servers.source_url(), servers.target_url());
    let schema =
        output(Command::new(servers.bin.path("pg_dump")).args(["--schema-only", "-n", "bench", "-d", &source]))?;
    let file = bench.out.join("schema.sql");
    fs::write(&file, schema).context("write the schema")?;
    output(programs.psql(servers, &target).arg("-f").arg(&file))?;
    programs.query(servers, &source, "CREATE PUBLICATION bench_copy FOR TABLE bench.measures, bench.wide")?;
    let mut command = programs.psql(servers, &target);
    command.arg("-c").arg(format!("CREATE SUBSCRIPTION bench_copy CONNECTION '{source}' PUBLICATION bench_copy"));
    command.args([
        "-c",
        "SET statement_timeout = '30min'",
        "-c",
        "DO $$ BEGIN WHILE EXISTS (SELECT FROM pg_subscription_rel WHERE srsubstate <> 'r') LOOP \
         PERFORM pg_sleep(0.01); END LOOP; END $$",
    ]);
    let run = bench.measure(&command)?;
    programs.query(servers, &target, "DROP SUBSCRIPTION bench_copy")?;
    programs.query(servers, &source, "DROP PUBLICATION bench_copy")?;
    Ok(Run { cpu_s: None, rss_max_mib: None, ..run })
}
