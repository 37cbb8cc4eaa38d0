//! Functions that run: the Runtime API that each sandbox sees, the instances, the pool that
//! starts, reuses and bounds them.

mod body;
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

use crate::sandbox::Limits;
use crate::store::Digest;

pub use files::{Files, Input, Produced};
pub use fleet::{Busy, Fleet, Lake, Ran, Refusal, Rules, Serve, Tending};
pub use instance::Instance;
pub use journal::{Journal, Kept};
pub use logs::{Line, Sink};
pub(crate) use pool::arn;
pub use pool::{Pool, Settings};
pub use runtime::RESPONSE_BYTES_MAX;

/// One version of a function: all that makes it what it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Function {
    pub name: String,
    /// `$LATEST`, or a number.
    pub version: String,
    pub handler: String,
    pub code: Digest,
    /// In the order in which they are laid over one another.
    pub layers: Vec<Digest>,
    pub environment: BTreeMap<String, String>,
    pub timeout: Duration,
    pub limits: Limits,
    /// A root to stand on instead of this machine's `/usr`.
    pub base: Option<PathBuf>,
    /// Whether it has `/inputs` and `/results`.
    pub files: Option<crate::definition::Files>,
}

/// What is asked of a function.
#[derive(Debug, Clone, Default)]
pub struct Event {
    pub request_id: String,
    pub payload: Bytes,
    pub client_context: Option<String>,
    /// Of a function whose `[files]` allows it.
    pub files: Option<Files>,
}

/// A response on its way, piece by piece; the channel's bound holds the function back.
pub type Pieces = tokio::sync::mpsc::Sender<Bytes>;

/// A port on a function's own loopback that leads somewhere: to the lake's SQL, to its objects.
#[derive(Clone)]
pub struct Opening {
    pub port: u16,
    /// What tells the function of it.
    pub environment: BTreeMap<String, String>,
    /// Called within the runtime for each instance; what it returns is dropped with the instance.
    pub serve: Arc<dyn Fn(TcpListener) -> Box<dyn Any + Send + Sync> + Send + Sync>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub answer: Answer,
    /// The last 4 KB that it printed while it ran.
    pub log_tail: String,
    pub duration: Duration,
    /// Of a cold start.
    pub init: Option<Duration>,
    pub memory_peak_bytes: Option<u64>,
    /// Files in the folder that its event named.
    pub results: Vec<Produced>,
}

/// Of an event that no instance has seen.
impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Outcome {
        let log_tail = String::new();
        let (duration, results) = (Duration::ZERO, Vec::new());
        Outcome { answer, log_tail, duration, init: None, memory_peak_bytes: None, results }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Response(Bytes),
    /// The function said that it failed, or failed without a word; the body is what an SDK shows.
    Error(Failure),
}

/// `{"errorType": .., "errorMessage": ..}` and whatever else the runtime sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub error_type: String,
    pub body: Bytes,
}

impl Failure {
    /// In Lambda's own words: `RequestId: .. Error: ..`.
    pub(crate) fn of(error_type: &str, request_id: &str, what: &str) -> Failure {
        let message = format!("RequestId: {request_id} Error: {what}");
        let body = serde_json::json!({"errorType": error_type, "errorMessage": message});
        Failure { error_type: error_type.to_owned(), body: body.to_string().into() }
    }
}
