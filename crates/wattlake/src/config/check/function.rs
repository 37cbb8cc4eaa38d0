//! `functions/NAME/function.toml` with its `job.toml`, and `layers/NAME.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use function::definition::{Definition, FILE};
use toml::Spanned;

use super::super::flow::{Call, Function, Language, Layer};
use super::super::nearest::advice;
use super::super::problem::{Problem, Report};
use super::super::raw::{self, Which};
use super::super::shape;
use super::files::{entries, read_text, whole_file, with_extension};
use super::{holes, job, stem};

const FUNCTIONS: &str = "functions";
const LAYERS: &str = "layers";
const JOB: &str = "job.toml";

pub fn functions(root: &Path, zone: &str, problems: &mut Vec<Problem>) -> BTreeMap<String, Function> {
    let folders = entries(root, Path::new(FUNCTIONS)).unwrap_or_else(|problem| {
        problems.push(problem);
        Vec::new()
    });
    let mut functions = BTreeMap::new();
    for (name, _) in folders.into_iter().filter(|(_, is_folder)| *is_folder) {
        let folder = Path::new(FUNCTIONS).join(&name);
        if !root.join(&folder).join(FILE).exists() {
            let hint = format!("write {FILE} there, with handler = \"...\"");
            problems.push(whole_file(&folder, format!("no {FILE} in a function's folder"), Some(hint)));
            continue;
        }
        let definition = definition(root, &folder, &name, problems);
        let call = call(root, &folder, zone, problems);
        if let (Some(definition), Ok(call)) = (definition, call) {
            functions.insert(name.clone(), Function { name, definition, call });
        }
    }
    functions
}

fn definition(root: &Path, folder: &Path, name: &str, problems: &mut Vec<Problem>) -> Option<Definition> {
    let file = folder.join(FILE);
    let text = read_text(root, &file).map_err(|problem| problems.push(problem)).ok()?;
    let read = Definition::read(name, &root.join(folder), &text);
    let told = |problem: function::definition::Problem| Problem {
        file: file.clone(),
        line: problem.line,
        column: problem.column,
        what: problem.what,
        hint: problem.hint,
    };
    read.map_err(|found| problems.extend(found.into_iter().map(told))).ok()
}

/// `Err` where it is there and wrong.
fn call(root: &Path, folder: &Path, zone: &str, problems: &mut Vec<Problem>) -> Result<Option<Call>, ()> {
    let file = folder.join(JOB);
    if !root.join(&file).exists() {
        return Ok(None);
    }
    let text = read_text(root, &file).map_err(|problem| problems.push(problem))?;
    let mut report = Report::new(&file, &text);
    let call = checked_call(root, &file, zone, &mut report);
    problems.extend(report.finish());
    call.map(Some).ok_or(())
}

fn checked_call(root: &Path, file: &Path, zone: &str, report: &mut Report<'_>) -> Option<Call> {
    let tree = shape::tree(report)?;
    let raw: raw::Call = shape::read(Which::Call, tree, report)?;
    let mut inputs = BTreeMap::new();
    for (name, query) in raw.inputs {
        holes::check_query(query.get_ref(), query.span(), report);
        inputs.insert(name.into_inner(), query.into_inner());
    }
    for text in raw.parameters.values() {
        holes::check(text, &holes::OF_RUNS, 0..0, report);
    }
    Some(Call {
        file: root.join(file),
        qualifier: raw.qualifier.get().cloned().unwrap_or_else(|| function::registry::LATEST.to_owned()),
        inputs,
        parameters: raw.parameters,
        rules: job::rules(raw.triggers.get().map_or(&[], Vec::as_slice), &raw.run, zone, report),
    })
}

pub fn layers(root: &Path, problems: &mut Vec<Problem>) -> BTreeMap<String, Layer> {
    let files = with_extension(root, Path::new(LAYERS), "toml", problems);
    let names: Vec<String> = files.iter().map(|file| stem(file)).collect();
    let mut layers = BTreeMap::new();
    for file in &files {
        let Ok(text) = read_text(root, file).map_err(|problem| problems.push(problem)) else { continue };
        let mut report = Report::new(file, &text);
        let layer = layer(root, file, &names, &mut report);
        problems.extend(report.finish());
        layers.extend(layer.map(|layer| (layer.name.clone(), layer)));
    }
    layers
}

fn layer(root: &Path, file: &Path, names: &[String], report: &mut Report<'_>) -> Option<Layer> {
    let tree = shape::tree(report)?;
    let raw: raw::Layer = shape::read(Which::Layer, tree, report)?;
    let name = stem(file);
    let language = match raw.language.get()? {
        raw::Language::R => Language::R,
        raw::Language::Python => Language::Python,
    };
    let known: Vec<&str> = names.iter().map(String::as_str).filter(|other| *other != name).collect();
    let below = raw.below.get().map_or(&[][..], Vec::as_slice);
    for other in below.iter().filter(|other| !known.contains(&other.get_ref().as_str())) {
        let what = format!("there is no other layer {:?} in {LAYERS}/", other.get_ref());
        report.add(other.span(), what, advice("layer", other.get_ref(), &known));
    }
    if language == Language::Python {
        for (key, span) in [("source", raw.source.span()), ("shape", raw.shape.span())] {
            if let Some(span) = span {
                report.add(span, format!("{key:?} means nothing to Python"), format!("take {key:?} out"));
            }
        }
    }
    Some(Layer {
        name,
        language,
        packages: raw.packages.get().cloned().unwrap_or_default(),
        below: below.iter().map(Spanned::get_ref).cloned().collect(),
        source: raw.source.get().map(|folder| root.join(folder)),
        is_script: matches!(raw.shape.get(), Some(raw::Shape::Script)),
        libraries: raw.libraries.get().into_iter().flatten().map(|folder| root.join(folder)).collect(),
    })
}
