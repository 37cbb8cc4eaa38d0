//! A lake in the wrong place: builds that joined a relative `-C` to itself wrote `DIR/DIR/lake` in place of `DIR/lake`,
//! and its tables would be missed in silence.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use transfer::preflight::{Finding, Severity};

use crate::config::Warehouse;

/// Folders deep: a `-C` of more parts than that is looked for no more.
const DEPTH: usize = 5;

/// One for each such lake below the warehouse's folder.
pub fn findings(config: &Warehouse) -> Vec<Finding> {
    let Ok(lake) = &config.lake else { return Vec::new() };
    let Ok(url) = Path::new(&lake.url).strip_prefix(&config.root) else { return Vec::new() };
    let place = Path::new(&lake.url);
    let mut found = BTreeSet::new();
    look(&config.root, url, DEPTH, &mut found);
    // A url like `../lake` may lead back to it.
    found.remove(&place.canonicalize().unwrap_or_default());
    found.iter().map(|lake| finding(lake, place)).collect()
}

fn finding(lake: &Path, place: &Path) -> Finding {
    let (from, to) = (lake.display(), place.display());
    let hint = match is_lake(place) {
        true => format!("move the tables that {to} lacks from there, then remove {from}"),
        // Whoever opens a lake makes its folder: an empty one is replaced.
        false => format!("mv -T '{from}' '{to}'"),
    };
    Finding {
        severity: Severity::Warning,
        subject: "place".to_owned(),
        what: format!("an earlier build, given a relative folder, wrote a lake to {from}; nothing reads it there"),
        hint: Some(hint),
        shared: None,
    }
}

/// Into `found`, resolved. Another warehouse below this one has its own lake, and what begins with a dot is state.
fn look(folder: &Path, url: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) {
    for below in folders(folder) {
        let is_hidden = below.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if is_hidden || below.join("wattlake.toml").exists() {
            continue;
        }
        let lake = below.join(url);
        if is_lake(&lake) {
            found.extend(lake.canonicalize());
        } else if depth > 1 {
            look(&below, url, depth - 1, found);
        }
    }
}

/// It has a table: `SCHEMA/TABLE/_delta_log`.
fn is_lake(folder: &Path) -> bool {
    let tables = folders(folder).into_iter().flat_map(|schema| folders(&schema));
    tables.into_iter().any(|table| table.join("_delta_log").is_dir())
}

/// Links are not followed: they could lead round.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}
