//! How requests prove who sends them: by headers of the request alone, by a user's password, or by OAuth 2.0's client
//! credentials (RFC 6749, section 4.4), as RTE's APIs have it.

use std::time::Duration;

use base64::Engine;
use reqwest::Client;
use reqwest::header::HeaderValue;
use tokio::time::Instant;

use crate::error::ErrorContext;
use crate::{Error, Kind, Result};

/// A token is renewed this long before its end.
const RESERVE: Duration = Duration::from_secs(30);
/// How long a token is used whose answer does not say for how long it is valid.
const VALID: Duration = Duration::from_secs(300);

/// How requests prove who sends them.
#[derive(Debug, Clone)]
pub enum Login {
    /// Only by the headers of the request.
    None,
    /// By a user's password.
    Basic { user: String, password: String },
    /// By a token that a server gives for the client's credentials.
    OAuth2(OAuth2),
}

/// A client of an OAuth 2.0 server.
#[derive(Clone)]
pub struct OAuth2 {
    /// The URL of the server's tokens.
    pub token_url: url::Url,
    /// The client's name.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: String,
    /// What the token is for, where the server asks for it.
    pub scope: Option<String>,
}

impl std::fmt::Debug for OAuth2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OAuth2({})", self.client_id)
    }
}

impl Login {
    /// Whether a refused request may succeed with a new token.
    pub(super) fn can_renew(&self) -> bool {
        matches!(self, Login::OAuth2(_))
    }
}

/// The token in use.
#[derive(Default)]
pub(super) struct LoginState {
    token: Option<(HeaderValue, Instant)>,
}

#[derive(serde::Deserialize)]
struct TokenAnswer {
    access_token: String,
    #[serde(default)]
    expires_in: Option<f64>,
}

impl LoginState {
    /// Forgets the token, so that the next request gets another one.
    pub(super) fn forget(&mut self) {
        self.token = None;
    }

    /// The value of the header `Authorization`; requests a token where there is none, or it is at its end.
    pub(super) async fn authorization(&mut self, login: &Login, client: &Client) -> Result<Option<HeaderValue>> {
        match login {
            Login::None => Ok(None),
            Login::Basic { user, password } => basic(user, password).map(Some),
            Login::OAuth2(oauth2) => {
                if let Some((value, end)) = &self.token
                    && *end > Instant::now()
                {
                    return Ok(Some(value.clone()));
                }
                let (value, end) = token(oauth2, client).await?;
                self.token = Some((value.clone(), end));
                Ok(Some(value))
            }
        }
    }
}

fn basic(user: &str, password: &str) -> Result<HeaderValue> {
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    secret_header(&format!("Basic {text}"))
}

fn secret_header(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text).during(Kind::FixSetup, "send the login")?;
    value.set_sensitive(true);
    Ok(value)
}

async fn token(oauth2: &OAuth2, client: &Client) -> Result<(HeaderValue, Instant)> {
    let context = || format!("request a token of {}", super::shown(&oauth2.token_url));
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if let Some(scope) = &oauth2.scope {
        form.append_pair("scope", scope);
    }
    // Section 2.3.1: identifier and secret are encoded as in forms before they are joined.
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let request = client
        .post(oauth2.token_url.clone())
        .header(reqwest::header::AUTHORIZATION, basic(&encoded(&oauth2.client_id), &encoded(&oauth2.client_secret))?)
        .header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(reqwest::header::ACCEPT_ENCODING, "identity")
        .body(form.finish());
    let asked_at = Instant::now();
    let response = request.send().await.map_err(|error| {
        let kind = if error.is_redirect() || error.is_builder() { Kind::FixSetup } else { Kind::Retry };
        Error::new(kind, context()).because(error.without_url())
    })?;
    let status = response.status();
    if !status.is_success() {
        let kind = if super::is_transient(status) { Kind::Retry } else { Kind::FixSetup };
        let error = Error::new(kind, format!("{}: the server responded {status}", context()));
        return Err(error.hint("check the client's id and secret, and that it is subscribed to the API"));
    }
    let body = response.bytes().await.during(Kind::Retry, context())?;
    let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|_| {
        // The answer may have the token in it, so it is not shown.
        Error::new(Kind::FixSetup, format!("{}: its answer has no \"access_token\"", context()))
    })?;
    let valid = answer.expires_in.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or(VALID);
    let end = asked_at + valid.saturating_sub(RESERVE).min(Duration::from_secs(86_400));
    Ok((secret_header(&format!("Bearer {}", answer.access_token))?, end))
}
