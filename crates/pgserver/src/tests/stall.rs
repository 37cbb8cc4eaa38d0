//! A way to a server on which a base backup neither ends nor fails.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

/// What comes back on each connection before nothing more does: enough for logins and questions.
const BYTES_MAX: usize = 1 << 20;

/// Gives the port on 127.0.0.1 that leads to `server_port`. The end of either side is passed on.
pub fn stalled_way_to(server_port: u16) -> u16 {
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
