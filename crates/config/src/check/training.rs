//! Reads `trainings/NAME.toml`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;

use super::super::problem::FileProblems;
use super::super::raw::{self, FileKind};
use super::super::{ChannelSource, Problem, Training, TrainingTable, schema_check};
use super::files::{read_text, with_extension};
use super::{ingest, job, load, placeholders, stem};

const FOLDER: &str = "trainings";
const TIME_MAX: Duration = Duration::from_secs(3600);
const WRITTEN_MAX: usize = 10_000_000_000;

/// Reads all training jobs, by name.
pub fn load_all(root: &Path, zone: &str, problems: &mut Vec<Problem>) -> BTreeMap<String, Training> {
    let mut trainings = BTreeMap::new();
    for file in with_extension(root, Path::new(FOLDER), "toml", problems) {
        let Ok(text) = read_text(root, &file).map_err(|problem| problems.push(problem)) else { continue };
        let mut report = FileProblems::new(&file, &text);
        let mut layout_problems = Vec::new();
        let training = training(root, &file, zone, &mut report, &mut layout_problems);
        problems.extend(report.finish());
        problems.extend(layout_problems);
        trainings.extend(training.map(|training| (training.name.clone(), training)));
    }
    trainings
}

fn training(
    root: &Path,
    file: &Path,
    zone: &str,
    report: &mut FileProblems<'_>,
    layout_problems: &mut Vec<Problem>,
) -> Option<Training> {
    let tree = schema_check::tree(report)?;
    let raw: raw::Training = schema_check::read(FileKind::Training, tree, report)?;
    let name = stem(file);
    let model = raw.model.get().cloned().unwrap_or_else(|| name.clone());
    for (noun, text, span) in [("a training job", &name, None), ("a model", &model, raw.model.span())] {
        if !model::is_name(text) {
            let hint = "a name has up to 63 letters, digits and -, and begins and ends with a letter or a digit";
            report.add(span.unwrap_or(0..0), format!("{text:?} is not a name for {noun}"), hint.to_owned());
        }
    }
    let mut channels = BTreeMap::new();
    for (channel, source) in &raw.channels {
        if let Err(error) = model::training::check_channel_name(channel.get_ref()) {
            report.add(channel.span(), error.context.clone(), error.hint);
        }
        channels.extend(source_of(root, source.get_ref(), report).map(|source| (channel.get_ref().clone(), source)));
    }
    for (metric, expression) in &raw.metrics {
        check_metric(metric, expression, report);
    }
    let hyperparameters: BTreeMap<String, String> =
        raw.hyperparameters.iter().map(|(name, value)| (name.clone(), value.text())).collect();
    for text in hyperparameters.values() {
        placeholders::check(text, &placeholders::RUN_PLACEHOLDERS, 0..0, report);
    }
    let written_max = raw.written_max.get().and_then(|text| base::parse_bytes(text)).unwrap_or(WRITTEN_MAX);
    let tables = raw.tables.values().filter_map(|table| table_of(root, table, report, layout_problems)).collect();
    let image = raw.image.get()?.clone();
    Some(Training {
        file: root.join(file),
        serve_image: raw.serve_image.get().cloned().unwrap_or_else(|| image.clone()),
        image,
        model: Some(model),
        channels,
        hyperparameters,
        code: raw.code.get().map(|code| url(root, code)),
        tables,
        reports: raw.reports.get().map(|folder| root.join(folder)),
        metrics: raw.metrics.iter().map(|(name, text)| (name.get_ref().clone(), text.get_ref().clone())).collect(),
        time_max: job::duration(&raw.time_max, report).unwrap_or(TIME_MAX),
        written_bytes_max: written_max as u64,
        approves: *raw.approve.get().unwrap_or(&false),
        environment: raw.environment,
        rules: job::rules(raw.triggers.get().map_or(&[], Vec::as_slice), &raw.run, zone, report),
        name,
    })
}

/// A table that is filled from a file that the program leaves.
fn table_of(
    root: &Path,
    raw: &raw::TrainingTable,
    report: &mut FileProblems<'_>,
    layout_problems: &mut Vec<Problem>,
) -> Option<TrainingTable> {
    let (file, span) = (raw.file.get()?, raw.file.span()?);
    let is_below = Path::new(file).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !is_below {
        let hint = "write its path below /opt/ml/output/data: \"scores.csv\"".to_owned();
        report.add(span, format!("{file:?} is not a file of the job"), hint);
    }
    let table = load::table(&raw.table, report);
    let (_, layout) = ingest::layout(root, &raw.layout, report, layout_problems)?;
    let (schema, table) = table?;
    Some(TrainingTable { file: file.clone(), layout, schema, table })
}

fn source_of(root: &Path, raw: &raw::Channel, report: &mut FileProblems<'_>) -> Option<ChannelSource> {
    if let Some(query) = raw.query.get() {
        placeholders::check_query(query.get_ref(), query.span(), report);
        let is_csv = !matches!(raw.format.get(), Some(raw::ChannelFormat::Parquet));
        return Some(ChannelSource::Query { sql: query.get_ref().clone(), is_csv });
    }
    if let Some(span) = raw.format.span() {
        report.add(span, "\"format\" is for the rows of a query", "remove it".to_owned());
    }
    Some(ChannelSource::Data(url(root, raw.data.get()?)))
}

/// A path of the warehouse as a URL; a URL unchanged.
pub fn url(root: &Path, text: &str) -> String {
    if text.contains("://") { text.to_owned() } else { format!("file://{}", root.join(text).display()) }
}

fn check_metric(metric: &Spanned<String>, expression: &Spanned<String>, report: &mut FileProblems<'_>) {
    let hint = "write an expression whose first group is the value: 'rmse=([0-9.]+)'".to_owned();
    match regex::Regex::new(expression.get_ref()) {
        Ok(read) if read.captures_len() > 1 => {}
        Ok(_) => report.add(expression.span(), format!("the metric {:?} has no group", metric.get_ref()), hint),
        Err(error) => report.add(expression.span(), format!("this is not a regular expression: {error}"), hint),
    }
}
