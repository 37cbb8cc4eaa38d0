//! Asks an HTTP API for the data of a window of time, page by page. Which windows, and what becomes of the answers, is
//! for the caller to decide.
//!
//! Every wait is bounded: a server that asks for a longer one than the limit is not asked again here, and the caller
//! gets the instant from which it may be.

mod login;
mod pace;
mod paging;
mod request;
mod secrets;
mod window_template;

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use tokio::time::Instant;

use crate::error::ErrorContext;
use crate::fetch::Retries;
use crate::source::redirected;
use crate::{Error, Kind, Result};
use secrets::Secrets;

pub use login::{Login, OAuth2};
pub use pace::Pace;
pub use paging::{Member, Pages, Paging};
pub use request::ApiRequest;
pub use window_template::{RequestWindow, WindowTemplate};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(30);
/// How much of a refusal's text is in its message.
const REASON_CHARS: usize = 300;
/// The largest answer.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The settings of an API.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// What is requested.
    pub request: ApiRequest,
    /// How an answer is continued.
    pub paging: Paging,
    /// How requests prove who sends them.
    pub login: Login,
    /// The least time between two requests.
    pub pace: Pace,
    /// The retries of transient errors.
    pub retries: Retries,
    /// The longest time of one answer.
    pub answer_time_max: Duration,
    /// The longest wait that the server may ask for within a run.
    pub wait_max: Duration,
}

/// A client of one API.
pub struct Api {
    settings: ApiSettings,
    secrets: Secrets,
    client: Client,
    login: login::LoginState,
    last_request: Option<Instant>,
}

/// What a request came to.
#[derive(Debug)]
pub enum Outcome {
    /// The server's answer.
    Answer(Answer),
    /// The answer is the one whose ETag was sent.
    Unchanged,
    /// The server is not to be asked before this instant.
    NotBefore(DateTime<Utc>),
}

/// The answer to one request.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The body.
    pub bytes: Bytes,
    /// The server's tag of it.
    pub etag: Option<String>,
    /// The URL of the next page that the header `Link` names.
    pub next_link: Option<String>,
    /// When it had arrived.
    pub received_at: DateTime<Utc>,
}

