//! Python from a private environment, for other readers of the lake and for servers in Python.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A program that runs beside the test and ends with it.
pub struct Python {
    child: Child,
}

/// The path of the Python that ./test installs, or of WATTLAKE_TEST_PYTHON.
pub fn interpreter() -> PathBuf {
    let given = std::env::var_os("WATTLAKE_TEST_PYTHON").map(PathBuf::from);
    let path = given.unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/wattlake/test-venv/bin/python")
    });
    assert!(path.exists(), "there is no Python for the tests at {}: run ./test, which installs it", path.display());
    path
}

/// Runs a script with `input` as JSON on its standard input; returns the JSON that it prints.
pub fn python(script: &str, input: &Value) -> Value {
    let mut child = Command::new(interpreter())
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"))
}

impl Python {
    /// Starts `moto_server`, which speaks S3, and waits until it answers. Returns its URL too.
    pub fn s3() -> (Python, String) {
        let server = interpreter().with_file_name("moto_server");
        Python::server(|port| {
            vec![server.clone(), "-H".into(), "127.0.0.1".into(), "-p".into(), port.to_string().into()]
        })
    }

    /// The same with a fault of `s3_with_faults.py`.
    pub fn s3_with(fault: &str) -> (Python, String) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/s3_with_faults.py");
        Python::server(|port| vec![interpreter(), script.clone(), fault.into(), port.to_string().into()])
    }

    /// moto's Kinesis, which refuses records of requests by random numbers that begin with a seed.
    pub fn kinesis_that_refuses(seed: u32) -> (Python, String) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/kinesis_with_faults.py");
        Python::server(|port| vec![interpreter(), script.clone(), seed.to_string().into(), port.to_string().into()])
    }

    /// Starts a server of HTTP on a free port, and waits until it accepts connections.
    fn server(command: impl Fn(u16) -> Vec<PathBuf>) -> (Python, String) {
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        // The kernel ends it with the test's thread, however the test ends.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .args(command(port))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut python = Python { child };
        let deadline = Instant::now() + Duration::from_secs(180);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(python.child.try_wait().unwrap().is_none(), "moto_server ended");
            assert!(Instant::now() < deadline, "moto_server does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        (python, format!("http://127.0.0.1:{port}"))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // An error where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
