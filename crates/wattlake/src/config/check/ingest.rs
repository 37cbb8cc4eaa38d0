//! `ingests/NAME.toml`, with the layout that it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ingest::layout::Layout;
use ingest::source::{Pattern, Template};
use toml::Spanned;
use url::Url;

use super::super::expand::{self, Env};
use super::super::flow::{Ingest, Sftp, Source};
use super::super::problem::{Problem, Report};
use super::super::raw::{self, Given, Which};
use super::super::{Secret, shape};
use super::files::{read_text, with_extension};
use super::{job, stem, texts};

const FOLDER: &str = "ingests";
const SETTLE: Duration = Duration::from_secs(2);

pub fn load(
    root: &Path,
    zone: &str,
    env: Env<'_>,
    problems: &mut Vec<Problem>,
    unset: &mut Vec<Problem>,
) -> BTreeMap<String, Ingest> {
    let mut ingests = BTreeMap::new();
    for file in with_extension(root, Path::new(FOLDER), "toml", problems) {
        let Ok(text) = read_text(root, &file).map_err(|problem| problems.push(problem)) else { continue };
        let mut report = Report::new(&file, &text);
        let mut elsewhere = Vec::new();
        let ingest = check(root, &file, zone, env, &mut report, &mut elsewhere);
        unset.extend(report.taken());
        problems.extend(report.finish());
        problems.extend(elsewhere);
        ingests.extend(ingest.map(|ingest| (ingest.name.clone(), ingest)));
    }
    ingests
}

fn check(
    root: &Path,
    file: &Path,
    zone: &str,
    env: Env<'_>,
    report: &mut Report<'_>,
    elsewhere: &mut Vec<Problem>,
) -> Option<Ingest> {
    let name = stem(file);
    if !texts::is_name(&name) {
        let what = format!("an ingest can't be called {name:?}");
        report.add(0..0, what, "name the file with a-z, 0-9, _ and - only".to_owned());
    }
    let mut tree = shape::tree(report)?;
    expand::strings(tree.get_mut(), env, report);
    let raw: raw::Ingest = shape::read(Which::Ingest, tree, report)?;
    let settle = raw.source.get().and_then(|source| job::duration(&source.settle, report)).unwrap_or(SETTLE);
    let source = match report.take_unset_under(&["source"]) {
        Some(unset) => Some(Err(unset)),
        None => raw
            .source
            .get()
            .zip(raw.source.span())
            .and_then(|(source, span)| check_source(root, source, span, report).map(Ok)),
    };
    let layout = layout(root, &raw.layout, report, elsewhere);
    let rules = job::rules(raw.triggers.get().map_or(&[], Vec::as_slice), &raw.run, zone, report);
    let (layout_file, layout) = layout?;
    Some(Ingest { name, file: root.join(file), source: source?, settle, layout_file, layout, rules })
}

/// Read from the file that `written` names; what is wrong in it goes to `elsewhere`.
pub fn layout(
    root: &Path,
    written: &Given<String>,
    report: &mut Report<'_>,
    elsewhere: &mut Vec<Problem>,
) -> Option<(PathBuf, Layout)> {
    let (file, span) = (Path::new(written.get()?), written.span()?);
    if !root.join(file).is_file() {
        let hint = "name a file that says what the data looks like: docs/billing.md".to_owned();
        report.add(span, format!("there is no file {}", file.display()), hint);
        return None;
    }
    let text = read_text(root, file).map_err(|problem| elsewhere.push(problem)).ok()?;
    let told = |problem: ingest::layout::Problem| Problem {
        file: file.to_owned(),
        line: problem.line,
        column: problem.column,
        what: problem.what,
        hint: problem.hint,
    };
    let layout = Layout::parse(&text);
    let layout = layout.map_err(|found| elsewhere.extend(found.into_iter().map(told))).ok()?;
    Some((root.join(file), layout))
}

