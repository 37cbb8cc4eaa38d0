//! Requests to Kinesis.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use reqwest::header::{CONTENT_TYPE, HOST};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::address::{Address, Broker, kinesis_endpoint};
use crate::credentials::CredentialsProvider;
use crate::error::{Context, Error, Kind, Result};

const CONNECT_WAIT: Duration = Duration::from_secs(10);
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// How often a request that was throttled, or failed at the server, is sent.
const ATTEMPTS_MAX: u32 = 8;
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The header that says the operation; its prefix is the version of the interface.
const TARGET: &str = "x-amz-target";
const VERSION: &str = "Kinesis_20131202";

/// Sends requests about one stream.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
    region: String,
    credentials: CredentialsProvider,
    /// The stream's name.
    pub stream: String,
    /// The stream for messages.
    pub name: String,
}

/// An error that Kinesis answers with.
#[derive(Debug, Deserialize)]
struct Refusal {
    #[serde(rename = "__type", default)]
    kind: String,
    #[serde(alias = "Message", default)]
    message: String,
}

impl Client {
    /// A client for the stream of an address.
    pub fn new(address: &Address, credentials: &CredentialsProvider) -> Result<Client> {
        let Broker::Kinesis { region, endpoint, profile } = &address.broker else {
            return Err(Error::bug("connect to Kinesis: the address is of another system"));
        };
        let (credentials, name) = (credentials.with_profile(profile.as_deref()), address.display());
        let region = region.clone().or_else(|| credentials.region()).ok_or_else(|| {
            let what = format!("connect to {name}: the region is not known");
            Error::setup(what).hint("write kinesis://STREAM?region=REGION, or set AWS_REGION")
        })?;
        let url = match endpoint {
            Some(endpoint) => Url::parse(endpoint).during(Kind::FixSetup, format!("the address {endpoint}"))?,
            None => kinesis_endpoint(&region)?,
        };
        let http = reqwest::Client::builder().connect_timeout(CONNECT_WAIT).timeout(ANSWER_WAIT);
        let http = http.user_agent(concat!("wattlake/", env!("CARGO_PKG_VERSION"))).build();
        let http = http.during(Kind::Bug, format!("connect to {name}"))?;
        Ok(Client { http, url, region, credentials, stream: address.stream.clone(), name })
    }

    /// What tells the stream from another one: its name, and when it was created.
    pub async fn identity(&self) -> Result<String> {
        let body = serde_json::json!({"StreamName": self.stream});
        let answer: Value = self.request("DescribeStreamSummary", &body).await?;
        let summary = &answer["StreamDescriptionSummary"];
        Ok(format!("{} {}", summary["StreamARN"].as_str().unwrap_or(&self.stream), summary["StreamCreationTimestamp"]))
    }

    /// Sends a request, and again where Kinesis is busy.
    ///
    /// # Errors
    /// `Retry` where the server does not answer; `FixSetup` where it refuses the request. The state is
    /// [`error_state`]'s.
    pub async fn request<T: DeserializeOwned>(&self, operation: &str, body: &Value) -> Result<T> {
        let mut wait = FIRST_WAIT;
        let body = body.to_string();
        for attempt in 1.. {
            match self.send(operation, body.clone()).await {
                // What failed at the server may have been stored.
                Err(error) if error.state == Some("failed") && operation == "PutRecords" => return Err(error),
                Err(error) if matches!(error.state, Some("busy" | "failed")) && attempt < ATTEMPTS_MAX => {
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                ended => return ended,
            }
        }
        Err(Error::bug("send a request without an attempt"))
    }

    async fn send<T: DeserializeOwned>(&self, operation: &str, body: String) -> Result<T> {
        let context = || format!("{operation} of {}", self.name);
        let target = format!("{VERSION}.{operation}");
        let host = match self.url.port() {
            Some(port) => format!("{}:{port}", self.url.host_str().unwrap_or_default()),
            None => self.url.host_str().unwrap_or_default().to_owned(),
        };
        let headers = [("content-type", "application/x-amz-json-1.1"), ("host", &host), (TARGET, &target)];
        let mut request = self.http.post(self.url.clone()).header(CONTENT_TYPE, headers[0].1).header(TARGET, &target);
        request = request.header(HOST, &host);
        for (name, value) in self.signature(&headers, body.as_bytes()).await? {
            request = request.header(name, value);
        }
        let answer = request.body(body).send().await.during(Kind::Retry, context())?;
        let status = answer.status();
        let text = answer.bytes().await.during(Kind::Retry, context())?;
        if status.is_success() {
            let text: &[u8] = if text.is_empty() { b"null" } else { &text };
            return serde_json::from_slice(text).during(Kind::Retry, format!("{}: read the answer", context()));
        }
        let refusal: Refusal = serde_json::from_slice(&text)
            .unwrap_or_else(|_| Refusal { kind: String::new(), message: String::from_utf8_lossy(&text).into_owned() });
        let kind = refusal.kind.rsplit('#').next().unwrap_or_default();
        let what = format!("{}: {status} {kind} {}", context(), refusal.message);
        let error = match error_state(kind) {
            Some("busy") => Error::retry(what).state("busy"),
            Some("expired") => Error::retry(what).state("expired"),
            Some(state) => Error::setup(what).state(state),
            None if status.is_server_error() => Error::retry(what).state("failed"),
            None => Error::setup(what),
        };
        Err(error)
    }

    /// The headers that sign a request.
    async fn signature(&self, headers: &[(&str, &str)], body: &[u8]) -> Result<Vec<(String, String)>> {
        let context = "sign a request to Kinesis";
        let keys = self.credentials.credentials().await?;
        let identity =
            Credentials::new(keys.access_key_id, keys.secret_access_key, keys.session_token, None, "wattlake").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("kinesis")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .during(Kind::Bug, context)?
            .into();
        let request =
            SignableRequest::new("POST", self.url.as_str(), headers.iter().copied(), SignableBody::Bytes(body));
        let signed = sign(request.during(Kind::Bug, context)?, &parameters).during(Kind::Bug, context)?;
        let (instructions, _) = signed.into_parts();
        Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// What an error of Kinesis means: `busy`, so that it may pass; `expired`, of an iterator; `missing`, of a stream;
/// `exists`.
fn error_state(kind: &str) -> Option<&'static str> {
    match kind {
        "ProvisionedThroughputExceededException"
        | "LimitExceededException"
        | "ThrottlingException"
        | "KMSThrottlingException"
        | "ResourceInUseException" => Some(if kind == "ResourceInUseException" { "exists" } else { "busy" }),
        "ExpiredIteratorException" => Some("expired"),
        "ResourceNotFoundException" => Some("missing"),
        _ => None,
    }
}
