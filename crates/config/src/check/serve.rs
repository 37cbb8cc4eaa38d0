//! Checks `[serve]` and `[roles]` of `wattlake.toml`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;

use super::super::problem::FileProblems;
use super::super::raw::{self, Field};
use super::super::{Role, Secret, Serve, Tls};
use super::{job, keys, texts};

const SQL: &str = "127.0.0.1:5433";
const HTTP: &str = "127.0.0.1:8433";
const FUNCTIONS: &str = "127.0.0.1:8434";
const MODELS: &str = "127.0.0.1:8435";
const OFF: &str = "off";
const CONNECTIONS_MAX: u32 = 100;
const RUNS_MAX: u32 = 4;
const EVENTS_MAX: u32 = 1000;
const SHUTDOWN_GRACE: Duration = Duration::from_secs(30);
const QUERY_TIME_MAX: Duration = Duration::from_secs(600);

/// Checks `[serve]`; keys that are missing get their defaults.
pub fn check(root: &Path, raw: &raw::Serve, report: &mut FileProblems<'_>) -> Option<Serve> {
    // The time zone is not taken: queries and periods need it too, so an unset variable in it is a problem of the file.
    // An unset secret of a key is a problem of the key.
    let is_other = |key: &String| key != "timezone" && key != "keys";
    let unset = report.take_unset(|path| path[0] == "serve" && path.get(1).is_none_or(is_other));
    let keys: BTreeMap<_, _> = raw.keys.iter().map(|(name, key)| keys::check(name, key.get_ref(), report)).collect();
    let tls = check_tls(root, raw, report);
    let sql = address("sql", &raw.sql, SQL, report);
    let http = address("http", &raw.http, HTTP, report);
    let functions = address("functions", &raw.functions, FUNCTIONS, report);
    let open = *raw.open.get().unwrap_or(&false);
    let encrypted = tls.as_ref().is_some_and(|tls| tls.required);
    refuse_open(&raw.sql, sql, open || encrypted, "with tls_cert, tls_key and tls_required = true", report);
    refuse_open(&raw.http, http, open, "behind a proxy with TLS and authentication", report);
    let models = address("models", &raw.models, MODELS, report);
    for (field, address) in [(&raw.functions, functions), (&raw.models, models)] {
        refuse_open(field, address, open || tls.is_some(), "with tls_cert and tls_key", report);
        refuse_without_keys(field, address, !keys.is_empty(), report);
    }
    Some(Serve {
        sql,
        http,
        functions,
        models,
        keys,
        events_max: *raw.events_max.get().unwrap_or(&EVENTS_MAX) as usize,
        functions_memory_max: bytes(&raw.functions_memory_max, report),
        tls,
        connections_max: *raw.connections_max.get().unwrap_or(&CONNECTIONS_MAX) as usize,
        memory_bytes_max: bytes(&raw.memory_max, report),
        query_memory_bytes_max: bytes(&raw.query_memory_max, report),
        query_time_max: job::duration(&raw.query_time_max, report).unwrap_or(QUERY_TIME_MAX),
        timezone: check_zone(&raw.timezone, report),
        runs_max: *raw.runs_max.get().unwrap_or(&RUNS_MAX) as usize,
        shutdown_grace: job::duration(&raw.shutdown_grace, report).unwrap_or(SHUTDOWN_GRACE),
        unset,
    })
}

fn address(key: &str, raw: &Field<String>, default: &str, report: &mut FileProblems<'_>) -> Option<SocketAddr> {
    let text = raw.get().map_or(default, String::as_str);
    if text == OFF {
        return None;
    }
    let parsed = text.parse().ok();
    if let (None, Some(span)) = (parsed, raw.span()) {
        let what = format!("{key:?}: {text:?} is not an address with a port");
        report.add(span, what, format!("write {default:?}, {:?} or \"{OFF}\"", default.replace("127.0.0.1", "[::1]")));
    }
    parsed
}

/// Refuses an address that other machines reach without TLS, unless the configuration allows it explicitly.
fn refuse_open(
    raw: &Field<String>,
    address: Option<SocketAddr>,
    allowed: bool,
    safe: &str,
    report: &mut FileProblems<'_>,
) {
    if let (Some(address), Some(span)) = (address, raw.span())
        && !address.ip().is_loopback()
        && !allowed
    {
        let what = format!("{address} can be reached from the network without TLS");
        report.add(span, what, format!("listen on 127.0.0.1, or {safe}, or allow it with open = true"));
    }
}

