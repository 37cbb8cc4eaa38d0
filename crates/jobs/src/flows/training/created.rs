//! Training jobs that were created by SageMaker's API, in place of a file of `trainings/`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use base::Error;
use config::{ChannelSource, Training};
use model::Resources;
use schedule::JobRules;
use serde_json::Value;

use crate::model_host;
use crate::warehouse::Warehouse;

/// The time limit of a job whose request has none, as on SageMaker.
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);
const WRITTEN_MAX: u64 = 10 << 30;
/// The hyperparameter with which SageMaker's SDK says where the script is.
const SUBMIT_DIRECTORY: &str = "sagemaker_submit_directory";

/// The configuration of a training job, from its request.
pub fn training(warehouse: &Warehouse, name: &str) -> Result<Training> {
    let resources = model_host::resources(warehouse)?;
    let row = warehouse.ledger.training(name)?;
    let row = row.ok_or_else(|| Error::input(format!("there is no training job {name:?}")))?;
    let request = &row.request;
    let algorithm = &request["AlgorithmSpecification"];
    let image = algorithm["TrainingImage"].as_str().context("the training job has no image")?.to_owned();
    let mut hyperparameters = texts(&request["HyperParameters"]);
    let code = hyperparameters.get(SUBMIT_DIRECTORY).map(|text| {
        // The SDK writes each value as JSON.
        serde_json::from_str::<String>(text).unwrap_or_else(|_| text.clone())
    });
    let code = code.filter(|url| url.contains("://")).map(|url| mapped(&resources, &url)).transpose()?;
    if code.is_some() {
        hyperparameters.remove(SUBMIT_DIRECTORY);
    }
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut channels = BTreeMap::new();
    for channel in list(&request["InputDataConfig"]) {
        let url = channel.pointer("/DataSource/S3DataSource/S3Uri").and_then(Value::as_str).unwrap_or_default();
        let name = channel["ChannelName"].as_str().unwrap_or_default().to_owned();
        channels.insert(name, ChannelSource::Data(mapped(&resources, url)?));
    }
    let metrics = list(&algorithm["MetricDefinitions"])
        .into_iter()
        .filter_map(|metric| Some((metric["Name"].as_str()?.to_owned(), metric["Regex"].as_str()?.to_owned())));
    let seconds = request.pointer("/StoppingCondition/MaxRuntimeInSeconds").and_then(Value::as_u64);
    Ok(Training {
        // No job of a file has such a name, and so none waits for this one.
        name: format!("{name}@api"),
        file: warehouse.config.file.clone(),
        serve_image: image.clone(),
        image,
        model: None,
        channels,
        hyperparameters,
        code,
        tables: Vec::new(),
        reports: None,
        metrics: metrics.collect(),
        time_max: seconds.map_or(TIME_MAX, Duration::from_secs),
        written_bytes_max: WRITTEN_MAX,
        approves: false,
        environment: texts(&request["Environment"]),
        rules: JobRules::default(),
    })
}

/// The URL of what the API may read: a stored artifact, or a file of `[models.data]`, as the file that it is.
fn mapped(resources: &Resources, url: &str) -> Result<String> {
    match resources.artifacts.hash_of_url(url) {
        Some(_) => Ok(url.to_owned()),
        None => Ok(format!("file://{}", resources.catalog.mapped_data(url)?.display())),
    }
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let all = value.as_object().into_iter().flatten();
    all.filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned()))).collect()
}
