//! SageMaker's APIs over HTTP: the runtime, which asks endpoints, and the control plane, which creates them. Both are on
//! one address: their paths differ.
//!
//! <https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html>

mod body;
mod control;
mod error;
mod operations;
mod page;
mod request;
mod runtime;
mod trainings;

use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use gateway::{AccessControl, Body, BodyError, RequestLog, RequestNote, Service};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request, Response};

use error::ApiError;

use super::endpoint::Endpoints;

/// The largest request, as SageMaker's for endpoints.
pub const REQUEST_BYTES_MAX: usize = 25 << 20;
/// SageMaker's APIs over the endpoints of a warehouse. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    endpoints: Endpoints,
    access: AccessControl,
    requests: RequestLog,
    start_training: TrainingStarter,
}

/// Lets a training job run that was created, by its name. It does not wait for the job.
pub type TrainingStarter = Arc<dyn Fn(&str) -> base::Result<()> + Send + Sync>;

impl Api {
    /// The APIs over `endpoints`, which someone has to run. Requests are counted in `requests`.
    pub fn new(
        endpoints: Endpoints,
        access: AccessControl,
        requests: RequestLog,
        start_training: TrainingStarter,
    ) -> Api {
        Api { endpoints, access, requests, start_training }
    }

    async fn route(&self, request: Request<Incoming>, note: &mut RequestNote) -> Result<Response<Body>, ApiError> {
        let (head, body) = request.into_parts();
        let is_runtime = head.uri.path().starts_with(runtime::PREFIX);
        let answered = async {
            self.access.check_head(&head).map_err(ApiError::denied)?;
            let body = gateway::read_body(body, REQUEST_BYTES_MAX).await.map_err(|error| match error {
                BodyError::TooLarge => {
                    ApiError::validation(format!("the request has more than {REQUEST_BYTES_MAX} bytes")).status(413)
                }
                BodyError::Interrupted => ApiError::validation("the request was interrupted before its end"),
            })?;
            let caller = self.access.authenticate(&head, &body, Utc::now()).map_err(ApiError::denied)?;
            caller.name().clone_into(&mut note.key);
            match (&head.method, head.uri.path()) {
                (&Method::POST, path) if is_runtime => {
                    runtime::answer(self, &caller, path, &head.headers, body, note).await
                }
                (&Method::POST, "/") => control::answer(self, &caller, &head.headers, body, note).await,
                _ => Err(ApiError::unknown_operation(head.uri.path())),
            }
        };
        answered.await.map_err(|error: ApiError| error.in_runtime(is_runtime))
    }
}

impl Service for Api {
    const NAME: &'static str = "SageMaker API";

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (began, mut note) = (Instant::now(), RequestNote::default());
        let mut response = self.route(request, &mut note).await.unwrap_or_else(ApiError::into_response);
        let error = response.headers().get("x-amzn-errortype").and_then(|error| error.to_str().ok());
        self.requests.add(Utc::now(), note, response.status().as_u16(), error.unwrap_or_default(), began.elapsed());
        let id = uuid::Uuid::now_v7().to_string();
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(HeaderName::from_static("x-amzn-requestid"), id);
        }
        response
    }

    fn busy(&self) -> usize {
        self.endpoints.busy()
    }
}
