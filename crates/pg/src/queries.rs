//! The two query protocols of PostgreSQL: simple (the text of statements) and extended (parse,
//! bind, execute). Rows are sent while the query runs, and only as fast as the client reads them.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Sink, SinkExt, StreamExt};
use pgwire::api::cancel::CancelHandler;
use pgwire::api::copy::CopyHandler;
use pgwire::api::portal::{Format, Portal, PortalExecutionState};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler, send_ready_for_query};
use pgwire::api::results::{QueryResponse, Response, Tag};
use pgwire::api::store::{Entry, MemPortalStore, PortalStore};
use pgwire::api::{
    ClientInfo, ClientPortalStore, DEFAULT_NAME, ErrorHandler, NoopHandler, PgWireConnectionState, PgWireServerHandlers,
};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::copy::{CopyData, CopyDone, CopyOutResponse};
use pgwire::messages::data::{DataRow, FieldDescription, RowDescription};
use pgwire::messages::extendedquery::{
    Describe, Execute, PortalSuspended, Sync as ClientSync, TARGET_TYPE_BYTE_PORTAL,
};
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse, ReadyForQuery, TransactionStatus};
use pgwire::messages::simplequery::Query;
use pgwire::messages::startup::ParameterStatus;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, ConnectionCell};
use super::copy::CopyWriter;
use super::encode::{self, BatchStream};
use super::lock::locked;
use super::parser::Parser;
use super::prepared::{PreparedStatement, parse};
use super::session_commands::{self, Outcome};
use super::shared::Shared;
use super::startup::LoginHandler;
use super::{disconnect, problem};

type Rows = BoxStream<'static, PgWireResult<DataRow>>;

/// The handlers of one connection.
pub(crate) struct Handlers {
    queries: Arc<QueryHandler>,
    startup: Arc<LoginHandler>,
    shared: Arc<Shared>,
    pending_id: u64,
    ended: CancellationToken,
    /// A second handle of the socket, by which a client without TLS is told why the connection ends.
    watched: Arc<TcpStream>,
}

/// Executes the statements of one connection.
pub(crate) struct QueryHandler {
    cell: ConnectionCell,
    watched: Arc<TcpStream>,
}

impl Handlers {
    /// The handlers of a new connection, which is registered as pending until its login.
    pub(crate) fn new(shared: Arc<Shared>, watched: TcpStream) -> Handlers {
        let (cell, ended, watched) = (ConnectionCell::default(), CancellationToken::new(), Arc::new(watched));
        let pending_id = shared.connection_limit.add_pending(&ended);
        let startup = LoginHandler::new(&shared, Arc::clone(&cell), pending_id, ended.clone());
        let queries = QueryHandler { cell, watched: Arc::clone(&watched) };
        Handlers { queries: Arc::new(queries), startup: Arc::new(startup), shared, pending_id, ended, watched }
    }

    /// Cancelled when the connection is to be closed.
    pub(crate) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Whether a statement runs.
    pub(crate) fn is_busy(&self) -> bool {
        self.queries.cell.get().is_some_and(|connection| connection.is_busy())
    }

    /// Tells the client that the server closes the connection, if that is possible without waiting and without TLS.
    pub(crate) fn send_shutdown_error(&self) {
        if self.shared.tls.is_some() {
            return;
        }
        let text: &[u8] = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0";
        let length = u32::try_from(text.len() + 4).unwrap_or(4);
        let message = [b"E", &length.to_be_bytes()[..], text].concat();
        let _ = self.watched.try_write(&message);
    }

    /// Releases what the connection holds: its share of the limit, its cursors and its query.
    pub(crate) fn close(&self) {
        self.shared.connection_limit.remove_pending(self.pending_id);
        if let Some(connection) = self.queries.cell.get() {
            self.shared.connection_limit.release();
            connection.finish();
            locked(&connection.cursors).clear();
            locked(&self.shared.connections).remove(&connection.pid);
            tracing::info!(role = connection.role.name, pid = connection.pid, "connection closed");
        }
    }
}

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        Arc::clone(&self.queries)
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        Arc::clone(&self.queries)
    }

    fn startup_handler(&self) -> Arc<impl pgwire::api::auth::StartupHandler> {
        Arc::clone(&self.startup)
    }

    fn copy_handler(&self) -> Arc<impl CopyHandler> {
        Arc::new(NoopHandler)
    }

    fn error_handler(&self) -> Arc<impl ErrorHandler> {
        Arc::clone(&self.queries)
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        Arc::new(Cancel { shared: Arc::clone(&self.shared) })
    }
}

