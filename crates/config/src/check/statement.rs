//! Reads `statements/NAME.toml`, its template and its labels.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base::suggestion;
use bill::Labels;

use super::super::Problem;
use super::super::flow::{Controls, Statement};
use super::super::problem::FileProblems;
use super::super::raw::{self, Field, FileKind};
use super::super::schema_check;
use super::files::{read_text, with_extension};
use super::load::table;
use super::{job, placeholders, stem, texts};

const FOLDER: &str = "statements";
const OUT: &str = "outbox/statements";

/// Reads all statements, by name.
pub fn load(
    root: &Path,
    zone: &str,
    controls: &BTreeMap<String, Controls>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Statement> {
    let mut statements = BTreeMap::new();
    for file in with_extension(root, Path::new(FOLDER), "toml", problems) {
        let Ok(text) = read_text(root, &file).map_err(|problem| problems.push(problem)) else { continue };
        let mut report = FileProblems::new(&file, &text);
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
    report: &mut FileProblems<'_>,
) -> Option<Statement> {
    let name = stem(file);
    if !texts::is_name(&name) {
        let what = format!("{name:?} is not a valid name for a statement");
        report.add(0..0, what, "name the file with a-z, 0-9, _ and - only".to_owned());
    }
    let tree = schema_check::tree(report)?;
    let raw: raw::Statement = schema_check::read(FileKind::Statement, tree, report)?;
    let template = read_named_file(root, &raw.template, report, |text, name| {
        bill::check_template(name, text).map_err(|error| base::chain(&error))
    });
    let labels =
        read_named_file(root, &raw.labels, report, |text, _| Labels::parse(text).map_err(|error| base::chain(&error)));
    for query in [&raw.lines, &raw.days] {
        if let (Some(text), Some(span)) = (query.get(), query.span()) {
            placeholders::check_query(text, span, report);
        }
    }
    if let (Some(set), Some(span)) = (raw.controls.get(), raw.controls.span())
        && !controls.contains_key(set)
    {
        let known: Vec<&str> = controls.keys().map(String::as_str).collect();
        report.add(span, format!("there is no set of controls {set:?}"), suggestion("set of controls", set, &known));
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

/// Reads and parses the file that `written` names; returns its path, its text and what `read` made of it.
fn read_named_file<T>(
    root: &Path,
    written: &Field<String>,
    report: &mut FileProblems<'_>,
    read: impl Fn(&str, &str) -> Result<T, String>,
) -> Option<(PathBuf, String, T)> {
    let (file, span) = (written.get()?, written.span()?);
    let text = match std::fs::read_to_string(root.join(file)) {
        Ok(text) => text,
        Err(error) => {
            let hint =
                "see templates/statement.html and templates/fr.toml of the example, and docs/billing.md".to_owned();
            report.add(span, format!("{file} can't be read: {error}"), hint);
            return None;
        }
    };
    let read = read(&text, file).map_err(|what| report.add(span, what, None)).ok()?;
    Some((root.join(file), text, read))
}
