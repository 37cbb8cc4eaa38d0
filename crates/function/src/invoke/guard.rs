//! Who may call the Invoke API.

use std::sync::Arc;

use bytes::Bytes;
use hyper::http::request::Parts;

/// Decides whether a request is allowed, by its head and its body.
pub type Guard = Arc<dyn Fn(&Parts, &Bytes) -> Result<(), AccessDenied> + Send + Sync>;

/// The error of a request that the guard does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessDenied {
    /// AWS's name for it, such as `AccessDeniedException` or `InvalidSignatureException`.
    pub error_type: &'static str,
    /// Shown to the caller.
    pub message: String,
}

/// The default guard: it allows every request but those of web pages, which browsers mark. Otherwise any page that
/// a user of this machine opens could call functions.
pub fn refuse_web_pages() -> Guard {
    Arc::new(|parts: &Parts, _: &Bytes| {
        let by_page = ["origin", "sec-fetch-site"].iter().any(|name| parts.headers.contains_key(*name));
        if !by_page {
            return Ok(());
        }
        let message = "requests of web pages are refused".to_owned();
        Err(AccessDenied { error_type: "AccessDeniedException", message })
    })
}
