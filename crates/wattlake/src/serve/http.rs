//! What operators and their tools ask by HTTP: is it well, how is it going, what has run. All of
//! it reads; nothing can be changed from here.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use sql::Session;
use sql::output::{self, Format};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Served, metrics};
use crate::report;
use crate::system::LedgerTables;

const LIMIT: usize = 100;
const LIMIT_MAX: usize = 10_000;
const LOG_LINES: usize = 1_000;

type Shared = State<Arc<Served>>;

pub async fn serve(served: Arc<Served>, listener: TcpListener, stop: CancellationToken) -> Result<()> {
    let router = Router::new()
        .route("/", get(index))
        .route("/health/live", get(|| async { Json(json!({"status": "ok"})) }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(shown))
        .route("/api/runs", get(runs))
        .route("/api/runs/{id}", get(run))
        .route("/api/events", get(events))
        .route("/api/queue", get(queue))
        .route("/api/schedules", get(schedules))
        .route("/api/tables", get(tables))
        .fallback(|| async {
            (StatusCode::NOT_FOUND, Json(json!({"error": "there is nothing here; / lists what there is"})))
        })
        .with_state(served);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await.context("serve HTTP")
}

async fn index() -> Json<Value> {
    Json(json!({"paths": [
        "/health/live", "/health/ready", "/metrics", "/api/runs?job=&limit=", "/api/runs/{id}", "/api/events?name=&limit=",
        "/api/queue?state=&limit=", "/api/schedules", "/api/tables",
    ]}))
}

/// Ready: the ledger answers and the lake can be listed.
async fn ready(State(served): Shared) -> Response {
    let ledger = served.warehouse.ledger.schedules().map(drop).map_err(|error| report::chain(&error));
    let lake = served.lake.tables().await.map(|tables| tables.len()).map_err(|error| report::chain(&error));
    let status = if ledger.is_ok() && lake.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let said = |error: Option<&String>| error.map_or_else(|| "ok".to_owned(), Clone::clone);
    let body = json!({
        "status": if status == StatusCode::OK { "ok" } else { "not ready" },
        "ledger": said(ledger.as_ref().err()), "lake": said(lake.as_ref().err()), "tables": lake.ok(),
    });
    (status, Json(body)).into_response()
}

async fn shown(State(served): Shared) -> Result<Response, Failed> {
    let text = metrics::text(&served).await?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

async fn runs(State(served): Shared, Query(asked): Query<HashMap<String, String>>) -> Result<Json<Value>, Failed> {
    let limit = limit_of(&asked)?;
    let runs = served.warehouse.ledger.runs(limit, asked.get("job").map(String::as_str))?;
    Ok(Json(json!({"runs": runs})))
}

async fn run(State(served): Shared, Path(id): Path<String>) -> Result<Json<Value>, Failed> {
    let ledger = &served.warehouse.ledger;
    let Some(run) = ledger.run(&id)? else {
        return Err(Failed(StatusCode::NOT_FOUND, format!("there is no run {id}")));
    };
    let (tables, events, log) = (ledger.run_tables(&id)?, ledger.run_events(&id)?, ledger.logs(&id, LOG_LINES)?);
    Ok(Json(json!({"run": run, "tables": tables, "events": events, "log": log})))
}

async fn events(State(served): Shared, Query(asked): Query<HashMap<String, String>>) -> Result<Json<Value>, Failed> {
    let limit = limit_of(&asked)?;
    let events = served.warehouse.ledger.events(limit, asked.get("name").map(String::as_str))?;
    Ok(Json(json!({"events": events})))
}

async fn queue(State(served): Shared, Query(asked): Query<HashMap<String, String>>) -> Result<Json<Value>, Failed> {
    let limit = limit_of(&asked)?;
    let queue = served.warehouse.ledger.queue(limit, asked.get("state").map(String::as_str))?;
    Ok(Json(json!({"queue": queue})))
}

async fn schedules(State(served): Shared) -> Result<Json<Value>, Failed> {
    Ok(Json(json!({"schedules": served.warehouse.ledger.schedules()?})))
}

async fn tables(State(served): Shared) -> Result<Response, Failed> {
    let system = Arc::new(LedgerTables::of(&served.warehouse.ledger));
    let session = Session::new(served.lake.clone(), system, None)?;
    let rows = session.run("SELECT * FROM system.tables ORDER BY 1, 2").await?;
    let mut body = br#"{"tables":"#.to_vec();
    output::write(rows, Format::Json, &mut body, u64::MAX).await?;
    body.push(b'}');
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

fn limit_of(asked: &HashMap<String, String>) -> Result<usize, Failed> {
    let Some(text) = asked.get("limit") else { return Ok(LIMIT) };
    match text.parse() {
        Ok(limit) if limit <= LIMIT_MAX => Ok(limit),
        _ => Err(Failed(StatusCode::BAD_REQUEST, format!("limit is a number up to {LIMIT_MAX}, not {text:?}"))),
    }
}

pub struct Failed(StatusCode, String);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Failed {
        let error = error.into();
        let told = report::chain(error.as_ref());
        tracing::warn!(error = told, "a request by HTTP failed");
        Failed(StatusCode::INTERNAL_SERVER_ERROR, told)
    }
}
