//! Detects that a client has closed its connection while its query runs: the connection's own
//! handler does not read from the socket during that time.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

/// The pause between two checks of a socket that has unread bytes, which are left to the connection's handler.
const RECHECK_AFTER: Duration = Duration::from_millis(500);

/// The socket, and a second handle of it for [`closed_by_client`].
pub(crate) fn duplicate(socket: TcpStream) -> io::Result<(TcpStream, TcpStream)> {
    let socket = socket.into_std()?;
    let watched = socket.try_clone()?;
    Ok((TcpStream::from_std(socket)?, TcpStream::from_std(watched)?))
}

/// Completes when the client has closed its side. It consumes no bytes.
pub(crate) async fn closed_by_client(watched: &TcpStream) {
    loop {
        match watched.peek(&mut [0; 1]).await {
            Ok(0) | Err(_) => return,
            Ok(_) => tokio::time::sleep(RECHECK_AFTER).await,
        }
    }
}
