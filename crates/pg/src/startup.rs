//! The start of a connection: the limits of the server, TLS, the password and the startup parameters.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::Sink;
use pgwire::api::auth::sasl::SASLAuthStartupHandler;
use pgwire::api::auth::sasl::scram::{ScramAuth, ScramSecret};
use pgwire::api::auth::{AuthSource, LoginInfo, Password, ServerParameterProvider, StartupHandler};
use pgwire::api::{ClientInfo, PgWireConnectionState, PidSecretKeyGenerator, RandomPidSecretKeyGenerator};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, ConnectionCell};
use super::lock::locked;
use super::shared::Shared;
use super::variables::Variables;
use super::{catalogue, problem};
use sql::roles::Role;
use sql::{Limits, Session};

/// Authenticates the client of one connection and opens its session.
pub(crate) struct LoginHandler {
    shared: Arc<Shared>,
    cell: ConnectionCell,
    /// The connection's id in the connection limit, before its login.
    pending_id: u64,
    ended: CancellationToken,
    authentication: SASLAuthStartupHandler<ServerParameters>,
}

impl LoginHandler {
    /// The handler of one connection; after a login it stores the session in `cell`.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        cell: ConnectionCell,
        pending_id: u64,
        ended: CancellationToken,
    ) -> LoginHandler {
        let parameters = ServerParameters { shared: Arc::clone(shared) };
        let scram = ScramAuth::new(Arc::new(Logins { shared: Arc::clone(shared) }));
        let authentication = SASLAuthStartupHandler::new(Arc::new(parameters))
            .with_scram(scram)
            .with_pid_secret_key_generator(Arc::new(Pids { shared: Arc::clone(shared) }));
        LoginHandler { shared: Arc::clone(shared), cell, pending_id, ended, authentication }
    }

    fn check_limits<C: ClientInfo>(&self, client: &C) -> PgWireResult<()> {
        let bounds = &self.shared.resources.bounds;
        if self.shared.connection_limit.is_full() {
            return Err(too_many(bounds.connections_max));
        }
        if self.shared.tls.as_ref().is_some_and(|tls| tls.required) && !client.is_secure() {
            let message = "this server refuses connections without TLS: connect with sslmode=require";
            return Err(problem::fatal("28000", message));
        }
        Ok(())
    }

    fn open_connection<C: ClientInfo>(&self, client: &C) -> PgWireResult<()> {
        let user = client.metadata().get("user").map(String::as_str).unwrap_or_default();
        let (role, _) = self.shared.logins.get(user).ok_or_else(|| PgWireError::InvalidPassword(user.to_owned()))?;
        let variables = Arc::new(Mutex::new(startup_variables(&self.shared, client)?));
        let (key, address) = (client.pid_and_secret_key(), client.socket_addr());
        let session = open_session(&self.shared, role, &variables, key.0).map_err(|error| problem::of(&error, None))?;
        let resources = &self.shared.resources;
        let connection = Connection::open(session, resources, role, key, address, variables, self.ended.clone());
        let (pid, secure) = (connection.pid, client.is_secure());
        tracing::info!(role = role.name, pid, client = %address, secure, "connection");
        locked(&self.shared.connections).insert(pid, Arc::clone(&connection));
        let _ = self.cell.set(connection);
        Ok(())
    }
}

/// The session of a connection, with its catalogue.
fn open_session(
    shared: &Arc<Shared>,
    role: &Arc<Role>,
    variables: &Arc<Mutex<Variables>>,
    pid: i32,
) -> sql::error::Result<Session> {
    // Each query has a memory pool of its own, so plans are made for the limit of one query.
    let bounds = &shared.resources.bounds;
    let memory_bytes_max = bounds.query_memory_bytes_max.or(bounds.memory_bytes_max);
    let limits = Limits { memory_bytes_max, partitions: None };
    let session = Session::with_limits(shared.lake.clone(), Arc::clone(&shared.system), None, limits)?
        .with_views(Arc::clone(&shared.views));
    Ok(catalogue::install(session.with_role(Arc::clone(role)), shared, variables, pid))
}

fn too_many(max: usize) -> PgWireError {
    problem::fatal("53300", format!("sorry, too many clients already: connections_max is {max}"))
}

