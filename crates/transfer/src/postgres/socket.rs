//! Sockets to a PostgreSQL server: a Unix socket, or TCP with or without TLS.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio_postgres::config::Host;

use super::endpoint::{Endpoint, Tls};
use crate::error::{Context, Error, Result};

/// An open connection to a server.
pub enum Socket {
    /// A Unix socket.
    Unix(UnixStream),
    /// TCP without TLS.
    Tcp(TcpStream),
    /// TCP with TLS.
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

impl Socket {
    /// Connects to the endpoint's server, with TLS where the endpoint has it.
    pub fn open(endpoint: &Endpoint) -> Result<Socket> {
        let config = &endpoint.config;
        let port = config.get_ports().first().copied().unwrap_or(5432);
        match config.get_hosts().first() {
            Some(Host::Unix(folder)) => {
                let path = folder.join(format!(".s.PGSQL.{port}"));
                Ok(Socket::Unix(UnixStream::connect(path).context("open the socket")?))
            }
            Some(Host::Tcp(host)) => secure(endpoint, host, tcp(host, port)?),
            None => secure(endpoint, "localhost", tcp("localhost", port)?),
        }
    }

    /// Reads what has arrived, and waits where nothing has.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Unix(stream) => stream.read(buffer),
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Tls(stream) => stream.read(buffer),
        }
    }

    /// Writes all of `bytes`.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Socket::Unix(stream) => stream.write_all(bytes),
            Socket::Tcp(stream) => stream.write_all(bytes),
            Socket::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// Limits how long [`Socket::read`] waits; its error is then `WouldBlock` or `TimedOut`.
    pub fn set_read_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        match self {
            Socket::Unix(stream) => stream.set_read_timeout(Some(timeout)),
            Socket::Tcp(stream) => stream.set_read_timeout(Some(timeout)),
            Socket::Tls(stream) => stream.sock.set_read_timeout(Some(timeout)),
        }
    }
}

fn tcp(host: &str, port: u16) -> Result<TcpStream> {
    let mut last = Error::setup(format!("resolve {host}"));
    for address in (host, port).to_socket_addrs().context(format!("resolve {host}"))? {
        match TcpStream::connect_timeout(&address, Duration::from_secs(10)) {
            Ok(stream) => {
                stream.set_nodelay(true).context("set up the socket")?;
                return Ok(stream);
            }
            Err(error) => last = Error::retry(format!("connect to {address}")).because(error),
        }
    }
    Err(last)
}

fn secure(endpoint: &Endpoint, host: &str, mut stream: TcpStream) -> Result<Socket> {
    if endpoint.tls == Tls::Disable {
        return Ok(Socket::Tcp(stream));
    }
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).context("request TLS")?;
    let mut answer = [0u8];
    stream.read_exact(&mut answer).context("request TLS")?;
    match (answer[0], endpoint.tls) {
        (b'S', _) => {
            let name = rustls::pki_types::ServerName::try_from(host.to_owned())
                .map_err(|e| Error::setup("name the server for TLS").because(e))?;
            let session = rustls::ClientConnection::new(Arc::clone(&endpoint.client_config), name)
                .map_err(|e| Error::setup("start TLS").because(e))?;
            Ok(Socket::Tls(Box::new(rustls::StreamOwned::new(session, stream))))
        }
        (_, Tls::Prefer) => Ok(Socket::Tcp(stream)),
        _ => Err(Error::setup("start TLS: the server does not support it")
            .hint("set ssl = on at the server, or sslmode = \"prefer\" for the connection")),
    }
}
