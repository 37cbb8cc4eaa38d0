//! The two ways of asking: whole texts (the simple protocol), and parse, bind, execute (the
//! extended one). Rows are sent as they come, and only as fast as the client takes them.

use std::fmt::Debug;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

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

use super::acts::{self, Outcome};
use super::connection::Connection;
use super::copy::Writer;
use super::encode::{self, BatchStream};
use super::parser::Parser;
use super::prepared::{Prepared, read};
use super::startup::Door;
use super::{Shared, locked, problem, watch};

type Rows = BoxStream<'static, PgWireResult<DataRow>>;

/// All that serves one connection.
pub(crate) struct Handlers {
    questions: Arc<Questions>,
    door: Arc<Door>,
    shared: Arc<Shared>,
    place: u64,
    ended: CancellationToken,
    /// To tell a client without TLS why the connection ends.
    watched: Arc<TcpStream>,
}

/// The connection is there once its user has proved who he is.
pub(crate) type Slot = Arc<OnceLock<Arc<Connection>>>;

pub(crate) struct Questions {
    slot: Slot,
    watched: Arc<TcpStream>,
}

impl Handlers {
    pub(crate) fn new(shared: Arc<Shared>, watched: TcpStream) -> Handlers {
        let (slot, ended, watched) = (Slot::default(), CancellationToken::new(), Arc::new(watched));
        let place = shared.places.add_pending(&ended);
        let door = Door::new(&shared, Arc::clone(&slot), place, ended.clone());
        let questions = Questions { slot, watched: Arc::clone(&watched) };
        Handlers { questions: Arc::new(questions), door: Arc::new(door), shared, place, ended, watched }
    }

    pub(crate) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.questions.slot.get().is_some_and(|connection| connection.is_busy())
    }

    /// Best effort: the client is being left anyway.
    pub(crate) fn say_goodbye(&self) {
        if self.shared.tls.is_some() {
            return;
        }
        let text: &[u8] = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0";
        let length = u32::try_from(text.len() + 4).unwrap_or(4);
        let message = [b"E", &length.to_be_bytes()[..], text].concat();
        let _ = self.watched.try_write(&message);
    }

    pub(crate) fn leave(&self) {
        self.shared.places.remove_pending(self.place);
        if let Some(connection) = self.questions.slot.get() {
            self.shared.places.give_back();
            connection.finish();
            locked(&connection.cursors).clear();
            locked(&self.shared.connections).remove(&connection.pid);
            tracing::info!(role = connection.role.name, pid = connection.pid, "connection closed");
        }
    }
}

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        Arc::clone(&self.questions)
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        Arc::clone(&self.questions)
    }

    fn startup_handler(&self) -> Arc<impl pgwire::api::auth::StartupHandler> {
        Arc::clone(&self.door)
    }

    fn copy_handler(&self) -> Arc<impl CopyHandler> {
        Arc::new(NoopHandler)
    }

    fn error_handler(&self) -> Arc<impl ErrorHandler> {
        Arc::clone(&self.questions)
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
    async fn on_cancel_request(&self, asked: CancelRequest) {
        let connection = locked(&self.shared.connections).get(&asked.pid).cloned();
        // The key is what makes it this client's query to cancel.
        if let Some(connection) = connection.filter(|c| c.secret.to_bytes() == asked.secret_key.to_bytes()) {
            connection.cancel();
        }
    }
}

impl ErrorHandler for Questions {
    fn on_error<C: ClientInfo>(&self, client: &C, error: &mut PgWireError) {
        if let Some(connection) = self.slot.get() {
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

impl Questions {
    fn connection(&self) -> PgWireResult<&Arc<Connection>> {
        self.slot.get().ok_or_else(|| problem::fatal("08P01", "a query came before the login was complete"))
    }

    /// Does `work` while the socket is watched: a client that goes takes its query with it.
    async fn watched<T>(
        &self,
        connection: &Connection,
        work: impl Future<Output = PgWireResult<T>>,
    ) -> PgWireResult<T> {
        tokio::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = watch::gone(&self.watched) => connection.ended.cancel(),
        }
        Err(problem::fatal("08006", "the client has gone"))
    }
}

#[async_trait]
impl SimpleQueryHandler for Questions {
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
        connection.batch.fetch_add(1, Ordering::Relaxed);
        self.watched(&connection, simple(client, &connection, &query.query)).await?;
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
        Err(problem::error("XX000", "queries are answered as they come"))
    }
}

async fn simple<C>(client: &mut C, connection: &Arc<Connection>, text: &str) -> PgWireResult<()>
where
    C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    C::PortalStore: PortalStore,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let statements = read(text)?;
    if statements.is_empty() {
        client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
    }
    for spoken in statements {
        let outcome = acts::perform(connection, &spoken, client.transaction_status()).await?;
        let outcome = match outcome {
            Outcome::Rows { columns, batches, tag } => {
                let fields = Arc::new(encode::fields(&columns, &Format::UnifiedText)?);
                let described: Vec<FieldDescription> = fields.iter().map(Into::into).collect();
                client.feed(PgWireBackendMessage::RowDescription(RowDescription::new(described))).await?;
                let mut rows: Rows = Box::pin(encode::rows(batches, fields, connection.zone()));
                send_rows(client, &mut rows, 0, tag).await?;
                continue;
            }
            other => other,
        };
        if let Outcome::Deallocated { name, .. } = &outcome
            && let Some(store) = client.portal_store().as_any().downcast_ref::<MemPortalStore<Arc<Prepared>>>()
        {
            deallocate(store, name.as_deref());
        }
        settle(client, outcome).await?;
    }
    Ok(())
}

