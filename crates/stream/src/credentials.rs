//! Credentials of AWS, found as its own tools find them: keys in variables, a profile of the shared files, a container's
//! address, the machine's. Those that expire are read again in time.
//!
//! <https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>

mod profile;
mod remote;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Mutex;

use crate::error::{Error, Result};

/// So long before they expire, credentials are read again.
const RENEWED_BEFORE: Duration = Duration::from_secs(300);

/// The variables that say where credentials and the region are; the caller reads them.
#[derive(Debug, Clone, Default)]
pub struct AwsEnvironment {
    variables: BTreeMap<String, String>,
    home: Option<PathBuf>,
}

impl AwsEnvironment {
    /// The names of the variables that are used.
    pub const VARIABLES: [&str; 15] = [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        "HOME",
    ];

    /// Takes the variables that are used.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> AwsEnvironment {
        let value = |name: &&str| Some((name.to_string(), variable(name).filter(|value| !value.is_empty())?));
        let variables: BTreeMap<String, String> = Self::VARIABLES.iter().filter_map(value).collect();
        let home = variables.get("HOME").map(PathBuf::from);
        AwsEnvironment { variables, home }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }
}

/// Keys that sign requests.
#[derive(Clone, PartialEq, Eq)]
pub struct AwsCredentials {
    /// The id of the key.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: String,
    /// The token of temporary keys.
    pub session_token: Option<String>,
    /// When temporary keys expire.
    pub expires_at: Option<DateTime<Utc>>,
}

impl std::fmt::Debug for AwsCredentials {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "AwsCredentials({}, ...)", self.access_key_id)
    }
}

impl AwsCredentials {
    fn is_fresh(&self) -> bool {
        self.expires_at.is_none_or(|at| Utc::now() + RENEWED_BEFORE < at)
    }
}

/// Finds credentials, and keeps them until they expire.
#[derive(Debug, Clone, Default)]
pub struct CredentialsProvider {
    environment: Arc<AwsEnvironment>,
    profile: Option<String>,
    current: Arc<Mutex<Option<AwsCredentials>>>,
}

impl CredentialsProvider {
    /// A provider by these variables.
    pub fn new(environment: AwsEnvironment) -> CredentialsProvider {
        CredentialsProvider { environment: Arc::new(environment), profile: None, current: Arc::default() }
    }

    /// The same with a profile, which goes before all variables.
    #[must_use]
    pub fn with_profile(&self, profile: Option<&str>) -> CredentialsProvider {
        match profile {
            None => self.clone(),
            Some(name) => CredentialsProvider {
                environment: Arc::clone(&self.environment),
                profile: Some(name.to_owned()),
                current: Arc::default(),
            },
        }
    }

    /// The region by the variables or the profile.
    pub fn region(&self) -> Option<String> {
        let by_variable = || self.environment.get("AWS_REGION").or_else(|| self.environment.get("AWS_DEFAULT_REGION"));
        let by_profile = || profile::region(&self.environment, self.profile_name());
        match self.profile {
            Some(_) => by_profile().or_else(|| by_variable().map(str::to_owned)),
            None => by_variable().map(str::to_owned).or_else(by_profile),
        }
    }

    fn profile_name(&self) -> &str {
        self.profile.as_deref().or_else(|| self.environment.get("AWS_PROFILE")).unwrap_or("default")
    }

    /// The credentials of now.
    ///
    /// # Errors
    /// `FixSetup` where there are none, with the places that were looked at; `Retry` where a server does not answer.
    pub async fn credentials(&self) -> Result<AwsCredentials> {
        let mut current = self.current.lock().await;
        if let Some(credentials) = current.as_ref().filter(|credentials| credentials.is_fresh()) {
            return Ok(credentials.clone());
        }
        let found = self.find().await?;
        *current = Some(found.clone());
        Ok(found)
    }

    async fn find(&self) -> Result<AwsCredentials> {
        let environment = &self.environment;
        let is_named = self.profile.is_some() || environment.get("AWS_PROFILE").is_some();
        if let Some(credentials) = self.of_variables().filter(|_| self.profile.is_none()) {
            return Ok(credentials);
        }
        if let Some(credentials) = profile::credentials(environment, self.profile_name()).await? {
            return Ok(credentials);
        }
        if is_named {
            let name = self.profile_name();
            let what = format!("read credentials of AWS: the profile {name:?} has no keys");
            return Err(
                Error::setup(what).hint("write aws_access_key_id and aws_secret_access_key into ~/.aws/credentials")
            );
        }
        if let Some(credentials) = remote::of_container(environment).await? {
            return Ok(credentials);
        }
        if let Some(credentials) = remote::of_instance(environment).await? {
            return Ok(credentials);
        }
        let hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE";
        Err(Error::setup("read credentials of AWS: none in variables, files, the container or the machine").hint(hint))
    }

    fn of_variables(&self) -> Option<AwsCredentials> {
        let get = |name: &str| self.environment.get(name).map(str::to_owned);
        Some(AwsCredentials {
            access_key_id: get("AWS_ACCESS_KEY_ID")?,
            secret_access_key: get("AWS_SECRET_ACCESS_KEY")?,
            session_token: get("AWS_SESSION_TOKEN"),
            expires_at: None,
        })
    }
}

#[cfg(test)]
mod tests;
