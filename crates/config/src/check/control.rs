//! Reads `controls/SET/NAME.sql` and `controls/SET.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::Problem;
use super::super::flow::{Control, Controls, Holds, INPUTS_CHANGED, InputsChanged};
use super::super::problem::FileProblems;
use super::super::raw::{self, Field, FileKind};
use super::super::schema_check;
use super::files::{self, entries, read_text, whole_file, with_extension};
use super::{job, placeholders, stem, texts};
use schedule::JobRules;

const FOLDER: &str = "controls";

/// Reads all sets of controls, by name.
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
            problems.push(whole_file(&file, "this control is in no set".to_owned(), Some(hint)));
        } else if file.extension().is_some_and(|extension| extension == "toml")
            && !found.iter().any(|(other, is_folder)| *is_folder && *other == stem(&file))
        {
            let hint = format!("create the folder {FOLDER}/{} with its controls", stem(&file));
            problems.push(whole_file(&file, "the set has no folder".to_owned(), Some(hint)));
        }
    }
    sets
}

fn set(root: &Path, name: &str, zone: &str, problems: &mut Vec<Problem>) -> Option<Controls> {
    let folder = Path::new(FOLDER).join(name);
    if !texts::is_name(name) {
        let what = format!("{name:?} is not a valid name for a set of controls");
        problems.push(whole_file(&folder, what, Some("name the folder with a-z, 0-9, _ and - only".to_owned())));
    }
    let files = with_extension(root, &folder, "sql", problems);
    let first = files.first()?;
    let mut file = root.join(first);
    let (mut rules, mut inputs_changed) = (JobRules { retries: 0, ..JobRules::default() }, None);
    let settings = Path::new(FOLDER).join(format!("{name}.toml"));
    if root.join(&settings).exists() {
        let text = read_text(root, &settings).map_err(|problem| problems.push(problem)).ok()?;
        let mut report = FileProblems::new(&settings, &text);
        let written = schema_check::tree(&mut report);
        let written: Option<raw::Controls> =
            written.and_then(|tree| schema_check::read(FileKind::Controls, tree, &mut report));
        if let Some(raw) = written {
            rules = job::rules(raw.triggers.get().map_or(&[], Vec::as_slice), &raw.run, zone, &mut report);
            inputs_changed = raw.inputs_changed.get().and_then(|raw| check_inputs_changed(raw, &mut report));
        }
        problems.extend(report.finish());
        file = root.join(&settings);
    }
    let mut controls = BTreeMap::new();
    for file in &files {
        let Ok(text) = read_text(root, file).map_err(|problem| problems.push(problem)) else { continue };
        let head = files::head(&text);
        let mut report = FileProblems::new(file, &head);
        let control = control(file, &text, &mut report);
        problems.extend(report.finish());
        controls.extend(control.map(|control| (control.name.clone(), control)));
    }
    if inputs_changed.is_some() && controls.contains_key(INPUTS_CHANGED) {
        let file = folder.join(format!("{INPUTS_CHANGED}.sql"));
        let hint = format!("rename the file, or remove [{INPUTS_CHANGED}] from {}", settings.display());
        problems.push(whole_file(&file, "the set has two controls of this name".to_owned(), Some(hint)));
    }
    Some(Controls { name: name.to_owned(), file, controls, inputs_changed, rules })
}

fn check_inputs_changed(raw: &raw::InputsChanged, report: &mut FileProblems<'_>) -> Option<InputsChanged> {
    let (documents, span) = (raw.documents.get()?, raw.documents.span()?);
    placeholders::check(documents, &placeholders::CONTROL_PLACEHOLDERS, span.clone(), report);
    let filled = placeholders::fill(documents, &|word| placeholders::sample(word).to_owned());
    if let Err(error) = sql::references(&filled) {
        report.add(span, base::chain(&error), None);
    }
    Some(InputsChanged {
        name: INPUTS_CHANGED.to_owned(),
        load: raw.load.get()?.clone(),
        by: raw.by.get()?.clone(),
        documents: documents.clone(),
        blocks: raw.severity.get().is_none_or(|severity| matches!(severity, raw::Severity::Block)),
        holds: held(&raw.holds),
    })
}

fn held(raw: &Field<raw::Holds>) -> Holds {
    match raw.get() {
        Some(raw::Holds::Producer) => Holds::Producer,
        Some(raw::Holds::All) | None => Holds::All,
    }
}

fn control(file: &Path, text: &str, report: &mut FileProblems<'_>) -> Option<Control> {
    let body = files::body(text, report);
    let tree = schema_check::tree(report)?;
    let raw: raw::Control = schema_check::read(FileKind::Control, tree, report)?;
    placeholders::check(&text[body..], &placeholders::CONTROL_PLACEHOLDERS, body..body, report);
    let tolerance = raw.tolerance.get().map_or(0.0, |number| number.value());
    if let (Some(span), false) = (raw.tolerance.span(), placeholders::has(text, "tolerance")) {
        let hint = "write {tolerance} in the query, or remove this line".to_owned();
        report.add(span, "the query does not use the tolerance", hint);
    }
    if let Err(error) = sql::references(&placeholders::fill(text, &|word| placeholders::sample(word).to_owned())) {
        report.add(body..body, base::chain(&error), None);
    }
    Some(Control {
        name: stem(file),
        blocks: matches!(raw.severity.get()?, raw::Severity::Block),
        holds: held(&raw.holds),
        text: raw.text.get()?.clone(),
        hint: raw.hint.get().cloned(),
        tolerance,
        rows_max: raw.rows_max.get().copied().unwrap_or(0).into(),
        sql: text.to_owned(),
    })
}
