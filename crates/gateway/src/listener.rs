//! Serves an API on a listener: connections are bounded in their number and in the time of a request's head, and a stop
//! waits for what is under way.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// How long a connection may be without a whole head of a request, and how long its TLS may take to begin.
const HEAD_TIME_MAX: Duration = Duration::from_secs(20);
/// After a stop and the last running request, how long requests have to arrive, and responses to be read.
const STOP_WAIT: Duration = Duration::from_secs(10);
const STOP_CHECK: Duration = Duration::from_millis(50);
/// A pause after a connection could not be accepted: with too many open files, others have to be closed first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How many connections are served at a time; further ones wait in the listener's queue.
const CONNECTIONS_MAX: usize = 1024;

/// The body of a response.
pub type Body = BoxBody<Bytes, Infallible>;

/// An HTTP API.
pub trait Service: Clone + Send + Sync + 'static {
    /// Its name in the log, such as `Invoke API`.
    const NAME: &'static str;

    /// Answers a request. Errors are responses.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send;

    /// How many requests run programs or models now. A stop waits for them.
    fn busy(&self) -> usize;
}

/// What an API is served on.
pub struct Binding {
    /// Accepts its connections.
    pub listener: TcpListener,
    /// Where connections use TLS: the certificate and its key.
    pub tls: Option<Arc<ServerConfig>>,
    /// A connection that was accepted before.
    pub first: Option<TcpStream>,
}

/// A listener without TLS.
impl From<TcpListener> for Binding {
    fn from(listener: TcpListener) -> Binding {
        Binding { listener, tls: None, first: None }
    }
}

/// Serves until `stop`, then waits until the running requests have been answered.
pub async fn serve<S: Service>(service: S, binding: Binding, stop: impl Future<Output = ()>) {
    let Binding { listener, tls, mut first } = binding;
    let acceptor = tls.map(TlsAcceptor::from);
    let mut stop = std::pin::pin!(stop);
    let mut connections = JoinSet::new();
    let (tell, stopped) = watch::channel(false);
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = match first.take() {
            Some(stream) => Ok(stream),
            None => tokio::select! {
                () = &mut stop => break,
                accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                    accepted.map(|(stream, _)| stream)
                }
                _ = connections.join_next(), if connections.len() >= CONNECTIONS_MAX => continue,
            },
        };
        match accepted {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                connections.spawn(connection(service.clone(), stream, acceptor.clone(), stopped.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "accept a connection of the {}", S::NAME);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Nothing connects any more, rather than wait and be reset.
    drop(listener);
    tell.send_replace(true);
    let mut idle_since = Instant::now();
    while !connections.is_empty() {
        let _ = tokio::time::timeout(STOP_CHECK, connections.join_next()).await;
        if service.busy() > 0 {
            idle_since = Instant::now();
        } else if idle_since.elapsed() >= STOP_WAIT {
            // What is left has not sent its request, or does not read its response.
            connections.shutdown().await;
        }
    }
}

async fn connection<S: Service>(
    service: S,
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    stopped: watch::Receiver<bool>,
) {
    match acceptor {
        None => requests(service, stream, stopped).await,
        Some(acceptor) => match tokio::time::timeout(HEAD_TIME_MAX, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => requests(service, stream, stopped).await,
            Ok(Err(error)) => tracing::debug!(%error, "begin TLS of the {}", S::NAME),
            Err(_) => tracing::debug!("TLS of the {} did not begin in time", S::NAME),
        },
    }
}

async fn requests<S, T>(service: S, stream: T, mut stopped: watch::Receiver<bool>)
where
    S: Service,
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    let answering = service_fn(|request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX);
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), answering));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the {}", S::NAME);
    }
}