/// Refuses an address that other machines reach where nobody needs a key.
fn refuse_without_keys(
    raw: &Field<String>,
    address: Option<SocketAddr>,
    has_keys: bool,
    report: &mut FileProblems<'_>,
) {
    if let (Some(address), Some(span)) = (address, raw.span())
        && !address.ip().is_loopback()
        && !has_keys
    {
        let what = format!("{address} can be reached from the network without a key");
        report.add(span, what, "listen on 127.0.0.1, or add [serve.keys.NAME]".to_owned());
    }
}

fn check_tls(root: &Path, raw: &raw::Serve, report: &mut FileProblems<'_>) -> Option<Tls> {
    let file = |key: &str, given: &Field<String>, report: &mut FileProblems<'_>| {
        let (text, span) = (given.get()?, given.span()?);
        let path = root.join(text);
        if !path.is_file() {
            report.add(
                span,
                format!("{key:?}: there is no file {text:?}"),
                "the path is relative to this file".to_owned(),
            );
        }
        Some(path)
    };
    let cert = file("tls_cert", &raw.tls_cert, report);
    let key = file("tls_key", &raw.tls_key, report);
    let required = *raw.tls_required.get().unwrap_or(&false);
    match (cert, key) {
        (Some(cert), Some(key)) => return Some(Tls { cert, key, required }),
        (None, None) if !required => {}
        _ => {
            let span = [raw.tls_cert.span(), raw.tls_key.span(), raw.tls_required.span()].into_iter().flatten().next();
            let hint = "write both tls_cert and tls_key".to_owned();
            report.add(span.unwrap_or(0..0), "TLS needs a certificate and its key", hint);
        }
    }
    None
}

fn bytes(raw: &Field<String>, report: &mut FileProblems<'_>) -> Option<usize> {
    let (text, span) = (raw.get()?, raw.span()?);
    let bytes = base::parse_bytes(text);
    if bytes.is_none() {
        report.add(
            span,
            format!("{text:?} is not an amount of memory"),
            "write a whole number and MB or GB: \"4GB\"".to_owned(),
        );
    }
    bytes
}

fn check_zone(raw: &Field<String>, report: &mut FileProblems<'_>) -> String {
    let (Some(zone), Some(span)) = (raw.get(), raw.span()) else { return "UTC".to_owned() };
    // The check of schedules knows which names of zones are valid.
    match schedule::Cron::parse("0 0 * * *", zone) {
        Ok(_) => zone.clone(),
        Err(error) => {
            report.add(span, error.to_string(), None);
            "UTC".to_owned()
        }
    }
}

/// Checks one of `[roles]`; returns it with its name.
pub fn role(name: &Spanned<String>, raw: raw::Role, report: &mut FileProblems<'_>) -> (String, Role) {
    if !texts::is_name(name.get_ref()) {
        let what = format!("{:?} is not a valid name for a role", name.get_ref());
        report.add(name.span(), what, "use a-z, 0-9, _ and - only".to_owned());
    }
    let tables: Vec<String> = raw.tables.get().into_iter().flatten().map(|pattern| pattern.get_ref().clone()).collect();
    for pattern in raw.tables.get().into_iter().flatten().filter(|pattern| !texts::is_pattern(pattern.get_ref())) {
        let text = pattern.get_ref();
        report.add(
            pattern.span(),
            format!("the pattern {text:?} matches no \"schema.table\""),
            format!("write \"platform.{text}\" or \"*.{text}\""),
        );
    }
    for table in raw.filters.keys().filter(|table| !table.contains('.')) {
        let what = format!("the filter of {table:?} names a table without its schema");
        report.add(name.span(), what, format!("write \"platform.{table}\""));
    }
    // Variables of filters count too: without a filter, the role could read rows that it must not.
    let password = match report.take_unset_under(&["roles", name.get_ref()]) {
        Some(unset) => Err(unset),
        None => Ok(Secret::new(raw.password.get().cloned().unwrap_or_default())),
    };
    let role = Role { password, tables, filters: raw.filters, system: *raw.system.get().unwrap_or(&false) };
    (name.get_ref().clone(), role)
}
