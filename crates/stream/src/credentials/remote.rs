//! Credentials of the container or of the machine, by HTTP.
//!
//! <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>,
//! <https://docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html>

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{Client, StatusCode, redirect};
use serde::Deserialize;

use super::{AwsCredentials, AwsEnvironment};
use crate::error::{Context, Error, Kind, Result};

const CONTAINER: &str = "http://169.254.170.2";
const INSTANCE: &str = "http://169.254.169.254";

/// The machine's address is not there outside of AWS.
const CONNECT_WAIT: Duration = Duration::from_secs(1);
const ANSWER_WAIT: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<DateTime<Utc>>,
}

impl From<Answer> for AwsCredentials {
    fn from(answer: Answer) -> Self {
        AwsCredentials {
            access_key_id: answer.access_key_id,
            secret_access_key: answer.secret_access_key,
            session_token: answer.token,
            expires_at: answer.expiration,
        }
    }
}

fn client() -> Result<Client> {
    let builder = Client::builder().connect_timeout(CONNECT_WAIT).timeout(ANSWER_WAIT).no_proxy();
    builder.redirect(redirect::Policy::none()).build().during(Kind::Bug, "make a client for credentials of AWS")
}

/// Those of a container; `None` where no variable names its address.
pub async fn of_container(environment: &AwsEnvironment) -> Result<Option<AwsCredentials>> {
    let relative = environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{CONTAINER}{path}"));
    let full = || environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI").map(str::to_owned);
    let Some(address) = relative.or_else(full) else { return Ok(None) };
    let context = "read credentials of AWS from the container's address";
    let mut request = client()?.get(&address);
    let token = match environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(file) => Some(std::fs::read_to_string(file).during(Kind::FixSetup, format!("read {file}"))?),
        None => environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(str::to_owned),
    };
    if let Some(token) = token {
        request = request.header("Authorization", token.trim());
    }
    let answer = request.send().await.and_then(reqwest::Response::error_for_status).during(Kind::Retry, context)?;
    let text = answer.bytes().await.during(Kind::Retry, context)?;
    let answer: Answer = serde_json::from_slice(&text).during(Kind::FixSetup, context)?;
    Ok(Some(answer.into()))
}

/// Those of the machine's role; `None` where it is not a machine of AWS, or has no role.
pub async fn of_instance(environment: &AwsEnvironment) -> Result<Option<AwsCredentials>> {
    if environment.get("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let base = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or(INSTANCE).trim_end_matches('/');
    let (client, context) = (client()?, "read credentials of AWS from the machine's metadata");
    let token = client
        .put(format!("{base}/latest/api/token"))
        .header("X-aws-ec2-metadata-token-ttl-seconds", "21600")
        .send()
        .await
        .and_then(reqwest::Response::error_for_status);
    // Elsewhere nobody answers.
    let Ok(token) = token else { return Ok(None) };
    let token = token.text().await.during(Kind::Retry, context)?;
    let roles = format!("{base}/latest/meta-data/iam/security-credentials/");
    let get = async |address: &str| {
        let answer = client.get(address).header("X-aws-ec2-metadata-token", &token).send().await;
        let answer = answer.during(Kind::Retry, context)?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = answer.error_for_status().during(Kind::Retry, context)?;
        answer.text().await.during(Kind::Retry, context).map(Some)
    };
    let Some(role) = get(&roles).await? else { return Ok(None) };
    let Some(role) = role.lines().next().filter(|role| !role.is_empty()) else { return Ok(None) };
    let text: Option<String> = get(&format!("{roles}{role}")).await?;
    let text = text.ok_or_else(|| Error::retry(format!("{context}: the role {role} has none")))?;
    let answer: Answer = serde_json::from_str(&text).during(Kind::FixSetup, context)?;
    Ok(Some(answer.into()))
}
