//! Reads `loads/NAME.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use ::ingest::layout::{Column, Layout};
use ::ingest::load::ColumnRoles;
use base::suggestion;
use toml::Spanned;

use super::super::Problem;
use super::super::flow::{AnswerPart, Function, Ingest, Load, LoadSource};
use super::super::problem::FileProblems;
use super::super::raw::{self, Field, FileKind};
use super::super::schema_check;
use super::files::{read_text, with_extension};
use super::{ingest, job, stem, texts};
use schedule::{AfterTrigger, Trigger};

const FOLDER: &str = "loads";

/// Reads all loads, by name.
pub fn load(
    root: &Path,
    zone: &str,
    ingests: &BTreeMap<String, Ingest>,
    functions: &BTreeMap<String, Function>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Load> {
    let mut loads = BTreeMap::new();
    for file in with_extension(root, Path::new(FOLDER), "toml", problems) {
        let Ok(text) = read_text(root, &file).map_err(|problem| problems.push(problem)) else { continue };
        let (mut report, mut layout_problems) = (FileProblems::new(&file, &text), Vec::new());
        let load = LoadFile { root, file: &file, zone, ingests, functions }.check(&mut report, &mut layout_problems);
        problems.extend(report.finish());
        problems.extend(layout_problems);
        loads.extend(load.map(|load| (load.name.clone(), load)));
    }
    loads
}

/// A file with what its check needs.
struct LoadFile<'a> {
    root: &'a Path,
    file: &'a Path,
    zone: &'a str,
    ingests: &'a BTreeMap<String, Ingest>,
    functions: &'a BTreeMap<String, Function>,
}

