//! How an answer is continued on further pages.

use std::collections::BTreeSet;

use base::suggestion;
use serde_json::Value;
use url::Url;

use super::Answer;
use crate::error::ErrorContext;
use crate::objects::Hash;
use crate::{Error, Kind, Result};

/// More pages of one window are a sign of a server that always names a next one.
const PAGES_MAX: usize = 10_000;
/// How many names of an answer's members are in a message.
const NAMES_SHOWN: usize = 20;

/// How the next page is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paging {
    /// There is one page.
    Single,
    /// The header `Link` has its URL, as `rel="next"`.
    Link,
    /// A member of the answer has its URL.
    Next(Member),
    /// A member of the answer is the value of a parameter of the next request.
    Cursor { member: Member, parameter: String },
    /// A parameter counts pages, from a first one, until one has no rows.
    Number { parameter: String, first: u64 },
    /// A parameter counts rows, until a page has none.
    Offset { parameter: String },
}

/// A member of an answer in JSON that leads to the next page; null, false or an empty text is the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Names from the root.
    pub path: Vec<String>,
    /// Whether the last page may leave it out.
    pub is_optional: bool,
}

/// The pages of one window.
#[derive(Debug)]
pub struct Pages {
    paging: Paging,
    first: Url,
    next: Option<Url>,
    requested: BTreeSet<String>,
    /// The hashes of pages with rows.
    contents: BTreeSet<Hash>,
    rows: u64,
}

impl Pages {
    pub(super) fn begin(first: Url, paging: Paging) -> Result<Pages> {
        let next = match &paging {
            Paging::Number { parameter, first: number } => with_parameter(&first, parameter, &number.to_string()),
            Paging::Offset { parameter, .. } => with_parameter(&first, parameter, "0"),
            _ => first.clone(),
        };
        Ok(Pages { paging, first, next: Some(next), requested: BTreeSet::new(), contents: BTreeSet::new(), rows: 0 })
    }

    /// The URL of the page to request now; `None` after the last one.
    ///
    /// # Errors
    /// `FixSetup` where the server names a page again, or too many.
    pub fn next_url(&mut self) -> Result<Option<Url>> {
        let Some(url) = self.next.take() else { return Ok(None) };
        if !self.requested.insert(url.to_string()) {
            let what = format!("page through {}: the server names a page again", super::shown(&url));
            return Err(Error::new(Kind::FixSetup, what));
        }
        if self.requested.len() > PAGES_MAX {
            let what = format!("page through {}: there are more than {PAGES_MAX} pages", super::shown(&url));
            return Err(Error::new(Kind::FixSetup, what).hint("ask for less at a time: a smaller `window`"));
        }
        Ok(Some(url))
    }

    /// Takes note of a page, which has so many rows, so that the next one is known.
    ///
    /// # Errors
    /// `FixInput` where the answer should name the next page, and can't be read; `FixSetup` where that is on another
    /// host, which would get the request's secrets, where the server gave the same page before, or where the first page
    /// has rows and says nothing of a next one.
    pub fn continue_after(&mut self, answer: &Answer, rows: u64) -> Result<()> {
        self.rows += rows;
        if self.paging != Paging::Single && rows > 0 && !self.contents.insert(Hash::of(&answer.bytes)) {
            let what = format!("page through {}: the server gave the same page again", super::shown(&self.first));
            return Err(Error::new(Kind::FixSetup, what).hint("does it know the parameter of `paging`?"));
        }
        self.next = match &self.paging {
            Paging::Single => None,
            Paging::Link => answer.next_link.as_deref().map(|link| self.joined(link)).transpose()?,
            Paging::Next(member) => self.value_of(member, answer, rows)?.map(|link| self.joined(&link)).transpose()?,
            Paging::Cursor { member, parameter } => {
                self.value_of(member, answer, rows)?.map(|value| with_parameter(&self.first, parameter, &value))
            }
            Paging::Number { parameter, first } => {
                let number = first + self.requested.len() as u64;
                (rows > 0).then(|| with_parameter(&self.first, parameter, &number.to_string()))
            }
            // A server may give fewer rows than it was asked for before the last page.
            Paging::Offset { parameter } => {
                (rows > 0).then(|| with_parameter(&self.first, parameter, &self.rows.to_string()))
            }
        };
        Ok(())
    }

