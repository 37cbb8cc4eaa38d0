//! Measures invocations of a native function over loopback HTTP. Run with `--ignored bench`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use crate::served::{Functions, Process};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("bench::invocations", || {
            bench();
            Ok(())
        })
        .with_ignored_flag(true),
    ]
}

fn bench() {
    let functions = Functions::new();
    functions.native("bill", "handler = \"h\"\nmemory_mb = 256");
    functions.native("cold", "handler = \"h\"");
    let server = Process::start(functions.folder.path());
    let mut client = Client::new(server.address);
    let cold: Vec<Duration> = (0..20)
        .map(|_| {
            let (took, _) = client.invoke("cold", "{\"do\":\"ok\"}");
            client.invoke("cold", "{\"do\":\"exit\"}");
            took
        })
        .collect();
    show("cold start and invocation", cold);
    (0..200).for_each(|_| drop(client.invoke("bill", "{}")));
    show("warm, one after the other", (0..5000).map(|_| client.invoke("bill", "{}").0).collect());
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    show("warm, 1 MB in and out", (0..50).map(|_| client.invoke("bill", &large).0).collect());
    let began = Instant::now();
    let address = server.address;
    let threads: Vec<_> = (0..40)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::new(address);
                (0..100).map(|_| client.invoke("bill", "{}")).collect::<Vec<_>>()
            })
        })
        .collect();
    let answers: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect();
    let wrong: Vec<_> = answers.iter().filter(|(_, answer)| !answer.contains("you")).take(3).collect();
    assert!(wrong.is_empty(), "40 of 40: {wrong:?}");
    println!("40 at once: {:.0} invocations/s", answers.len() as f64 / began.elapsed().as_secs_f64());
    let began = Instant::now();
    let path = "/2015-03-31/functions/bill/invocations";
    for _ in 0..500 {
        client.post(path, "X-Amz-Invocation-Type: Event\r\n", "{}");
    }
    println!("events put by one: {:.0}/s", 500.0 / began.elapsed().as_secs_f64());
}

fn show(name: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!("{name}: p50 {:.3} ms, p90 {:.3}, p99 {:.3}, n = {}", at(0.5), at(0.9), at(0.99), took.len());
}

/// A minimal client, so that mainly the server is measured.
struct Client(TcpStream);

impl Client {
    fn new(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        Client(stream)
    }

    fn invoke(&mut self, name: &str, payload: &str) -> (Duration, String) {
        let began = Instant::now();
        let answer = self.post(&format!("/2015-03-31/functions/{name}/invocations"), "", payload);
        assert!(answer.contains("you") || answer.contains("exit"), "{answer}");
        (began.elapsed(), answer)
    }

    fn post(&mut self, path: &str, headers: &str, payload: &str) -> String {
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {}\r\n\r\n", payload.len());
        self.0.write_all(format!("{head}{payload}").as_bytes()).expect("a request");
        let (mut all, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
        loop {
            let read = self.0.read(&mut buffer).expect("a response");
            assert!(read > 0, "a whole response");
            all.extend_from_slice(&buffer[..read]);
            if let Some(end) = all.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&all[..end]).to_lowercase();
                let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
                let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
                if all.len() >= end + 4 + length {
                    return String::from_utf8_lossy(&all[end + 4..]).into_owned();
                }
            }
        }
    }
}
