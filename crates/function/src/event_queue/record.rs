//! The record of an asynchronous event's end: AWS Lambda's invocation record, version 1.0.

use chrono::{SecondsFormat, Utc};
use ledger::{ClaimedInvocation, FollowUp, Invocation};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::EVENT_BYTES_MAX;
use crate::definition::Destination;
use crate::host::{Answer, Execution, arn};
use crate::registry::{FunctionVersion, LATEST};

/// The largest record in an event of the ledger, which people read and all jobs that follow it receive.
const LEDGER_EVENT_BYTES_MAX: usize = 256 * 1024;

/// Why a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// The event succeeded.
    Success,
    /// Its last attempt failed.
    RetriesExhausted,
    /// It became older than its function's `event_age_max`.
    EventAgeExceeded,
    /// Its function may not run: it has concurrency 0.
    ZeroReservedConcurrency,
}

/// What a record is made from.
pub(super) struct Record<'a> {
    /// The event.
    pub taken: &'a ClaimedInvocation,
    /// The function's version.
    pub found: &'a FunctionVersion,
    /// How the event ended.
    pub condition: Condition,
    /// The last run; `None` where the event was not run this time.
    pub ran: Option<&'a Execution>,
}

impl Record<'_> {
    /// What has to happen now according to the function's policy; `None` without a destination.
    pub fn follow(&self) -> Option<FollowUp> {
        let policy = &self.found.policy;
        let (key, destination) = match self.condition {
            Condition::Success => ("on_success", policy.on_success.as_ref()?),
            _ => ("on_failure", policy.on_failure.as_ref()?),
        };
        let event = &self.taken.invocation;
        Some(match destination {
            Destination::Function(name) => FollowUp::Invocation(Invocation {
                // A new id: each end of an event causes an event of its own.
                request_id: uuid::Uuid::now_v7().to_string(),
                function: name.clone(),
                qualifier: LATEST.to_owned(),
                payload: self.bounded(EVENT_BYTES_MAX).into_bytes(),
                client_context: None,
                cause: format!("{key} of {}, request {}", event.function, event.request_id),
                depth: event.depth + 1,
            }),
            Destination::Event(name) => {
                let fields = self.as_fields();
                FollowUp::Event { name: name.clone(), fields }
            }
            Destination::Folder(folder) => FollowUp::File {
                folder: folder.to_string_lossy().into_owned(),
                name: format!("{}-{}.json", self.taken.created_at.format("%Y%m%dT%H%M%SZ"), event.request_id),
                body: self.whole().text().into_bytes(),
            },
        })
    }

    fn whole(&self) -> InvocationRecord {
        let event = &self.taken.invocation;
        let condition = match self.condition {
            Condition::Success => "Success",
            Condition::RetriesExhausted => "RetriesExhausted",
            Condition::EventAgeExceeded => "EventAgeExceeded",
            Condition::ZeroReservedConcurrency => "ZeroReservedConcurrency",
        };
        let mut record = InvocationRecord {
            version: "1.0",
            timestamp: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            request_context: json!({
                "requestId": event.request_id,
                "functionArn": format!("{}:{}", arn(&event.function), event.qualifier),
                "condition": condition,
                "approximateInvokeCount": self.taken.attempts,
            }),
            request_payload: raw(&event.payload),
            response_context: None,
            response_payload: None,
        };
        if let Some(ran) = self.ran {
            let mut context = json!({"statusCode": 200, "executedVersion": ran.function_version.shown});
            record.response_payload = Some(match &ran.outcome.answer {
                Answer::Response(body) => raw(body),
                Answer::Error(failure) => {
                    context["functionError"] = json!("Unhandled");
                    raw(&failure.body)
                }
            });
            record.response_context = Some(context);
        }
        record
    }

    /// The record as the fields of an event. A payload that those can't have, such as one with the number 1e400, is a text
    /// in them.
    fn as_fields(&self) -> Value {
        serde_json::from_str(&self.bounded(LEDGER_EVENT_BYTES_MAX)).unwrap_or_else(|_| {
            let text = |payload: &RawValue| raw(Value::from(payload.get()).to_string().as_bytes());
            let mut record = self.whole();
            record.request_payload = text(&record.request_payload);
            record.response_payload = record.response_payload.map(|payload| text(&payload));
            serde_json::from_str(&record.within(LEDGER_EVENT_BYTES_MAX)).unwrap_or_default()
        })
    }

    /// The record, without payloads that are too large for its destination: their sizes are in it instead.
    fn bounded(&self, bytes_max: usize) -> String {
        self.whole().within(bytes_max)
    }
}

/// An invocation record. Payloads are in it as they came, digits of numbers included.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InvocationRecord {
    version: &'static str,
    timestamp: String,
    request_context: Value,
    request_payload: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_context: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_payload: Option<Box<RawValue>>,
}

impl InvocationRecord {
    fn within(mut self, bytes_max: usize) -> String {
        if self.text().len() > bytes_max {
            self.response_payload = self.response_payload.map(|payload| left_out(&payload));
        }
        if self.text().len() > bytes_max {
            self.request_payload = left_out(&self.request_payload);
        }
        self.text()
    }

    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn left_out(payload: &RawValue) -> Box<RawValue> {
    raw(json!({"leftOut": format!("{} bytes", payload.get().len())}).to_string().as_bytes())
}

/// A payload as JSON; what is not JSON becomes a text.
fn raw(payload: &[u8]) -> Box<RawValue> {
    let text = String::from_utf8_lossy(payload);
    let parsed = RawValue::from_string(text.clone().into_owned());
    parsed.or_else(|_| RawValue::from_string(Value::from(text).to_string())).unwrap_or_default()
}
