//! What endpoints are served with, and why a request may have no answer.

use std::path::PathBuf;
use std::sync::Arc;

use ledger::EndpointState;
use sandbox::Launcher;

use crate::resources::Resources;
use crate::serving::{OutputSink, ServingError};

/// What endpoints are served with.
pub struct EndpointsSettings {
    /// What is served.
    pub resources: Resources,
    /// Starts the sandboxes.
    pub launcher: Arc<Launcher>,
    /// An existing folder for mount points.
    pub roots: PathBuf,
    /// The first user id of processes, where the host is root; each name of an endpoint has one of the following.
    pub users_from: Option<u32>,
    /// Takes each line that a model prints, with the name of its variant.
    pub output: OutputSink,
}

/// Why a request has no prediction.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum InvokeError {
    /// There is no such endpoint.
    UnknownEndpoint,
    /// It is there, but does not answer: it is created, or has failed.
    NotInService(EndpointState),
    /// It has no variant of that name.
    UnknownVariant,
    /// Its model.
    Serving(ServingError),
}
