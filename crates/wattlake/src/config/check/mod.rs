//! From raw to checked: names that must lead somewhere, texts that must mean something, files that must be there.
//! Every problem of every file is collected; a file with problems gives nothing to work with.

mod connection;
mod control;
mod files;
mod function;
pub mod holes;
mod ingest;
mod job;
mod load;
mod mart;
mod serve;
mod statement;
mod texts;
mod transfer;
mod warehouse;

use std::path::{Path, PathBuf};

use super::expand::Env;
use super::problem::{Problem, Report};
use super::{Transfer, Warehouse};
use files::{read_text, with_extension};

const WAREHOUSE_FILE: &str = "wattlake.toml";
const TRANSFERS_FOLDER: &str = "transfers";

pub fn load(root: &Path, env: Env<'_>) -> Result<Warehouse, Vec<Problem>> {
    let mut problems = Vec::new();
    // Not in the way of those that do not use the part that lacks them.
    let mut unset = Vec::new();
    // The connections' names, unless they can't be known: then no transfer is blamed for its own.
    let mut connections = None;
    let warehouse = match read_text(root, Path::new(WAREHOUSE_FILE)) {
        Ok(text) => {
            let mut report = Report::new(Path::new(WAREHOUSE_FILE), &text);
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
    let mut transfers: Vec<Transfer> = Vec::new();
    for file in &files {
        transfers.extend(read_transfer(root, file, connections.as_deref(), zone, &mut problems));
    }
    let marts = mart::load(root, zone, &mut problems);
    let layers = function::layers(root, &mut problems);
    let functions = function::functions(root, zone, &mut problems);
    let ingests = ingest::load(root, zone, env, &mut problems, &mut unset);
    let loads = load::load(root, zone, &ingests, &functions, &mut problems);
    let controls = control::load(root, zone, &mut problems);
    let statements = statement::load(root, zone, &controls, &mut problems);
    let Some(mut warehouse) = warehouse.filter(|_| problems.is_empty()) else {
        return Err(in_order(problems, unset));
    };
    warehouse.transfers = transfers.into_iter().map(|transfer| (transfer.name.clone(), transfer)).collect();
    warehouse.marts = marts;
    (warehouse.layers, warehouse.functions, warehouse.controls) = (layers, functions, controls);
    (warehouse.ingests, warehouse.loads, warehouse.statements) = (ingests, loads, statements);
    warehouse.give_marts_their_triggers();
    job::across(&warehouse, root, &mut problems);
    if problems.is_empty() { Ok(warehouse) } else { Err(in_order(problems, unset)) }
}

/// Where something is wrong anyway, what is unset is told with it, so that one check shows everything.
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

/// The name of what a file holds.
fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn read_transfer(
    root: &Path,
    file: &Path,
    connections: Option<&[String]>,
    zone: &str,
    problems: &mut Vec<Problem>,
) -> Option<Transfer> {
    let text = read_text(root, file).map_err(|problem| problems.push(problem)).ok()?;
    let mut report = Report::new(file, &text);
    let transfer = transfer::check(root, file, connections, zone, &mut report);
    problems.extend(report.finish());
    transfer
}
