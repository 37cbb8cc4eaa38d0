//! Checks the raw types of the configuration and makes the checked ones of them: names and files must exist, texts
//! must be well-formed. All problems of all files are collected; with a problem anywhere there is no configuration.

mod collect;
mod connection;
mod control;
mod files;
mod function;
mod ingest;
mod job;
mod keys;
mod load;
mod mart;
mod model;
pub mod placeholders;
mod prediction;
mod serve;
mod statement;
mod stream;
mod texts;
mod training;
mod transfer;
mod warehouse;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Problem;
use super::expand::Env;
use super::problem::FileProblems;
use super::{Function, Transfer, Warehouse};
use files::{read_text, with_extension};

const WAREHOUSE_FILE: &str = "wattlake.toml";
const TRANSFERS_FOLDER: &str = "transfers";

/// Reads and checks all files of the warehouse in `root`.
///
/// # Errors
/// All problems, those of `wattlake.toml` first.
pub fn load(root: &Path, env: Env<'_>) -> Result<Warehouse, Vec<Problem>> {
    let mut problems = Vec::new();
    // Unset variables are errors only of the parts that use them.
    let mut unset = Vec::new();
    // The names of connections; `None` where they can't be known, and transfers are not checked for theirs.
    let mut connections = None;
    let warehouse = match read_text(root, Path::new(WAREHOUSE_FILE)) {
        Ok(text) => {
            let mut report = FileProblems::new(Path::new(WAREHOUSE_FILE), &text);
            let warehouse = warehouse::check(root, &mut report, env, &mut connections);
            unset.extend(report.taken());
            problems.extend(report.finish());
            warehouse
        }
        Err(problem) => {
            problems.push(problem);
            None
        }
    };
    let files = with_extension(root, Path::new(TRANSFERS_FOLDER), "toml", &mut problems);
    let zone = warehouse.as_ref().map_or("UTC", |warehouse| &warehouse.serve.timezone);
    let functions = function::functions(root, zone, &mut problems);
    let mut transfers: Vec<Transfer> = Vec::new();
    for file in &files {
        transfers.extend(read_transfer(root, file, connections.as_deref(), &functions, zone, &mut problems));
    }
    let marts = mart::load(root, zone, &mut problems);
    let layers = function::layers(root, &mut problems);
    let ingests = ingest::load(root, zone, env, &mut problems, &mut unset);
    let collects = collect::load(root, zone, env, &mut problems, &mut unset);
    let loads = load::load(root, zone, &ingests, &functions, &mut problems);
    let controls = control::load(root, zone, &mut problems);
    let statements = statement::load(root, zone, &controls, &mut problems);
    let containers = model::containers(root, &mut problems);
    let endpoints = model::endpoints(root, &mut problems);
    let trainings = training::load_all(root, zone, &mut problems);
    let predictions = prediction::load(root, zone, &mut problems);
    let Some(mut warehouse) = warehouse.filter(|_| problems.is_empty()) else {
        return Err(in_order(problems, unset));
    };
    warehouse.transfers = transfers.into_iter().map(|transfer| (transfer.name.clone(), transfer)).collect();
    warehouse.marts = marts;
    (warehouse.layers, warehouse.functions, warehouse.controls) = (layers, functions, controls);
    (warehouse.ingests, warehouse.loads, warehouse.statements) = (ingests, loads, statements);
    (warehouse.collects, warehouse.predictions) = (collects, predictions);
    (warehouse.containers, warehouse.endpoints, warehouse.trainings) = (containers, endpoints, trainings);
    warehouse.set_mart_triggers();
    job::check_across_files(&warehouse, root, &mut problems);
    warehouse.check_known_from(&mut problems);
    if problems.is_empty() { Ok(warehouse) } else { Err(in_order(problems, unset)) }
}

/// All problems by file and line. Unset variables are added, so that one check shows everything.
fn in_order(mut problems: Vec<Problem>, unset: Vec<Problem>) -> Vec<Problem> {
    problems.extend(unset);
    let mut files: Vec<PathBuf> = vec![WAREHOUSE_FILE.into()];
    for problem in &problems {
        if !files.contains(&problem.file) {
            files.push(problem.file.clone());
        }
    }
    let rank = |problem: &Problem| files.iter().position(|file| *file == problem.file);
    problems.sort_by_key(|problem| (rank(problem), problem.line, problem.column));
    problems
}

/// The file's name without its extension: the name of the job that it configures.
fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn read_transfer(
    root: &Path,
    file: &Path,
    connections: Option<&[String]>,
    functions: &BTreeMap<String, Function>,
    zone: &str,
    problems: &mut Vec<Problem>,
) -> Option<Transfer> {
    let text = read_text(root, file).map_err(|problem| problems.push(problem)).ok()?;
    let mut report = FileProblems::new(file, &text);
    let transfer = transfer::check(root, file, connections, functions, zone, &mut report);
    problems.extend(report.finish());
    transfer
}
