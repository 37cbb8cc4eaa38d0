//! The declarations of the system tables of models and endpoints.

use ledger::{ContentKind, EndpointRow, ModelVersionRow, NamedContent, RequestCount, TrainingRow};

use super::SystemTable;
use super::column::ColumnValue;
use super::tables::{column, some};
use ColumnValue::{Count, Instant, Integer, Json, Number, Text};

/// Training jobs.
pub static TRAINING_JOBS: SystemTable<TrainingRow> = SystemTable {
    name: "training_jobs",
    documentation: "A training job, the newest first.",
    filter: None,
    read: |from, selection| Ok(from.ledger.trainings(selection.limit)?),
    columns: &[
        column("name", "Its name.", Text(|r| some(&r.name))),
        column(
            "state",
            "`InProgress`, `Completed`, `Failed`, `Stopping` or `Stopped`, as SageMaker calls it.",
            Text(|r| Some(r.state.name().to_owned())),
        ),
        column("run_id", "The run that trains; its log has the program's output.", Text(|r| r.run_id.clone())),
        column("request", "What was asked for, in the form of CreateTrainingJob.", Json(|r| r.request.clone())),
        column(
            "lineage",
            "What it was trained from: hashes of code, layers and channels, hyperparameters, the instant.",
            Json(|r| r.lineage.clone()),
        ),
        column("metrics", "The last value of each metric.", Json(|r| r.metrics.clone())),
        column("artifact", "The hash of its artifact.", Text(|r| r.artifact.clone())),
        column("failure", "Why it failed.", Text(|r| r.failure.clone())),
        column("created_at", "When it was created.", Instant(|r| Some(r.created_at))),
        column("started_at", "When its program was started.", Instant(|r| r.started_at)),
        column("ended_at", "When it ended.", Instant(|r| r.ended_at)),
        column(
            "seconds",
            "How long its program ran.",
            Number(|r| Some((r.ended_at? - r.started_at?).as_seconds_f64())),
        ),
    ],
};

/// The registry of models.
pub static MODEL_VERSIONS: SystemTable<ModelVersionRow> = SystemTable {
    name: "model_versions",
    documentation: "A version of a model in the registry.",
    filter: None,
    read: |from, selection| Ok(first(from.ledger.model_versions(None)?, selection.limit)),
    columns: &[
        column("model", "The model's name.", Text(|r| some(&r.model))),
        column("version", "Its number, from 1.", Integer(|r| Some(r.version))),
        column("aliases", "The aliases that point to it.", Json(|r| r.aliases.clone().into())),
        column(
            "approval",
            "`PendingManualApproval`, `Approved` or `Rejected`: only an approved version can be served.",
            Text(|r| some(&r.approval)),
        ),
        column("artifact", "The hash of its artifact.", Text(|r| some(&r.artifact))),
        column("training_job", "The training job that made it.", Text(|r| r.training_job.clone())),
        column("metrics", "The last value of each metric of its training.", Json(|r| r.metrics.clone())),
        column("image", "The image that serves it.", Text(|r| r.content["image"].as_str().map(str::to_owned))),
        column("lineage", "What it was trained from.", Json(|r| r.content["lineage"].clone())),
        column("created_at", "When it was registered.", Instant(|r| Some(r.created_at))),
    ],
};

/// Models that endpoints can serve.
pub static MODELS: SystemTable<NamedContent> = SystemTable {
    name: "models",
    documentation: "A model that endpoints can serve: a container and an artifact.",
    filter: None,
    read: |from, selection| Ok(first(from.ledger.contents(ContentKind::Model)?, selection.limit)),
    columns: &[
        column("name", "Its name.", Text(|r| some(&r.name))),
        column(
            "image",
            "The image of its container.",
            Text(|r| r.content.pointer("/request/PrimaryContainer/Image")?.as_str().map(str::to_owned)),
        ),
        column(
            "data_url",
            "The URL of its artifact, when it was created.",
            Text(|r| r.content.pointer("/request/PrimaryContainer/ModelDataUrl")?.as_str().map(str::to_owned)),
        ),
        column("artifact", "The hash of its artifact.", Text(|r| r.content["artifact"].as_str().map(str::to_owned))),
        column("created_at", "When it was created.", Instant(|r| Some(r.created_at))),
    ],
};

/// Endpoint configurations.
pub static ENDPOINT_CONFIGS: SystemTable<NamedContent> = SystemTable {
    name: "endpoint_configs",
    documentation: "An endpoint configuration: which models answer, each with its part of the requests.",
    filter: None,
    read: |from, selection| Ok(first(from.ledger.contents(ContentKind::EndpointConfig)?, selection.limit)),
    columns: &[
        column("name", "Its name.", Text(|r| some(&r.name))),
        column("variants", "Its variants with their models and weights.", Json(|r| r.content["variants"].clone())),
        column(
            "shadow_variants",
            "Variants that get copies of requests, and whose answers are dropped.",
            Json(|r| r.content["shadow_variants"].clone()),
        ),
        column("created_at", "When it was created.", Instant(|r| Some(r.created_at))),
    ],
};

/// Endpoints.
pub static ENDPOINTS: SystemTable<EndpointRow> = SystemTable {
    name: "endpoints",
    documentation: "An endpoint: a name that answers by the models of a configuration.",
    filter: None,
    read: |from, selection| Ok(first(from.ledger.endpoints()?, selection.limit)),
    columns: &[
        column("name", "Its name.", Text(|r| some(&r.name))),
        column(
            "state",
            "`Creating`, `Updating`, `InService`, `Failed` or `Deleting`, as SageMaker calls it.",
            Text(|r| Some(r.state.name().to_owned())),
        ),
        column("config", "The endpoint configuration that it serves.", Text(|r| some(&r.config))),
        column("pending_config", "During an update, the one that replaces it.", Text(|r| r.pending_config.clone())),
        column("weights", "Weights of its variants that were changed since.", Json(|r| r.weights.clone())),
        column(
            "failure",
            "Why it could not be created, or why its last update was undone.",
            Text(|r| r.failure.clone()),
        ),
        column("created_at", "When it was created.", Instant(|r| Some(r.created_at))),
        column("updated_at", "When it was changed last.", Instant(|r| Some(r.updated_at))),
    ],
};

/// Requests to the APIs of functions and models.
pub static REQUESTS: SystemTable<RequestCount> = SystemTable {
    name: "requests",
    documentation: "Requests of one minute to the APIs of functions and models, by key, resource and answer; the newest first. A row is at most two seconds late.",
    filter: None,
    read: |from, selection| Ok(from.ledger.requests(selection.limit)?),
    columns: &[
        column("minute", "The minute's begin.", Instant(|r| Some(r.minute))),
        column("api", "`lambda` or `sagemaker`.", Text(|r| some(&r.api))),
        column("key", "The caller's key; empty without one, or with a wrong one.", Text(|r| some(&r.key))),
        column("operation", "The operation, such as `InvokeEndpoint`.", Text(|r| some(&r.operation))),
        column("resource", "The resource, such as `endpoint:hydro`.", Text(|r| some(&r.resource))),
        column("status", "The status of the answers.", Count(|r| Some(r.status))),
        column("error", "AWS's name of the error; empty for successes.", Text(|r| some(&r.error))),
        column("requests", "How many.", Count(|r| Some(r.requests))),
        column("seconds", "How long all of them took.", Number(|r| Some(r.seconds))),
        column("seconds_max", "How long the longest took.", Number(|r| Some(r.seconds_max))),
    ],
};

fn first<T>(mut rows: Vec<T>, limit: usize) -> Vec<T> {
    rows.truncate(limit);
    rows
}
