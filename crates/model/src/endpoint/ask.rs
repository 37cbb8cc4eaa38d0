//! Requests of the warehouse's own jobs.

use base::{Error, Result};
use bytes::Bytes;
use ledger::EndpointState;

use super::Endpoints;
use super::settings::InvokeError;
use crate::serving::{Invocation, Prediction, ServingError};

/// A request for an endpoint.
#[derive(Debug, Clone)]
pub struct EndpointRequest {
    /// What the model is to answer.
    pub body: Bytes,
    /// The type of the body.
    pub content_type: Option<String>,
    /// The type of the answer.
    pub accept: Option<String>,
}

/// The answer of an endpoint.
#[derive(Debug, Clone)]
pub struct EndpointAnswer {
    /// The predictions.
    pub body: Bytes,
    /// The type of the body.
    pub content_type: String,
    /// The variant that made them.
    pub variant: String,
}

impl Endpoints {
    /// Asks an endpoint that this process serves.
    ///
    /// # Errors
    /// There is no such endpoint in service, or its model does not answer.
    pub async fn ask(&self, endpoint: &str, request: EndpointRequest) -> Result<EndpointAnswer> {
        answer(endpoint, self.invoke(endpoint, None, invocation(request)).await)
    }

    /// Asks an endpoint that no process serves: what it needs is started for this request alone.
    ///
    /// # Errors
    /// As [`Endpoints::ask`].
    pub async fn ask_alone(&self, endpoint: &str, request: EndpointRequest) -> Result<EndpointAnswer> {
        let row = self.ledger().endpoint(endpoint)?;
        let served = row.filter(|row| !matches!(row.state, EndpointState::Failed | EndpointState::Deleting));
        let Some(row) = served else { return answer(endpoint, Err(InvokeError::UnknownEndpoint)) };
        let deployment = self.deployment(endpoint, &row.config, &row.weights)?;
        let answered = deployment.invoke(None, invocation(request)).await;
        deployment.end().await;
        answer(endpoint, answered)
    }
}

fn invocation(request: EndpointRequest) -> Invocation {
    let EndpointRequest { body, content_type, accept } = request;
    Invocation { body, content_type, accept, ..Invocation::default() }
}

fn answer(endpoint: &str, answered: Result<(Prediction, String), InvokeError>) -> Result<EndpointAnswer> {
    let error = match answered {
        Ok((Prediction { body, content_type, .. }, variant)) => {
            return Ok(EndpointAnswer { body, content_type, variant });
        }
        Err(error) => error,
    };
    let context = |what: &str| format!("ask endpoint {endpoint}: {what}");
    Err(match error {
        InvokeError::UnknownEndpoint => {
            let error = Error::setup(context("there is no such endpoint in service"));
            error.hint(format!(
                "promote a version of its model, declare it in endpoints/{endpoint}.toml, and run wattlake endpoint apply {endpoint}"
            ))
        }
        InvokeError::NotInService(state) => Error::retry(context(&format!("its state is {}", state.name()))),
        InvokeError::UnknownVariant => Error::bug(context("it has no variant")),
        InvokeError::Serving(ServingError::Model { status: 0, message }) => Error::retry(context(&message)),
        InvokeError::Serving(ServingError::Model { status, message }) => {
            let error = Error::input(context(&format!("the model answered with status {status}: {}", message.trim())));
            error.hint(format!("wattlake endpoint logs {endpoint} shows what it printed"))
        }
        InvokeError::Serving(ServingError::NotReady(message)) => Error::retry(context(&message)),
        InvokeError::Serving(ServingError::Failed(message)) => Error::setup(context(&message)),
        InvokeError::Serving(ServingError::Overloaded) => Error::retry(context("too many requests wait for the model")),
    })
}
