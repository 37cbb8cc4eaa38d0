//! The message loop of one connection. pgwire parses and answers the messages; until the login is complete, the number
//! of bytes read from the client is limited, whatever length its messages claim.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::StreamExt;
use pgwire::api::{ClientInfo, ErrorHandler, PgWireConnectionState, PgWireServerHandlers};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use pgwire::tokio::server::{negotiate_tls, process_error, process_message};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::codec::{Framed, FramedParts};

/// The time limit of a login.
const LOGIN_TIME: Duration = Duration::from_secs(60);

/// The most bytes that a client may send until its login is complete: names, settings and the proof of its password.
const LOGIN_BYTES: usize = 64 * 1024;

/// Serves one connection until the client ends it, its login takes too long, or a fatal error occurs.
///
/// # Errors
/// If the socket fails, or the TLS handshake does.
pub(crate) async fn serve<H: PgWireServerHandlers>(
    socket: TcpStream,
    acceptor: Option<TlsAcceptor>,
    handlers: H,
) -> io::Result<()> {
    let login_time = tokio::time::sleep(LOGIN_TIME);
    tokio::pin!(login_time);
    let negotiated = tokio::select! {
        () = &mut login_time => return Ok(()),
        negotiated = negotiate_tls(socket, acceptor) => negotiated?,
    };
    // The client began TLS, and the server has none.
    let Some(negotiated) = negotiated else { return Ok(()) };
    let parts = negotiated.into_parts();
    let bounded = LoginLimit { inner: parts.io, left: Some(LOGIN_BYTES) };
    let mut with_bound = FramedParts::new::<PgWireBackendMessage>(bounded, parts.codec);
    with_bound.read_buf = parts.read_buf;
    with_bound.write_buf = parts.write_buf;
    let mut client = Framed::from_parts(with_bound);
    let (startup, cancel, errors) = (handlers.startup_handler(), handlers.cancel_handler(), handlers.error_handler());
    let (simple, extended, copy) =
        (handlers.simple_query_handler(), handlers.extended_query_handler(), handlers.copy_handler());
    loop {
        let is_login = matches!(
            client.state(),
            PgWireConnectionState::AwaitingStartup | PgWireConnectionState::AuthenticationInProgress
        );
        let message = if is_login {
            tokio::select! {
                () = &mut login_time => None,
                message = client.next() => message,
            }
        } else {
            client.get_mut().left = None;
            client.next().await
        };
        let Some(Ok(message)) = message else { return Ok(()) };
        if matches!(message, PgWireFrontendMessage::Terminate(_)) {
            return Ok(());
        }
        let is_extended = match client.state() {
            PgWireConnectionState::CopyInProgress(is_extended) => is_extended,
            _ => message.is_extended_query(),
        };
        let is_cancel = matches!(message, PgWireFrontendMessage::CancelRequest(_));
        let (startup, cancel, copy) = (startup.clone(), cancel.clone(), copy.clone());
        let done = process_message(message, &mut client, startup, simple.clone(), extended.clone(), copy, cancel).await;
        if let Err(mut error) = done {
            errors.on_error(&client, &mut error);
            let is_fatal = error.is_fatal();
            process_error(&mut client, error, is_extended).await?;
            if is_fatal {
                return Ok(());
            }
        }
        if is_cancel {
            return Ok(());
        }
    }
}

/// A stream from which at most `left` more bytes are read; any number if `left` is `None`.
struct LoginLimit<T> {
    inner: T,
    left: Option<usize>,
}

impl<T: AsyncRead + Unpin> AsyncRead for LoginLimit<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left == Some(0) {
            let error = io::Error::new(io::ErrorKind::InvalidData, "the client sent more bytes than a login may have");
            return Poll::Ready(Err(error));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        self.left = self.left.map(|left| left.saturating_sub(read));
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for LoginLimit<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