struct Cancel {
    shared: Arc<Shared>,
}

#[async_trait]
impl CancelHandler for Cancel {
    async fn on_cancel_request(&self, request: CancelRequest) {
        let connection = locked(&self.shared.connections).get(&request.pid).cloned();
        // Only a client that knows the connection's secret key may cancel its query.
        if let Some(connection) = connection.filter(|c| c.secret.to_bytes() == request.secret_key.to_bytes()) {
            connection.cancel();
        }
    }
}

impl ErrorHandler for QueryHandler {
    fn on_error<C: ClientInfo>(&self, client: &C, error: &mut PgWireError) {
        if let Some(connection) = self.cell.get() {
            connection.finish();
        }
        match error {
            PgWireError::InvalidPassword(_) => {
                let user = client.metadata().get("user").cloned().unwrap_or_default();
                tracing::warn!(role = user, client = %client.socket_addr(), "password authentication failed");
                *error = problem::fatal("28P01", format!("password authentication failed for user \"{user}\""));
            }
            PgWireError::PortalNotFound(name) => {
                *error = problem::error("34000", format!("portal \"{name}\" does not exist"));
            }
            PgWireError::StatementNotFound(name) => {
                *error = problem::error("26000", format!("prepared statement \"{name}\" does not exist"));
            }
            _ => {}
        }
    }
}

impl QueryHandler {
    fn connection(&self) -> PgWireResult<&Arc<Connection>> {
        self.cell.get().ok_or_else(|| problem::fatal("08P01", "a query came before the login was complete"))
    }

    /// Does `work`, and cancels the query when the client closes its connection meanwhile.
    async fn while_connected<T>(
        &self,
        connection: &Connection,
        work: impl Future<Output = PgWireResult<T>>,
    ) -> PgWireResult<T> {
        tokio::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = disconnect::closed_by_client(&self.watched) => connection.ended.cancel(),
        }
        Err(problem::fatal("08006", "the client closed the connection"))
    }
}

#[async_trait]
impl SimpleQueryHandler for QueryHandler {
    async fn on_query<C>(&self, client: &mut C, query: Query) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let connection = Arc::clone(self.connection()?);
        client.set_state(PgWireConnectionState::QueryInProgress);
        connection.start(&query.query);
        connection.sync_count.fetch_add(1, Ordering::Relaxed);
        self.while_connected(&connection, simple(client, &connection, &query.query)).await?;
        connection.finish();
        client.set_state(PgWireConnectionState::ReadyForQuery);
        let status = client.transaction_status();
        send_ready_for_query(client, status).await
    }

    async fn do_query<C>(&self, _: &mut C, _: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        Err(problem::error("XX000", "results are streamed by the query handler"))
    }
}

async fn simple<C>(client: &mut C, connection: &Arc<Connection>, text: &str) -> PgWireResult<()>
where
    C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    C::PortalStore: PortalStore,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let statements = parse(text)?;
    if statements.is_empty() {
        client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
    }
    for parsed in statements {
        let outcome = session_commands::execute(connection, &parsed, client.transaction_status()).await?;
        let outcome = match outcome {
            Outcome::Rows { columns, batches, tag } => {
                let fields = Arc::new(encode::fields(&columns, &Format::UnifiedText)?);
                let described: Vec<FieldDescription> = fields.iter().map(Into::into).collect();
                client.feed(PgWireBackendMessage::RowDescription(RowDescription::new(described))).await?;
                let mut rows: Rows = Box::pin(encode::data_rows(batches, fields, connection.zone()));
                send_rows(client, &mut rows, 0, tag).await?;
                continue;
            }
            other => other,
        };
        if let Outcome::Deallocated { name, .. } = &outcome
            && let Some(store) = client.portal_store().as_any().downcast_ref::<MemPortalStore<Arc<PreparedStatement>>>()
        {
            deallocate(store, name.as_deref());
        }
        send_outcome(client, outcome).await?;
    }
    Ok(())
}

