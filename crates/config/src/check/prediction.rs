//! Reads `predictions/NAME.toml`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ::ingest::layout::{Format, Layout};
use chrono::NaiveTime;

use super::super::Problem;
use super::super::prediction::Prediction;
use super::super::problem::FileProblems;
use super::super::raw::{self, FileKind};
use super::super::schema_check;
use super::files::{read_text, with_extension};
use super::load::table as check_table;
use super::{ingest, job, placeholders, stem, texts};

const FOLDER: &str = "predictions";
const DAY_SECONDS: u64 = 86_400;
/// Columns that a prediction adds to those of its layout.
const OWN_COLUMNS: [&str; 5] = ["prediction", "issued_at", "variant", "input_sha256", "recorded_at"];

/// Reads all predictions, by name.
pub fn load(root: &Path, zone: &str, problems: &mut Vec<Problem>) -> BTreeMap<String, Prediction> {
    let mut predictions = BTreeMap::new();
    for file in with_extension(root, Path::new(FOLDER), "toml", problems) {
        let Ok(text) = read_text(root, &file).map_err(|problem| problems.push(problem)) else { continue };
        let (mut report, mut layout_problems) = (FileProblems::new(&file, &text), Vec::new());
        let prediction = check(root, &file, zone, &mut report, &mut layout_problems);
        problems.extend(report.finish());
        problems.extend(layout_problems);
        predictions.extend(prediction.map(|prediction| (prediction.name.clone(), prediction)));
    }
    predictions
}

fn check(
    root: &Path,
    file: &Path,
    zone: &str,
    report: &mut FileProblems<'_>,
    layout_problems: &mut Vec<Problem>,
) -> Option<Prediction> {
    let name = stem(file);
    if !texts::is_name(&name) {
        let what = format!("{name:?} is not a valid name for a prediction");
        report.add(0..0, what, "name the file with a-z, 0-9, _ and - only".to_owned());
    }
    let tree = schema_check::tree(report)?;
    let raw: raw::Prediction = schema_check::read(FileKind::Prediction, tree, report)?;
    let (endpoint, span) = (raw.endpoint.get()?, raw.endpoint.span()?);
    if !model::is_name(endpoint) {
        report.add(span, format!("{endpoint:?} is not a name for an endpoint"), None);
    }
    let (input, span) = (raw.input.get()?, raw.input.span()?);
    placeholders::check_prediction_query(input, span.clone(), report);
    if !placeholders::has(input, "issued_at") {
        let hint = "select only what was known then, such as WHERE at >= '{issued_at}' - INTERVAL '2 years'".to_owned();
        report.add(span, "the query has no {issued_at}", hint);
    }
    let every = job::duration(&raw.every, report);
    if let (Some(every), Some(span)) = (every, raw.every.span()) {
        let seconds = every.as_secs();
        if seconds == 0 || !(DAY_SECONDS.is_multiple_of(seconds) || seconds.is_multiple_of(DAY_SECONDS)) {
            let hint = "write a part of a day, such as 15min or 6h, or whole days".to_owned();
            report.add(span, "\"every\" does not divide a day", hint);
        }
    }
    let at = raw.at.get().zip(raw.at.span()).and_then(|(text, span)| {
        let at = NaiveTime::parse_from_str(text, "%H:%M").ok();
        if at.is_none() {
            report.add(span, format!("\"at\": {text:?} is not a time of the day"), "write \"07:00\"".to_owned());
        }
        at
    });
    let rules = job::rules(raw.triggers.get().map_or(&[], Vec::as_slice), &raw.run, zone, report);
    let table = check_table(&raw.table, report);
    let (layout_file, layout) = ingest::layout(root, &raw.layout, report, layout_problems)?;
    let span = raw.layout.span().unwrap_or(0..0);
    if !matches!(layout.format, Format::Csv(_) | Format::Json | Format::Ndjson | Format::Document(_)) {
        let hint = "format = \"csv\", \"json\" or \"ndjson\"".to_owned();
        report.add(span, "an endpoint does not answer in the layout's format", hint);
    }
    let keep: Vec<String> = raw.keep.get().into_iter().flatten().map(|name| name.get_ref().clone()).collect();
    check_columns(&raw, &keep, &layout, report);
    let (schema, table) = table?;
    Some(Prediction {
        name,
        file: root.join(file),
        endpoint: endpoint.clone(),
        input: input.clone(),
        every: every.unwrap_or(Duration::from_secs(DAY_SECONDS)),
        at: at.unwrap_or_default(),
        layout_file,
        layout,
        keep,
        schema,
        table,
        rules,
    })
}

/// Checks that the kept columns, the layout's and those that a prediction adds have different names.
fn check_columns(raw: &raw::Prediction, keep: &[String], layout: &Layout, report: &mut FileProblems<'_>) {
    let span = raw.layout.span().unwrap_or(0..0);
    for column in &layout.columns {
        if OWN_COLUMNS.contains(&column.name.as_str()) || keep.contains(&column.name) {
            let what = format!("the layout has a column {:?}, which the prediction adds itself", column.name);
            report.add(span.clone(), what, "leave it out, or give it another name".to_owned());
        }
    }
    for (at, name) in raw.keep.get().into_iter().flatten().enumerate() {
        let is_own = OWN_COLUMNS.contains(&name.get_ref().as_str());
        if is_own || keep[..at].contains(name.get_ref()) {
            let whose = if is_own { "which the prediction adds itself" } else { "a second time" };
            let hint = "give it another name in the query".to_owned();
            report.add(name.span(), format!("\"keep\" has a column {:?}, {whose}", name.get_ref()), hint);
        }
    }
}
