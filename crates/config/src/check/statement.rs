//! Reads `statements/NAME.toml`, its template and its labels.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base::suggestion;
use bill::{Company, Labels, Syntax};

use super::super::Problem;
use super::super::flow::{Controls, DUE_DAYS, InvoiceSettings, PdfTemplate, Statement};
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
    let mut statements: BTreeMap<String, Statement> = BTreeMap::new();
    for file in with_extension(root, Path::new(FOLDER), "toml", problems) {
        let Ok(text) = read_text(root, &file).map_err(|problem| problems.push(problem)) else { continue };
        let mut report = FileProblems::new(&file, &text);
        let statement = check(root, &file, zone, controls, &mut report);
        problems.extend(report.finish());
        let Some(statement) = statement else { continue };
        let of = |one: &Statement| (one.schema.clone(), one.table.clone());
        let shares = |other: &&Statement| other.folder == statement.folder && of(other) != of(&statement);
        if let Some(other) = statements.values().find(shares) {
            let what = format!(
                "statement {} writes into the same folder by another register, with the same numbers",
                other.name
            );
            let hint = Some("give one of them a folder of its own, or both the same table".to_owned());
            problems.push(Problem { file: file.clone(), line: 1, column: 1, what, hint });
        }
        statements.insert(statement.name.clone(), statement);
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
    // Its syntax and what it uses are known only when a page is typeset.
    let pdf = read_named_file(root, &raw.pdf, report, |_, _| Ok(()));
    for (of, text) in [(&raw.template, template.as_ref().map(|one| &one.1)), (&raw.pdf, pdf.as_ref().map(|one| &one.1))]
    {
        if let (Some(span), Some(true)) = (of.span(), text.map(|text| text.trim().is_empty())) {
            report.add(span, "the template is empty", "see templates/statement.html of the example".to_owned());
        }
    }
    if let (Some(text), Some(span)) = (raw.lines.get(), raw.lines.span())
        && !["{period}", "{from}", "{to}"].iter().any(|name| text.contains(name))
    {
        let hint = "select the lines of the period: WHERE period = '{period}'".to_owned();
        report.add(span, "the query has the lines of all periods", hint);
    }
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
        pdf: pdf.map(|(file, text, ())| PdfTemplate { file, text }),
        lines: raw.lines.get()?.clone(),
        days: raw.days.get().cloned(),
        invoice: raw.invoice.get().map(|raw| invoice(raw, report)),
        controls: raw.controls.get().cloned(),
        folder: root.join(raw.folder.get().map_or(OUT, String::as_str)),
        schema,
        table,
        rules,
    })
}

fn invoice(raw: &raw::Invoice, report: &mut FileProblems<'_>) -> InvoiceSettings {
    let written: &[raw::InvoiceSyntax] =
        raw.syntaxes.get().map_or(&[raw::InvoiceSyntax::Cii, raw::InvoiceSyntax::Ubl], Vec::as_slice);
    let syntax = |syntax: &raw::InvoiceSyntax| match syntax {
        raw::InvoiceSyntax::Cii => Syntax::Cii,
        raw::InvoiceSyntax::Ubl => Syntax::Ubl,
    };
    InvoiceSettings {
        syntaxes: written.iter().map(syntax).collect(),
        due_days: raw.due_days.get().copied().unwrap_or(DUE_DAYS),
        company: raw.company.get().and_then(|raw| company(raw, report)),
    }
}

/// The company, where its name and SIREN are filled in.
fn company(raw: &raw::Company, report: &mut FileProblems<'_>) -> Option<Company> {
    let text = |field: &Field<String>| field.get().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let company = Company {
        name: text(&raw.name)?,
        siren: text(&raw.siren)?,
        vat_number: text(&raw.vat_number),
        address: text(&raw.address),
        postcode: text(&raw.postcode),
        city: text(&raw.city),
        legal: text(&raw.legal),
        iban: text(&raw.iban),
    };
    let span = raw.siren.span().unwrap_or(0..0);
    company.checked().map_err(|error| report.add(span, base::chain(&error), None)).ok()
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
