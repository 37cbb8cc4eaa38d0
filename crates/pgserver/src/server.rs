//! One server: created, started as our child, watched until it accepts connections, stopped.
//!
//! The postmaster is a direct child, without pg_ctl between, which would take it out of its group:
//! the group ends with our process. A keeper thread lives as long as the server, sees how it ends
//! and stops it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::account::{Account, LAUNCHER, Program, SERVER, last_lines};
use crate::error::{During, Error, Kind};
use crate::folder::Folder;
use crate::restored::Limits;
use crate::settings::{hba_conf, server_conf};
use crate::{Binaries, Options, Result};

const START: &str = "start a private server";
const FAST_STOP_MAX: Duration = Duration::from_secs(10);
const IMMEDIATE_STOP_MAX: Duration = Duration::from_secs(5);
const KEEPER_PERIOD: Duration = Duration::from_millis(100);
/// A free port may be taken by another process before the server binds it.
const PORT_ATTEMPTS_MAX: u32 = 5;

/// A running server. Dropping it stops it; the folder stays.
#[derive(Debug)]
pub struct Server {
    folder: Folder,
    socket_dir: PathBuf,
    port: u16,
    pid: u32,
    superuser: String,
    stop: Sender<()>,
    /// None once joined.
    keeper: Option<JoinHandle<Result<()>>>,
}

/// Creates an empty cluster in the private folder `dir`: UTF-8, locale C.UTF-8, superuser
/// `postgres` without a password.
pub fn init(bin: &Binaries, dir: &Path) -> Result<()> {
    init_as(bin, dir, &Options::default().superuser)
}

/// As [`init`], with another superuser.
pub fn init_as(bin: &Binaries, dir: &Path, superuser: &str) -> Result<()> {
    let account = Account::current()?;
    let folder = Folder::create(dir, &account)?;
    let mut command = account.command(&bin.path("initdb"), &folder.path);
    command
        .args(["-A", "trust", "--locale=C.UTF-8", "-E", "UTF8", "--no-sync"])
        .arg("-U")
        .arg(superuser)
        .arg("-D")
        .arg(folder.data());
    account.run(&mut command, "create a PostgreSQL cluster")?;
    Ok(())
}

/// Starts the server of `dir` and waits until it accepts connections.
pub fn start(bin: &Binaries, dir: &Path, options: &Options) -> Result<Server> {
    options.cancellation.check(START)?;
    let account = Account::current()?;
    let folder = Folder::open(dir)?;
    account.check_reach(&folder.path)?;
    check_version(bin, &folder)?;
    let mut attempt = 1;
    loop {
        match start_once(bin, &account, &folder, options) {
            Err(error)
                if options.port.is_none()
                    && attempt < PORT_ATTEMPTS_MAX
                    && error.context.contains("Address already in use") =>
            {
                attempt += 1;
            }
            result => return result,
        }
    }
}

