//! A warehouse for benchmarks. A script fills a private PostgreSQL, such as bench/query_fill.sql with an energy
//! portfolio, a transfer copies it into the lake, and Wattlake's server serves it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pgserver::{Binaries, Server};

use super::servers::start_empty;
use crate::project::{output, run};

/// The schema of the tables.
pub const SCHEMA: &str = "bench";
/// The tables of the energy portfolio.
pub const TABLES: [&str; 4] = ["measurements", "units", "prices", "forecasts"];
/// The user of the SQL server. Its password needs no secrecy: the server listens on 127.0.0.1 during the run only.
const ROLE: &str = "bench";
const PASSWORD: &str = "benchmark";
const START_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(20);

/// The size of the energy portfolio.
#[derive(Clone, Copy)]
pub struct Size {
    pub series: u32,
    /// Steps of 10 minutes; a year has 52,560.
    pub steps: u32,
}

/// The tables to fill the lake with.
pub struct Tables {
    /// The name of the warehouse's folder.
    pub name: String,
    /// A script for psql that fills the tables in the schema [`SCHEMA`].
    pub script: PathBuf,
    /// Variables for psql, as `name=value`.
    pub variables: Vec<String>,
    /// Further lines of the transfer's file.
    pub settings: &'static str,
}

impl Tables {
    fn of_portfolio(scripts: &Path, name: String, size: Size) -> Self {
        let variables = vec![format!("series={}", size.series), format!("steps={}", size.steps)];
        let settings = "[tables.\"bench.measurements\"]\nkey = [\"series_id\", \"ts\"]\n\
                        cursor = \"received_at\"\noverlap = \"2min\"\n";
        Self { name, script: scripts.join("query_fill.sql"), variables, settings }
    }
}

/// A warehouse with its lake.
pub struct BenchWarehouse {
    /// The warehouse's folder.
    pub folder: PathBuf,
    wattlake: PathBuf,
    psql: PathBuf,
    port: u16,
}

impl BenchWarehouse {
    /// A warehouse with an energy portfolio, whose source is removed. With `is_kept`, the lake of an earlier run with
    /// the same size is used again.
    pub fn prepare(scripts: &Path, work: &Path, wattlake: &Path, size: Size, is_kept: bool) -> Result<Self> {
        let name = format!("energy-{}x{}", size.series, size.steps);
        Self::with_tables(&Tables::of_portfolio(scripts, name, size), work, wattlake, is_kept)
    }

    /// A warehouse with these tables, whose source is removed. With `is_kept`, the lake of an earlier run is used
    /// again.
    pub fn with_tables(tables: &Tables, work: &Path, wattlake: &Path, is_kept: bool) -> Result<Self> {
        let bin = Binaries::find(None).context("find PostgreSQL")?;
        let folder = work.join(&tables.name);
        let port = free_port()?;
        let warehouse = Self { folder, wattlake: wattlake.to_owned(), psql: bin.path("psql"), port };
        // Written last: without it, the folder is of a run that did not end.
        let whole = warehouse.folder.join("whole");
        if is_kept && whole.exists() {
            return warehouse.write("", tables).map(|()| warehouse);
        }
        if warehouse.folder.exists() {
            fs::remove_dir_all(&warehouse.folder).context("remove an earlier run's lake")?;
        }
        warehouse.fill(bin, tables, &work.join(format!("{}-source", tables.name)))?.stop()?;
        fs::write(whole, "").context("note that the lake is whole")?;
        Ok(warehouse)
    }

    /// A warehouse with an energy portfolio whose source keeps running, so that rows can be added to it and transferred
    /// by [`BenchWarehouse::transfer_new_rows`].
    pub fn with_source(scripts: &Path, work: &Path, wattlake: &Path, size: Size) -> Result<(Self, Source)> {
        let bin = Binaries::find(None).context("find PostgreSQL")?;
        let folder = work.join("energy-live");
        if folder.exists() {
            fs::remove_dir_all(&folder).context("remove an earlier run's lake")?;
        }
        let warehouse = Self { folder, wattlake: wattlake.to_owned(), psql: bin.path("psql"), port: free_port()? };
        let tables = Tables::of_portfolio(scripts, "energy-live".to_owned(), size);
        let source = warehouse.fill(bin, &tables, &work.join("energy-live-source"))?;
        source.run("CREATE INDEX ON bench.measurements (received_at)")?;
        Ok((warehouse, source))
    }

    fn fill(&self, bin: Binaries, tables: &Tables, folder: &Path) -> Result<Source> {
        let source = Source { server: start_empty(&bin, folder)?, psql: self.psql.clone(), bin };
        eprintln!("bench: fill the tables of {}", tables.name);
        output(source.psql("postgres").args(["-c", "CREATE DATABASE bench"]))?;
        let mut fill = source.psql("bench");
        for variable in &tables.variables {
            fill.args(["-v", variable]);
        }
        run(fill.arg("-f").arg(&tables.script)).context("fill the source")?;
        self.write(&source.server.tcp_url("bench"), tables)?;
        run(self.command().args(["transfer", "run", "bench", "--mode", "initial"]))
            .context("transfer it into the lake")?;
        Ok(source)
    }