fn check_source(root: &Path, raw: &raw::Source, at: std::ops::Range<usize>, report: &mut Report<'_>) -> Option<Source> {
    let ways = [
        ("folder", raw.folder.span()),
        ("sftp", raw.sftp.span()),
        ("urls", raw.urls.span()),
        ("store", raw.store.span()),
    ];
    let ways: Vec<&str> = ways.into_iter().filter_map(|(key, span)| span.map(|_| key)).collect();
    let [way] = ways[..] else {
        if let [first, second, ..] = ways[..] {
            let hint = "write a file in ingests/ for each".to_owned();
            report.add(at, format!("a source with {first:?} and {second:?}"), hint);
        }
        return None;
    };
    for (key, of, given) in [
        ("password", "sftp", raw.password.span()),
        ("key", "sftp", raw.key.span()),
        ("passphrase", "sftp", raw.passphrase.span()),
        ("fingerprint", "sftp", raw.fingerprint.span()),
        ("known_hosts", "sftp", raw.known_hosts.span()),
    ] {
        if let Some(given) = given.filter(|_| of != way) {
            report.add(given, format!("{key:?} means nothing beside {way:?}"), format!("it goes with {of:?}"));
        }
    }
    if let (Some(span), "urls") = (raw.files.span(), way) {
        report.add(span, "\"files\" means nothing beside \"urls\"", "a URL is one file".to_owned());
    }
    let files = patterns(&raw.files, report);
    let secrets = |texts: &BTreeMap<String, String>| {
        texts.iter().map(|(key, value)| (key.clone(), Secret::new(value))).collect::<BTreeMap<_, _>>()
    };
    Some(match way {
        "folder" => Source::Folder { folder: root.join(raw.folder.get()?), files },
        "sftp" => Source::Sftp { at: Box::new(sftp(root, raw, report)?), files },
        "urls" => Source::Urls { urls: urls(&raw.urls, report), headers: secrets(&raw.headers) },
        _ => Source::Store { url: raw.store.get()?.clone(), options: secrets(&raw.options), files },
    })
}

fn patterns(raw: &Given<Vec<Spanned<String>>>, report: &mut Report<'_>) -> Vec<String> {
    let Some(written) = raw.get() else { return vec!["**".to_owned()] };
    for text in written {
        let day = chrono::NaiveDate::default();
        let read = Template::parse(text.get_ref()).and_then(|template| Pattern::parse(&template.fill(day)));
        if let Err(error) = read {
            report.add(text.span(), crate::report::chain(&error), None);
        }
    }
    written.iter().map(|text| text.get_ref().clone()).collect()
}

fn urls(raw: &Given<Vec<Spanned<String>>>, report: &mut Report<'_>) -> Vec<String> {
    let Some(written) = raw.get() else { return Vec::new() };
    for text in written {
        let day = chrono::NaiveDate::default();
        match Template::parse(text.get_ref()) {
            Err(error) => report.add(text.span(), crate::report::chain(&error), None),
            // Not quoted: it may hold a secret.
            Ok(template) if !Url::parse(&template.fill(day)).is_ok_and(|u| matches!(u.scheme(), "http" | "https")) => {
                report.add(text.span(), "no URL of HTTP", "write \"https://host/path\"".to_owned());
            }
            Ok(_) => {}
        }
    }
    written.iter().map(|text| text.get_ref().clone()).collect()
}

fn sftp(root: &Path, raw: &raw::Source, report: &mut Report<'_>) -> Option<Sftp> {
    let (text, span) = (raw.sftp.get()?, raw.sftp.span()?);
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "sftp" && url.host_str().is_some());
    let Some(url) = url.filter(|url| !url.username().is_empty() && url.password().is_none()) else {
        let hint = "write \"sftp://user@host:22/folder\", and the password as `password`".to_owned();
        report.add(span, "no URL of SFTP with a user", hint);
        return None;
    };
    if raw.password.get().is_none() && raw.key.get().is_none() {
        report.add(span, "nothing to log in with", "add `password` or `key`".to_owned());
        return None;
    }
    if raw.fingerprint.get().is_none() && raw.known_hosts.get().is_none() {
        let hint = "add `fingerprint` (ssh-keygen -lf) or `known_hosts`".to_owned();
        report.add(span, "nothing tells the right server from another", hint);
        return None;
    }
    Some(Sftp {
        host: url.host_str()?.to_owned(),
        port: url.port().unwrap_or(22),
        user: url.username().to_owned(),
        folder: url.path().to_owned(),
        password: raw.password.get().map(Secret::new),
        key: raw.key.get().map(|file| root.join(file)),
        passphrase: raw.passphrase.get().map(Secret::new),
        fingerprint: raw.fingerprint.get().cloned(),
        known_hosts: raw.known_hosts.get().map(|file| root.join(file)),
    })
}
