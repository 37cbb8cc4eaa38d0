//! Creates, starts and stops a server.
//!
//! The postmaster is a direct child of this process. It is not started by pg_ctl, which would move it out of its group:
//! the group ends with this process. A monitor thread runs as long as the server, stops it, and notices its end.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::account::{Account, LAUNCHER, Program, SERVER_TERMINATION, last_lines};
use crate::error::{Error, ErrorContext, Kind};
use crate::folder::Folder;
use crate::restored::Limits;
use crate::settings::{hba_conf, server_conf};
use crate::{Binaries, Options, Result};

const START: &str = "start a private server";
const FAST_STOP_MAX: Duration = Duration::from_secs(10);
const IMMEDIATE_STOP_MAX: Duration = Duration::from_secs(5);
const MONITOR_PERIOD: Duration = Duration::from_millis(100);
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
    /// `None` once it is joined.
    monitor: Option<JoinHandle<Result<()>>>,
}

/// Creates an empty cluster in the private folder `dir`, with the encoding UTF-8, the locale C.UTF-8, and the superuser
/// `postgres` without a password.
///
/// # Errors
/// Where the folder is not empty, or initdb fails.
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
///
/// # Errors
/// Where the programs are of another version than the data, the server ends or is not ready in time (with the end of
/// its log), or the start is cancelled.
pub fn start(bin: &Binaries, dir: &Path, options: &Options) -> Result<Server> {
    options.cancellation.check(START)?;
    let account = Account::current()?;
    let folder = Folder::open(dir)?;
    account.check_access(&folder.path)?;
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
    /// The port, which is also part of the socket's name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the Unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The private folder.
    pub fn dir(&self) -> &Path {
        &self.folder.path
    }

    /// The process of the postmaster.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The URL of a database by the Unix socket, for the superuser.
    pub fn url(&self, dbname: &str) -> String {
        format!(
            "postgresql://{}@{}:{}/{}",
            percent_encoded(&self.superuser),
            percent_encoded(&self.socket_dir.to_string_lossy()),
            self.port,
            percent_encoded(dbname)
        )
    }

    /// The URL of a database by TCP on 127.0.0.1, for the superuser. A restored copy does not listen there by default.
    pub fn tcp_url(&self, dbname: &str) -> String {
        format!("postgresql://{}@127.0.0.1:{}/{}", percent_encoded(&self.superuser), self.port, percent_encoded(dbname))
    }

    /// The last lines of the server's log since its start.
    pub fn log_tail(&self, lines: usize) -> String {
        log_tail(&self.folder, lines)
    }

    /// Whether the server has not ended.
    pub fn is_running(&mut self) -> bool {
        self.monitor.as_ref().is_some_and(|k| !k.is_finished())
    }

    /// Stops the server and waits for its end: by a fast shutdown, after 10 s by an immediate one, 5 s later by
    /// SIGKILL.
    pub fn stop(mut self) -> Result<()> {
        self.stop_and_join()
    }

    fn stop_and_join(&mut self) -> Result<()> {
        let Some(monitor) = self.monitor.take() else {
            return Ok(());
        };
        // Fails where the server, and with it its monitor, has ended by itself.
        let _ = self.stop.send(());
        let result =
            monitor.join().unwrap_or_else(|_| Err(Error::new(Kind::Bug, "stop a server: its monitor panicked")));
        if self.socket_dir != self.folder.path {
            // The short folder under /tmp: once DIR is removed, nothing would find it.
            let _ = fs::remove_dir_all(&self.socket_dir);
        }
        result
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
    let restored = Limits::read_note(folder);
    let conf = server_conf(options, restored.as_ref(), port, &socket_dir, &folder.path)?;
    account.create_file(&folder.join("postgresql.conf"), &conf)?;
    let hba = hba_conf(options, restored.is_some());
    account.create_file(&folder.join("pg_hba.conf"), &hba)?;
    account.create_file(&folder.join("pg_ident.conf"), "")?;
    let log = account.create_file(&folder.join("server.log"), "")?;
    let log_too = log.try_clone().during(|| "open the server's log again".into())?;

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
    let (pid, stop, monitor) = start_monitor(command, account, bin, folder)?;
    let mut server = Server {
        folder: folder.clone(),
        socket_dir,
        port,
        pid,
        superuser: options.superuser.clone(),
        stop,
        monitor: Some(monitor),
    };
    wait_ready(&mut server, options)?;
    tracing::debug!(pid, port, dir = %folder.path.display(), "private server is ready");
    Ok(server)
}

type StartedMonitor = (u32, Sender<()>, JoinHandle<Result<()>>);

fn start_monitor(mut command: Command, account: &Account, bin: &Binaries, folder: &Folder) -> Result<StartedMonitor> {
    let doing = || format!("start a private server by {LAUNCHER}");
    let (stop, stopped) = mpsc::channel();
    let (report, started) = mpsc::channel();
    let account = *account;
    let signals = Signals { account, pg_ctl: bin.path("pg_ctl"), cwd: folder.path.clone() };
    let monitor = thread::Builder::new()
        .name("pgserver-monitor".into())
        .spawn(move || {
            let program = match account.start(&mut command, SERVER_TERMINATION) {
                Ok(program) => program,
                Err(error) => {
                    let _ = report.send(Err(error));
                    return Ok(());
                }
            };
            let _ = report.send(Ok(program.child.id()));
            monitor_server(program, &stopped, &signals)
        })
        .during(doing)?;
    match started.recv() {
        Ok(pid) => Ok((pid.during(doing)?, stop, monitor)),
        Err(_) => Err(Error::new(Kind::Bug, doing())),
    }
}

/// Runs until the server has ended, by itself or because a stop was requested.
fn monitor_server(mut program: Program, stopped: &Receiver<()>, signals: &Signals) -> Result<()> {
    let doing = || "wait for a private server".to_owned();
    let child = &mut program.child;
    loop {
        match stopped.recv_timeout(MONITOR_PERIOD) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                if child.try_wait().during(doing)?.is_some() {
                    return Ok(());
                }
            }
        }
    }
    for (signal, timeout) in [("INT", FAST_STOP_MAX), ("QUIT", IMMEDIATE_STOP_MAX)] {
        // The process has not been waited for, so its pid can't be that of another process.
        if ends_within(child, Duration::ZERO)? {
            return Ok(());
        }
        if let Err(error) = signals.send(child.id(), signal) {
            tracing::warn!(%error, signal, "signal a private server");
        }
        if ends_within(child, timeout)? {
            return Ok(());
        }
        tracing::warn!(pid = child.id(), signal, "private server did not stop");
    }
    child.kill().during(|| "kill a private server".into())?;
    child.wait().during(doing).map(drop)
}

fn ends_within(child: &mut Child, timeout: Duration) -> Result<bool> {
    let deadline = Instant::now() + timeout;
    loop {
        let status = child.try_wait().during(|| "wait for a private server".into())?;
        if status.is_some() || Instant::now() >= deadline {
            return Ok(status.is_some());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Sends signals by pg_ctl under the server's account, which may not signal processes of other users.
pub(crate) struct Signals {
    /// The account of the server.
    pub account: Account,
    /// The path of pg_ctl.
    pub pg_ctl: PathBuf,
    /// The working folder of pg_ctl.
    pub cwd: PathBuf,
}

impl Signals {
    /// Sends a signal, such as "INT", to a process.
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
        if is_ready(&server.folder, server.pid) {
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
            "start a private server in {}: {problem}; its log ends with:\n{}",
            server.folder.path.display(),
            log_tail(&server.folder, 20)
        )));
    }
}

/// Whether the server accepts connections: the postmaster writes its state into the eighth line of its pid file.
fn is_ready(folder: &Folder, pid: u32) -> bool {
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
        "start a private server: its data is of PostgreSQL {}, and the programs in {} are of version {programs}; \
         name the folder with programs of that version",
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
