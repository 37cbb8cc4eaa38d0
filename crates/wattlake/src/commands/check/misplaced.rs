//! Finds a lake in the wrong folder. Earlier builds joined a relative `-C` to itself and wrote `DIR/DIR/lake` in place
//! of `DIR/lake`, whose tables no command reads.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use config::Warehouse;
use transfer::preflight::{Finding, Severity};

/// How many folders deep to search, which is the number of parts of a relative `-C`.
const DEPTH: usize = 5;

/// One finding for each misplaced lake below the warehouse's folder.
pub fn findings(config: &Warehouse) -> Vec<Finding> {
    let Ok(lake) = &config.lake else { return Vec::new() };
    let Ok(url) = Path::new(&lake.url).strip_prefix(&config.root) else { return Vec::new() };
    let place = Path::new(&lake.url);
    let mut found = BTreeSet::new();
    search(&config.root, url, DEPTH, &mut found);
    // A URL like `../lake` may lead to the lake itself.
    found.remove(&place.canonicalize().unwrap_or_default());
    found.iter().map(|lake| finding(lake, place)).collect()
}

fn finding(lake: &Path, place: &Path) -> Finding {
    let (from, to) = (lake.display(), place.display());
    let hint = match is_lake(place) {
        true => format!("move the tables that {to} lacks from there, then remove {from}"),
        // Opening a lake creates its folder: `-T` replaces an empty one.
        false => format!("mv -T '{from}' '{to}'"),
    };
    Finding {
        severity: Severity::Warning,
        subject: "lake".to_owned(),
        what: format!("an earlier build, run with a relative folder, wrote a lake to {from}, where nothing reads it"),
        hint: Some(hint),
        common: None,
    }
}

/// Adds the resolved paths of lakes to `found`. Skips other warehouses, which have their own lakes, and folders whose
/// names begin with a dot, which hold state.
fn search(folder: &Path, url: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) {
    for subfolder in folders(folder) {
        let is_hidden = subfolder.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if is_hidden || subfolder.join("wattlake.toml").exists() {
            continue;
        }
        let lake = subfolder.join(url);
        if is_lake(&lake) {
            found.extend(lake.canonicalize());
        } else if depth > 1 {
            search(&subfolder, url, depth - 1, found);
        }
    }
}

/// Whether the folder has a table: `SCHEMA/TABLE/_delta_log`.
fn is_lake(folder: &Path) -> bool {
    let tables = folders(folder).into_iter().flat_map(|schema| folders(&schema));
    tables.into_iter().any(|table| table.join("_delta_log").is_dir())
}

/// The subfolders. Symbolic links are not followed, since they may form a cycle.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}
