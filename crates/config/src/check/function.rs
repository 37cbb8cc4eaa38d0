//! Reads `functions/NAME/function.toml` with its `job.toml`, and `layers/NAME.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use base::suggestion;
use function::definition::{Definition, FILE};
use toml::Spanned;

use super::super::Problem;
use super::super::flow::{Function, FunctionJob, Language, Layer};
use super::super::problem::FileProblems;
use super::super::raw::{self, FileKind};
use super::super::schema_check;
use super::files::{entries, read_text, whole_file, with_extension};
use super::{job, placeholders, stem};

const FUNCTIONS: &str = "functions";
const LAYERS: &str = "layers";
const JOB: &str = "job.toml";

/// Reads all functions, by name.
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
            problems.push(whole_file(&folder, format!("the function's folder has no {FILE}"), Some(hint)));
            continue;
        }
        let definition = definition(root, &folder, &name, problems);
        let job = job_file(root, &folder, zone, problems);
        if let (Some(definition), Ok(job)) = (definition, job) {
            functions.insert(name.clone(), Function { name, definition, job });
        }
    }
    functions
}

fn definition(root: &Path, folder: &Path, name: &str, problems: &mut Vec<Problem>) -> Option<Definition> {
    let file = folder.join(FILE);
    let text = read_text(root, &file).map_err(|problem| problems.push(problem)).ok()?;
    let read = Definition::read(name, &root.join(folder), &text);
    let in_file = |problem: Problem| Problem { file: file.to_owned(), ..problem };
    read.map_err(|found| problems.extend(found.into_iter().map(in_file))).ok()
}

/// Reads the `job.toml`, where there is one; `Err` where it has problems.
fn job_file(root: &Path, folder: &Path, zone: &str, problems: &mut Vec<Problem>) -> Result<Option<FunctionJob>, ()> {
    let file = folder.join(JOB);
    if !root.join(&file).exists() {
        return Ok(None);
    }
    let text = read_text(root, &file).map_err(|problem| problems.push(problem))?;
    let mut report = FileProblems::new(&file, &text);
    let job = checked_job(root, &file, zone, &mut report);
    problems.extend(report.finish());
    job.map(Some).ok_or(())
}

fn checked_job(root: &Path, file: &Path, zone: &str, report: &mut FileProblems<'_>) -> Option<FunctionJob> {
    let tree = schema_check::tree(report)?;
    let raw: raw::FunctionJob = schema_check::read(FileKind::FunctionJob, tree, report)?;
    let mut inputs = BTreeMap::new();
    for (name, query) in raw.inputs {
        placeholders::check_query(query.get_ref(), query.span(), report);
        inputs.insert(name.into_inner(), query.into_inner());
    }
    for text in raw.parameters.values() {
        placeholders::check(text, &placeholders::RUN_PLACEHOLDERS, 0..0, report);
    }
    Some(FunctionJob {
        file: root.join(file),
        qualifier: raw.qualifier.get().cloned().unwrap_or_else(|| function::registry::LATEST.to_owned()),
        inputs,
        parameters: raw.parameters,
        rules: job::rules(raw.triggers.get().map_or(&[], Vec::as_slice), &raw.run, zone, report),
    })
}

/// Reads all layers, by name.
pub fn layers(root: &Path, problems: &mut Vec<Problem>) -> BTreeMap<String, Layer> {
    let files = with_extension(root, Path::new(LAYERS), "toml", problems);
    let names: Vec<String> = files.iter().map(|file| stem(file)).collect();
    let mut layers = BTreeMap::new();
    for file in &files {
        let Ok(text) = read_text(root, file).map_err(|problem| problems.push(problem)) else { continue };
        let mut report = FileProblems::new(file, &text);
        let layer = layer(root, file, &names, &mut report);
        problems.extend(report.finish());
        layers.extend(layer.map(|layer| (layer.name.clone(), layer)));
    }
    layers
}

/// The file with a layer's packages, which has to be there, and to be one of its language.
fn requirements(
    root: &Path,
    raw: &raw::Layer,
    language: Language,
    report: &mut FileProblems<'_>,
) -> Option<std::path::PathBuf> {
    let (file, span) = (raw.requirements.get()?, raw.requirements.span()?);
    let (extension, example) = match language {
        Language::R => ("lock", "renv.lock"),
        Language::Python => ("txt", "requirements.txt"),
    };
    let path = root.join(file);
    if path.extension().is_none_or(|found| found != extension) {
        report.add(span, format!("{file:?} is not a .{extension} file"), format!("name a file such as {example:?}"));
    } else if !path.is_file() {
        let hint = "the path is relative to the warehouse's folder";
        report.add(span, format!("the file {file:?} does not exist"), hint.to_owned());
    } else if raw.source.span().is_some() {
        report.add(span, "\"requirements\" is not for a layer with \"source\"", "remove one of the two".to_owned());
    }
    Some(path)
}

fn layer(root: &Path, file: &Path, names: &[String], report: &mut FileProblems<'_>) -> Option<Layer> {
    let tree = schema_check::tree(report)?;
    let raw: raw::Layer = schema_check::read(FileKind::Layer, tree, report)?;
    let name = stem(file);
    let language = match raw.language.get()? {
        raw::Language::R => Language::R,
        raw::Language::Python => Language::Python,
    };
    let known: Vec<&str> = names.iter().map(String::as_str).filter(|other| *other != name).collect();
    let below = raw.below.get().map_or(&[][..], Vec::as_slice);
    for other in below.iter().filter(|other| !known.contains(&other.get_ref().as_str())) {
        let what = format!("{LAYERS}/ has no other layer {:?}", other.get_ref());
        report.add(other.span(), what, suggestion("layer", other.get_ref(), &known));
    }
    if language == Language::Python {
        for (key, span) in [("source", raw.source.span()), ("shape", raw.shape.span())] {
            if let Some(span) = span {
                report.add(span, format!("{key:?} is not for Python"), format!("remove {key:?}"));
            }
        }
    }
    Some(Layer {
        name,
        language,
        packages: raw.packages.get().cloned().unwrap_or_default(),
        base_layers: below.iter().map(Spanned::get_ref).cloned().collect(),
        source: raw.source.get().map(|folder| root.join(folder)),
        is_script: matches!(raw.shape.get(), Some(raw::Shape::Script)),
        requirements: requirements(root, &raw, language, report),
        libraries: raw.libraries.get().into_iter().flatten().map(|folder| root.join(folder)).collect(),
    })
}
