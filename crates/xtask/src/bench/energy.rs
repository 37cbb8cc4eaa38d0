//! A lake of tables that a script makes in a private PostgreSQL, such as bench/query_fill.sql does for an energy
//! portfolio: brought over by a transfer as any user's tables are, and the server of Wattlake over it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pgserver::{Binaries, Server};

use super::servers::fresh;
use crate::project::{output, run};

pub const SCHEMA: &str = "bench";
pub const TABLES: [&str; 4] = ["measurements", "units", "prices", "forecasts"];
/// Of the source and of the role alike: nothing here is reachable from elsewhere, or outlives the run.
const ROLE: &str = "bench";
const PASSWORD: &str = "benchmark";
const START_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(20);

#[derive(Clone, Copy)]
pub struct Size {
    pub series: u32,
    /// Of 10 minutes; a year has 52,560.
    pub steps: u32,
}

/// What the lake holds.
pub struct Tables {
    /// Of the lake's folder and of the source's.
    pub name: String,
    /// For psql: makes the tables in the schema [`SCHEMA`].
    pub script: PathBuf,
    pub variables: Vec<String>,
    /// Of the transfer's file.
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

pub struct Energy {
    pub warehouse: PathBuf,
    wattlake: PathBuf,
    psql: PathBuf,
    port: u16,
}

impl Energy {
    /// Fills a source, transfers it, and removes the source; `is_kept` takes an earlier run's lake
    /// where it has the same size.
    pub fn ready(scripts: &Path, work: &Path, wattlake: &Path, size: Size, is_kept: bool) -> Result<Self> {
        let name = format!("energy-{}x{}", size.series, size.steps);
        Self::with_tables(&Tables::of_portfolio(scripts, name, size), work, wattlake, is_kept)
    }

    pub fn with_tables(tables: &Tables, work: &Path, wattlake: &Path, is_kept: bool) -> Result<Self> {
        let bin = Binaries::find(None).context("find PostgreSQL")?;
        let warehouse = work.join(&tables.name);
        let port = free_port()?;
        let energy = Self { warehouse, wattlake: wattlake.to_owned(), psql: bin.path("psql"), port };
        // Written last: a folder without it was begun only.
        let whole = energy.warehouse.join("whole");
        if is_kept && whole.exists() {
            return energy.write("", tables).map(|()| energy);
        }
        if energy.warehouse.exists() {
            fs::remove_dir_all(&energy.warehouse).context("remove an earlier run's lake")?;
        }
        energy.fill(bin, tables, &work.join(format!("{}-source", tables.name)))?.stop()?;
        fs::write(whole, "").context("note that the lake is whole")?;
        Ok(energy)
    }

    /// With a source that goes on: its rows can grow, and [`Energy::follow`] brings what is new.
    pub fn live(scripts: &Path, work: &Path, wattlake: &Path, size: Size) -> Result<(Self, Source)> {
        let bin = Binaries::find(None).context("find PostgreSQL")?;
        let warehouse = work.join("energy-live");
        if warehouse.exists() {
            fs::remove_dir_all(&warehouse).context("remove an earlier run's lake")?;
        }
        let energy = Self { warehouse, wattlake: wattlake.to_owned(), psql: bin.path("psql"), port: free_port()? };
        let tables = Tables::of_portfolio(scripts, "energy-live".to_owned(), size);
        let source = energy.fill(bin, &tables, &work.join("energy-live-source"))?;
        source.run("CREATE INDEX ON bench.measurements (received_at)")?;
        Ok((energy, source))
    }

    fn fill(&self, bin: Binaries, tables: &Tables, folder: &Path) -> Result<Source> {
        let source = Source { server: fresh(&bin, folder)?, psql: self.psql.clone(), bin };
        eprintln!("bench: make the tables of {}", tables.name);
        output(source.psql("postgres").args(["-c", "CREATE DATABASE bench"]))?;
        let mut fill = source.psql("bench");
        for variable in &tables.variables {
            fill.args(["-v", variable]);
        }
        run(fill.arg("-f").arg(&tables.script)).context("fill the source")?;
        self.write(&source.server.tcp_url("bench"), tables)?;
        run(self.command().args(["transfer", "run", "bench", "--mode", "initial"])).context("bring it into a lake")?;
        Ok(source)
    }

