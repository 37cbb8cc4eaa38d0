//! The two hosts, each a process of its own: Wattlake's server of the Invoke API with all
//! functions, and an emulator for each function, since it knows one.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::client::Client;
use super::ready::Ready;

const LISTENS_WITHIN: Duration = Duration::from_secs(10);

/// Killed when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Wattlake {
    _process: Process,
    pub address: SocketAddr,
}

impl Wattlake {
    pub fn start(ready: &Ready) -> Result<Self> {
        let mut command = Command::new(&ready.server);
        let child = command.arg(&ready.folder).stdout(Stdio::piped()).spawn().context("start Wattlake's server")?;
        let mut process = Process(child);
        let mut line = String::new();
        let said = process.0.stdout.take().context("read what the server says")?;
        BufReader::new(said).read_line(&mut line).context("read what the server says")?;
        let address = line.trim().trim_start_matches("http://").parse();
        Ok(Self { _process: process, address: address.with_context(|| format!("read the address {line:?}"))? })
    }

    /// The next event of this function finds no instance.
    pub fn end_instances(&self, function: &str) -> Result<()> {
        let (head, body) = Client::connect(self.address)?.post(function, r#"{"do":"exit"}"#)?;
        ensure!(body.contains("Runtime.ExitError"), "{function} did not end: {head}\n\n{body}");
        Ok(())
    }
}

pub struct Emulator {
    process: Process,
    pub address: SocketAddr,
}

impl Emulator {
    /// None for R, whose layer stands at /opt, where no emulator without a container finds it.
    pub fn start(ready: &Ready, function: &str) -> Result<Option<Self>> {
        let Some(mut runtime) = ready.emulated(function) else { return Ok(None) };
        let (api, own) = (free_address()?, free_address()?);
        let mut command = Command::new(&ready.emulator);
        command.arg("--log-level").arg("error");
        command.arg("--runtime-api-address").arg(own.to_string());
        command.arg("--runtime-interface-emulator-address").arg(api.to_string());
        command.args(runtime.drain(..));
        command.env("PYTHONPATH", ready.python_path()).current_dir(&ready.task);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let emulator = Self { process: Process(child.context("start the emulator")?), address: api };
        emulator.listens()?;
        Ok(Some(emulator))
    }

    fn listens(&self) -> Result<()> {
        let began = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            ensure!(began.elapsed() < LISTENS_WITHIN, "the emulator does not listen on {}", self.address);
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// It must have come through.
    pub fn end(mut self) -> Result<()> {
        if let Some(status) = self.process.0.try_wait().context("look after the emulator")? {
            bail!("the emulator has ended by itself: {status}");
        }
        Ok(())
    }
}

/// Free a moment ago: the emulator takes no port 0.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    listener.local_addr().context("find a free port")
}
