//! The configuration of a server.

use std::sync::Arc;
use std::time::Duration;

use sql::marts::Views;
use sql::roles::Role;
use tokio_rustls::rustls::ServerConfig;

use super::verifier::Verifier;

/// A role that may connect.
#[derive(Debug, Clone)]
pub struct Login {
    /// The role; clients log in with its name.
    pub role: Role,
    /// Checks the role's password.
    pub verifier: Verifier,
}

/// Limits of the whole server; `None` is no limit.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How many clients may be logged in at the same time.
    pub connections_max: usize,
    /// Memory of all queries together.
    pub memory_bytes_max: Option<usize>,
    /// Memory of one query.
    pub query_memory_bytes_max: Option<usize>,
    /// Time of one statement; `SET statement_timeout` can only shorten it.
    pub query_time_max: Option<Duration>,
    /// Resident memory of the process: beyond it, the largest query is cancelled.
    pub process_bytes_max: Option<usize>,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            connections_max: 100,
            memory_bytes_max: None,
            query_memory_bytes_max: None,
            query_time_max: None,
            process_bytes_max: None,
        }
    }
}

/// The server's TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Certificates and protocol versions.
    pub config: Arc<ServerConfig>,
    /// Whether connections without TLS are refused.
    pub required: bool,
}

/// The configuration of a [`Server`](crate::Server).
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `None` serves without TLS.
    pub tls: Option<Tls>,
    /// Limits of connections, memory and time.
    pub bounds: Bounds,
    /// The roles that may connect.
    pub logins: Vec<Login>,
    /// The default time zone of a session; UTC if `None`.
    pub timezone: Option<String>,
    /// Named queries that clients read like tables.
    pub views: Arc<Views>,
}
