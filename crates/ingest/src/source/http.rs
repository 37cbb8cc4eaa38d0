//! Files by their URLs as a source, one URL per file. HEAD, ETags and ranges are used where the server
//! supports them; a server without them is read with plain GET requests.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use futures::{StreamExt, TryStreamExt};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode, redirect};

use super::{ListedFile, Listing, OpenedFile, SkipReason, SkippedFile, Source, Template, file_changed};
use crate::error::ErrorContext;
use crate::{Error, Kind, Result};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(30);
/// The longest wait between two pieces of a response.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const REDIRECTS_MAX: usize = 5;

/// The URL of a file, as a template of the logical date.
#[derive(Debug, Clone)]
pub struct Url {
    /// The URL.
    pub url: Template,
    /// The file's name in the listing; without it, the last segment of the URL's path.
    pub name: Option<Template>,
}

/// Files by their URLs.
pub struct Http {
    client: Client,
    urls: Vec<Url>,
    /// The URLs of the last listing, by file name. A URL may contain a secret, so it is never part of a name.
    listed: Mutex<HashMap<String, url::Url>>,
}

impl Http {
    /// `headers` are sent with every request, such as `Authorization` or an API key, and only to the hosts of the URLs.
    ///
    /// # Errors
    /// `FixSetup` where a header can't be sent.
    pub fn new(urls: Vec<Url>, headers: &[(String, String)]) -> Result<Http> {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            let context = || format!("send the header {name:?}");
            let header = HeaderName::from_bytes(name.as_bytes()).during(Kind::FixSetup, context())?;
            let mut value = HeaderValue::from_str(value).during(Kind::FixSetup, context())?;
            value.set_sensitive(true);
            all.insert(header, value);
        }
        let client = Client::builder()
            .default_headers(all)
            .user_agent(concat!("wattlake/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIME_MAX)
            .read_timeout(SILENCE_MAX)
            .redirect(redirect::Policy::custom(redirected))
            .build()
            .during(Kind::FixSetup, "make an HTTP client")?;
        Ok(Http { client, urls, listed: Mutex::default() })
    }

    /// The description of a file, or why it is skipped.
    async fn describe(&self, name: &str, url: &url::Url) -> Result<Result<ListedFile, SkippedFile>> {
        let answer = send(name, self.client.head(url.clone())).await?;
        // URLs that are signed for GET refuse HEAD, and so do some servers.
        let answer = match answer.status().as_u16() {
            400 | 403 | 405 | 501 => {
                send(name, self.client.get(url.clone()).header(header::RANGE, "bytes=0-0")).await?
            }
            _ => answer,
        };
        match answer.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                Ok(Err(SkippedFile { name: name.to_owned(), reason: SkipReason::Absent }))
            }
            // The first byte of an empty file is out of range.
            StatusCode::RANGE_NOT_SATISFIABLE => Ok(Ok(described(name, &answer))),
            status if status.is_success() => Ok(Ok(described(name, &answer))),
            status => Err(refused(name, status)),
        }
    }
}

/// Follows redirects within one host and port, or to HTTPS at its own port, and never from HTTPS to HTTP: headers may contain a secret.
pub(crate) fn redirected(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let Some(first) = attempt.previous().first() else { return attempt.follow() };
    let is_upgrade = first.scheme() == "http" && attempt.url().scheme() == "https";
    let is_other_port = attempt.url().port_or_known_default() != first.port_or_known_default()
        && !(is_upgrade && first.port().is_none() && attempt.url().port().is_none());
    let leads_away = attempt.url().host_str() != first.host_str()
        || is_other_port
        || (first.scheme() == "https" && attempt.url().scheme() != "https");
    if leads_away {
        return attempt.error("redirected to another host or port, or from https to http: configure the final URL");
    }
    if attempt.previous().len() > REDIRECTS_MAX { attempt.error("too many redirects") } else { attempt.follow() }
}

