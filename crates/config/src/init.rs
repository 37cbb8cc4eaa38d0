//! Writes a new warehouse with comments. It only creates files, and never changes an existing one.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::raw::{FileKind, json_schema};
use crate::example;

/// Flows of the example that a new warehouse gets.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExampleFlows {
    /// Producers' files, an algorithm in R, controls, statements.
    pub billing: bool,
    /// Partners' measurements, a forecaster in Python, its endpoint, predictions.
    pub forecast: bool,
}

/// Writes the files of a new warehouse into `dir`, which is created where it does not exist. Returns their paths.
/// Adds the example's flows that are wanted, also to an existing warehouse.
///
/// # Errors
/// `AlreadyExists` with the paths of the files that exist; nothing is written then.
pub fn init(dir: &Path, flows: ExampleFlows) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<(&str, String)> = vec![
        ("wattlake.toml", include_str!("init/wattlake.toml").to_owned()),
        ("transfers/platform.toml", include_str!("init/platform.toml").to_owned()),
        (".gitignore", include_str!("init/gitignore").to_owned()),
        ("schema/wattlake.schema.json", pretty(FileKind::Warehouse)),
        ("schema/transfer.schema.json", pretty(FileKind::Transfer)),
    ];
    // An existing warehouse keeps its own files.
    if (flows.billing || flows.forecast) && dir.join("wattlake.toml").exists() {
        files.clear();
    }
    if flows.billing {
        files.extend(example::billing().map(|(name, text)| (name, text.to_owned())));
    }
    if flows.forecast {
        files.extend(example::forecast().map(|(name, text)| (name, text.to_owned())));
    }
    let existing: Vec<String> = files
        .iter()
        .map(|(name, _)| dir.join(name))
        .filter(|path| path.symlink_metadata().is_ok())
        .map(|path| path.display().to_string())
        .collect();
    if !existing.is_empty() {
        let what = format!("these files exist already: {}", existing.join(", "));
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    files.iter().map(|(name, text)| write_new(dir.join(name), text)).collect()
}

fn write_new(path: PathBuf, text: &str) -> io::Result<PathBuf> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("write {}: {error}", path.display()));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(named)?;
    }
    let mut file = std::fs::File::create_new(&path).map_err(named)?;
    file.write_all(text.as_bytes()).map_err(named)?;
    Ok(path)
}

fn pretty(kind: FileKind) -> String {
    format!("{:#}\n", json_schema(kind))
}