impl LoadFile<'_> {
    fn check(&self, report: &mut FileProblems<'_>, layout_problems: &mut Vec<Problem>) -> Option<Load> {
        let name = stem(self.file);
        if !texts::is_name(&name) {
            let what = format!("{name:?} is not a valid name for a load");
            report.add(0..0, what, "name the file with a-z, 0-9, _ and - only".to_owned());
        }
        let tree = schema_check::tree(report)?;
        let raw: raw::Load = schema_check::read(FileKind::Load, tree, report)?;
        let from = self.from(&raw, report, layout_problems);
        let (schema, table) = table(&raw.table, report)?;
        let from = from?;
        let layout = match &from {
            LoadSource::Ingest(name) => &self.ingests.get(name)?.layout,
            LoadSource::Function { layout, .. } => layout,
        };
        let document = columns(&raw.document, layout, false, report);
        let roles = ColumnRoles {
            key: columns(&raw.key, layout, false, report),
            amounts: columns(&raw.amounts, layout, true, report),
            carried: columns(&raw.carried, layout, false, report),
        };
        for (key, span) in [("key", raw.key.span()), ("amounts", raw.amounts.span()), ("carried", raw.carried.span())] {
            if let (Some(span), true) = (span, document.is_empty()) {
                let hint = "add `document`, the columns that identify a document".to_owned();
                report.add(span, format!("{key:?} needs \"document\""), hint);
            }
        }
        if let (Some(span), true) = (raw.document.span(), roles.key.is_empty()) {
            let hint = "add `key`, the columns that identify a row of a document".to_owned();
            report.add(span, "\"document\" needs \"key\"", hint);
        }
        let mut rules = job::rules(raw.triggers.get().map_or(&[], Vec::as_slice), &raw.run, self.zone, report);
        if raw.triggers.get().is_none() {
            rules.triggers = vec![Trigger::After(AfterTrigger { job: from.job(), line: 0, column: 0 })];
        }
        Some(Load { name, file: self.root.join(self.file), from, schema, table, document, roles, rules })
    }

    fn from(
        &self,
        raw: &raw::Load,
        report: &mut FileProblems<'_>,
        layout_problems: &mut Vec<Problem>,
    ) -> Option<LoadSource> {
        let (text, span) = (raw.from.get()?, raw.from.span()?);
        let unknown = |what: &str, name: &str, known: Vec<&str>, report: &mut FileProblems<'_>| {
            report.add(span.clone(), format!("there is no {what} {name:?}"), suggestion(what, name, &known));
            None
        };
        match text.split_once(':') {
            Some(("ingest", name)) => {
                for (key, given) in [("at", raw.at.span()), ("file", raw.file.span()), ("layout", raw.layout.span())] {
                    if let Some(given) = given {
                        let what = format!("{key:?} can't be used with an ingest, which has its own layout");
                        report.add(given, what, format!("remove {key:?}"));
                    }
                }
                if self.ingests.contains_key(name) {
                    return Some(LoadSource::Ingest(name.to_owned()));
                }
                unknown("ingest", name, self.ingests.keys().map(String::as_str).collect(), report)
            }
            Some(("function", name)) => {
                let jobs = self.functions.values().filter(|function| function.job.is_some());
                let known: Vec<&str> = jobs.map(|function| function.name.as_str()).collect();
                if !known.contains(&name) {
                    return unknown("function with a job.toml", name, known, report);
                }
                if raw.layout.get().is_none() {
                    let hint = "add `layout`, the file of a layout".to_owned();
                    report.add(span.clone(), "rows of a function's answer need a layout", hint);
                }
                let (_, layout) = ingest::layout(self.root, &raw.layout, report, layout_problems)?;
                let part = match (raw.at.get(), raw.file.get(), raw.file.span()) {
                    (Some(_), Some(_), Some(span)) => {
                        report.add(span, "a load can't have both \"at\" and \"file\"", "remove one of them".to_owned());
                        return None;
                    }
                    (_, Some(file), Some(span)) => {
                        if self.functions.get(name).is_some_and(|function| function.definition.settings.files.is_none())
                        {
                            let hint = format!("add [files] to functions/{name}/function.toml");
                            report.add(span, format!("the function {name} can't write files"), hint);
                        }
                        AnswerPart::File(file.clone())
                    }
                    (Some(at), ..) => AnswerPart::At(at.clone()),
                    _ => AnswerPart::Whole,
                };
                Some(LoadSource::Function { name: name.to_owned(), part, layout: Box::new(layout) })
            }
            _ => {
                let hint = "write \"ingest:NAME\" or \"function:NAME\"".to_owned();
                report.add(span, format!("{text:?} is not a source of a load"), hint);
                None
            }
        }
    }
}

/// Checks a table's name, and splits it into schema and table.
pub fn table(raw: &Field<String>, report: &mut FileProblems<'_>) -> Option<(String, String)> {
    let (text, span) = (raw.get()?, raw.span()?);
    match text.split_once('.') {
        Some((schema, table)) if texts::is_plain(schema) && texts::is_plain(table) => {
            Some((schema.to_owned(), table.to_owned()))
        }
        _ => {
            let hint = "write \"schema.table\" with a-z, 0-9 and _".to_owned();
            report.add(span, format!("{text:?} is not a valid name for a table"), hint);
            None
        }
    }
}

/// Checks that the layout has these columns; with `numbers`, as columns of numbers.
fn columns(
    raw: &Field<Vec<Spanned<String>>>,
    layout: &Layout,
    numbers: bool,
    report: &mut FileProblems<'_>,
) -> Vec<String> {
    let fits = |column: &&Column| !numbers || column.kind.is_number();
    let known: Vec<&str> = layout.columns.iter().filter(fits).map(|column| column.name.as_str()).collect();
    let written = raw.get().map_or(&[][..], Vec::as_slice);
    for name in written.iter().filter(|name| !known.contains(&name.get_ref().as_str())) {
        let of = if numbers { "column of numbers" } else { "column" };
        let what = format!("the layout has no {of} {:?}", name.get_ref());
        report.add(name.span(), what, suggestion("column", name.get_ref(), &known));
    }
    written.iter().map(|name| name.get_ref().clone()).collect()
}
