//! Reads an installed Python package's `.dist-info` folder:
//! <https://packaging.python.org/en/latest/specifications/recording-installed-packages/>.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorContext, Kind, Result};

/// An installed Python package.
pub struct Distribution {
    /// Its version.
    pub version: String,
    /// The folder that it is installed in.
    pub library: PathBuf,
    /// The name of its `.dist-info` folder.
    pub information: String,
    /// Its files, relative to the library; without bytecode, and without the commands that pip installs elsewhere.
    pub files: Vec<String>,
    /// The packages that it always needs.
    pub needs: Vec<String>,
    /// The packages that it needs under a condition, such as a version of Python: pip installed them if the
    /// condition was true. Without those of extras.
    pub may_need: Vec<String>,
}

/// The normal form of a package's name: `Snapshot_Restore.py` and `snapshot-restore-py` are the same.
pub fn normal(name: &str) -> String {
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_lowercase()
}

/// Finds an installed package by the normal form of its name. The first library that has it counts.
pub fn find(libraries: &[PathBuf], name: &str) -> Result<Option<Distribution>> {
    for library in libraries {
        let Ok(entries) = fs::read_dir(library) else { continue };
        let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        folders.sort();
        for folder in folders {
            let file = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let of = file.strip_suffix(".dist-info").and_then(|stem| stem.rsplit_once('-'));
            if of.is_some_and(|(of, _)| normal(of) == name) {
                return read(library, &folder, &file).map(Some);
            }
        }
    }
    Ok(None)
}

/// The names of all packages that are installed in a folder.
pub fn names(library: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(library)? {
        let file = entry?.file_name().to_string_lossy().into_owned();
        let of = file.strip_suffix(".dist-info").and_then(|stem| stem.rsplit_once('-'));
        names.extend(of.map(|(name, _)| normal(name)));
    }
    names.sort();
    Ok(names)
}

fn read(library: &Path, folder: &Path, information: &str) -> Result<Distribution> {
    let text = |file: &str| {
        let path = folder.join(file);
        fs::read_to_string(&path).during(Kind::FixSetup, format!("read {}", path.display()))
    };
    let metadata = text("METADATA")?;
    // The package's description follows after an empty line.
    let fields = metadata.lines().take_while(|line| !line.is_empty());
    let field = |name: &'static str| {
        fields.clone().filter_map(move |line| line.strip_prefix(name)?.strip_prefix(": ").map(str::trim))
    };
    let version = field("Version").next().map(str::to_owned).ok_or_else(|| {
        Error::new(Kind::FixInput, format!("read {}: it has no field Version", folder.join("METADATA").display()))
    })?;
    let needs = |conditional: bool| {
        let named = field("Requires-Dist").filter(move |need| {
            need.split_once(';').map_or(!conditional, |(_, when)| conditional && !when.contains("extra"))
        });
        named.map(|need| need.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect())
    };
    let record = text("RECORD")?;
    let files = record.lines().filter_map(path_of).filter(|file| {
        let leaves = file.starts_with("..") || file.starts_with('/');
        !leaves && !file.ends_with(".pyc") && library.join(file).is_file()
    });
    Ok(Distribution {
        version,
        library: library.to_owned(),
        information: information.to_owned(),
        files: files.collect(),
        needs: needs(false).collect(),
        may_need: needs(true).collect(),
    })
}

/// The path of a line `path,hash,size`. A path with a comma is in quotes.
fn path_of(line: &str) -> Option<String> {
    match line.strip_prefix('"') {
        Some(rest) => rest.rsplit_once("\",").map(|(path, _)| path.replace("\"\"", "\"")),
        None => line.split(',').next().filter(|path| !path.is_empty()).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests;
