//! The state that all connections of a server share.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use lake::Lake;
use tokio::runtime::{Handle, Runtime};

use super::catalogue::entries::Catalogue;
use super::connection::Connection;
use super::connection_limit::ConnectionLimit;
use super::lock::locked;
use super::resources::QueryResources;
use super::settings::{Login, Settings, Tls};
use super::threads::{cores, runtime};
use super::verifier::{MockSecrets, Verifier};
use sql::error::{Context, Error, Kind, Result};
use sql::marts::Views;
use sql::roles::Role;
use sql::system::SystemTables;

/// State that all connections share.
pub(crate) struct Shared {
    pub(crate) lake: Lake,
    pub(crate) system: Arc<dyn SystemTables>,
    pub(crate) timezone: String,
    pub(crate) views: Arc<Views>,
    pub(crate) tls: Option<Tls>,
    pub(crate) logins: HashMap<String, (Arc<Role>, Verifier)>,
    pub(crate) mock_secrets: MockSecrets,
    pub(crate) resources: Arc<QueryResources>,
    pub(crate) connections: Mutex<HashMap<i32, Arc<Connection>>>,
    pub(crate) catalogue: Catalogue,
    pub(crate) connection_limit: ConnectionLimit,
    /// Connections that were accepted, with or without a login.
    pub(crate) connections_total: AtomicU64,
    pub(crate) started_at: DateTime<Utc>,
    /// Reads messages, parses statements and executes session commands.
    connections_runtime: Option<Runtime>,
}

impl Shared {
    /// The state of a server without connections, with its threads.
    ///
    /// # Errors
    /// If two logins have the same role name, or threads cannot be started.
    pub(crate) fn new(lake: Lake, system: Arc<dyn SystemTables>, settings: Settings) -> Result<Shared> {
        let mut logins = HashMap::new();
        for Login { role, verifier } in settings.logins {
            let name = role.name.clone();
            if logins.insert(name.clone(), (Arc::new(role), verifier)).is_some() {
                return Err(Error::new(Kind::FixSetup, format!("add role {name:?}: it is declared twice")));
            }
        }
        Ok(Shared {
            lake,
            system,
            timezone: settings.timezone.unwrap_or_else(|| "UTC".to_owned()),
            views: settings.views,
            tls: settings.tls,
            logins,
            mock_secrets: MockSecrets::new(),
            connections: Mutex::default(),
            catalogue: Catalogue::new()?,
            connection_limit: ConnectionLimit::new(settings.bounds.connections_max),
            connections_total: AtomicU64::new(0),
            started_at: Utc::now(),
            resources: Arc::new(QueryResources::start(settings.bounds)?),
            connections_runtime: Some(runtime("connection", cores()).context("start the connection threads")?),
        })
    }

    /// The connections whose users are logged in.
    pub(crate) fn all(&self) -> Vec<Arc<Connection>> {
        locked(&self.connections).values().cloned().collect()
    }

    /// The runtime that serves connections.
    pub(crate) fn connections_runtime(&self) -> &Handle {
        // It is `None` only after `drop` has begun.
        let runtime = self.connections_runtime.as_ref().map(Runtime::handle);
        runtime.expect("the runtime of connections lives as long as the server")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A runtime must not block on the shutdown of another.
        if let Some(runtime) = self.connections_runtime.take() {
            runtime.shutdown_background();
        }
    }
}
