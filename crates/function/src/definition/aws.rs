//! What AWS Lambda would refuse or not know: said before a deployment, so that the same function
//! runs here and there. Pure: it measures nothing itself.

use super::{Definition, Destination, EVENT_AGE_MAX, OWN_VARIABLES, RETRY_AFTER};

/// Sizes as they were found when code and layers were packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measured {
    pub code_zip_bytes: u64,
    /// Code and layers together.
    pub unpacked_bytes: u64,
    pub layers: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub what: String,
    pub hint: Option<String>,
}

const LAYERS_MAX: usize = 5;
const UNPACKED_MB_MAX: u64 = 250;
const UPLOAD_MB_MAX: u64 = 50;
const ENVIRONMENT_BYTES_MAX: usize = 4096;
const HANDLER_CHARS_MAX: usize = 128;
const DESCRIPTION_CHARS_MAX: usize = 256;
const TIMEOUT_S_MAX: u64 = 900;
const EVENT_AGE_S_MIN: u64 = 60;
/// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>
const RESERVED: [&str; 12] = [
    "_X_AMZN_TRACE_ID",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_LAMBDA_MAX_CONCURRENCY",
    "AWS_LAMBDA_METADATA_API",
];
const RUNTIMES: [&str; 6] = ["provided.", "python3.", "nodejs", "java", "dotnet", "ruby"];

pub fn refused_by_aws(definition: &Definition, measured: &Measured) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut say = |what: String, hint: &str| {
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        found.push(Finding { what, hint });
    };
    sizes(measured, &mut say);
    settings(definition, &mut say);
    environment(definition, &mut say);
    policy(definition, &mut say);
    found
}

fn sizes(measured: &Measured, say: &mut dyn FnMut(String, &str)) {
    if measured.layers > LAYERS_MAX {
        say(format!("{} layers: AWS takes {LAYERS_MAX}", measured.layers), "pack some of them into one");
    }
    if measured.unpacked_bytes > UNPACKED_MB_MAX << 20 {
        let megabytes = measured.unpacked_bytes.div_ceil(1 << 20);
        say(format!("{megabytes} MB unpacked: AWS takes {UNPACKED_MB_MAX} MB, layers included"), "");
    }
    if measured.code_zip_bytes > UPLOAD_MB_MAX << 20 {
        let megabytes = measured.code_zip_bytes.div_ceil(1 << 20);
        let what = format!("a zip of {megabytes} MB: AWS takes up to {UPLOAD_MB_MAX} MB by itself");
        say(what, "compress it, or upload it through S3");
    }
}

fn settings(definition: &Definition, say: &mut dyn FnMut(String, &str)) {
    let settings = &definition.settings;
    if !(128..=10_240).contains(&settings.memory_mb) {
        say(format!("memory_mb = {}: AWS takes 128 to 10240", settings.memory_mb), "");
    }
    if !(512..=10_240).contains(&settings.tmp_mb) {
        say(format!("tmp_mb = {}: AWS takes 512 to 10240", settings.tmp_mb), "");
    }
    if settings.timeout.as_secs() > TIMEOUT_S_MAX || settings.timeout.subsec_nanos() > 0 {
        say(format!("timeout = {} s: AWS takes 1 to {TIMEOUT_S_MAX}, whole", settings.timeout.as_secs_f64()), "");
    }
    if settings.handler.chars().count() > HANDLER_CHARS_MAX || settings.handler.contains(char::is_whitespace) {
        say(format!("handler {:?}: AWS takes {HANDLER_CHARS_MAX} characters without spaces", settings.handler), "");
    }
    if !RUNTIMES.iter().any(|known| settings.runtime.starts_with(known)) {
        let what = format!("runtime {:?}: AWS knows none of that name", settings.runtime);
        say(what, "runtime = \"provided.al2023\" for a bootstrap of one's own");
    }
    if settings.lake.sql || !settings.lake.objects.is_empty() {
        say("[lake]: on AWS nothing answers there".to_owned(), "");
    }
    if settings.files.is_some() {
        say("[files]: on AWS there is no /inputs and no /results".to_owned(), "");
    }
}

fn environment(definition: &Definition, say: &mut dyn FnMut(String, &str)) {
    let environment = &definition.settings.environment;
    let bytes: usize = environment.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > ENVIRONMENT_BYTES_MAX {
        say(format!("an environment of {bytes} bytes: AWS takes {ENVIRONMENT_BYTES_MAX}"), "");
    }
    for name in environment.keys() {
        let bare = name.len() >= 2 && name.starts_with(|c: char| c.is_ascii_alphabetic());
        if RESERVED.contains(&name.as_str()) || OWN_VARIABLES.contains(&name.as_str()) {
            say(format!("the variable {name}: AWS keeps it to itself"), "give it another name");
        } else if !bare {
            say(format!("the variable {name}: AWS takes names of two characters and more, a letter first"), "");
        }
    }
}

fn policy(definition: &Definition, say: &mut dyn FnMut(String, &str)) {
    let policy = &definition.policy;
    if policy.description.chars().count() > DESCRIPTION_CHARS_MAX {
        say(format!("description: AWS takes {DESCRIPTION_CHARS_MAX} characters"), "");
    }
    let own = policy.retry_after.iter().zip(RETRY_AFTER).all(|(wait, own)| wait.as_secs() == own);
    if !own {
        say("retry_after: AWS waits 1 and 2 minutes".to_owned(), "");
    }
    let age = policy.event_age_max;
    if age > EVENT_AGE_MAX || age.as_secs() < EVENT_AGE_S_MIN {
        let most = EVENT_AGE_MAX.as_secs();
        say(format!("event_age_max = {} s: AWS takes {EVENT_AGE_S_MIN} to {most}", age.as_secs()), "");
    }
    if policy.prewarmed > 0 {
        say("prewarmed: AWS keeps versions and aliases ready, not $LATEST".to_owned(), "");
    }
    for (key, destination) in [("on_success", &policy.on_success), ("on_failure", &policy.on_failure)] {
        if let Some(Destination::Event(_) | Destination::Folder(_)) = destination {
            say(format!("{key}: AWS knows functions, queues, topics, buses and buckets"), "");
        }
    }
}