    /// One incremental run.
    pub fn follow(&self) -> Result<()> {
        let table = format!("{SCHEMA}.measurements");
        output(self.command().args(["transfer", "run", "bench", "--mode", "incremental", "--table", &table]))?;
        Ok(())
    }

    fn write(&self, source: &str, tables: &Tables) -> Result<()> {
        // A source that is gone still needs an address.
        let source = if source.is_empty() { "postgres://localhost/bench" } else { source };
        let main = format!(
            "[lake]\nurl = \"lake\"\n\n[connections.bench]\nurl = \"{source}\"\n\n[serve]\nsql = \"127.0.0.1:{}\"\n\
             http = \"127.0.0.1:{}\"\n\n[roles.{ROLE}]\npassword = \"{PASSWORD}\"\n",
            self.port,
            free_port()?
        );
        let doing = || format!("write a warehouse in {}", self.warehouse.display());
        fs::create_dir_all(self.warehouse.join("transfers")).with_context(doing)?;
        fs::write(self.warehouse.join("wattlake.toml"), main).with_context(doing)?;
        let transfer = format!(
            "source = \"bench\"\nmode = \"incremental\"\nstreams = 2\ninclude = [\"{SCHEMA}.*\"]\n\
             on_no_cursor = \"reload\"\n\n{}",
            tables.settings
        );
        fs::write(self.warehouse.join("transfers/bench.toml"), transfer).with_context(doing)
    }

    /// Small files into large ones, sorted as upkeep sorts them.
    pub fn pack(&self) -> Result<()> {
        run(self.command().args(["lake", "optimize"])).context("pack the lake")
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.wattlake);
        command.arg("-C").arg(&self.warehouse);
        command
    }

    pub fn lake(&self) -> PathBuf {
        self.warehouse.join("lake")
    }

    /// How any client of PostgreSQL reaches the server; the password is in PGPASSWORD.
    pub fn client(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("PGPASSWORD", PASSWORD).env("PGUSER", ROLE).env("PGHOST", "127.0.0.1");
        command.env("PGPORT", self.port.to_string()).env("PGDATABASE", "wattlake").env("PGSSLMODE", "disable");
        command
    }

    pub fn psql(&self) -> Command {
        let mut psql = self.client(&self.psql);
        psql.args(["-X", "-q", "--csv", "-v", "ON_ERROR_STOP=1"]);
        psql
    }

    /// Until it answers.
    pub fn serve(&self) -> Result<Served> {
        let log = self.warehouse.join("serve.log");
        let said = fs::File::create(&log).with_context(|| format!("write {}", log.display()))?;
        let mut command = self.command();
        command.arg("serve").stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let mut served = Served { child: command.spawn().context("start wattlake serve")? };
        let start = Instant::now();
        while let Err(error) = output(self.psql().args(["-c", "SELECT 1"])) {
            let ended = served.child.try_wait().context("look at wattlake serve")?;
            if ended.is_some() || start.elapsed() > START_MAX {
                let said = fs::read_to_string(&log).unwrap_or_default();
                bail!("wattlake serve does not answer: {error:#}\n{said}");
            }
            sleep(Duration::from_millis(100));
        }
        Ok(served)
    }
}

/// The platform's database, on a private server.
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

    pub fn run(&self, sql: &str) -> Result<()> {
        output(self.psql("bench").args(["-c", sql])).map(drop)
    }

    pub fn stop(self) -> Result<()> {
        let dir = self.server.dir().to_owned();
        self.server.stop().context("stop a private server")?;
        pgserver::sweep(&self.bin, &dir).context("remove a private server").map(drop)
    }
}

/// `wattlake serve`, stopped when this is dropped.
pub struct Served {
    child: Child,
}

impl Served {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // As a service manager would; only what does not listen is killed.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let start = Instant::now();
        while start.elapsed() < STOP_MAX && matches!(self.child.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Free a moment ago; nobody else takes ports here meanwhile.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(listener.local_addr().context("find a free port")?.port())
}