/// Removes one prepared statement. The store cannot list them: DEALLOCATE ALL only removes the portals, and the
/// statements are removed when they are replaced or the connection ends.
fn deallocate(store: &impl PortalStore, name: Option<&str>) {
    match name {
        Some(name) => store.rm_statement(name),
        None => store.clear_portals(),
    }
}

/// Sends the outcome of a statement that returns no rows.
async fn send_outcome<C>(client: &mut C, outcome: Outcome) -> PgWireResult<()>
where
    C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let tag = match outcome {
        Outcome::Rows { .. } => return Err(problem::error("XX000", "rows must be sent by send_rows")),
        Outcome::CopyOut { writer, batches } => return send_copy(client, &writer, batches).await,
        Outcome::Done { tag, parameter_status } => {
            if let Some((name, value)) = parameter_status {
                client.feed(PgWireBackendMessage::ParameterStatus(ParameterStatus::new(name, value))).await?;
            }
            tag
        }
        Outcome::BlockBegun => {
            client.set_transaction_status(TransactionStatus::Transaction);
            "BEGIN".to_owned()
        }
        Outcome::BlockEnded { tag } => {
            client.set_transaction_status(TransactionStatus::Idle);
            tag.to_owned()
        }
        Outcome::Deallocated { tag, .. } => tag.to_owned(),
    };
    client.feed(PgWireBackendMessage::CommandComplete(CommandComplete::new(tag))).await?;
    Ok(())
}

/// Sends at most `max` rows, or all if `max` is 0, and returns whether there may be more.
async fn send_rows<C>(client: &mut C, rows: &mut Rows, max: usize, tag: &str) -> PgWireResult<bool>
where
    C: Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let mut sent = 0;
    while max == 0 || sent < max {
        let Some(row) = rows.next().await else {
            let tag = match tag {
                "EXPLAIN" | "SHOW" => Tag::new(tag),
                _ => Tag::new(tag).with_rows(sent),
            };
            client.feed(PgWireBackendMessage::CommandComplete(tag.into())).await?;
            return Ok(false);
        };
        client.feed(PgWireBackendMessage::DataRow(row?)).await?;
        sent += 1;
    }
    client.feed(PgWireBackendMessage::PortalSuspended(PortalSuspended::new())).await?;
    Ok(true)
}

async fn send_copy<C>(client: &mut C, writer: &CopyWriter, mut batches: BatchStream) -> PgWireResult<()>
where
    C: Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let format = i16::from(writer.is_binary());
    let columns = i16::try_from(writer.columns()).unwrap_or(i16::MAX);
    let opening = CopyOutResponse::new(i8::from(writer.is_binary()), columns, vec![format; writer.columns()]);
    client.feed(PgWireBackendMessage::CopyOutResponse(opening)).await?;
    let mut first = writer.header();
    if !writer.is_binary()
        && let Some(header) = first.take()
    {
        client.feed(PgWireBackendMessage::CopyData(CopyData::new(header))).await?;
    }
    let mut with_first = |row: Bytes| match first.take() {
        Some(first) => [first, row].concat().into(),
        None => row,
    };
    let mut sent = 0;
    while let Some(batch) = batches.next().await {
        for row in writer.rows(&batch?)? {
            client.feed(PgWireBackendMessage::CopyData(CopyData::new(with_first(row)))).await?;
            sent += 1;
        }
    }
    if let Some(last) = writer.trailer() {
        client.feed(PgWireBackendMessage::CopyData(CopyData::new(with_first(last)))).await?;
    }
    client.feed(PgWireBackendMessage::CopyDone(CopyDone::new())).await?;
    client.feed(PgWireBackendMessage::CommandComplete(Tag::new("COPY").with_rows(sent).into())).await?;
    Ok(())
}

