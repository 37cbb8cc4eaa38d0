//! `controls/SET/NAME.sql` with `controls/SET.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::flow::{Control, Controls};
use super::super::problem::{Problem, Report};
use super::super::raw::{self, Which};
use super::super::{Rules, shape};
use super::files::{self, entries, read_text, whole_file, with_extension};
use super::{holes, job, stem, texts};

const FOLDER: &str = "controls";

pub fn load(root: &Path, zone: &str, problems: &mut Vec<Problem>) -> BTreeMap<String, Controls> {
    let folder = Path::new(FOLDER);
    let found = entries(root, folder).unwrap_or_else(|problem| {
        problems.push(problem);
        Vec::new()
    });
    let mut sets = BTreeMap::new();
    for (name, _) in found.iter().filter(|(_, is_folder)| *is_folder) {
        sets.extend(set(root, name, zone, problems).map(|set| (name.clone(), set)));
    }
    for (name, _) in found.iter().filter(|(_, is_folder)| !is_folder) {
        let file = folder.join(name);
        if file.extension().is_some_and(|extension| extension == "sql") {
            let hint = format!("move it into a folder of controls: {FOLDER}/daily/{name}");
            problems.push(whole_file(&file, "a control that is in no set".to_owned(), Some(hint)));
        } else if file.extension().is_some_and(|extension| extension == "toml")
            && !found.iter().any(|(other, is_folder)| *is_folder && *other == stem(&file))
        {
            let hint = format!("make the folder {FOLDER}/{} with its controls", stem(&file));
            problems.push(whole_file(&file, "there is no folder of controls beside it".to_owned(), Some(hint)));
        }
    }
    sets
}

fn set(root: &Path, name: &str, zone: &str, problems: &mut Vec<Problem>) -> Option<Controls> {
    let folder = Path::new(FOLDER).join(name);
    if !texts::is_name(name) {
        let what = format!("a set of controls can't be called {name:?}");
        problems.push(whole_file(&folder, what, Some("name the folder with a-z, 0-9, _ and - only".to_owned())));
    }
    let files = with_extension(root, &folder, "sql", problems);
    let first = files.first()?;
    let mut file = root.join(first);
    let mut rules = Rules { retries: 0, ..Rules::default() };
    let settings = Path::new(FOLDER).join(format!("{name}.toml"));
    if root.join(&settings).exists() {
        let text = read_text(root, &settings).map_err(|problem| problems.push(problem)).ok()?;
        let mut report = Report::new(&settings, &text);
        let written = shape::tree(&mut report);
        let written: Option<raw::Controls> = written.and_then(|tree| shape::read(Which::Controls, tree, &mut report));
        if let Some(raw) = written {
            rules = job::rules(raw.triggers.get().map_or(&[], Vec::as_slice), &raw.run, zone, &mut report);
        }
        problems.extend(report.finish());
        file = root.join(&settings);
    }
    let mut controls = BTreeMap::new();
    for file in &files {
        let Ok(text) = read_text(root, file).map_err(|problem| problems.push(problem)) else { continue };
        let head = files::head(&text);
        let mut report = Report::new(file, &head);
        let control = control(file, &text, &mut report);
        problems.extend(report.finish());
        controls.extend(control.map(|control| (control.name.clone(), control)));
    }
    Some(Controls { name: name.to_owned(), file, controls, rules })
}

fn control(file: &Path, text: &str, report: &mut Report<'_>) -> Option<Control> {
    let body = files::body(text, report);
    let tree = shape::tree(report)?;
    let raw: raw::Control = shape::read(Which::Control, tree, report)?;
    holes::check(&text[body..], &holes::OF_CONTROLS, body..body, report);
    let tolerance = raw.tolerance.get().map_or(0.0, |number| number.value());
    if let (Some(span), false) = (raw.tolerance.span(), holes::has(text, "tolerance")) {
        let hint = "write {tolerance} in the query, or take it out".to_owned();
        report.add(span, "a tolerance that the query does not ask for", hint);
    }
    if let Err(error) = sql::references(&holes::fill(text, &|word| holes::sample(word).to_owned())) {
        report.add(body..body, crate::report::chain(&error), None);
    }
    Some(Control {
        name: stem(file),
        blocks: matches!(raw.severity.get()?, raw::Severity::Block),
        text: raw.text.get()?.clone(),
        hint: raw.hint.get().cloned(),
        tolerance,
        rows_max: raw.rows_max.get().copied().unwrap_or(0).into(),
        sql: text.to_owned(),
    })
}
