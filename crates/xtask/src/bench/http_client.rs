//! A minimal HTTP client, so that the measured time is the server's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Longer than any answer of the benchmarks takes: a request that exceeds it hangs.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A connection to a server.
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

    /// Sends JSON; returns the head and body of the answer, whatever its status.
    pub fn post(&mut self, path: &str, body: &str) -> Result<(String, String)> {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
        let request = format!("{head}Content-Length: {length}\r\n\r\n{body}");
        self.stream.write_all(request.as_bytes()).context("send a request")?;
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
