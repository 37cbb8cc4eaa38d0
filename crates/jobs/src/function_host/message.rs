//! What the server's host and other processes of the warehouse send each other: HTTP with JSON on a Unix socket.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use function::host::{
    Answer, ConcurrencyLimit, Event, EventFiles, Execution, Failure, Input, Outcome, Refusal, ResultFile,
};
use function::registry::Registry;
use serde::{Deserialize, Serialize};

/// The only path of the socket.
pub const PATH: &str = "/invoke";
/// The program's version: a host takes events of its own version alone, so that messages need no compatibility.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// An event to run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    pub version: String,
    pub function: String,
    pub qualifier: String,
    request_id: String,
    payload: Base64,
    client_context: Option<String>,
    files: Option<RequestFiles>,
}

/// The files of an event, by their paths on this machine.
#[derive(Debug, Serialize, Deserialize)]
struct RequestFiles {
    /// Names and paths.
    inputs: Vec<(String, PathBuf)>,
    /// The folder to create for the results.
    results: Option<PathBuf>,
}

/// The outcome of an event, or why it was not run.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    Executed(Box<Executed>),
    /// The program of the host has this other version.
    OtherVersion(String),
    Unknown,
    Busy {
        of_function: bool,
    },
    Failed {
        kind: ErrorKind,
        text: String,
        hint: Option<String>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Executed {
    /// The number of the version that ran it.
    version: i64,
    /// The response, or the error's type and body.
    answer: Result<Base64, (String, Base64)>,
    log_tail: String,
    duration: Duration,
    init: Option<Duration>,
    memory_peak_bytes: Option<u64>,
    results: Vec<(String, u64)>,
}

/// [`base::Kind`], to be sent.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(remote = "base::Kind")]
enum KindDefinition {
    Retry,
    FixInput,
    FixSetup,
    Bug,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ErrorKind(#[serde(with = "KindDefinition")] base::Kind);

/// Bytes as base64 in JSON.
#[derive(Debug)]
struct Base64(Bytes);

impl Serialize for Base64 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Base64, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map(|bytes| Base64(bytes.into())).map_err(serde::de::Error::custom)
    }
}

impl Request {
    pub fn new(function: &str, qualifier: &str, event: &Event) -> Request {
        let files = event.files.as_ref().map(|files| {
            let inputs = files.inputs.iter().map(|input| (input.name.clone(), input.path.clone())).collect();
            RequestFiles { inputs, results: files.results.clone() }
        });
        Request {
            version: VERSION.to_owned(),
            function: function.to_owned(),
            qualifier: qualifier.to_owned(),
            request_id: event.request_id.clone(),
            payload: Base64(event.payload.clone()),
            client_context: event.client_context.clone(),
            files,
        }
    }

    pub fn into_event(self) -> Event {
        let files = self.files.map(|RequestFiles { inputs, results }| {
            let inputs = inputs.into_iter().map(|(name, path)| Input { name, path }).collect();
            EventFiles { inputs, results }
        });
        let (request_id, payload, client_context) = (self.request_id, self.payload.0, self.client_context);
        Event { request_id, payload, client_context, files, ..Event::default() }
    }
}

impl From<Result<Execution, Refusal>> for Reply {
    fn from(result: Result<Execution, Refusal>) -> Reply {
        let execution = match result {
            Ok(execution) => execution,
            Err(Refusal::Unknown) => return Reply::Unknown,
            Err(Refusal::Busy(limit)) => return Reply::Busy { of_function: limit == ConcurrencyLimit::Function },
            Err(Refusal::Failed(error)) => {
                let (kind, hint) = (ErrorKind(error.kind), error.hint.clone());
                return Reply::Failed { kind, text: error.chain(), hint };
            }
        };
        let outcome = execution.outcome;
        Reply::Executed(Box::new(Executed {
            version: execution.function_version.version,
            answer: match outcome.answer {
                Answer::Response(body) => Ok(Base64(body)),
                Answer::Error(failure) => Err((failure.error_type, Base64(failure.body))),
            },
            log_tail: outcome.log_tail,
            duration: outcome.duration,
            init: outcome.init,
            memory_peak_bytes: outcome.memory_peak_bytes,
            results: outcome.results.into_iter().map(|file| (file.name, file.bytes)).collect(),
        }))
    }
}

impl Executed {
    /// The execution, with the version as the registry has it.
    pub fn into_execution(self, registry: &Registry, function: &str) -> Result<Execution> {
        let found = registry.find(function, &self.version.to_string())?;
        let function_version = found.with_context(|| format!("find version {} of {function}", self.version))?.into();
        let answer = match self.answer {
            Ok(body) => Answer::Response(body.0),
            Err((error_type, body)) => Answer::Error(Failure { error_type, body: body.0 }),
        };
        let outcome = Outcome {
            answer,
            log_tail: self.log_tail,
            duration: self.duration,
            init: self.init,
            memory_peak_bytes: self.memory_peak_bytes,
            results: self.results.into_iter().map(|(name, bytes)| ResultFile { name, bytes }).collect(),
        };
        Ok(Execution { outcome, function_version })
    }
}

/// The refusal of [`Reply::Failed`].
pub fn failed(kind: ErrorKind, text: String, hint: Option<String>) -> Refusal {
    let error = base::Error::new(kind.0, text);
    Refusal::Failed(match hint {
        Some(hint) => error.hint(hint),
        None => error,
    })
}

/// The refusal of [`Reply::Busy`].
pub fn busy(of_function: bool) -> Refusal {
    Refusal::Busy(if of_function { ConcurrencyLimit::Function } else { ConcurrencyLimit::Host })
}
