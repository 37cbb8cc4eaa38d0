//! A proxy to a server by which a base backup neither ends nor fails.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

/// The bytes that each connection returns before it stalls: enough for logins and queries.
const BYTES_MAX: usize = 1 << 20;

/// Starts the proxy and returns its port on 127.0.0.1. Where one side closes a connection, the other is closed too.
pub fn stalling_proxy_to(server_port: u16) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(("127.0.0.1", server_port)).unwrap();
            let (from_server, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || pass(from_server, to_client, BYTES_MAX));
            thread::spawn(move || pass(client, server, usize::MAX));
        }
    });
    port
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut left: usize) {
    let mut buffer = [0; 8192];
    while left > 0 {
        match from.read(&mut buffer) {
            Ok(read @ 1..) if to.write_all(&buffer[..read]).is_ok() => left = left.saturating_sub(read),
            _ => {
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}
