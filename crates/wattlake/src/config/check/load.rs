//! `loads/NAME.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use ::ingest::layout::{Column, Layout};
use ::ingest::load::Roles;
use toml::Spanned;

use super::super::flow::{From, Function, Ingest, Load, Part};
use super::super::job::{After, Trigger};
use super::super::nearest::advice;
use super::super::problem::{Problem, Report};
use super::super::raw::{self, Given, Which};
use super::super::shape;
use super::files::{read_text, with_extension};
use super::{ingest, job, stem, texts};

const FOLDER: &str = "loads";

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
        let (mut report, mut elsewhere) = (Report::new(&file, &text), Vec::new());
        let load = Written { root, file: &file, zone, ingests, functions }.check(&mut report, &mut elsewhere);
        problems.extend(report.finish());
        problems.extend(elsewhere);
        loads.extend(load.map(|load| (load.name.clone(), load)));
    }
    loads
}

struct Written<'a> {
    root: &'a Path,
    file: &'a Path,
    zone: &'a str,
    ingests: &'a BTreeMap<String, Ingest>,
    functions: &'a BTreeMap<String, Function>,
}

impl Written<'_> {
    fn check(&self, report: &mut Report<'_>, elsewhere: &mut Vec<Problem>) -> Option<Load> {
        let name = stem(self.file);
        if !texts::is_name(&name) {
            let what = format!("a load can't be called {name:?}");
            report.add(0..0, what, "name the file with a-z, 0-9, _ and - only".to_owned());
        }
        let tree = shape::tree(report)?;
        let raw: raw::Load = shape::read(Which::Load, tree, report)?;
        let from = self.from(&raw, report, elsewhere);
        let (schema, table) = table(&raw.table, report)?;
        let from = from?;
        let layout = match &from {
            From::Ingest(name) => &self.ingests.get(name)?.layout,
            From::Function { layout, .. } => layout,
        };
        let document = columns(&raw.document, layout, false, report);
        let roles = Roles {
            key: columns(&raw.key, layout, false, report),
            amounts: columns(&raw.amounts, layout, true, report),
            carried: columns(&raw.carried, layout, false, report),
        };
        for (key, span) in [("key", raw.key.span()), ("amounts", raw.amounts.span()), ("carried", raw.carried.span())] {
            if let (Some(span), true) = (span, document.is_empty()) {
                let hint = "name the columns of a document with `document`".to_owned();
                report.add(span, format!("{key:?} without a \"document\""), hint);
            }
        }
        if let (Some(span), true) = (raw.document.span(), roles.key.is_empty()) {
            let hint = "add `key`, the columns by which its rows are known again".to_owned();
            report.add(span, "a document without a key of its rows", hint);
        }
        let mut rules = job::rules(raw.triggers.get().map_or(&[], Vec::as_slice), &raw.run, self.zone, report);
        if raw.triggers.get().is_none() {
            rules.triggers = vec![Trigger::After(After { job: from.job(), line: 0, column: 0 })];
        }
        Some(Load { name, file: self.root.join(self.file), from, schema, table, document, roles, rules })
    }

    fn from(&self, raw: &raw::Load, report: &mut Report<'_>, elsewhere: &mut Vec<Problem>) -> Option<From> {
        let (text, span) = (raw.from.get()?, raw.from.span()?);
        let unknown = |what: &str, name: &str, known: Vec<&str>, report: &mut Report<'_>| {
            report.add(span.clone(), format!("there is no {what} {name:?}"), advice(what, name, &known));
            None
        };
        match text.split_once(':') {
            Some(("ingest", name)) => {
                for (key, given) in [("at", raw.at.span()), ("file", raw.file.span()), ("layout", raw.layout.span())] {
                    if let Some(given) = given {
                        let what = format!("{key:?} means nothing beside an ingest, which has a layout");
                        report.add(given, what, format!("take {key:?} out"));
                    }
                }
                if self.ingests.contains_key(name) {
                    return Some(From::Ingest(name.to_owned()));
                }
                unknown("ingest", name, self.ingests.keys().map(String::as_str).collect(), report)
            }
            Some(("function", name)) => {
                let jobs = self.functions.values().filter(|function| function.call.is_some());
                let known: Vec<&str> = jobs.map(|function| function.name.as_str()).collect();
                if !known.contains(&name) {
                    return unknown("function with a job.toml", name, known, report);
                }
                if raw.layout.get().is_none() {
                    let hint = "add `layout`, a file that says what its rows look like".to_owned();
                    report.add(span.clone(), "rows of a function need a layout", hint);
                }
                let (_, layout) = ingest::layout(self.root, &raw.layout, report, elsewhere)?;
                let part = match (raw.at.get(), raw.file.get(), raw.file.span()) {
                    (Some(_), Some(_), Some(span)) => {
                        report.add(span, "rows under a name and of a file", "take \"at\" or \"file\" out".to_owned());
                        return None;
                    }
                    (_, Some(file), Some(span)) => {
                        if self.functions.get(name).is_some_and(|function| function.definition.settings.files.is_none())
                        {
                            let hint = format!("add [files] to functions/{name}/function.toml");
                            report.add(span, format!("{name} may leave no files"), hint);
                        }
                        Part::File(file.clone())
                    }
                    (Some(at), ..) => Part::At(at.clone()),
                    _ => Part::Whole,
                };
                Some(From::Function { name: name.to_owned(), part, layout: Box::new(layout) })
            }
            _ => {
                let hint = "write \"ingest:NAME\" or \"function:NAME\"".to_owned();
                report.add(span, format!("{text:?} names nothing to load from"), hint);
                None
            }
        }
    }
}

pub fn table(raw: &Given<String>, report: &mut Report<'_>) -> Option<(String, String)> {
    let (text, span) = (raw.get()?, raw.span()?);
    match text.split_once('.') {
        Some((schema, table)) if texts::is_plain(schema) && texts::is_plain(table) => {
            Some((schema.to_owned(), table.to_owned()))
        }
        _ => {
            let hint = "write \"schema.table\" with a-z, 0-9 and _".to_owned();
            report.add(span, format!("{text:?} is no name for a table"), hint);
            None
        }
    }
}

fn columns(raw: &Given<Vec<Spanned<String>>>, layout: &Layout, numbers: bool, report: &mut Report<'_>) -> Vec<String> {
    let fits = |column: &&Column| !numbers || column.kind.is_number();
    let known: Vec<&str> = layout.columns.iter().filter(fits).map(|column| column.name.as_str()).collect();
    let written = raw.get().map_or(&[][..], Vec::as_slice);
    for name in written.iter().filter(|name| !known.contains(&name.get_ref().as_str())) {
        let of = if numbers { "column of numbers" } else { "column" };
        let what = format!("the layout has no {of} {:?}", name.get_ref());
        report.add(name.span(), what, advice("column", name.get_ref(), &known));
    }
    written.iter().map(|name| name.get_ref().clone()).collect()
}