    /// The text or number of a member; `None` at the end.
    fn value_of(&self, member: &Member, answer: &Answer, rows: u64) -> Result<Option<String>> {
        let there = match found_at(answer, &member.path)? {
            Found::Value(text) => return Ok(Some(text)),
            Found::End => return Ok(None),
            Found::Nothing(there) => there,
        };
        // A path that is wrong would end each window at its first page.
        if member.is_optional || rows == 0 || self.requested.len() > 1 {
            return Ok(None);
        }
        let path = member.path.join("/");
        let what = format!("page through {}: the answer has no text or number at {path:?}", super::shown(&self.first));
        let there: Vec<&str> = there.iter().take(NAMES_SHOWN).map(String::as_str).collect();
        let name = member.path.last().map_or("", String::as_str);
        let near = suggestion("member", name, &there).map(|near| format!("{near}; ")).unwrap_or_default();
        let hint = format!("{near}where the last page leaves it out, add `optional = true` to `paging`");
        Err(Error::new(Kind::FixSetup, what).hint(hint))
    }

    fn joined(&self, link: &str) -> Result<Url> {
        let url = self.first.join(link).during(Kind::FixInput, "read the URL of the next page")?;
        let is_same = url.scheme() == self.first.scheme()
            && url.host_str() == self.first.host_str()
            && url.port_or_known_default() == self.first.port_or_known_default();
        if is_same {
            return Ok(url);
        }
        let what = format!("page through {}: the next page is at {}", super::shown(&self.first), super::shown(&url));
        Err(Error::new(Kind::FixSetup, what).hint("only pages of the same scheme and host are requested"))
    }
}

/// What there is at the end of a path of an answer's members.
enum Found {
    /// A text or a number.
    Value(String),
    /// Null, also on the way, false, or an empty text.
    End,
    /// Something else, or nothing: the names that there are where the path ends.
    Nothing(Vec<String>),
}

fn found_at(answer: &Answer, path: &[String]) -> Result<Found> {
    let mut value: Value =
        serde_json::from_slice(&answer.bytes).during(Kind::FixInput, "find the next page: read JSON")?;
    for name in path {
        let below = value.get_mut(name).map(Value::take);
        value = match below {
            Some(below) => below,
            None if value.is_null() => return Ok(Found::End),
            None => return Ok(Found::Nothing(names_of(&value))),
        };
    }
    Ok(match value {
        Value::String(text) if !text.is_empty() => Found::Value(text),
        Value::Number(number) => Found::Value(number.to_string()),
        Value::Null | Value::Bool(false) | Value::String(_) => Found::End,
        other => Found::Nothing(names_of(&other)),
    })
}

fn names_of(value: &Value) -> Vec<String> {
    value.as_object().into_iter().flat_map(|members| members.keys().cloned()).collect()
}

/// The URL with one parameter set.
fn with_parameter(url: &Url, name: &str, value: &str) -> Url {
    let kept: Vec<(String, String)> =
        url.query_pairs().filter(|(key, _)| key != name).map(|(key, value)| (key.into(), value.into())).collect();
    let mut url = url.clone();
    url.query_pairs_mut().clear().extend_pairs(kept).append_pair(name, value);
    url
}

/// The URL that headers `Link` (RFC 8288) give as `rel="next"`.
pub(super) fn next_link(header: &str) -> Option<String> {
    // A URL may have commas and semicolons, so it is what is within < and >.
    let mut rest = header;
    loop {
        let (url, after) = rest.split_once('<')?.1.split_once('>')?;
        let parameters = after.split_once('<').map_or(after, |(parameters, _)| parameters);
        let is_next = parameters.split([';', ',']).any(|parameter| {
            let parameter = parameter.trim().to_ascii_lowercase();
            parameter.strip_prefix("rel=").is_some_and(|rel| rel.trim_matches('"').split(' ').any(|one| one == "next"))
        });
        if is_next {
            return Some(url.to_owned());
        }
        rest = after;
    }
}
