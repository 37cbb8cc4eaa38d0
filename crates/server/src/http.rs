//! Health, metrics and state of the server by HTTP, for operators and their tools. All of it only
//! reads; nothing can be changed from here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jobs::system::{self, LedgerTables, Selection, SystemTable};
use serde_json::{Value, json};
use sql::Session;
use sql::output::{self, Format};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{ServerState, metrics};

/// After a stop, how long requests have to end.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// How many rows an answer has without `limit`.
const LIMIT: usize = 100;
/// The greatest `limit`.
const LIMIT_MAX: usize = 10_000;
/// How many log lines of a run an answer has.
const LOG_LINES: usize = 1_000;

type Shared = State<Arc<ServerState>>;
type Parameters = Query<HashMap<String, String>>;

/// Serves HTTP on a listener until `stop` is cancelled.
pub async fn serve(
    server: Arc<ServerState>,
    listener: TcpListener,
    at: SocketAddr,
    stop: CancellationToken,
) -> Result<()> {
    tracing::info!(address = %at, "health, metrics and state are served: http://{at}/");
    let is_loopback = at.ip().is_loopback();
    let router = Router::new()
        .route("/", get(index))
        .route("/health/live", get(|| async { Json(json!({"status": "ok"})) }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics_text))
        .route("/api/runs", get(runs))
        .route("/api/runs/{id}", get(run))
        .route("/api/events", get(events))
        .route("/api/queue", get(queue))
        .route("/api/schedules", get(schedules))
        .route("/api/tables", get(tables))
        .fallback(|| async {
            (StatusCode::NOT_FOUND, Json(json!({"error": "there is no such path; / lists the paths"})))
        })
        .layer(axum::middleware::from_fn(move |request: Request, next: Next| check_host(is_loopback, request, next)))
        .with_state(server);
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    tokio::select! {
        served = serving => served.context("serve HTTP"),
        // Connections that send no whole request, or do not read their response, would go on for ever.
        () = async { stop.cancelled().await; tokio::time::sleep(STOP_WAIT).await } => Ok(()),
    }
}

/// Refuses requests of web pages whose host was made to resolve to this machine, where only this machine can connect.
async fn check_host(is_loopback: bool, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if is_loopback && host.is_some_and(|host| !gateway::is_own_host(host)) {
        let error = "the request is for another host: use this machine's address, or localhost";
        return (StatusCode::FORBIDDEN, Json(json!({"error": error}))).into_response();
    }
    next.run(request).await
}

async fn index() -> Json<Value> {
    Json(json!({"paths": [
        "/health/live", "/health/ready", "/metrics", "/api/runs?job=&limit=", "/api/runs/{id}",
        "/api/events?name=&limit=", "/api/queue?state=&limit=", "/api/schedules?limit=", "/api/tables",
    ]}))
}

/// Answers 200 where the ledger can be read and the lake can be listed, 503 otherwise.
async fn ready(State(server): Shared) -> Response {
    let ledger = server.warehouse.ledger.schedules().map(drop).map_err(|error| base::chain(&error));
    let lake = server.lake.tables().await.map(|tables| tables.len()).map_err(|error| base::chain(&error));
    let status = if ledger.is_ok() && lake.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let status_text = |error: Option<&String>| error.map_or_else(|| "ok".to_owned(), Clone::clone);
    let body = json!({
        "status": if status == StatusCode::OK { "ok" } else { "not ready" },
        "ledger": status_text(ledger.as_ref().err()), "lake": status_text(lake.as_ref().err()), "tables": lake.ok(),
    });
    (status, Json(body)).into_response()
}

