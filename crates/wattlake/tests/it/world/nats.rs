//! A NATS server with JetStream, which can be killed and started again.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::server::folder;

/// A server on a port of its own.
pub struct Nats {
    child: Option<Child>,
    port: u16,
    store: PathBuf,
}

impl Nats {
    /// Starts a server.
    pub fn start() -> Nats {
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let store = folder().join(format!("nats-{port}"));
        let mut nats = Nats { child: None, port, store };
        nats.restart();
        nats
    }

    /// Starts it again on the same port, with the messages that it has stored.
    pub fn restart(&mut self) {
        let program = ["/usr/sbin/nats-server", "/usr/bin/nats-server", "/usr/local/bin/nats-server"];
        let program = program.into_iter().find(|path| std::path::Path::new(path).exists());
        let program = program.unwrap_or_else(|| panic!("there is no nats-server: run ./test, which installs it"));
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", program, "-js", "-a", "127.0.0.1", "-p", &self.port.to_string(), "-sd"])
            .arg(&self.store)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap());
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "nats-server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it by SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Ends it, and starts it without the messages that it had stored.
    pub fn wipe(&mut self) {
        self.kill();
        std::fs::remove_dir_all(&self.store).unwrap();
        self.restart();
    }

    /// The address of a stream.
    pub fn stream(&self, name: &str) -> String {
        format!("nats://127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.store);
    }
}