#[async_trait]
impl StartupHandler for LoginHandler {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let first = matches!(message, PgWireFrontendMessage::Startup(_));
        if first {
            self.check_limits(client)?;
        }
        // The answer to a correct proof tells the client that it is connected, so the connection is reserved before.
        let reserved = match matches!(message, PgWireFrontendMessage::PasswordMessageFamily(_)) {
            true => Some(
                self.shared
                    .connection_limit
                    .reserve()
                    .ok_or_else(|| too_many(self.shared.resources.bounds.connections_max))?,
            ),
            false => None,
        };
        self.authentication.on_startup(client, message).await?;
        if first {
            // A wrong startup parameter is reported before authentication, and ends the connection.
            startup_variables(&self.shared, client)
                .map_err(|error| problem::fatal(error.code(), message_of(&error)))?;
        }
        if matches!(client.state(), PgWireConnectionState::ReadyForQuery) && self.cell.get().is_none() {
            self.open_connection(client)?;
            if let Some(reserved) = reserved {
                reserved.confirm(self.pending_id);
            }
        }
        Ok(())
    }
}

fn message_of(error: &PgWireError) -> String {
    match error {
        PgWireError::UserError(info) => info.message.clone(),
        other => other.to_string(),
    }
}

/// The variables that a client sets as it connects: `-c name=value` of PGOPTIONS, and startup parameters.
fn startup_variables<C: ClientInfo>(shared: &Shared, client: &C) -> PgWireResult<Variables> {
    const NOT_VARIABLES: [&str; 4] = ["user", "database", "options", "replication"];
    let metadata = client.metadata();
    let user = metadata.get("user").cloned().unwrap_or_default();
    let mut variables =
        Variables::new([("TimeZone".to_owned(), shared.timezone.clone()), ("session_authorization".to_owned(), user)]);
    let options = metadata.get("options").map(String::as_str).unwrap_or_default();
    let words: Vec<&str> = options.split_whitespace().collect();
    let written = words.iter().enumerate().filter_map(|(at, word)| match *word {
        "-c" => words.get(at + 1).copied(),
        word => word.strip_prefix("-c").or_else(|| word.strip_prefix("--")).filter(|rest| !rest.is_empty()),
    });
    let written =
        written.filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned()));
    let named =
        metadata.iter().filter(|(name, _)| !NOT_VARIABLES.contains(&name.as_str()) && !name.starts_with("_pq_"));
    let named = named.map(|(name, value)| (name.clone(), value.clone()));
    for (name, value) in written.chain(named) {
        variables.set(&name, Some(value))?;
    }
    Ok(variables)
}

#[derive(Clone)]
struct Logins {
    shared: Arc<Shared>,
}

impl Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Logins(***)")
    }
}

#[async_trait]
impl AuthSource for Logins {
    async fn get_password(&self, login: &LoginInfo) -> PgWireResult<Password> {
        Err(PgWireError::InvalidPassword(login.user().unwrap_or_default().to_owned()))
    }

    async fn get_scram_secret(&self, login: &LoginInfo) -> PgWireResult<(ScramSecret, Option<()>)> {
        let name = login.user().unwrap_or_default();
        let secret = match self.shared.logins.get(name) {
            Some((_, verifier)) => verifier.secret(),
            None => self.shared.mock_secrets.secret(name),
        };
        Ok((secret, None))
    }
}

/// Generates process ids for cancel requests; no two open connections have the same.
struct Pids {
    shared: Arc<Shared>,
}

impl PidSecretKeyGenerator for Pids {
    fn generate(&self, client: &dyn ClientInfo) -> (i32, pgwire::messages::startup::SecretKey) {
        let (_, secret) = RandomPidSecretKeyGenerator::default().generate(client);
        let connections = locked(&self.shared.connections);
        loop {
            let pid = rand::random_range(1..i32::MAX);
            if !connections.contains_key(&pid) {
                return (pid, secret);
            }
        }
    }
}

struct ServerParameters {
    shared: Arc<Shared>,
}

impl ServerParameterProvider for ServerParameters {
    fn server_parameters<C: ClientInfo>(&self, client: &C) -> Option<HashMap<String, String>> {
        // A wrong startup parameter is reported by `on_startup`, right after this.
        let variables = startup_variables(&self.shared, client).ok()?;
        Some(variables.reported().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}
