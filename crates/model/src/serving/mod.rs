//! How a variant of an endpoint answers: in this process, or by a process in a sandbox.

mod csv_rows;
mod formats;
mod json_rows;
mod native;
mod process;
mod rows;

use std::sync::Arc;

use bytes::Bytes;

pub(crate) use native::{NativeServer, load};
pub(crate) use process::{ProcessServer, ProcessServerSettings};

/// Takes each line that a model prints, with the name of its variant.
pub type OutputSink = Arc<dyn Fn(&str, String) + Send + Sync>;

/// A request for a model, as InvokeEndpoint has it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Invocation {
    pub body: Bytes,
    pub content_type: Option<String>,
    pub accept: Option<String>,
    pub custom_attributes: Option<String>,
    pub inference_id: Option<String>,
}

/// The answer of a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prediction {
    pub body: Bytes,
    pub content_type: String,
    pub custom_attributes: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServingError {
    /// The model has answered with an error, or not at all.
    Model {
        /// The status of its answer; 0 where there was none.
        status: u16,
        /// Its answer, or what happened.
        message: String,
    },
    /// The model did not start in time.
    NotReady(String),
    /// Too many requests wait already.
    Overloaded,
    /// It could not be started.
    Failed(String),
}

impl ServingError {
    /// An error that a program would have answered with.
    pub fn answered(status: u16, message: impl Into<String>) -> ServingError {
        ServingError::Model { status, message: message.into() }
    }
}