#[async_trait]
impl Source for Http {
    async fn list(&self, date: NaiveDate) -> Result<Listing> {
        let mut urls = HashMap::new();
        let mut listing = Listing::default();
        for item in &self.urls {
            let url = url::Url::parse(&item.url.fill(date)).during(Kind::FixSetup, "read a URL")?;
            let name = match &item.name {
                Some(name) => name.fill(date),
                None => last_part(&url)?,
            };
            if urls.insert(name.clone(), url.clone()).is_some_and(|other| other != url) {
                let what = format!("list the URLs: two files have the name {name:?}; give one of them a `name`");
                return Err(Error::new(Kind::FixSetup, what));
            }
            match self.describe(&name, &url).await? {
                Ok(file) => listing.files.push(file),
                Err(skipped) => listing.skipped.push(skipped),
            }
        }
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = urls;
        listing.finish()
    }

    async fn open(&self, file: &ListedFile, from: u64) -> Result<OpenedFile> {
        let name = file.name.clone();
        let url = self.listed.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        let url = url.ok_or_else(|| Error::new(Kind::FixInput, format!("read {name}: it was not listed")))?;
        let mut request = self.client.get(url);
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
            if let Some(stamp) = file.etag.as_ref().filter(|etag| !etag.starts_with("W/")) {
                request = request.header(header::IF_RANGE, stamp);
            } else if let Some(modified) = file.modified {
                request = request.header(header::IF_RANGE, httpdate::fmt_http_date(modified.into()));
            }
        }
        let answer = send(&name, request).await?;
        let from = match answer.status() {
            StatusCode::PARTIAL_CONTENT if first_byte(&answer) == Some(from) => from,
            StatusCode::RANGE_NOT_SATISFIABLE if file.size == Some(from) => {
                return Ok(OpenedFile { from, bytes: futures::stream::empty().boxed() });
            }
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => return Err(file_changed(&name)),
            status if status.is_success() => 0,
            status => return Err(refused(&name, status)),
        };
        if !described(&name, &answer).is_like(file) {
            return Err(file_changed(&name));
        }
        let bytes = answer
            .bytes_stream()
            .map_err(move |error| Error::new(Kind::Retry, format!("read {name}")).because(error.without_url()));
        Ok(OpenedFile { from, bytes: bytes.boxed() })
    }
}

async fn send(name: &str, request: RequestBuilder) -> Result<Response> {
    request.send().await.map_err(|error| {
        let kind = if error.is_redirect() || error.is_builder() { Kind::FixSetup } else { Kind::Retry };
        Error::new(kind, format!("request {name}")).because(error.without_url())
    })
}

fn refused(name: &str, status: StatusCode) -> Error {
    let kind = match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Kind::FixInput,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Kind::Retry,
        status if status.is_server_error() => Kind::Retry,
        _ => Kind::FixSetup,
    };
    Error::new(kind, format!("request {name}: the server responded {status}"))
}

/// The last segment of the path. The query is left out, since it may contain a secret.
fn last_part(url: &url::Url) -> Result<String> {
    let last = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
    let name = percent_encoding::percent_decode_str(last).decode_utf8_lossy().into_owned();
    if name.is_empty() {
        let host = url.host_str().unwrap_or("?");
        return Err(Error::new(
            Kind::FixSetup,
            format!("name the file of a URL at {host}: the URL ends with a slash; give it a `name`"),
        ));
    }
    Ok(name)
}

fn described(name: &str, answer: &Response) -> ListedFile {
    let text = |key: HeaderName| answer.headers().get(key).and_then(|value| value.to_str().ok());
    let length = || text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let size = match answer.status() {
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
            text(header::CONTENT_RANGE).and_then(|range| range.rsplit_once('/')?.1.parse().ok())
        }
        // The length of a compressed body is not the file's size.
        _ if answer.headers().contains_key(header::CONTENT_ENCODING) => None,
        _ => length(),
    };
    let modified = text(header::LAST_MODIFIED).and_then(|at| httpdate::parse_http_date(at).ok());
    ListedFile {
        name: name.to_owned(),
        size,
        modified: modified.map(DateTime::<Utc>::from),
        etag: text(header::ETAG).map(str::to_owned),
    }
}

fn first_byte(answer: &Response) -> Option<u64> {
    let range = answer.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}
