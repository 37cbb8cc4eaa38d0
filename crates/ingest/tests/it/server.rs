//! Servers that end with the test, and a proxy that interrupts connections.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::NaiveDate;
use ingest::fetch::Retries;
use ingest::objects::Objects;
use ingest::source::Template;
use object_store::local::LocalFileSystem;
use tempfile::TempDir;

pub const DATE: NaiveDate = NaiveDate::from_ymd_opt(2026, 9, 30).unwrap();

pub const QUICK: Retries =
    Retries { times: 4, first_pause: Duration::from_millis(20), pause_max: Duration::from_millis(100) };

pub struct Server {
    child: Child,
    pub port: u16,
}

pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

impl Server {
    /// Starts a server and waits until it accepts connections on its port.
    pub fn start(port: u16, command: &mut Command) -> Server {
        // The kernel ends it with the test's thread, however the test ends.
        let mut guarded = Command::new("setpriv");
        guarded.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
        let child = guarded.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut server = Server { child, port };
        let deadline = Instant::now() + Duration::from_secs(180);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(server.child.try_wait().unwrap().is_none(), "{command:?} ended");
            assert!(Instant::now() < deadline, "{command:?} does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Python with the servers that `./test` installs.
pub fn python() -> PathBuf {
    let given = std::env::var_os("WATTLAKE_TEST_PYTHON").map(PathBuf::from);
    let path = given.unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/wattlake/test-venv/bin/python")
    });
    assert!(path.exists(), "there is no Python for the tests at {}: run ./test, which installs it", path.display());
    path
}

/// A proxy of a server that closes a connection after some bytes of the response, until it has done so often enough.
pub struct UnreliableProxy {
    pub port: u16,
    connections: Arc<AtomicUsize>,
}

impl UnreliableProxy {
    /// Forwards to the port `to`; `times` connections are closed after `bytes` of the response.
    pub fn start(to: u16, bytes: usize, times: usize) -> UnreliableProxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let (seen, broken) = (Arc::clone(&connections), Arc::new(AtomicUsize::new(0)));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                seen.fetch_add(1, Ordering::Relaxed);
                let (client, server) = (client.unwrap(), TcpStream::connect(("127.0.0.1", to)).unwrap());
                let (mut up_from, mut up_to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut up_from, &mut up_to));
                let broken = Arc::clone(&broken);
                std::thread::spawn(move || forward(server, client, bytes, times, &broken));
            }
        });
        UnreliableProxy { port, connections }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, bytes: usize, times: usize, broken: &AtomicUsize) {
    let (mut piece, mut passed) = ([0; 8192], 0);
    while let Ok(read) = from.read(&mut piece) {
        if read == 0 || to.write_all(&piece[..read]).is_err() {
            break;
        }
        passed += read;
        if passed > bytes && broken.load(Ordering::Relaxed) < times {
            broken.fetch_add(1, Ordering::Relaxed);
            break;
        }
    }
    let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
}

pub fn templates(texts: &[&str]) -> Vec<Template> {
    texts.iter().map(|text| Template::parse(text).unwrap()).collect()
}

/// Objects in a temporary folder.
pub fn objects() -> (TempDir, Objects) {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    let objects = Objects::new(Arc::new(store), folder.path().join("spool"));
    (folder, objects)
}

/// Pseudo-random bytes.
pub fn bytes_of(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 16) as u8
    };
    (0..length).map(|_| next()).collect()
}
