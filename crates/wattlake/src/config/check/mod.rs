//! From raw to checked: names that must lead somewhere, texts that must mean something, files that must be there.
//! Every problem of every file is collected; a file with problems gives nothing to work with.

mod connection;
mod job;
mod mart;
mod serve;
mod texts;
mod transfer;
mod warehouse;

use std::path::{Path, PathBuf};

use super::expand::Env;
use super::problem::{Problem, Report};
use super::{Transfer, Warehouse};

const WAREHOUSE_FILE: &str = "wattlake.toml";
const TRANSFERS_FOLDER: &str = "transfers";

pub fn load(root: &Path, env: Env<'_>) -> Result<Warehouse, Vec<Problem>> {
    let mut problems = Vec::new();
    // The connections' names, unless they can't be known: then no transfer is blamed for its own.
    let mut connections = None;
    let warehouse = match read_text(root, Path::new(WAREHOUSE_FILE)) {
        Ok(text) => {
            let mut report = Report::new(Path::new(WAREHOUSE_FILE), &text);
            let warehouse = warehouse::check(root, &mut report, env, &mut connections);
            problems.extend(report.finish());
            warehouse
        }
        Err(problem) => {
            problems.push(problem);
            None
        }
    };
    let files = transfer_files(root).unwrap_or_else(|problem| {
        problems.push(problem);
        Vec::new()
    });
    let zone = warehouse.as_ref().map_or("UTC", |warehouse| &warehouse.serve.timezone);
    let mut transfers: Vec<Transfer> = Vec::new();
    for file in &files {
        transfers.extend(read_transfer(root, file, connections.as_deref(), zone, &mut problems));
    }
    let marts = mart::load(root, zone, &mut problems);
    let Some(mut warehouse) = warehouse.filter(|_| problems.is_empty()) else { return Err(problems) };
    warehouse.transfers = transfers.into_iter().map(|transfer| (transfer.name.clone(), transfer)).collect();
    warehouse.marts = marts;
    warehouse.give_marts_their_triggers();
    job::across(&warehouse, root, &mut problems);
    if problems.is_empty() { Ok(warehouse) } else { Err(problems) }
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

/// `transfers/*.toml`, relative to the warehouse, by name; what begins with a dot is an editor's.
fn transfer_files(root: &Path) -> Result<Vec<PathBuf>, Problem> {
    let folder = Path::new(TRANSFERS_FOLDER);
    let failed = |error: std::io::Error| whole_file(folder, format!("can't be read: {error}"), None);
    let entries = match std::fs::read_dir(root.join(folder)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let name = PathBuf::from(entry.map_err(failed)?.file_name());
        let is_hidden = name.to_string_lossy().starts_with('.');
        if !is_hidden && name.extension().is_some_and(|extension| extension == "toml") {
            files.push(folder.join(name));
        }
    }
    files.sort();
    Ok(files)
}

fn read_text(root: &Path, file: &Path) -> Result<String, Problem> {
    let bytes = std::fs::read(root.join(file)).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            let mend = "name the warehouse's folder with -C, or write a new one with `wattlake init DIR`";
            whole_file(file, format!("there is no such file in {}", root.display()), Some(mend.to_owned()))
        }
        _ => whole_file(file, format!("can't be read: {error}"), None),
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
        let mut report = Report::new(file, &good);
        report.add(good.len()..good.len(), "not UTF-8", Some("save the file as UTF-8".to_owned()));
        // One was added just above.
        report.finish().remove(0)
    })
}

fn whole_file(file: &Path, what: String, mend: Option<String>) -> Problem {
    Problem { file: file.to_owned(), line: 1, column: 1, what, mend }
}
