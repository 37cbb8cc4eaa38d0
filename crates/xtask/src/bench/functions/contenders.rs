//! The contenders of `bench functions`, each a process: Wattlake's server with all functions, and an emulator for each
//! function, since it supports only one.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::client::Client;
use super::setup::Setup;

const LISTENS_WITHIN: Duration = Duration::from_secs(10);

/// Killed when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Wattlake's server.
pub struct Wattlake {
    process: Process,
    pub address: SocketAddr,
}

impl Wattlake {
    /// The server's process.
    pub fn process_id(&self) -> u32 {
        self.process.0.id()
    }

    /// Starts the server and reads its address from its output.
    pub fn start(setup: &Setup) -> Result<Self> {
        let mut command = Command::new(&setup.server);
        let child = command.arg(&setup.folder).stdout(Stdio::piped()).spawn().context("start Wattlake's server")?;
        let mut process = Process(child);
        let mut line = String::new();
        let stdout = process.0.stdout.take().context("read the server's output")?;
        BufReader::new(stdout).read_line(&mut line).context("read the server's output")?;
        let address = line.trim().trim_start_matches("http://").parse();
        Ok(Self { process, address: address.with_context(|| format!("read the address {line:?}"))? })
    }

    /// Ends the instances of a function, so that its next event needs a cold start.
    pub fn end_instances(&self, function: &str) -> Result<()> {
        let (head, body) = Client::connect(self.address)?.post(function, r#"{"do":"exit"}"#)?;
        ensure!(body.contains("Runtime.ExitError"), "{function} did not end: {head}\n\n{body}");
        Ok(())
    }
}

/// An emulator with one function.
pub struct Emulator {
    process: Process,
    pub address: SocketAddr,
}

impl Emulator {
    /// Starts an emulator and waits until it listens. None for R, whose layer must be at /opt, which needs a container.
    pub fn start(setup: &Setup, function: &str) -> Result<Option<Self>> {
        let Some(mut runtime) = setup.emulated(function) else { return Ok(None) };
        let (api, own) = (free_address()?, free_address()?);
        let mut command = Command::new(&setup.emulator);
        command.arg("--log-level").arg("error");
        command.arg("--runtime-api-address").arg(own.to_string());
        command.arg("--runtime-interface-emulator-address").arg(api.to_string());
        command.args(runtime.drain(..));
        command.env("PYTHONPATH", setup.python_path()).current_dir(&setup.task);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let emulator = Self { process: Process(child.context("start the emulator")?), address: api };
        emulator.wait_until_listening()?;
        Ok(Some(emulator))
    }

    fn wait_until_listening(&self) -> Result<()> {
        let began = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            ensure!(began.elapsed() < LISTENS_WITHIN, "the emulator does not listen on {}", self.address);
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Ends the emulator; an error where it has ended by itself.
    pub fn end(mut self) -> Result<()> {
        if let Some(status) = self.process.0.try_wait().context("check the emulator")? {
            bail!("the emulator has ended by itself: {status}");
        }
        Ok(())
    }
}

/// An address with a port that is free now: the emulator does not accept port 0.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    listener.local_addr().context("find a free port")
}
