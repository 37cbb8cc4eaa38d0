//! Separates the password from a connection string, in both forms of libpq.

use std::process::Command;

use crate::Result;
use crate::error::Error;

/// The connection string of a source.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// The connection string without the password, for a command line.
    pub without_password: String,
    /// The password, where there is one.
    pub password: Option<String>,
}

impl Source {
    /// Reads a URL, or keywords and values.
    ///
    /// # Errors
    /// Where the string is malformed, or contains `sslpassword`. The message does not contain the string.
    pub fn parse(given: &str) -> Result<Self> {
        if given.starts_with("postgres://") || given.starts_with("postgresql://") {
            from_url(given)
        } else {
            from_keywords(given)
        }
        .filter(|source| !source.without_password.contains("sslpassword"))
        .ok_or_else(|| {
            Error::input(
                "read the source's connection string: it is malformed (percent-encode special characters of a URL's \
                 password), or it has sslpassword, which can't be passed on safely",
            )
        })
    }

    /// Adds the connection to a command of libpq. The password is passed in the environment, which only the user of a
    /// process can read, and not on the command line, which every user can read.
    pub fn apply(&self, command: &mut Command) {
        command.arg("-d").arg(&self.without_password);
        command.env("PGAPPNAME", "wattlake");
        if let Some(password) = &self.password {
            command.env("PGPASSWORD", password);
        }
    }
}

/// `postgresql://user:secret@host/db?password=secret&sslmode=require`
fn from_url(url: &str) -> Option<Source> {
    let mut password = None;
    let (scheme, rest) = url.split_once("://")?;
    // As in libpq, the last at sign before the first slash ends the user and the password.
    let first_slash = rest.find('/').unwrap_or(rest.len());
    let (user, rest) = match rest[..first_slash].rfind('@') {
        Some(at) => (&rest[..=at], &rest[at + 1..]),
        None => ("", rest),
    };
    let user = match user.split_once(':') {
        Some((name, secret)) => {
            password = Some(percent_decoded(secret.strip_suffix('@')?)?);
            format!("{name}@")
        }
        None => user.to_owned(),
    };
    let (place, query) = match rest.split_once('?') {
        Some((place, query)) => (place, Some(query)),
        None => (rest, None),
    };
    // A password with a slash that is not encoded: without the refusal, its rest would be on the command line.
    if place.contains('@') {
        return None;
    }
    let mut kept = Vec::new();
    for pair in query.into_iter().flat_map(|q| q.split('&')) {
        match pair.strip_prefix("password=") {
            Some(secret) => password = Some(percent_decoded(secret)?),
            None => kept.push(pair),
        }
    }
    let query = match kept.join("&") {
        kept if kept.is_empty() => String::new(),
        kept => format!("?{kept}"),
    };
    Some(Source {
        without_password: format!("{scheme}://{user}{place}{query}"),
        password: password.filter(|p| !p.is_empty()),
    })
}

/// `host=db user=u password='it\'s secret'`
fn from_keywords(text: &str) -> Option<Source> {
    let mut password = None;
    let mut kept = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (keyword, after) = rest.split_once('=')?;
        let (value, raw_len) = keyword_value(after.trim_start())?;
        let after = after.trim_start();
        let keyword = keyword.trim();
        if keyword.is_empty() || keyword.contains(char::is_whitespace) {
            return None;
        }
        match keyword {
            "password" => password = Some(value),
            _ => kept.push(format!("{keyword}={}", &after[..raw_len])),
        }
        rest = after[raw_len..].trim_start();
    }
    Some(Source { without_password: kept.join(" "), password: password.filter(|p| !p.is_empty()) })
}

/// The value at the start of `text`, and the number of its bytes in `text`.
fn keyword_value(text: &str) -> Option<(String, usize)> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.push(chars.next()?.1),
            '\'' if quoted => return Some((value, at + 1)),
            c if !quoted && c.is_whitespace() => return Some((value, at)),
            c => value.push(c),
        }
    }
    (!quoted).then_some((value, text.len()))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(b) = rest.next() {
        if b != b'%' {
            bytes.push(b);
            continue;
        }
        let digit = |b: u8| (b as char).to_digit(16);
        let code = digit(rest.next()?)? * 16 + digit(rest.next()?)?;
        bytes.push(u8::try_from(code).ok()?);
    }
    String::from_utf8(bytes).ok()
}
