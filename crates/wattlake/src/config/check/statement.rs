//! `statements/NAME.toml`, with its template and its words.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ::statement::Labels;

use super::super::flow::{Controls, Statement};
use super::super::nearest::advice;
use super::super::problem::{Problem, Report};
use super::super::raw::{self, Given, Which};
use super::super::shape;
use super::files::{read_text, with_extension};
use super::load::table;
use super::{holes, job, stem, texts};

const FOLDER: &str = "statements";
const OUT: &str = "outbox/statements";

pub fn load(
    root: &Path,
    zone: &str,
    controls: &BTreeMap<String, Controls>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Statement> {
    let mut statements = BTreeMap::new();
    for file in with_extension(root, Path::new(FOLDER), "toml", problems) {
        let Ok(text) = read_text(root, &file).map_err(|problem| problems.push(problem)) else { continue };
        let mut report = Report::new(&file, &text);
        let statement = check(root, &file, zone, controls, &mut report);
        problems.extend(report.finish());
        statements.extend(statement.map(|statement| (statement.name.clone(), statement)));
    }
    statements
}

fn check(
    root: &Path,
    file: &Path,
    zone: &str,
    controls: &BTreeMap<String, Controls>,
    report: &mut Report<'_>,
) -> Option<Statement> {
    let name = stem(file);
    if !texts::is_name(&name) {
        let what = format!("statements can't be called {name:?}");
        report.add(0..0, what, "name the file with a-z, 0-9, _ and - only".to_owned());
    }
    let tree = shape::tree(report)?;
    let raw: raw::Statement = shape::read(Which::Statement, tree, report)?;
    let template = beside(root, &raw.template, report, |text, name| {
        ::statement::check(name, text).map_err(|error| crate::report::chain(&error))
    });
    let labels =
        beside(root, &raw.labels, report, |text, _| Labels::parse(text).map_err(|error| crate::report::chain(&error)));
    for query in [&raw.lines, &raw.days] {
        if let (Some(text), Some(span)) = (query.get(), query.span()) {
            holes::check_query(text, span, report);
        }
    }
    if let (Some(set), Some(span)) = (raw.controls.get(), raw.controls.span())
        && !controls.contains_key(set)
    {
        let known: Vec<&str> = controls.keys().map(String::as_str).collect();
        report.add(span, format!("there are no controls {set:?}"), advice("set of controls", set, &known));
    }
    let (schema, table) = match raw.table.get() {
        Some(_) => table(&raw.table, report)?,
        None => ("billing".to_owned(), "statements".to_owned()),
    };
    let rules = job::rules(raw.triggers.get().map_or(&[], Vec::as_slice), &raw.run, zone, report);
    let ((template_file, template, ()), (labels_file, _, labels)) = (template?, labels?);
    Some(Statement {
        name,
        file: root.join(file),
        template_file,
        labels_file,
        template,
        labels,
        lines: raw.lines.get()?.clone(),
        days: raw.days.get().cloned(),
        controls: raw.controls.get().cloned(),
        folder: root.join(raw.folder.get().map_or(OUT, String::as_str)),
        schema,
        table,
        rules,
    })
}

/// The path, the text, and what was read from it.
fn beside<T>(
    root: &Path,
    written: &Given<String>,
    report: &mut Report<'_>,
    read: impl Fn(&str, &str) -> Result<T, String>,
) -> Option<(PathBuf, String, T)> {
    let (file, span) = (written.get()?, written.span()?);
    let text = match std::fs::read_to_string(root.join(file)) {
        Ok(text) => text,
        Err(error) => {
            let hint = "the example's are templates/statement.html and templates/fr.toml: docs/billing.md".to_owned();
            report.add(span, format!("{file} can't be read: {error}"), hint);
            return None;
        }
    };
    let read = read(&text, file).map_err(|what| report.add(span, what, None)).ok()?;
    Some((root.join(file), text, read))
}