/// All prepared statements can't be listed: those go when they are replaced, or with the connection.
fn deallocate(store: &impl PortalStore, name: Option<&str>) {
    match name {
        Some(name) => store.rm_statement(name),
        None => store.clear_portals(),
    }
}

/// Everything but rows.
async fn settle<C>(client: &mut C, outcome: Outcome) -> PgWireResult<()>
where
    C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let tag = match outcome {
        Outcome::Rows { .. } => return Err(problem::error("XX000", "rows were to be sent before")),
        Outcome::Copied { writer, batches } => return send_copy(client, &writer, batches).await,
        Outcome::Done { tag, told } => {
            if let Some((name, value)) = told {
                client.feed(PgWireBackendMessage::ParameterStatus(ParameterStatus::new(name, value))).await?;
            }
            tag
        }
        Outcome::Begun => {
            client.set_transaction_status(TransactionStatus::Transaction);
            "BEGIN".to_owned()
        }
        Outcome::Ended { tag } => {
            client.set_transaction_status(TransactionStatus::Idle);
            tag.to_owned()
        }
        Outcome::Deallocated { tag, .. } => tag.to_owned(),
    };
    client.feed(PgWireBackendMessage::CommandComplete(CommandComplete::new(tag))).await?;
    Ok(())
}

/// At most `max` of them, or all with 0; whether there may be more.
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

async fn send_copy<C>(client: &mut C, writer: &Writer, mut batches: BatchStream) -> PgWireResult<()>
where
    C: Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let format = i16::from(writer.is_binary());
    let columns = i16::try_from(writer.columns()).unwrap_or(i16::MAX);
    let opening = CopyOutResponse::new(i8::from(writer.is_binary()), columns, vec![format; writer.columns()]);
    client.feed(PgWireBackendMessage::CopyOutResponse(opening)).await?;
    let mut first = writer.first();
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
    if let Some(last) = writer.last() {
        client.feed(PgWireBackendMessage::CopyData(CopyData::new(with_first(last)))).await?;
    }
    client.feed(PgWireBackendMessage::CopyDone(CopyDone::new())).await?;
    client.feed(PgWireBackendMessage::CommandComplete(Tag::new("COPY").with_rows(sent).into())).await?;
    Ok(())
}

#[async_trait]
impl ExtendedQueryHandler for Questions {
    type Statement = Arc<Prepared>;
    type QueryParser = Parser;

    fn query_parser(&self) -> Arc<Parser> {
        Arc::new(Parser { slot: Arc::clone(&self.slot) })
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
        connection.start(&portal.statement.statement.spoken.text);
        let max = usize::try_from(message.max_rows).unwrap_or(0);
        self.watched(&connection, execute(client, &connection, &portal, max)).await?;
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
            (TARGET_TYPE_BYTE_PORTAL, Some(name)) => acts::cursor_columns(self.connection()?, name).ok(),
            _ => None,
        };
        // To PostgreSQL a cursor is a portal, and drivers ask of it as of one.
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
        connection.batch.fetch_add(1, Ordering::Relaxed);
        let status = client.transaction_status();
        // A portal lives as long as its block; one without a block as long as its Sync.
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
        Err(problem::error("XX000", "queries are answered as they come"))
    }
}

async fn execute<C>(
    client: &mut C,
    connection: &Arc<Connection>,
    portal: &Portal<Arc<Prepared>>,
    max: usize,
) -> PgWireResult<()>
where
    C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    C::PortalStore: PortalStore<Statement = Arc<Prepared>>,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let state = portal.state();
    let mut state = state.lock().await;
    if matches!(*state, PortalExecutionState::Initial) {
        let status = client.transaction_status();
        let outcome = acts::perform_bound(connection, &portal.statement.statement, portal, status).await?;
        match outcome {
            Outcome::Rows { columns, batches, tag } => {
                let fields = Arc::new(encode::fields(&columns, &portal.result_column_format)?);
                let rows = encode::rows(batches, Arc::clone(&fields), connection.zone());
                let mut response = QueryResponse::new(fields, rows);
                response.set_command_tag(tag);
                *state = PortalExecutionState::Suspended(response);
            }
            other => {
                if let Outcome::Deallocated { name, .. } = &other {
                    deallocate(client.portal_store(), name.as_deref());
                }
                *state = PortalExecutionState::Finished;
                return settle(client, other).await;
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
