//! Invocations over HTTP, measured.

use std::net::SocketAddr;
use std::thread;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::super::http_client;

/// A connection to an Invoke API.
pub struct Client(http_client::Client);

impl Client {
    /// Connects to a server.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        http_client::Client::connect(address).map(Client)
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
        self.0.post(&format!("/2015-03-31/functions/{name}/invocations"), event)
    }
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