    /// Runs the transfer once, incrementally.
    pub fn transfer_new_rows(&self) -> Result<()> {
        let table = format!("{SCHEMA}.measurements");
        output(self.command().args(["transfer", "run", "bench", "--mode", "incremental", "--table", &table]))?;
        Ok(())
    }

    fn write(&self, source: &str, tables: &Tables) -> Result<()> {
        // A source that was removed still needs a URL in the file.
        let source = if source.is_empty() { "postgres://localhost/bench" } else { source };
        let main = format!(
            "[lake]\nurl = \"lake\"\n\n[connections.bench]\nurl = \"{source}\"\n\n[serve]\nsql = \"127.0.0.1:{}\"\n\
             http = \"127.0.0.1:{}\"\n\n[roles.{ROLE}]\npassword = \"{PASSWORD}\"\n",
            self.port,
            free_port()?
        );
        let doing = || format!("write a warehouse in {}", self.folder.display());
        fs::create_dir_all(self.folder.join("transfers")).with_context(doing)?;
        fs::write(self.folder.join("wattlake.toml"), main).with_context(doing)?;
        let transfer = format!(
            "source = \"bench\"\nmode = \"incremental\"\nstreams = 2\ninclude = [\"{SCHEMA}.*\"]\n\
             on_no_cursor = \"reload\"\n\n{}",
            tables.settings
        );
        fs::write(self.folder.join("transfers/bench.toml"), transfer).with_context(doing)
    }

    /// Packs the lake, as the nightly upkeep does.
    pub fn pack(&self) -> Result<()> {
        run(self.command().args(["lake", "optimize"])).context("pack the lake")
    }

    /// A command that runs Wattlake on the warehouse.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.wattlake);
        command.arg("-C").arg(&self.folder);
        command
    }

    /// The lake's folder.
    pub fn lake(&self) -> PathBuf {
        self.folder.join("lake")
    }

    /// A command that runs a PostgreSQL client with the server's address and password in its environment.
    pub fn client(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("PGPASSWORD", PASSWORD).env("PGUSER", ROLE).env("PGHOST", "127.0.0.1");
        command.env("PGPORT", self.port.to_string()).env("PGDATABASE", "wattlake").env("PGSSLMODE", "disable");
        command
    }

    /// A command that runs psql against Wattlake's server, with CSV output.
    pub fn psql(&self) -> Command {
        let mut psql = self.client(&self.psql);
        psql.args(["-X", "-q", "--csv", "-v", "ON_ERROR_STOP=1"]);
        psql
    }

    /// Starts `wattlake serve` and waits until it answers.
    pub fn serve(&self) -> Result<ServerProcess> {
        let log = self.folder.join("serve.log");
        let errors = fs::File::create(&log).with_context(|| format!("write {}", log.display()))?;
        let mut command = self.command();
        command.arg("serve").stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let mut server = ServerProcess { child: command.spawn().context("start wattlake serve")? };
        let start = Instant::now();
        while let Err(error) = output(self.psql().args(["-c", "SELECT 1"])) {
            let ended = server.child.try_wait().context("look at wattlake serve")?;
            if ended.is_some() || start.elapsed() > START_MAX {
                let errors = fs::read_to_string(&log).unwrap_or_default();
                bail!("wattlake serve does not answer: {error:#}\n{errors}");
            }
            sleep(Duration::from_millis(100));
        }
        Ok(server)
    }
}

/// The source database, on a private server.
pub struct Source {
    server: Server,
    psql: PathBuf,
    bin: Binaries,
}

impl Source {
    fn psql(&self, database: &str) -> Command {
        let mut psql = Command::new(&self.psql);
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &self.server.tcp_url(database)]);
        psql
    }

    /// Runs SQL on the source.
    pub fn run(&self, sql: &str) -> Result<()> {
        output(self.psql("bench").args(["-c", sql])).map(drop)
    }

    /// Stops and removes the server.
    pub fn stop(self) -> Result<()> {
        let dir = self.server.dir().to_owned();
        self.server.stop().context("stop a private server")?;
        pgserver::sweep(&self.bin, &dir).context("remove a private server").map(drop)
    }
}

/// `wattlake serve`, stopped when this is dropped.
pub struct ServerProcess {
    child: Child,
}

impl ServerProcess {
    /// The process number of the server.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // SIGTERM first, as a service manager sends it; a server that does not stop is killed.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let start = Instant::now();
        while start.elapsed() < STOP_MAX && matches!(self.child.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that is free now. Nothing else takes ports during a benchmark.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(listener.local_addr().context("find a free port")?.port())
}
