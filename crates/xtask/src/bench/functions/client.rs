//! A minimal HTTP client, so that the measured time is the server's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Longer than any function of the benchmark takes: an invocation that exceeds it hangs.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A connection to an Invoke API.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects to a server.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        stream.set_read_timeout(Some(ANSWER_MAX)).context("set a read timeout")?;
        Ok(Self { stream, buffer: vec![0; 1 << 16] })
    }

    /// Invokes a function; returns the milliseconds until the last byte. The answer must be a success with the event.
    pub fn invoke(&mut self, name: &str, event: &str) -> Result<f64> {
        let began = Instant::now();
        let (head, body) = self.post(name, event)?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        let good = head.starts_with("HTTP/1.1 200") && !head.to_ascii_lowercase().contains("x-amz-function-error");
        ensure!(good && body.contains("2026-09"), "{name} answered {head}\n\n{body}");
        Ok(took)
    }

    /// Sends an event; returns the head and body of the answer, whatever its status.
    pub fn post(&mut self, name: &str, event: &str) -> Result<(String, String)> {
        let length = event.len();
        let head = format!("POST /2015-03-31/functions/{name}/invocations HTTP/1.1\r\nHost: localhost\r\n");
        let request = format!("{head}Content-Length: {length}\r\n\r\n{event}");
        self.stream.write_all(request.as_bytes()).context("send an event")?;
        let mut all = Vec::new();
        loop {
            if let Some(end) = all.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&all[..end]).into_owned();
                let length = content_length(&head)?;
                if all.len() >= end + 4 + length {
                    return Ok((head, String::from_utf8_lossy(&all[end + 4..]).into_owned()));
                }
            }
            match self.stream.read(&mut self.buffer).context("read an answer")? {
                0 => bail!("the connection ended within an answer"),
                read => all.extend_from_slice(&self.buffer[..read]),
            }
        }
    }
}

fn content_length(head: &str) -> Result<usize> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut found = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = found.next().with_context(|| format!("an answer without its length: {head}"))?;
    length.trim().parse().context("read an answer's length")
}

/// Invokes a function by many callers at a time, `each` times by each; returns the times of successful invocations and
/// the number of others.
pub fn at_once(address: SocketAddr, name: &str, event: &str, callers: u32, each: u32) -> (Vec<f64>, u32) {
    let calls = || -> Vec<f64> {
        let Ok(mut client) = Client::connect(address) else { return Vec::new() };
        // After an error, a connection can't be used again.
        (0..each).map_while(|_| client.invoke(name, event).ok()).collect()
    };
    let times: Vec<f64> = thread::scope(|scope| {
        let callers: Vec<_> = (0..callers).map(|_| scope.spawn(calls)).collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap_or_default()).collect()
    });
    let answered = u32::try_from(times.len()).unwrap_or(u32::MAX);
    (times, (callers * each).saturating_sub(answered))
}