impl Api {
    /// A client of this API. Nothing is sent yet.
    ///
    /// # Errors
    /// `FixSetup` where a header can't be sent.
    pub fn new(settings: ApiSettings) -> Result<Api> {
        let client = Client::builder()
            .user_agent(concat!("wattlake/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIME_MAX.min(settings.answer_time_max))
            .timeout(settings.answer_time_max)
            .redirect(reqwest::redirect::Policy::custom(redirected))
            .build()
            .during(Kind::FixSetup, "make an HTTP client")?;
        settings.request.headers()?;
        let secrets = Secrets::of(&settings.request, &settings.login);
        Ok(Api { settings, secrets, client, login: login::LoginState::default(), last_request: None })
    }

    /// The pages of a window's data; the first one is not requested yet.
    ///
    /// # Errors
    /// `FixSetup` where the URL is none.
    pub fn pages(&self, window: &RequestWindow) -> Result<Pages> {
        Pages::begin(self.settings.request.url(window)?, self.settings.paging.clone())
    }

    /// Requests a page, with retries. `etag` is the tag of an answer that is known already.
    ///
    /// # Errors
    /// `Retry` where the server did not answer, or has an error of its own; `FixSetup` where it refuses the request.
    pub async fn request(&mut self, url: &url::Url, etag: Option<&str>) -> Result<Outcome> {
        let (mut failures, mut has_logged_in_again) = (0, false);
        loop {
            let wait = match self.request_once(url, etag).await? {
                Attempt::Done(outcome) => return Ok(outcome),
                // A token may have ended before its time.
                Attempt::Refused(error) if !has_logged_in_again && self.settings.login.can_renew() => {
                    tracing::debug!(%error, "the login is renewed");
                    has_logged_in_again = true;
                    self.login.forget();
                    continue;
                }
                Attempt::Refused(error) => return Err(error),
                Attempt::Wait { asked: Some(wait), error } if wait > self.settings.wait_max => {
                    tracing::warn!(%error, "the server asks for a longer wait than a run has");
                    wait
                }
                Attempt::Wait { asked, error } => {
                    failures += 1;
                    let Some(pause) = self.settings.retries.pause(failures) else { return Err(error) };
                    let pause = asked.unwrap_or(pause);
                    tracing::warn!(
                        error = error.chain(),
                        failures,
                        seconds = pause.as_secs(),
                        "a request failed, and is retried"
                    );
                    tokio::time::sleep(pause).await;
                    continue;
                }
            };
            // A wait without end is one of a day.
            let wait = chrono::TimeDelta::from_std(wait).unwrap_or(chrono::TimeDelta::days(1));
            return Ok(Outcome::NotBefore(Utc::now() + wait.min(chrono::TimeDelta::days(1))));
        }
    }

    async fn request_once(&mut self, url: &url::Url, etag: Option<&str>) -> Result<Attempt> {
        let headers = self.headers(etag).await?;
        self.settings.pace.wait(&mut self.last_request).await;
        let shown = shown(url);
        let sent = self.client.get(url.clone()).headers(headers).send().await;
        let response = match sent {
            Ok(response) => response,
            Err(error) if error.is_redirect() || error.is_builder() => {
                return Err(Error::new(Kind::FixSetup, format!("request {shown}")).because(error.without_url()));
            }
            Err(error) => {
                let error = Error::new(Kind::Retry, format!("request {shown}")).because(error.without_url());
                return Ok(Attempt::Wait { asked: None, error });
            }
        };
        let status = response.status();
        match status {
            StatusCode::NOT_MODIFIED if etag.is_some() => Ok(Attempt::Done(Outcome::Unchanged)),
            status if status.is_success() => {
                self.check_whole(response.headers(), &shown)?;
                match body(response, &shown).await {
                    Ok(answer) => Ok(Attempt::Done(Outcome::Answer(answer))),
                    Err(error) if error.kind == Kind::Retry => Ok(Attempt::Wait { asked: None, error }),
                    Err(error) => Err(error),
                }
            }
            status if is_transient(status) => {
                let asked = retry_after(response.headers(), Utc::now());
                Ok(Attempt::Wait { asked, error: self.refusal(response, &shown, Kind::Retry).await })
            }
            StatusCode::UNAUTHORIZED => {
                let error = self.refusal(response, &shown, Kind::FixSetup).await;
                Ok(Attempt::Refused(error.hint("check the login and the headers of the collect")))
            }
            _ => Err(self.refusal(response, &shown, Kind::FixSetup).await),
        }
    }

    /// Refuses an answer that is compressed, and one that is only a part of what was asked for: what is not in it would
    /// be missing in silence.
    fn check_whole(&self, headers: &HeaderMap, shown: &str) -> Result<()> {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let is_plain = |encoding: &&str| encoding.is_empty() || encoding.eq_ignore_ascii_case("identity");
        if let Some(encoding) = text(header::CONTENT_ENCODING).filter(|encoding| !is_plain(encoding)) {
            let what = format!("read the answer of {shown}: it is compressed ({encoding}), which was not asked for");
            return Err(
                Error::new(Kind::FixSetup, what).hint("ask the partner for one that answers without compression")
            );
        }
        let Some(part) = text(header::CONTENT_RANGE).filter(|range| is_part(range)) else { return Ok(()) };
        let is_of_rows = !part.to_ascii_lowercase().starts_with("bytes");
        if is_of_rows && self.settings.paging != Paging::Single {
            return Ok(());
        }
        let error = Error::new(Kind::FixSetup, format!("read the answer of {shown}: it is a part only, {part}"));
        Err(error.hint(match is_of_rows {
            true => "write in `paging` how the next page is requested",
            false => "ask for less at a time: a smaller `window` or page",
        }))
    }

    /// The error of a status, with the beginning of the answer's text, in which many servers give the reason.
    async fn refusal(&self, mut response: Response, shown: &str, kind: Kind) -> Error {
        let status = response.status();
        let piece = response.chunk().await.ok().flatten().unwrap_or_default();
        let text = self.secrets.masked(&String::from_utf8_lossy(&piece));
        let text: String = text.chars().take(REASON_CHARS).collect();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = if text.is_empty() { String::new() } else { format!(": {text}") };
        Error::new(kind, format!("request {shown}: the server responded {status}{text}"))
    }

    async fn headers(&mut self, etag: Option<&str>) -> Result<HeaderMap> {
        let mut headers = self.settings.request.headers()?;
        // Without it a server may compress its answers.
        headers.entry(header::ACCEPT_ENCODING).or_insert(HeaderValue::from_static("identity"));
        if let Some(value) = self.login.authorization(&self.settings.login, &self.client).await? {
            headers.insert(header::AUTHORIZATION, value);
        }
        if let Some(etag) = etag.and_then(|etag| etag.parse().ok()) {
            headers.insert(header::IF_NONE_MATCH, etag);
        }
        Ok(headers)
    }
}

/// What one attempt came to.
enum Attempt {
    Done(Outcome),
    /// The login was refused.
    Refused(Error),
    /// It may be repeated later: after a while that the server asks for, where it does.
    Wait {
        asked: Option<Duration>,
        error: Error,
    },
}

fn is_transient(status: StatusCode) -> bool {
    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY)
        || status.is_server_error()
}

/// The wait that the header `Retry-After` asks for, in seconds or until an instant.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until: DateTime<Utc> = httpdate::parse_http_date(text).ok()?.into();
    Some((until - now).to_std().unwrap_or_default())
}

/// Whether a header `Content-Range` says that there is more than the answer has: `bytes 0-99/1000`, `items 0-24/319`,
/// `0-24/319`. Where it does not know how much there is, it does not say so.
fn is_part(range: &str) -> bool {
    let Some((range, total)) = range.rsplit_once('/') else { return false };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let ends = range.rsplit(' ').next().and_then(|ends| ends.split_once('-'));
    let ends = ends.and_then(|(first, last)| Some((number(first)?, number(last)?)));
    // Some count from 1.
    ends.zip(number(total)).is_some_and(|((first, last), total)| last.saturating_sub(first) + 1 < total)
}

async fn body(mut response: Response, shown: &str) -> Result<Answer> {
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let etag = text(header::ETAG);
    let links = response.headers().get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    let next_link = links.filter_map(paging::next_link).next();
    let mut bytes = bytes::BytesMut::new();
    while let Some(piece) = response
        .chunk()
        .await
        .map_err(|error| Error::new(Kind::Retry, format!("read the answer of {shown}")).because(error.without_url()))?
    {
        if bytes.len() + piece.len() > ANSWER_BYTES_MAX {
            let what = format!("read the answer of {shown}: it has more than {} MiB", ANSWER_BYTES_MAX >> 20);
            return Err(Error::new(Kind::FixSetup, what).hint("ask for less at a time: a smaller `window` or page"));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(Answer { bytes: bytes.freeze(), etag, next_link, received_at: Utc::now() })
}

/// A URL for messages: without its path and query, which may have a secret.
fn shown(url: &url::Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}
