//! `[connections.NAME]`: makes one URL of a connection's fields, or checks its URL. No message shows a URL, which may
//! contain a password.

use std::net::Ipv6Addr;
use std::ops::Range;
use std::path::Path;

use base::{nearest, suggestion};
use toml::Spanned;
use url::Url;

use super::super::expand::encode;
use super::super::problem::FileProblems;
use super::super::raw::{self, NumberOrText, SslMode};
use super::super::{Connection, Secret};

/// The values of `sslmode` in a URL: also the two of libpq that the key `sslmode` does not offer.
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// The parameters that a URL's query may have.
const PARAMETERS: [&str; 17] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "options",
    "password",
    "port",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
    "user",
];

/// Checks a connection and makes its URL; `None` where a problem was added.
pub fn check(
    root: &Path,
    name: &str,
    raw: &Spanned<raw::Connection>,
    report: &mut FileProblems<'_>,
) -> Option<Connection> {
    let raw = raw.get_ref();
    if let Some(unset) = report.take_unset_under(&["connections", name]) {
        // Fields with unset variables are not in `raw`: only the others can be checked.
        check_port(&raw.port, report);
        return Some(Connection { url: Err(unset) });
    }
    let url = match (raw.url.get(), raw.url.span()) {
        (Some(url), Some(span)) => {
            refuse_fields(raw, report);
            from_url(root, url, span, report)
        }
        _ => from_fields(root, raw, report),
    };
    url.map(|url| Connection { url: Ok(Secret::new(url)) })
}

fn refuse_fields(raw: &raw::Connection, report: &mut FileProblems<'_>) {
    let fields = [
        ("host", raw.host.span()),
        ("port", raw.port.span()),
        ("user", raw.user.span()),
        ("password", raw.password.span()),
        ("database", raw.database.span()),
        ("sslmode", raw.sslmode.span()),
        ("sslrootcert", raw.sslrootcert.span()),
    ];
    for (name, span) in fields {
        if let Some(span) = span {
            let hint = "write \"url\" or the other keys, not both".to_owned();
            report.add(span, format!("{name:?} can't be used with \"url\""), hint);
        }
    }
}

fn from_url(root: &Path, text: &str, span: Range<usize>, report: &mut FileProblems<'_>) -> Option<String> {
    let mut url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            let hint = "put what has special characters into a ${VARIABLE}, or percent-encode it (`#` is %23)";
            report.add(span, format!("the connection's URL can't be read: {error}"), hint.to_owned());
            return None;
        }
    };
    if !["postgresql", "postgres"].contains(&url.scheme()) {
        report.add(span, "not the URL of a PostgreSQL server", "begin it with postgresql://".to_owned());
        return None;
    }
    let parameters: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let mut is_good = true;
    let mut problem = |what: String, hint: Option<String>| {
        report.add(span.clone(), what, hint);
        is_good = false;
    };
    let names_host = parameters.iter().any(|(key, _)| key == "host" || key == "hostaddr");
    if url.host_str().is_none_or(str::is_empty) && !names_host {
        problem("the connection's URL has no host".into(), Some("write postgresql://user@host:5432/database".into()));
    }
    for (key, value) in &parameters {
        if !PARAMETERS.contains(&key.as_str()) {
            // Quoted only where it resembles a parameter: it may be a part of a password that has a `?` in it.
            let key_shown = nearest(key, PARAMETERS).map(|_| format!(" {key:?}")).unwrap_or_default();
            let what = format!("unknown parameter{key_shown} in the connection's URL");
            problem(what, suggestion("parameter", key, &PARAMETERS));
        } else if key == "sslmode" && !SSL_MODES.contains(&value.as_str()) {
            problem("unknown sslmode in the connection's URL".into(), suggestion("sslmode", value, &SSL_MODES));
        }
    }
    if parameters.iter().any(|(key, _)| key == "sslrootcert") {
        let query: Vec<String> =
            url.query().unwrap_or_default().split('&').map(|pair| with_resolved_path(root, pair)).collect();
        url.set_query(Some(&query.join("&")));
    }
    is_good.then(|| url.into())
}

/// A parameter of the query; the certificate's path is resolved against the warehouse, others are unchanged.
fn with_resolved_path(root: &Path, pair: &str) -> String {
    match url::form_urlencoded::parse(pair.as_bytes()).next() {
        Some((key, path)) if key == "sslrootcert" => {
            format!("sslrootcert={}", encode(&root.join(&*path).to_string_lossy()))
        }
        _ => pair.to_owned(),
    }
}

fn from_fields(root: &Path, raw: &raw::Connection, report: &mut FileProblems<'_>) -> Option<String> {
    let host = raw.host.get().zip(raw.host.span()).and_then(|(host, span)| check_host(host, span, report));
    let port = check_port(&raw.port, report);
    if raw.user.get().is_none()
        && let Some(span) = raw.password.span()
    {
        report.add(span, "a password without a user", "add user = \"...\"".to_owned());
        return None;
    }
    let mut url = "postgresql://".to_owned();
    if let Some(user) = raw.user.get() {
        url += &encode(user);
        if let Some(password) = raw.password.get() {
            url = url + ":" + &encode(password);
        }
        url.push('@');
    }
    url = format!("{url}{}:{}/", host?, port?);
    url += &raw.database.get().map(|database| encode(database)).unwrap_or_default();
    let mode = raw.sslmode.get().map(|mode| match mode {
        SslMode::Disable => "sslmode=disable".to_owned(),
        SslMode::Prefer => "sslmode=prefer".to_owned(),
        SslMode::Require => "sslmode=require".to_owned(),
        SslMode::VerifyFull => "sslmode=verify-full".to_owned(),
    });
    let root_cert =
        raw.sslrootcert.get().map(|path| with_resolved_path(root, &format!("sslrootcert={}", encode(path))));
    let query: Vec<String> = mode.into_iter().chain(root_cert).collect();
    Some(if query.is_empty() { url } else { format!("{url}?{}", query.join("&")) })
}

fn check_host(host: &str, span: Range<usize>, report: &mut FileProblems<'_>) -> Option<String> {
    if host.parse::<Ipv6Addr>().is_ok() {
        return Some(format!("[{host}]"));
    }
    let is_socket = host.starts_with('/');
    if !is_socket && host.contains([':', '/', '@', ' ']) {
        let hint = "write only the name or the address; write a port as \"port\", and a URL as \"url\"";
        report.add(span, "\"host\" has more than a host", hint.to_owned());
        return None;
    }
    Some(encode(host))
}

fn check_port(raw: &raw::Field<NumberOrText>, report: &mut FileProblems<'_>) -> Option<u16> {
    let Some((port, span)) = raw.get().zip(raw.span()) else { return Some(5432) };
    let number = match port {
        NumberOrText::Number(number) => u16::try_from(*number).ok(),
        NumberOrText::Text(text) => text.parse().ok(),
    };
    let number = number.filter(|number| *number > 0);
    if number.is_none() {
        report.add(span.clone(), format!("\"port\": expected 1 to 65535, found {}", report.written(&span)), None);
    }
    number
}
