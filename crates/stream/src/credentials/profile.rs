//! Profiles of the files `~/.aws/credentials` and `~/.aws/config`.
//!
//! <https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html>

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::{AwsCredentials, AwsEnvironment};
use crate::error::{Context, Error, Kind, Result};

/// How long a program that prints credentials may take.
const PROGRAM_WAIT: Duration = Duration::from_secs(60);

type Section = BTreeMap<String, String>;

/// The region of a profile.
pub fn region(environment: &AwsEnvironment, profile: &str) -> Option<String> {
    settings(environment, profile).ok()?.remove("region")
}

/// The credentials of a profile; `None` where it has none.
pub async fn credentials(environment: &AwsEnvironment, profile: &str) -> Result<Option<AwsCredentials>> {
    let mut settings = settings(environment, profile)?;
    if let Some((access_key_id, secret_access_key)) =
        settings.remove("aws_access_key_id").zip(settings.remove("aws_secret_access_key"))
    {
        let session_token = settings.remove("aws_session_token");
        return Ok(Some(AwsCredentials { access_key_id, secret_access_key, session_token, expires_at: None }));
    }
    if let Some(command) = settings.remove("credential_process") {
        return of_program(&command, profile).await.map(Some);
    }
    let is_built = |key: &&&str| settings.contains_key(**key);
    if let Some(key) = ["role_arn", "sso_session", "sso_start_url", "source_profile"].iter().find(is_built) {
        let what = format!("read credentials of AWS: the profile {profile:?} has {key}, which is not implemented");
        let hint = "print them by a program: credential_process = aws configure export-credentials --profile NAME";
        return Err(Error::setup(what).hint(hint));
    }
    Ok(None)
}

/// The settings of a profile, of both files.
fn settings(environment: &AwsEnvironment, profile: &str) -> Result<Section> {
    let path = |variable: &str, name: &str| {
        let own = environment.get(variable).map(PathBuf::from);
        own.or_else(|| environment.home.as_ref().map(|home| home.join(".aws").join(name)))
    };
    let mut settings = Section::new();
    let of_config = if profile == "default" { profile.to_owned() } else { format!("profile {profile}") };
    for (file, section) in [
        (path("AWS_CONFIG_FILE", "config"), of_config.as_str()),
        (path("AWS_SHARED_CREDENTIALS_FILE", "credentials"), profile),
    ] {
        let Some(file) = file else { continue };
        match std::fs::read_to_string(&file) {
            Ok(text) => settings.extend(section_of(&text, section)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::setup(format!("read {}", file.display())).because(error)),
        }
    }
    Ok(settings)
}

/// The settings of one section.
fn section_of(text: &str, wanted: &str) -> Section {
    let (mut section, mut is_wanted) = (Section::new(), false);
    for line in text.lines() {
        let is_nested = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.split(']').next()) {
            is_wanted = name.split_whitespace().eq(wanted.split_whitespace());
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_wanted && !is_nested) {
            section.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    section
}

/// What a program of `credential_process` prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    version: u32,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<DateTime<Utc>>,
}

async fn of_program(command: &str, profile: &str) -> Result<AwsCredentials> {
    let context = format!("read credentials of AWS: run credential_process of the profile {profile:?}");
    let mut program = tokio::process::Command::new("sh");
    program.arg("-c").arg(command).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PROGRAM_WAIT, program.output()).await.during(Kind::Retry, context.clone())?;
    let output = output.during(Kind::FixSetup, context.clone())?;
    if !output.status.success() {
        return Err(Error::setup(format!("{context}: {}", output.status)));
    }
    let printed: Printed = serde_json::from_slice(&output.stdout).during(Kind::FixSetup, context.clone())?;
    if printed.version != 1 {
        return Err(Error::setup(format!("{context}: it prints version {}, not 1", printed.version)));
    }
    Ok(AwsCredentials {
        access_key_id: printed.access_key_id,
        secret_access_key: printed.secret_access_key,
        session_token: printed.session_token,
        expires_at: printed.expiration,
    })
}
