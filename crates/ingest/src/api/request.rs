//! What is requested: a URL, its query and headers.

use chrono_tz::Tz;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::{RequestWindow, WindowTemplate};
use crate::error::ErrorContext;
use crate::{Kind, Result};

/// A GET request for a window's data.
#[derive(Debug, Clone)]
pub struct ApiRequest {
    /// The URL.
    pub url: WindowTemplate,
    /// The parameters of its query, in their order.
    pub query: Vec<(String, WindowTemplate)>,
    /// The headers. A value may be a secret.
    pub headers: Vec<(String, String)>,
    /// The zone in which instants with a format are written.
    pub zone: Tz,
}

impl ApiRequest {
    /// The URL of a window's first page.
    pub(super) fn url(&self, window: &RequestWindow) -> Result<url::Url> {
        let escape = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut url =
            url::Url::parse(&self.url.fill(window, self.zone, escape)).during(Kind::FixSetup, "read a URL")?;
        if !self.query.is_empty() {
            let mut pairs = url.query_pairs_mut();
            for (name, value) in &self.query {
                pairs.append_pair(name, &value.fill(window, self.zone, str::to_owned));
            }
        }
        Ok(url)
    }

    /// The headers, marked as secret.
    pub(super) fn headers(&self) -> Result<HeaderMap> {
        let mut all = HeaderMap::new();
        for (name, value) in &self.headers {
            let context = || format!("send the header {name:?}");
            let header = HeaderName::from_bytes(name.as_bytes()).during(Kind::FixSetup, context())?;
            let mut value = HeaderValue::from_str(value).during(Kind::FixSetup, context())?;
            value.set_sensitive(true);
            all.insert(header, value);
        }
        Ok(all)
    }
}