async fn metrics_text(State(server): Shared) -> Result<Response, HttpError> {
    let text = metrics::text(&server).await?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// A list of rows of `system.runs`, of all jobs or of one.
async fn runs(State(server): Shared, parameters: Parameters) -> Result<Json<Value>, HttpError> {
    let job = match parameters.get("job") {
        Some(written) => Some(known_job(&server, written)?),
        None => None,
    };
    list("runs", &system::RUNS, &server, &parameters, job.as_deref())
}

/// A run with its rows of `system.transfers`, `system.events` and `system.logs`.
async fn run(State(server): Shared, Path(id): Path<String>) -> Result<Json<Value>, HttpError> {
    let ledger = &server.warehouse.ledger;
    let Some(run) = ledger.run(&id)? else {
        return Err(HttpError(StatusCode::NOT_FOUND, format!("there is no run {id}")));
    };
    let tables: Vec<Value> = ledger.run_tables(&id)?.iter().map(|row| system::TRANSFERS.json(&row.table)).collect();
    let events: Vec<Value> = ledger.run_events(&id)?.iter().map(|row| system::EVENTS.json(row)).collect();
    let log = system::LOGS.select(ledger, &Selection { limit: LOG_LINES, only: Some(&id) })?;
    Ok(Json(json!({"run": system::RUNS.json(&run), "tables": tables, "events": events, "log": log})))
}

async fn events(State(server): Shared, parameters: Parameters) -> Result<Json<Value>, HttpError> {
    let name = parameters.get("name").cloned();
    list("events", &system::EVENTS, &server, &parameters, name.as_deref())
}

async fn queue(State(server): Shared, parameters: Parameters) -> Result<Json<Value>, HttpError> {
    let state = parameters.get("state").cloned();
    if let Some(state) = state.as_deref().filter(|state| !system::QUEUE_STATES.contains(state)) {
        let known = system::QUEUE_STATES.join(", ");
        return Err(HttpError(StatusCode::BAD_REQUEST, format!("there is no state {state:?}; the states are {known}")));
    }
    list("queue", &system::QUEUE, &server, &parameters, state.as_deref())
}

async fn schedules(State(server): Shared, parameters: Parameters) -> Result<Json<Value>, HttpError> {
    list("schedules", &system::SCHEDULES, &server, &parameters, None)
}

/// The full name of a job of the configuration, or of one that it had once: its runs are still in the ledger.
fn known_job(server: &ServerState, written: &str) -> Result<String, HttpError> {
    match server.warehouse.job_with_runs(written) {
        Ok(name) => Ok(name),
        Err(error) => Err(HttpError(StatusCode::NOT_FOUND, base::chain(error.as_ref()))),
    }
}

/// The selected rows of a system table under one key.
fn list<T>(
    key: &str,
    table: &SystemTable<T>,
    server: &ServerState,
    parameters: &HashMap<String, String>,
    only: Option<&str>,
) -> Result<Json<Value>, HttpError> {
    let selection = Selection { limit: limit_of(parameters)?, only };
    Ok(Json(json!({key: table.select(&server.warehouse.ledger, &selection)?})))
}

async fn tables(State(server): Shared) -> Result<Response, HttpError> {
    let system = Arc::new(LedgerTables::of(&server.warehouse.ledger));
    let session = Session::new(server.lake.clone(), system, None)?;
    let rows = session.run("SELECT * FROM system.tables ORDER BY 1, 2").await?;
    let mut body = br#"{"tables":"#.to_vec();
    output::write(rows, Format::Json, &mut body, u64::MAX).await?;
    body.push(b'}');
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

fn limit_of(parameters: &HashMap<String, String>) -> Result<usize, HttpError> {
    let Some(text) = parameters.get("limit") else { return Ok(LIMIT) };
    match text.parse() {
        Ok(limit) if limit <= LIMIT_MAX => Ok(limit),
        _ => Err(HttpError(
            StatusCode::BAD_REQUEST,
            format!("limit must be a whole number up to {LIMIT_MAX}, not {text:?}"),
        )),
    }
}

/// An error as a status and a JSON body with the key `error`.
pub struct HttpError(StatusCode, String);

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

impl<E: Into<anyhow::Error>> From<E> for HttpError {
    fn from(error: E) -> HttpError {
        let error = error.into();
        let text = base::chain(error.as_ref());
        tracing::warn!(error = text, "an HTTP request failed");
        HttpError(StatusCode::INTERNAL_SERVER_ERROR, text)
    }
}
