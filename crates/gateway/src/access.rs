//! Who may call an API, and what a caller may do.

use std::collections::HashMap;
use std::sync::Arc;

use base::{Error, Result};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use hyper::http::request::Parts;

use super::denied::AccessDenied;
use super::keys::Key;
use super::signature;

/// The name of a caller where no keys are set.
const ANYONE: &str = "";
const BEARER: &str = "Bearer ";

/// Decides about requests. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct AccessControl {
    /// By their ids. `None`: everybody who reaches the listener may do everything, but not web pages.
    keys: Option<Arc<HashMap<String, Arc<Key>>>>,
}

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It runs a function or a model.
    Invoke,
    /// It creates, changes or deletes something.
    Change,
    /// It reads what there is: each key may.
    Describe,
}

/// The sender of a request.
#[derive(Debug, Clone)]
pub struct Caller {
    key: Option<Arc<Key>>,
}

impl AccessControl {
    /// Access by keys only; with an empty list nobody has access. [`AccessControl::default`] allows everybody.
    ///
    /// # Errors
    /// [`base::Kind::FixInput`] where two keys have one id, or one token: a token alone says who calls.
    pub fn new(keys: Vec<Key>) -> Result<AccessControl> {
        let mut all: HashMap<String, Arc<Key>> = HashMap::new();
        for key in keys {
            if all.values().any(|other| other.has_token_of(&key)) {
                return Err(Error::input(format!("key {:?} has the token of another key", key.id())));
            }
            if let Some(same) = all.insert(key.id().to_owned(), Arc::new(key)) {
                return Err(Error::input(format!("there are two keys with the id {:?}", same.id())));
            }
        }
        Ok(AccessControl { keys: Some(Arc::new(all)) })
    }

    /// Whether callers must have a key.
    pub fn needs_key(&self) -> bool {
        self.keys.is_some()
    }

    /// Refuses a request before its body is read: it has no key that is known, or is one of a web page.
    ///
    /// # Errors
    /// As [`AccessControl::authenticate`], which must follow.
    pub fn check_head(&self, head: &Parts) -> Result<(), AccessDenied> {
        let Some(keys) = &self.keys else { return refuse_web_pages(head) };
        let is_known = match bearer_token(head) {
            Some(token) => keys.values().any(|key| key.has_token(token)),
            None => keys.get(&signature::claimed_key(head)?).is_some_and(|key| key.secret().is_some()),
        };
        is_known.then_some(()).ok_or_else(unknown_key)
    }

    /// Finds out who has sent a request, by its signature or its token.
    ///
    /// # Errors
    /// The request has none, or one that is wrong or too old.
    pub fn authenticate(&self, head: &Parts, body: &Bytes, now: DateTime<Utc>) -> Result<Caller, AccessDenied> {
        let Some(keys) = &self.keys else {
            refuse_web_pages(head)?;
            return Ok(Caller { key: None });
        };
        let found = match bearer_token(head) {
            Some(token) => keys.values().find(|key| key.has_token(token)),
            None => keys.get(&signature::verify(head, body, now, |id| keys.get(id)?.secret())?),
        };
        let key = found.ok_or_else(unknown_key)?;
        Ok(Caller { key: Some(Arc::clone(key)) })
    }
}

fn bearer_token(head: &Parts) -> Option<&str> {
    let authorization = head.headers.get("authorization")?.to_str().ok()?;
    Some(authorization.strip_prefix(BEARER)?.trim())
}

fn unknown_key() -> AccessDenied {
    AccessDenied::new("UnrecognizedClientException", "the key is unknown")
}

impl Caller {
    /// The id of its key; empty where no keys are set.
    pub fn name(&self) -> &str {
        self.key.as_ref().map_or(ANYONE, |key| key.id())
    }

    /// Checks that the caller may do something with a resource, such as `endpoint:hydro`.
    ///
    /// # Errors
    /// Its key does not allow it.
    pub fn check(&self, action: Action, resource: &str) -> Result<(), AccessDenied> {
        let Some(key) = &self.key else { return Ok(()) };
        let (allowed, list) = match action {
            Action::Describe => return Ok(()),
            Action::Invoke => (key.permissions().may_invoke(resource), "invoke"),
            Action::Change => (key.permissions().may_change(resource), "change"),
        };
        if allowed {
            return Ok(());
        }
        let message = format!(
            "key {} is not authorized to {list} {resource}: add it to {list} of [serve.keys.{}]",
            key.id(),
            key.id()
        );
        Err(AccessDenied::new("AccessDeniedException", message))
    }
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

/// Refuses requests of web pages, which browsers mark, and those for another host. Otherwise any page that a user of this
/// machine opens could call functions.
fn refuse_web_pages(head: &Parts) -> Result<(), AccessDenied> {
    let by_page = ["origin", "sec-fetch-site"].iter().any(|name| head.headers.contains_key(*name));
    let host = head.headers.get("host").map(|host| host.to_str().unwrap_or_default());
    let is_foreign = host.is_some_and(|host| !is_own_host(host));
    if !by_page && !is_foreign {
        return Ok(());
    }
    let message = match is_foreign {
        true => "the request is for another host: use this machine's address, or localhost",
        false => "requests of web pages are refused",
    };
    Err(AccessDenied::new("AccessDeniedException", message))
}

#[cfg(test)]
mod tests;