impl Server {
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    pub fn dir(&self) -> &Path {
        &self.folder.path
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// By the socket, as the superuser.
    pub fn url(&self, dbname: &str) -> String {
        format!(
            "postgresql://{}@{}:{}/{}",
            percent_encoded(&self.superuser),
            percent_encoded(&self.socket_dir.to_string_lossy()),
            self.port,
            percent_encoded(dbname)
        )
    }

    /// By TCP on 127.0.0.1, as the superuser; a restored copy does not listen there by default.
    pub fn tcp_url(&self, dbname: &str) -> String {
        format!("postgresql://{}@127.0.0.1:{}/{}", percent_encoded(&self.superuser), self.port, percent_encoded(dbname))
    }

    /// What the server said since it was started: its last lines.
    pub fn log_tail(&self, lines: usize) -> String {
        log_tail(&self.folder, lines)
    }

    pub fn is_running(&mut self) -> bool {
        self.keeper.as_ref().is_some_and(|k| !k.is_finished())
    }

    /// Fast shutdown; immediate after 10 s; killed 5 s later.
    pub fn stop(mut self) -> Result<()> {
        self.stop_and_join()
    }

    fn stop_and_join(&mut self) -> Result<()> {
        let Some(keeper) = self.keeper.take() else {
            return Ok(());
        };
        // Refused where the server, and with it its keeper, has ended by itself.
        let _ = self.stop.send(());
        let ended = keeper.join().unwrap_or_else(|_| Err(Error::new(Kind::Bug, "stop a server: its keeper panicked")));
        if self.socket_dir != self.folder.path {
            // Short-lived, under /tmp: nobody else would remove it once DIR is gone.
            let _ = fs::remove_dir_all(&self.socket_dir);
        }
        ended
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop_and_join() {
            tracing::warn!(%error, dir = %self.folder.path.display(), "stop private server");
        }
    }
}

fn start_once(bin: &Binaries, account: &Account, folder: &Folder, options: &Options) -> Result<Server> {
    let port = options.port.map_or_else(free_port, Ok)?;
    let socket_dir = folder.socket_folder(account)?;
    let restored = Limits::noted(folder);
    let conf = server_conf(options, restored.as_ref(), port, &socket_dir, &folder.path)?;
    account.fresh_file(&folder.join("postgresql.conf"), &conf)?;
    let hba = hba_conf(options, restored.is_some());
    account.fresh_file(&folder.join("pg_hba.conf"), &hba)?;
    account.fresh_file(&folder.join("pg_ident.conf"), "")?;
    let log = account.fresh_file(&folder.join("server.log"), "")?;
    let log_too = log.try_clone().during(|| "share the server's log".into())?;

    let mut command = account.command(&bin.path("postgres"), &folder.path);
    let mut config_file = std::ffi::OsString::from("config_file=");
    config_file.push(folder.join("postgresql.conf"));
    command
        .arg("-D")
        .arg(folder.data())
        .arg("-c")
        .arg(config_file)
        .stdout(Stdio::from(log))
        .stderr(Stdio::from(log_too));
    let (pid, stop, keeper) = start_keeper(command, account, bin, folder)?;
    let mut server = Server {
        folder: folder.clone(),
        socket_dir,
        port,
        pid,
        superuser: options.superuser.clone(),
        stop,
        keeper: Some(keeper),
    };
    wait_ready(&mut server, options)?;
    tracing::debug!(pid, port, dir = %folder.path.display(), "private server is ready");
    Ok(server)
}

type Kept = (u32, Sender<()>, JoinHandle<Result<()>>);

fn start_keeper(mut command: Command, account: &Account, bin: &Binaries, folder: &Folder) -> Result<Kept> {
    let doing = || format!("start a private server by {LAUNCHER}");
    let (stop, stopped) = mpsc::channel();
    let (report, started) = mpsc::channel();
    let account = *account;
    let signals = Signals { account, pg_ctl: bin.path("pg_ctl"), cwd: folder.path.clone() };
    let keeper = thread::Builder::new()
        .name("pgserver-keeper".into())
        .spawn(move || {
            let program = match account.start(&mut command, SERVER) {
                Ok(program) => program,
                Err(error) => {
                    let _ = report.send(Err(error));
                    return Ok(());
                }
            };
            let _ = report.send(Ok(program.child.id()));
            keep(program, &stopped, &signals)
        })
        .during(doing)?;
    match started.recv() {
        Ok(pid) => Ok((pid.during(doing)?, stop, keeper)),
        Err(_) => Err(Error::new(Kind::Bug, doing())),
    }
}

/// Lives as long as the server: until told to stop it, or until it has ended by itself.
fn keep(mut program: Program, stopped: &Receiver<()>, signals: &Signals) -> Result<()> {
    let doing = || "wait for a private server".to_owned();
    let child = &mut program.child;
    loop {
        match stopped.recv_timeout(KEEPER_PERIOD) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                if child.try_wait().during(doing)?.is_some() {
                    return Ok(());
                }
            }
        }
    }
    for (signal, patience) in [("INT", FAST_STOP_MAX), ("QUIT", IMMEDIATE_STOP_MAX)] {
        // Until it has been waited for, its pid is its own: the signal can't hit another process.
        if ended_within(child, Duration::ZERO)? {
            return Ok(());
        }
        if let Err(error) = signals.send(child.id(), signal) {
            tracing::warn!(%error, signal, "signal a private server");
        }
        if ended_within(child, patience)? {
            return Ok(());
        }
        tracing::warn!(pid = child.id(), signal, "private server did not stop");
    }
    child.kill().during(|| "kill a private server".into())?;
    child.wait().during(doing).map(drop)
}

fn ended_within(child: &mut Child, patience: Duration) -> Result<bool> {
    let deadline = Instant::now() + patience;
    loop {
        let status = child.try_wait().during(|| "wait for a private server".into())?;
        if status.is_some() || Instant::now() >= deadline {
            return Ok(status.is_some());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Signals by PostgreSQL's own tool, under the server's account: it can't reach anybody else's process.
pub(crate) struct Signals {
    pub account: Account,
    pub pg_ctl: PathBuf,
    pub cwd: PathBuf,
}

impl Signals {
    pub fn send(&self, pid: u32, signal: &str) -> Result<()> {
        let mut command = self.account.command(&self.pg_ctl, &self.cwd);
        command.args(["kill", signal]).arg(pid.to_string());
        self.account.run(&mut command, &format!("send SIG{signal} to server {pid}")).map(drop)
    }
}

fn wait_ready(server: &mut Server, options: &Options) -> Result<()> {
    let deadline = Instant::now() + options.ready_within;
    loop {
        options.cancellation.check(START)?;
        if says_ready(&server.folder, server.pid) {
            return Ok(());
        }
        let problem = if !server.is_running() {
            "it ended"
        } else if Instant::now() >= deadline {
            "it did not accept connections in time"
        } else {
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        return Err(Error::setup(format!(
            "start private server in {}: {problem}; its log ends with:\n{}",
            server.folder.path.display(),
            log_tail(&server.folder, 20)
        )));
    }
}

/// The postmaster keeps its state on the eighth line of its pid file.
fn says_ready(folder: &Folder, pid: u32) -> bool {
    let Ok(text) = fs::read_to_string(folder.data().join("postmaster.pid")) else {
        return false;
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.first() == Some(&pid.to_string().as_str()) && lines.get(7) == Some(&"ready")
}

fn log_tail(folder: &Folder, lines: usize) -> String {
    let log = fs::read(folder.join("server.log")).unwrap_or_default();
    last_lines(&String::from_utf8_lossy(&log), lines)
}

fn check_version(bin: &Binaries, folder: &Folder) -> Result<()> {
    let text = fs::read_to_string(folder.data().join("PG_VERSION")).during(|| "read the data's version".into())?;
    let programs = bin.major_version()?;
    if text.trim() == programs.to_string() {
        return Ok(());
    }
    Err(Error::setup(format!(
        "start private server: its data is of PostgreSQL {}, the programs in {} are of {programs}; \
         name the folder of the matching ones",
        text.trim(),
        bin.dir.display()
    )))
}

fn free_port() -> Result<u16> {
    let doing = || "find a free port".to_owned();
    let listener = TcpListener::bind(("127.0.0.1", 0)).during(doing)?;
    Ok(listener.local_addr().during(doing)?.port())
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => (b as char).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}
