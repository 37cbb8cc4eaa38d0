//! The operations of the control plane on training jobs.

use base::Error;
use ledger::{TrainingEnd, TrainingRow, TrainingState};
use regex::Regex;
use serde_json::{Value, json};

use super::error::ApiError;
use super::page::{list, page, seconds};
use super::request::Members;
use crate::arn::arn;
use crate::resources::Resources;
use crate::training::check_channel_name;

type Answer = Result<Value, ApiError>;

/// How many training jobs a list is taken from.
const ROWS_MAX: usize = 10_000;

/// Creates a training job, and lets `start` run it.
pub(super) fn create(resources: &Resources, request: &Members, start: &dyn Fn(&str) -> Result<(), Error>) -> Answer {
    request.only(
        &[
            "TrainingJobName",
            "AlgorithmSpecification",
            "HyperParameters",
            "InputDataConfig",
            "StoppingCondition",
            "Environment",
            "Tags",
        ],
        &[
            "RoleArn",
            "OutputDataConfig",
            "ResourceConfig",
            "EnableNetworkIsolation",
            "EnableInterContainerTrafficEncryption",
            "EnableManagedSpotTraining",
            "CheckpointConfig",
            "DebugHookConfig",
            "ProfilerConfig",
            "VpcConfig",
        ],
    )?;
    let name = request.name("TrainingJobName")?;
    let missing = || ApiError::validation("AlgorithmSpecification is missing: the request must have it");
    let algorithm = request.structure("AlgorithmSpecification")?.ok_or_else(missing)?;
    algorithm.only(
        &["TrainingImage", "TrainingInputMode", "MetricDefinitions"],
        &["EnableSageMakerMetricsTimeSeries", "ContainerEntrypoint", "ContainerArguments", "TrainingImageConfig"],
    )?;
    let image = algorithm.required("TrainingImage")?;
    // Whether a container stands for it is known now, and not when the job runs.
    resources.catalog.container(image, &request.map("Environment")?, &resources.registry)?;
    check_metrics(&algorithm)?;
    request.map("HyperParameters")?;
    for channel in request.structures("InputDataConfig")? {
        channel.only(
            &["ChannelName", "DataSource", "ContentType"],
            &["CompressionType", "RecordWrapperType", "InputMode"],
        )?;
        check_channel_name(channel.required("ChannelName")?)?;
        let source = channel.structure("DataSource")?;
        let source = source.ok_or_else(|| ApiError::validation("DataSource is missing: the channel must have it"))?;
        source.only(&["S3DataSource"], &[])?;
        let objects = source.structure("S3DataSource")?;
        let objects = objects.ok_or_else(|| ApiError::validation("S3DataSource is missing"))?;
        objects.only(&["S3Uri", "S3DataType"], &["S3DataDistributionType", "AttributeNames"])?;
        let url = objects.required("S3Uri")?;
        if resources.artifacts.hash_of_url(url).is_none() {
            resources.catalog.mapped_data(url)?;
        }
    }
    if let Some(condition) = request.structure("StoppingCondition")? {
        condition.only(&["MaxRuntimeInSeconds"], &["MaxWaitTimeInSeconds", "MaxPendingTimeInSeconds"])?;
        if condition.number("MaxRuntimeInSeconds")?.is_some_and(|seconds| seconds < 1.0) {
            return Err(ApiError::validation("MaxRuntimeInSeconds must be at least 1"));
        }
    }
    if !resources.ledger().create_training(name, &request.value(), None)? {
        return Err(ApiError::in_use(format!("Training job names must be unique within a warehouse: {name}")));
    }
    if let Err(error) = start(name) {
        let why = error.chain();
        resources.ledger().end_training(name, &TrainingEnd::Failed { why })?;
        return Err(error.into());
    }
    Ok(json!({"TrainingJobArn": arn("training-job", name)}))
}

