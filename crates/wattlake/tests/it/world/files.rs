//! The files on disk and the running processes, seen from outside.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// All files under a folder, by their paths from it.
pub fn files_under(folder: &Path) -> BTreeSet<String> {
    let (mut files, mut folders) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        // A folder may be removed meanwhile.
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    files
}

/// The processes whose working folder is this one or below it.
pub fn processes_in(folder: &Path) -> Vec<PathBuf> {
    let folder = folder.canonicalize().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let cwds = processes.filter_map(|process| fs::read_link(process.path().join("cwd")).ok());
    cwds.filter(|cwd| cwd.starts_with(&folder)).collect()
}

/// What a table's Delta log names, active or removed.
pub struct Referenced(pub BTreeSet<String>);

impl Referenced {
    /// Reads the JSON commits of a table's log.
    pub fn by_log_of(table: &Path) -> Referenced {
        let log = table.join("_delta_log");
        let mut names = BTreeSet::new();
        for file in files_under(&log).iter().filter(|name| name.ends_with(".json")) {
            for line in fs::read_to_string(log.join(file)).unwrap().lines() {
                let action: Value = serde_json::from_str(line).unwrap();
                for kind in ["add", "remove"] {
                    names.extend(action[kind]["path"].as_str().map(str::to_owned));
                    names.extend(vector(&action[kind]["deletionVector"]));
                }
            }
        }
        Referenced(names)
    }
}

/// The file of a deletion vector: a folder's name, then a UUID in Z85.
fn vector(descriptor: &Value) -> Option<String> {
    let text = descriptor["pathOrInlineDv"].as_str()?;
    assert_eq!(descriptor["storageType"], "u", "{descriptor}");
    let (folder, encoded) = text.split_at(text.len() - 20);
    let hex: String = z85::decode(encoded).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    let uuid = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    Some(format!("{folder}/deletion_vector_{uuid}.bin"))
}
