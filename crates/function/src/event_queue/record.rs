//! The record of an asynchronous event's end: AWS Lambda's invocation record, version 1.0.

use chrono::{SecondsFormat, Utc};
use ledger::{ClaimedInvocation, FollowUp, Invocation};
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
                payload: self.bounded(EVENT_BYTES_MAX).to_string().into_bytes(),
                client_context: None,
                cause: format!("{key} of {}, request {}", event.function, event.request_id),
                depth: event.depth + 1,
            }),
            Destination::Event(name) => {
                FollowUp::Event { name: name.clone(), fields: self.bounded(LEDGER_EVENT_BYTES_MAX) }
            }
            Destination::Folder(folder) => FollowUp::File {
                folder: folder.to_string_lossy().into_owned(),
                name: format!("{}-{}.json", self.taken.created_at.format("%Y%m%dT%H%M%SZ"), event.request_id),
                body: self.whole().to_string().into_bytes(),
            },
        })
    }

    fn whole(&self) -> Value {
        let event = &self.taken.invocation;
        let condition = match self.condition {
            Condition::Success => "Success",
            Condition::RetriesExhausted => "RetriesExhausted",
            Condition::EventAgeExceeded => "EventAgeExceeded",
        };
        let arn = arn(&event.function, LATEST);
        let mut record = json!({
            "version": "1.0",
            "timestamp": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            "requestContext": {
                "requestId": event.request_id,
                "functionArn": format!("{arn}:{}", event.qualifier),
                "condition": condition,
                "approximateInvokeCount": self.taken.attempts,
            },
            "requestPayload": value(&event.payload),
        });
        if let Some(ran) = self.ran {
            let mut context = json!({"statusCode": 200, "executedVersion": ran.function_version.shown});
            record["responsePayload"] = match &ran.outcome.answer {
                Answer::Response(body) => value(body),
                Answer::Error(failure) => {
                    context["functionError"] = json!("Unhandled");
                    value(&failure.body)
                }
            };
            record["responseContext"] = context;
        }
        record
    }

    /// The record, without payloads that are too large for its destination: their sizes are in it instead.
    fn bounded(&self, bytes_max: usize) -> Value {
        let mut record = self.whole();
        for key in ["responsePayload", "requestPayload"] {
            if record.to_string().len() > bytes_max {
                let bytes = record[key].to_string().len();
                record[key] = json!({"leftOut": format!("{bytes} bytes")});
            }
        }
        record
    }
}

/// A payload as JSON; what is not JSON becomes a text.
fn value(payload: &[u8]) -> Value {
    serde_json::from_slice(payload).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(payload)))
}
