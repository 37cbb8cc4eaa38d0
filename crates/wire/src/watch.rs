//! A second look at a connection's socket: while a query runs nobody reads from it, and so nobody
//! would notice that the client has gone.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

/// Between two looks at a socket that has something to read, which the connection will do.
const AGAIN: Duration = Duration::from_millis(500);

/// The socket, and another handle of it to watch.
pub(crate) fn pair(socket: TcpStream) -> io::Result<(TcpStream, TcpStream)> {
    let socket = socket.into_std()?;
    let watched = socket.try_clone()?;
    Ok((TcpStream::from_std(socket)?, TcpStream::from_std(watched)?))
}

/// Ends when the other side has closed.
pub(crate) async fn gone(watched: &TcpStream) {
    loop {
        match watched.peek(&mut [0; 1]).await {
            Ok(0) | Err(_) => return,
            Ok(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}
