//! Reads `ingests/NAME.toml` and the layout that it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ingest::layout::Layout;
use ingest::source::{Pattern, Template};
use toml::Spanned;
use url::Url;

use super::super::Problem;
use super::super::expand::{self, Env};
use super::super::flow::{Ingest, IngestSource, Sftp};
use super::super::problem::FileProblems;
use super::super::raw::{self, Field, FileKind};
use super::super::{Secret, schema_check};
use super::files::{read_text, with_extension};
use super::{job, stem, texts};

const FOLDER: &str = "ingests";
const SETTLE: Duration = Duration::from_secs(2);

/// Reads all ingests, by name. Variables that are not set go to `unset`.
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
        let mut report = FileProblems::new(&file, &text);
        let mut layout_problems = Vec::new();
        let ingest = check(root, &file, zone, env, &mut report, &mut layout_problems);
        unset.extend(report.taken());
        problems.extend(report.finish());
        problems.extend(layout_problems);
        ingests.extend(ingest.map(|ingest| (ingest.name.clone(), ingest)));
    }
    ingests
}

fn check(
    root: &Path,
    file: &Path,
    zone: &str,
    env: Env<'_>,
    report: &mut FileProblems<'_>,
    layout_problems: &mut Vec<Problem>,
) -> Option<Ingest> {
    let name = stem(file);
    if !texts::is_name(&name) {
        let what = format!("{name:?} is not a valid name for an ingest");
        report.add(0..0, what, "name the file with a-z, 0-9, _ and - only".to_owned());
    }
    let mut tree = schema_check::tree(report)?;
    expand::strings(tree.get_mut(), env, report);
    let raw: raw::Ingest = schema_check::read(FileKind::Ingest, tree, report)?;
    let settle = raw.source.get().and_then(|source| job::duration(&source.settle, report)).unwrap_or(SETTLE);
    let source = match report.take_unset_under(&["source"]) {
        Some(unset) => Some(Err(unset)),
        None => raw
            .source
            .get()
            .zip(raw.source.span())
            .and_then(|(source, span)| check_source(root, source, span, report).map(Ok)),
    };
    let layout = layout(root, &raw.layout, report, layout_problems);
    let rules = job::rules(raw.triggers.get().map_or(&[], Vec::as_slice), &raw.run, zone, report);
    let (layout_file, layout) = layout?;
    Some(Ingest { name, file: root.join(file), source: source?, settle, layout_file, layout, rules })
}

/// Reads the layout that `written` names; its problems go to `layout_problems`, since they are in another file.
pub fn layout(
    root: &Path,
    written: &Field<String>,
    report: &mut FileProblems<'_>,
    layout_problems: &mut Vec<Problem>,
) -> Option<(PathBuf, Layout)> {
    let (file, span) = (Path::new(written.get()?), written.span()?);
    if !root.join(file).is_file() {
        let hint = "name the file of a layout, as in docs/billing.md".to_owned();
        report.add(span, format!("there is no file {}", file.display()), hint);
        return None;
    }
    let text = read_text(root, file).map_err(|problem| layout_problems.push(problem)).ok()?;
    let in_file = |problem: Problem| Problem { file: file.to_owned(), ..problem };
    let layout = Layout::parse(&text);
    let layout = layout.map_err(|found| layout_problems.extend(found.into_iter().map(in_file))).ok()?;
    Some((root.join(file), layout))
}

fn check_source(
    root: &Path,
    raw: &raw::Source,
    at: std::ops::Range<usize>,
    report: &mut FileProblems<'_>,
) -> Option<IngestSource> {
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
            report.add(at, format!("a source can't have both {first:?} and {second:?}"), hint);
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
            report.add(
                given,
                format!("{key:?} can't be used with {way:?}"),
                format!("use it with {of:?}, or remove it"),
            );
        }
    }
    if let (Some(span), "urls") = (raw.files.span(), way) {
        report.add(span, "\"files\" can't be used with \"urls\"", "remove it: each URL is one file".to_owned());
    }
    let files = patterns(&raw.files, report);
    let secrets = |texts: &BTreeMap<String, String>| {
        texts.iter().map(|(key, value)| (key.clone(), Secret::new(value))).collect::<BTreeMap<_, _>>()
    };
    Some(match way {
        "folder" => IngestSource::Folder { folder: root.join(raw.folder.get()?), files },
        "sftp" => IngestSource::Sftp { at: Box::new(sftp(root, raw, report)?), files },
        "urls" => IngestSource::Urls { urls: urls(&raw.urls, report), headers: secrets(&raw.headers) },
        _ => IngestSource::Store { url: raw.store.get()?.clone(), options: secrets(&raw.options), files },
    })
}

fn patterns(raw: &Field<Vec<Spanned<String>>>, report: &mut FileProblems<'_>) -> Vec<String> {
    let Some(written) = raw.get() else { return vec!["**".to_owned()] };
    for text in written {
        let day = chrono::NaiveDate::default();
        let read = Template::parse(text.get_ref()).and_then(|template| Pattern::parse(&template.fill(day)));
        if let Err(error) = read {
            report.add(text.span(), base::chain(&error), None);
        }
    }
    written.iter().map(|text| text.get_ref().clone()).collect()
}

fn urls(raw: &Field<Vec<Spanned<String>>>, report: &mut FileProblems<'_>) -> Vec<String> {
    let Some(written) = raw.get() else { return Vec::new() };
    for text in written {
        let day = chrono::NaiveDate::default();
        match Template::parse(text.get_ref()) {
            Err(error) => report.add(text.span(), base::chain(&error), None),
            // Not quoted: it may hold a secret.
            Ok(template) if !Url::parse(&template.fill(day)).is_ok_and(|u| matches!(u.scheme(), "http" | "https")) => {
                report.add(text.span(), "this is not an HTTP URL", "write \"https://host/path\"".to_owned());
            }
            Ok(_) => {}
        }
    }
    written.iter().map(|text| text.get_ref().clone()).collect()
}

fn sftp(root: &Path, raw: &raw::Source, report: &mut FileProblems<'_>) -> Option<Sftp> {
    let (text, span) = (raw.sftp.get()?, raw.sftp.span()?);
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "sftp" && url.host_str().is_some());
    let Some(url) = url.filter(|url| !url.username().is_empty() && url.password().is_none()) else {
        let hint = "write \"sftp://user@host:22/folder\", and a password as `password`".to_owned();
        report.add(span, "this is not an SFTP URL with a user", hint);
        return None;
    };
    if raw.password.get().is_none() && raw.key.get().is_none() {
        report.add(span, "a password or a key is missing", "add `password` or `key`".to_owned());
        return None;
    }
    if raw.fingerprint.get().is_none() && raw.known_hosts.get().is_none() {
        let hint = "add `fingerprint` (ssh-keygen -lf) or `known_hosts`".to_owned();
        report.add(span, "the server can't be verified", hint);
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
