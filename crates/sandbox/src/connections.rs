//! Connections of the host to programs of a sandbox that listen on its loopback interface. The first process of the
//! sandbox connects, and sends the open socket to the host.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::socket::{receive, send};

/// A program that accepts no connection in this time is not listening, or hangs.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// How long the first process may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize, Deserialize)]
struct ConnectRequest {
    port: u16,
}

/// The answer to a request. The socket is attached where there is no error.
#[derive(Debug, Serialize, Deserialize)]
struct ConnectAnswer {
    /// The number of the system's error.
    error: Option<i32>,
}

/// Connects to a sandbox's ports.
#[derive(Debug)]
pub struct Connector {
    socket: Mutex<UnixStream>,
}

impl Connector {
    /// A connector, and the socket that the first process of the sandbox answers on.
    pub(super) fn pair() -> io::Result<(Connector, OwnedFd)> {
        let (host, sandbox) = UnixStream::pair()?;
        host.set_read_timeout(Some(ANSWER_MAX))?;
        Ok((Connector { socket: Mutex::new(host) }, sandbox.into()))
    }

    /// Connects to a port of the sandbox's loopback interface. Blocks for less than a millisecond, where something listens
    /// or nothing does, and at most for some seconds.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionRefused`] where nothing listens yet.
    pub fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        send(&socket, &ConnectRequest { port }, &[])?;
        let (answer, open) = receive::<ConnectAnswer>(&socket)?;
        if let Some(number) = answer.error {
            return Err(io::Error::from_raw_os_error(number));
        }
        let socket = open.into_iter().next().ok_or_else(|| io::Error::other("the sandbox sent no socket"))?;
        Ok(TcpStream::from(socket))
    }
}

/// Answers a [`Connector`] until the host closes it.
pub(super) fn serve(socket: OwnedFd) {
    let socket = UnixStream::from(socket);
    while let Ok((request, _)) = receive::<ConnectRequest>(&socket) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, request.port));
        let sent = match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Ok(stream) => send(&socket, &ConnectAnswer { error: None }, &[stream.as_fd()]),
            Err(error) => {
                let number = error.raw_os_error().unwrap_or(rustix::io::Errno::TIMEDOUT.raw_os_error());
                send(&socket, &ConnectAnswer { error: Some(number) }, &[])
            }
        };
        if sent.is_err() {
            return;
        }
    }
}
