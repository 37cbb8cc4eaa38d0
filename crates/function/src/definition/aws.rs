//! Checks a function against AWS Lambda's limits, so that the same function runs here and on AWS. It reads no
//! files: the sizes are given.

use super::{Definition, Destination, EVENT_AGE_MAX, OWN_VARIABLES, RETRY_AFTER};

/// Sizes of a function's code and layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackageSizes {
    /// The size of the code's zip.
    pub code_zip_bytes: u64,
    /// The size of code and layers together, unpacked.
    pub unpacked_bytes: u64,
    /// How many layers there are.
    pub layers: usize,
}

/// Something that AWS Lambda would refuse or ignore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is, and AWS's limit.
    pub what: String,
    /// What the user can do about it.
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

/// All findings about a function; none where it runs on AWS Lambda too.
pub fn refused_by_aws(definition: &Definition, sizes: &PackageSizes) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |what: String, hint: &str| {
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        found.push(Finding { what, hint });
    };
    check_sizes(sizes, &mut add);
    check_settings(definition, &mut add);
    check_environment(definition, &mut add);
    check_policy(definition, &mut add);
    found
}

fn check_sizes(sizes: &PackageSizes, add: &mut dyn FnMut(String, &str)) {
    if sizes.layers > LAYERS_MAX {
        add(format!("{} layers: AWS accepts {LAYERS_MAX}", sizes.layers), "pack several layers into one");
    }
    if sizes.unpacked_bytes > UNPACKED_MB_MAX << 20 {
        let megabytes = sizes.unpacked_bytes.div_ceil(1 << 20);
        add(format!("{megabytes} MB unpacked: AWS accepts {UNPACKED_MB_MAX} MB, layers included"), "");
    }
    if sizes.code_zip_bytes > UPLOAD_MB_MAX << 20 {
        let megabytes = sizes.code_zip_bytes.div_ceil(1 << 20);
        let what = format!("a zip of {megabytes} MB: AWS accepts {UPLOAD_MB_MAX} MB in a direct upload");
        add(what, "compress the zip, or upload it through S3");
    }
}

fn check_settings(definition: &Definition, add: &mut dyn FnMut(String, &str)) {
    let settings = &definition.settings;
    if !(128..=10_240).contains(&settings.memory_mb) {
        add(format!("memory_mb = {}: AWS accepts 128 to 10240", settings.memory_mb), "");
    }
    if !(512..=10_240).contains(&settings.tmp_mb) {
        add(format!("tmp_mb = {}: AWS accepts 512 to 10240", settings.tmp_mb), "");
    }
    if settings.timeout.as_secs() > TIMEOUT_S_MAX || settings.timeout.subsec_nanos() > 0 {
        add(
            format!(
                "timeout = {} s: AWS accepts whole seconds from 1 to {TIMEOUT_S_MAX}",
                settings.timeout.as_secs_f64()
            ),
            "",
        );
    }
    if settings.handler.chars().count() > HANDLER_CHARS_MAX || settings.handler.contains(char::is_whitespace) {
        add(
            format!(
                "handler {:?}: AWS accepts at most {HANDLER_CHARS_MAX} characters, without spaces",
                settings.handler
            ),
            "",
        );
    }
    if !RUNTIMES.iter().any(|known| settings.runtime.starts_with(known)) {
        let what = format!("runtime {:?}: AWS has no runtime of that name", settings.runtime);
        add(what, "write runtime = \"provided.al2023\" for a function with its own bootstrap");
    }
    if settings.lake.sql || !settings.lake.objects.is_empty() {
        add("[lake]: AWS does not serve the lake to the function".to_owned(), "");
    }
    if settings.files.is_some() {
        add("[files]: on AWS there is no /inputs and no /results".to_owned(), "");
    }
}

fn check_environment(definition: &Definition, add: &mut dyn FnMut(String, &str)) {
    let environment = &definition.settings.environment;
    let bytes: usize = environment.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > ENVIRONMENT_BYTES_MAX {
        add(format!("an environment of {bytes} bytes: AWS accepts {ENVIRONMENT_BYTES_MAX}"), "");
    }
    for name in environment.keys() {
        let bare = name.len() >= 2 && name.starts_with(|c: char| c.is_ascii_alphabetic());
        if RESERVED.contains(&name.as_str()) || OWN_VARIABLES.contains(&name.as_str()) {
            add(format!("the variable {name}: AWS reserves it"), "give it another name");
        } else if !bare {
            add(
                format!("the variable {name}: AWS accepts names of at least two characters that begin with a letter"),
                "",
            );
        }
    }
}

fn check_policy(definition: &Definition, add: &mut dyn FnMut(String, &str)) {
    let policy = &definition.policy;
    if policy.description.chars().count() > DESCRIPTION_CHARS_MAX {
        add(format!("description: AWS accepts at most {DESCRIPTION_CHARS_MAX} characters"), "");
    }
    let own = policy.retry_after.iter().zip(RETRY_AFTER).all(|(wait, own)| wait.as_secs() == own);
    if !own {
        add("retry_after: AWS always waits 1 and 2 minutes".to_owned(), "");
    }
    let age = policy.event_age_max;
    if age > EVENT_AGE_MAX || age.as_secs() < EVENT_AGE_S_MIN {
        let most = EVENT_AGE_MAX.as_secs();
        add(format!("event_age_max = {} s: AWS accepts {EVENT_AGE_S_MIN} to {most}", age.as_secs()), "");
    }
    if policy.prewarmed > 0 {
        add("prewarmed: AWS prewarms versions and aliases, not $LATEST".to_owned(), "");
    }
    for (key, destination) in [("on_success", &policy.on_success), ("on_failure", &policy.on_failure)] {
        if let Some(Destination::Event(_) | Destination::Folder(_)) = destination {
            add(format!("{key}: on AWS a destination is a function, queue, topic, bus or bucket"), "");
        }
    }
}