#[async_trait]
impl ExtendedQueryHandler for QueryHandler {
    type Statement = Arc<PreparedStatement>;
    type QueryParser = Parser;

    fn query_parser(&self) -> Arc<Parser> {
        Arc::new(Parser { cell: Arc::clone(&self.cell) })
    }

    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let connection = Arc::clone(self.connection()?);
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let portal = match client.portal_store().get_portal(name) {
            Some(Entry::Value(portal)) => portal,
            Some(Entry::Empty) => {
                client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
                return Ok(());
            }
            None => return Err(PgWireError::PortalNotFound(name.to_owned())),
        };
        client.set_state(PgWireConnectionState::QueryInProgress);
        connection.start(&portal.statement.statement.parsed.text);
        let max = usize::try_from(message.max_rows).unwrap_or(0);
        self.while_connected(&connection, execute(client, &connection, &portal, max)).await?;
        connection.finish();
        client.set_state(PgWireConnectionState::ReadyForQuery);
        Ok(())
    }

    async fn on_describe<C>(&self, client: &mut C, message: Describe) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let cursor = match (message.target_type, message.name.as_deref()) {
            (TARGET_TYPE_BYTE_PORTAL, Some(name)) => self.connection()?.cursor_columns(name).ok(),
            _ => None,
        };
        // In PostgreSQL a cursor is a portal, and drivers describe it as one.
        if let Some(columns) = cursor {
            let fields = encode::fields(&columns, &Format::UnifiedText)?;
            let described: Vec<FieldDescription> = fields.iter().map(Into::into).collect();
            client.feed(PgWireBackendMessage::RowDescription(RowDescription::new(described))).await?;
            return Ok(());
        }
        self._on_describe(client, message).await
    }

    async fn on_sync<C>(&self, client: &mut C, _: ClientSync) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let connection = self.connection()?;
        connection.sync_count.fetch_add(1, Ordering::Relaxed);
        let status = client.transaction_status();
        // A portal is closed with its transaction block, and without a block at the next Sync.
        if matches!(status, TransactionStatus::Idle) {
            client.portal_store().clear_portals();
        } else {
            client.portal_store().rm_portal(DEFAULT_NAME);
        }
        client.send(PgWireBackendMessage::ReadyForQuery(ReadyForQuery::new(status))).await?;
        Ok(())
    }

    async fn do_query<C>(&self, _: &mut C, _: &Portal<Self::Statement>, _: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        Err(problem::error("XX000", "results are streamed by the query handler"))
    }
}

async fn execute<C>(
    client: &mut C,
    connection: &Arc<Connection>,
    portal: &Portal<Arc<PreparedStatement>>,
    max: usize,
) -> PgWireResult<()>
where
    C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    C::PortalStore: PortalStore<Statement = Arc<PreparedStatement>>,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let state = portal.state();
    let mut state = state.lock().await;
    if matches!(*state, PortalExecutionState::Initial) {
        let status = client.transaction_status();
        let outcome = session_commands::execute_bound(connection, &portal.statement.statement, portal, status).await?;
        match outcome {
            Outcome::Rows { columns, batches, tag } => {
                let fields = Arc::new(encode::fields(&columns, &portal.result_column_format)?);
                let rows = encode::data_rows(batches, Arc::clone(&fields), connection.zone());
                let mut response = QueryResponse::new(fields, rows);
                response.set_command_tag(tag);
                *state = PortalExecutionState::Suspended(response);
            }
            other => {
                if let Outcome::Deallocated { name, .. } = &other {
                    deallocate(client.portal_store(), name.as_deref());
                }
                *state = PortalExecutionState::Finished;
                return send_outcome(client, other).await;
            }
        }
    }
    let more = match &mut *state {
        PortalExecutionState::Suspended(response) => {
            let tag = response.command_tag().to_owned();
            send_rows(client, &mut response.data_rows, max, &tag).await?
        }
        _ => {
            client.feed(PgWireBackendMessage::CommandComplete(Tag::new("SELECT").with_rows(0).into())).await?;
            true
        }
    };
    if !more {
        *state = PortalExecutionState::Finished;
    }
    Ok(())
}
