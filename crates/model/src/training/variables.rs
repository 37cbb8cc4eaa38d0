//! The variables of a training job: SageMaker's `SM_*`, which scripts without AWS's toolkit expect, and the container's
//! own.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::folders::resources;
use super::job::Training;
use crate::arn::arn;
use crate::container::program_variables;

pub(super) fn of(training: &Training) -> BTreeMap<String, String> {
    let channels: Vec<&String> = training.channels.iter().map(|channel| &channel.name).collect();
    // As the toolkit: a value that is JSON is that, another is a text.
    let parameters: BTreeMap<&String, Value> = training
        .hyperparameters
        .iter()
        .filter(|(name, _)| !name.starts_with("sagemaker_"))
        .map(|(name, text)| (name, serde_json::from_str(text).unwrap_or_else(|_| json!(text))))
        .collect();
    let mut all = program_variables();
    for (name, value) in [
        ("TRAINING_JOB_NAME", training.name.clone()),
        ("TRAINING_JOB_ARN", arn("training-job", &training.name)),
        ("SAGEMAKER_BASE_DIR", "/opt/ml".to_owned()),
        ("SM_INPUT_DIR", "/opt/ml/input".to_owned()),
        ("SM_INPUT_CONFIG_DIR", "/opt/ml/input/config".to_owned()),
        ("SM_MODEL_DIR", "/opt/ml/model".to_owned()),
        ("SM_OUTPUT_DIR", "/opt/ml/output".to_owned()),
        ("SM_OUTPUT_DATA_DIR", "/opt/ml/output/data".to_owned()),
        ("SM_CHANNELS", json!(channels).to_string()),
        ("SM_HPS", json!(parameters).to_string()),
        ("SM_NUM_GPUS", "0".to_owned()),
        ("SM_HOSTS", json!(["algo-1"]).to_string()),
        ("SM_CURRENT_HOST", "algo-1".to_owned()),
        ("SM_RESOURCE_CONFIG", resources().to_string()),
    ] {
        all.insert(name.to_owned(), value);
    }
    for channel in &training.channels {
        for name in variable_names(&channel.name) {
            all.insert(format!("SM_CHANNEL_{name}"), format!("/opt/ml/input/data/{}", channel.name));
        }
    }
    for (name, value) in parameters {
        let text = match value {
            Value::Null => String::new(),
            Value::String(text) => text,
            other => other.to_string(),
        };
        for name in variable_names(name) {
            all.insert(format!("SM_HP_{name}"), text.clone());
        }
    }
    all.extend(training.container.settings.environment.clone());
    all
}

/// The end of a variable's name, as the toolkit writes it; and without `-`, which a shell can't read.
fn variable_names(name: &str) -> [String; 2] {
    let upper = name.to_uppercase();
    let plain = upper.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    [upper, plain]
}
