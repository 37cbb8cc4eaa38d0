//! Runs functions: the Runtime API that each sandbox sees, the instances, and the pools that start, reuse and
//! limit them.

mod body;
mod figures;
mod files;
mod instance;
mod journal;
mod logs;
mod pool;
mod runtime;

mod fleet;

use std::any::Any;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::store::Digest;
use sandbox::Limits;

pub use figures::FunctionFigures;
pub use files::{EventFiles, Input, ResultFile};
pub use fleet::{ConcurrencyLimit, Execution, Fleet, FleetSettings, LakeServices, Maintenance, Refusal, ServiceFn};
pub use instance::Instance;
pub use journal::{Journal, JournalLine};
pub use logs::{Line, Sink};
pub(crate) use pool::arn;
pub use pool::{Pool, PoolSettings};
pub use runtime::RESPONSE_BYTES_MAX;

/// One version of a function, with everything that its instances are started from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Function {
    /// The function's name.
    pub name: String,
    /// `$LATEST`, or a number.
    pub version: String,
    /// What the runtime calls, in the runtime's own notation.
    pub handler: String,
    /// The zip of its code.
    pub code: Digest,
    /// The zips of its layers. Where two have the same file, the later layer counts.
    pub layers: Vec<Digest>,
    /// Its own variables, filled in.
    pub environment: BTreeMap<String, String>,
    /// How long one event may take.
    pub timeout: Duration,
    /// Limits of each instance.
    pub limits: Limits,
    /// A folder whose programs and libraries replace this machine's `/usr`.
    pub base: Option<PathBuf>,
    /// Its `/inputs` and `/results`, if it has them.
    pub files: Option<crate::definition::FileSettings>,
}

/// An event for a function.
#[derive(Debug, Clone, Default)]
pub struct Event {
    /// A UUID that names the invocation in logs and answers.
    pub request_id: String,
    /// JSON.
    pub payload: Bytes,
    /// JSON that the client sent beside the payload.
    pub client_context: Option<String>,
    /// Files for a function whose `[files]` allows them.
    pub files: Option<EventFiles>,
    /// The version, alias or `$LATEST` that the caller has named; `None` where it has named the function alone.
    pub qualifier: Option<String>,
}

/// Takes a response piece by piece. While the channel is full the function waits.
pub type Pieces = tokio::sync::mpsc::Sender<Bytes>;

/// A service on a port of a function's own loopback interface, such as the lake's SQL.
#[derive(Clone)]
pub struct LoopbackService {
    /// The TCP port.
    pub port: u16,
    /// Variables that tell the function how to connect.
    pub environment: BTreeMap<String, String>,
    /// Called within the Tokio runtime for each instance. What it returns is dropped with the instance.
    pub serve: Arc<dyn Fn(TcpListener) -> Box<dyn Any + Send + Sync> + Send + Sync>,
}

/// The outcome of an event.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The function's response or error.
    pub answer: Answer,
    /// The last 4 KB that the function printed while it ran.
    pub log_tail: String,
    /// How long the event ran, without a cold start.
    pub duration: Duration,
    /// How long the cold start took; `None` where the instance was warm.
    pub init: Option<Duration>,
    /// The instance's largest memory use so far; `None` without a control group.
    pub memory_peak_bytes: Option<u64>,
    /// The files in the results folder that the event named.
    pub results: Vec<ResultFile>,
}

/// The outcome of an event that never ran.
impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Outcome {
        let log_tail = String::new();
        let (duration, results) = (Duration::ZERO, Vec::new());
        Outcome { answer, log_tail, duration, init: None, memory_peak_bytes: None, results }
    }
}

/// A function's answer to an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It succeeded. Empty where the response was sent in pieces.
    Response(Bytes),
    /// It reported an error, ended, or exceeded its timeout.
    Error(Failure),
}

/// An error of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Such as `Runtime.ExitError`.
    pub error_type: String,
    /// JSON: `{"errorType": .., "errorMessage": ..}` and whatever else the runtime sent.
    pub body: Bytes,
}

impl Failure {
    /// A failure with this type and message.
    fn with_message(error_type: &str, message: &str) -> Failure {
        let body = serde_json::json!({"errorType": error_type, "errorMessage": message});
        Failure { error_type: error_type.to_owned(), body: body.to_string().into() }
    }

    /// A failure whose message has AWS Lambda's form: `RequestId: .. Error: ..`.
    pub(crate) fn of(error_type: &str, request_id: &str, what: &str) -> Failure {
        Failure::with_message(error_type, &format!("RequestId: {request_id} Error: {what}"))
    }
}