/// Checks that each metric has an expression with a group, which is the value.
fn check_metrics(algorithm: &Members) -> Result<(), ApiError> {
    for metric in algorithm.structures("MetricDefinitions")? {
        metric.required("Name")?;
        let expression = metric.required("Regex")?;
        let read = Regex::new(expression);
        let read = read.map_err(|error| ApiError::validation(format!("Regex: {expression:?}: {error}")))?;
        if read.captures_len() < 2 {
            return Err(ApiError::validation(format!("Regex: {expression:?} has no group, which is the value")));
        }
    }
    Ok(())
}

fn find(resources: &Resources, request: &Members) -> Result<TrainingRow, ApiError> {
    request.only(&["TrainingJobName"], &[])?;
    let name = request.name("TrainingJobName")?;
    let missing = || ApiError::validation("Requested resource not found.");
    resources.ledger().training(name)?.ok_or_else(missing)
}

pub(super) fn describe(resources: &Resources, request: &Members) -> Answer {
    let row = find(resources, request)?;
    let member = |key: &str| row.request.get(key).cloned();
    let secondary = match (row.state, row.started_at) {
        (TrainingState::InProgress, None) => "Starting",
        (TrainingState::InProgress, Some(_)) => "Training",
        (state, _) => state.name(),
    };
    let artifacts = row.artifact.as_ref().map(|hash| resources.artifacts.url(hash)).unwrap_or_default();
    let metrics = row.metrics.as_object().into_iter().flatten();
    let at = seconds(row.ended_at.unwrap_or(row.created_at));
    let metrics = metrics.map(|(name, value)| json!({"MetricName": name, "Value": value, "Timestamp": at}));
    let mut described = json!({
        "TrainingJobName": row.name, "TrainingJobArn": arn("training-job", &row.name),
        "ModelArtifacts": {"S3ModelArtifacts": artifacts},
        "TrainingJobStatus": row.state.name(), "SecondaryStatus": secondary,
        "AlgorithmSpecification": member("AlgorithmSpecification").unwrap_or(json!({"TrainingInputMode": "File"})),
        "ResourceConfig": member("ResourceConfig").unwrap_or(json!({"VolumeSizeInGB": 1})),
        "StoppingCondition": member("StoppingCondition").unwrap_or(json!({})),
        "CreationTime": seconds(row.created_at), "FinalMetricDataList": metrics.collect::<Vec<_>>(),
    });
    for key in ["HyperParameters", "InputDataConfig", "OutputDataConfig", "RoleArn", "Environment"] {
        if let Some(value) = member(key) {
            described[key] = value;
        }
    }
    let times = [("TrainingStartTime", row.started_at), ("TrainingEndTime", row.ended_at)];
    for (key, at) in times {
        if let Some(at) = at {
            described[key] = json!(seconds(at));
        }
    }
    if let (Some(began), Some(ended)) = (row.started_at, row.ended_at) {
        described["TrainingTimeInSeconds"] = json!((ended - began).num_seconds().max(1));
    }
    if let Some(failure) = &row.failure {
        described["FailureReason"] = json!(failure.chars().take(1024).collect::<String>());
    }
    Ok(described)
}

pub(super) fn stop(resources: &Resources, request: &Members) -> Answer {
    let row = find(resources, request)?;
    match resources.ledger().stop_training(&row.name)? {
        true => Ok(json!({})),
        false => {
            let message = format!("The training job {} has ended: its status is {}.", row.name, row.state.name());
            Err(ApiError::validation(message))
        }
    }
}

pub(super) fn list_all(resources: &Resources, request: &Members) -> Answer {
    let mut rows = resources.ledger().trainings(ROWS_MAX)?;
    if let Some(status) = request.text("StatusEquals")? {
        rows.retain(|row| row.state.name() == status);
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let (rows, next) = page(rows, request, &["StatusEquals"], |row| (&row.name, row.created_at))?;
    let shown = rows.iter().map(|row| {
        let mut summary = json!({
            "TrainingJobName": row.name, "TrainingJobArn": arn("training-job", &row.name),
            "CreationTime": seconds(row.created_at), "TrainingJobStatus": row.state.name(),
        });
        if let Some(at) = row.ended_at {
            summary["TrainingEndTime"] = json!(seconds(at));
        }
        summary
    });
    Ok(list("TrainingJobSummaries", shown.collect(), next))
}
