//! Models and endpoints with AWS SageMaker's interfaces: a model is a container and its artifact, an endpoint
//! configuration gives variants of models their weights, an endpoint answers by one configuration. The same clients and
//! the same containers' programs work here and on SageMaker.
//!
//! An endpoint that is idle has no process and no memory: a request starts it, and waits for its start.

pub mod api;
mod arn;
mod artifact;
mod container;
mod declared;
mod definition;
mod endpoint;
mod output_lines;
mod resources;
mod row_predictor;
mod serving;
pub mod template;
pub mod training;
mod user;

pub use artifact::{ArtifactStore, unpack_file};
pub use container::{Catalog, Container, ContainerDefinition, ContainerSettings, LIGHTGBM_IMAGE, ProcessContainer};
pub use declared::{Change, EndpointDefinition, Plan, VariantDefinition};
pub use definition::{EndpointConfig, Model, Variant, is_name};
pub use endpoint::{EndpointAnswer, EndpointRequest, Endpoints, EndpointsSettings, VariantFigures};
pub use resources::{
    APPROVED, PENDING_APPROVAL, REGISTRY_SCHEME, REJECTED, Resources, artifacts_in_use, content_in_use,
};
pub use row_predictor::RowPredictor;
pub use serving::OutputSink;
pub use user::{USERS, user_number};
