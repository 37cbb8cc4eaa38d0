//! InvokeWithResponseStream: sends a response as it arrives, in frames of `application/vnd.amazon.eventstream`. The
//! head is sent with the first piece, so that an error before it is still an HTTP error.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue as Value, Message};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gateway::Body;
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use hyper::Response;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::json;
use tokio::sync::mpsc;

use super::address::Address;
use super::reply::{self, ApiError};
use super::{Api, REQUEST_BYTES_MAX, event, header};
use crate::host::{Answer, Execution, Refusal};

/// How many pieces are buffered. A function that is faster than its caller waits.
const PIECES_MAX: usize = 16;

impl Api {
    /// Runs an event and streams its response.
    pub(super) async fn stream(
        &self,
        address: &Address,
        headers: &HeaderMap,
        body: Bytes,
        request_id: &str,
    ) -> Result<Response<Body>, ApiError> {
        let event = event(headers, body, REQUEST_BYTES_MAX, request_id)?;
        let found = self.find(address)?;
        match header(headers, "x-amz-invocation-type").unwrap_or("RequestResponse") {
            "RequestResponse" => {}
            "DryRun" => return Ok(reply::empty(StatusCode::NO_CONTENT)),
            other => {
                let says = format!("invocation type {other:?}: expected RequestResponse or DryRun");
                return Err(ApiError::parameter(&says));
            }
        }
        let tail = header(headers, "x-amz-log-type") == Some("Tail");
        let (pieces, mut coming) = mpsc::channel(PIECES_MAX);
        let (fleet, at) = (self.fleet.clone(), address.clone());
        let running = tokio::spawn(async move { fleet.invoke(&at.name, &at.qualifier, event, Some(pieces)).await });
        let first = coming.recv().await;
        let (mut to, body) = Channel::new(PIECES_MAX);
        if let Some(first) = first {
            let (api, address, request_id) = (self.clone(), address.clone(), request_id.to_owned());
            tokio::spawn(async move {
                let mut next = Some(first);
                while let Some(piece) = next {
                    send(&mut to, piece_frame(piece)).await;
                    next = coming.recv().await;
                }
                let ran = ended(running.await, &api, &address, &request_id);
                let last = ran.map_or_else(|refused| refused_frame(&refused), |ran| last_frame(&ran, tail));
                send(&mut to, last).await;
            });
        } else {
            let ran = ended(running.await, self, address, request_id)?;
            tokio::spawn(async move { send(&mut to, last_frame(&ran, tail)).await });
        }
        let mut response = Response::new(body.boxed());
        let events = HeaderValue::from_static("application/vnd.amazon.eventstream");
        response.headers_mut().insert(CONTENT_TYPE, events);
        let content = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert("x-amzn-remapped-content-type", content);
        reply::set_executed_version(&mut response, &found.shown);
        Ok(response)
    }
}

/// The result of the task that runs the event.
type TaskResult = Result<Result<Execution, Refusal>, tokio::task::JoinError>;

fn ended(running: TaskResult, api: &Api, address: &Address, request_id: &str) -> Result<Execution, ApiError> {
    let ran = running.map_err(|error| ApiError::service(&error.to_string()))?;
    ran.or_else(|refusal| api.refused(refusal, address, request_id))
}

/// Sends a frame. Where the caller has disconnected, the function still runs to its end.
async fn send(to: &mut Sender<Bytes>, frame: Bytes) {
    let _ = to.send_data(frame).await;
}

fn piece_frame(piece: Bytes) -> Bytes {
    frame("PayloadChunk", "application/octet-stream", piece)
}

fn last_frame(ran: &Execution, tail: bool) -> Bytes {
    let mut complete = json!({});
    if let Answer::Error(failure) = &ran.outcome.answer {
        complete["ErrorCode"] = json!(failure.error_type);
        complete["ErrorDetails"] = json!(String::from_utf8_lossy(&failure.body));
    }
    if tail {
        complete["LogResult"] = json!(STANDARD.encode(&ran.outcome.log_tail));
    }
    frame("InvokeComplete", "application/json", complete.to_string().into())
}

fn refused_frame(refused: &ApiError) -> Bytes {
    let complete = json!({"ErrorCode": refused.error_type(), "ErrorDetails": refused.message()});
    frame("InvokeComplete", "application/json", complete.to_string().into())
}

fn frame(event: &'static str, content: &'static str, payload: Bytes) -> Bytes {
    let text = |value: &'static str| Value::String(value.into());
    let message = Message::new(payload)
        .add_header(Header::new(":message-type", text("event")))
        .add_header(Header::new(":event-type", text(event)))
        .add_header(Header::new(":content-type", text(content)));
    let mut frame = Vec::new();
    if let Err(error) = write_message_to(&message, &mut frame) {
        tracing::error!(%error, "write a frame of an event stream");
    }
    frame.into()
}
