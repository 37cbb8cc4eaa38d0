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

/// Whether a request's `Host` names this machine: `localhost` or an address. A web page whose name was made to resolve to
/// this machine (DNS rebinding) has another one.
pub fn is_own_host(host: &str) -> bool {
    let name =
        host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |(n, _)| n);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    address.parse::<std::net::IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

/// The default guard: it allows every request but those of web pages, which browsers mark, and those for another host.
/// Otherwise any page that a user of this machine opens could call functions.
pub fn refuse_web_pages() -> Guard {
    Arc::new(|parts: &Parts, _: &Bytes| {
        let by_page = ["origin", "sec-fetch-site"].iter().any(|name| parts.headers.contains_key(*name));
        let host = parts.headers.get("host").map(|host| host.to_str().unwrap_or_default());
        let is_foreign = host.is_some_and(|host| !is_own_host(host));
        if !by_page && !is_foreign {
            return Ok(());
        }
        let message = match is_foreign {
            true => "the request is for another host: use this machine's address, or localhost".to_owned(),
            false => "requests of web pages are refused".to_owned(),
        };
        Err(AccessDenied { error_type: "AccessDeniedException", message })
    })
}

#[cfg(test)]
mod tests {
    use super::is_own_host;

    #[test]
    fn only_addresses_and_localhost_are_this_machine() {
        for own in [
            "127.0.0.1:8080",
            "127.0.0.1",
            "[::1]:8080",
            "[::1]",
            "localhost",
            "LOCALHOST.:80",
            "a.localhost:1",
            "10.0.0.7:9",
        ] {
            assert!(is_own_host(own), "{own}");
        }
        for other in ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.nip.io:1", "", "x:y"] {
            assert!(!is_own_host(other), "{other}");
        }
    }
}
