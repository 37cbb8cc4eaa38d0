//! Writes the example warehouse's files into a folder. Files that a user has changed are kept; files of an earlier
//! demo that nobody has changed are replaced or, where the example no longer has them, removed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use config::example::FILES;
use ingest::objects::Hash;

/// Returns one line for each file of the example: its hash and its name. `before` is what an earlier call returned.
pub fn write(dir: &Path, before: &str) -> Result<String> {
    let before: BTreeMap<&str, &str> =
        before.lines().filter_map(|line| line.split_once("  ")).map(|(hash, name)| (name, hash)).collect();
    let is_untouched = |name: &str| {
        let is = |text: Vec<u8>| before.get(name).is_some_and(|hash| *hash == Hash::of(&text).to_string());
        fs::read(dir.join(name)).ok().is_some_and(is)
    };
    for name in before.keys().filter(|name| FILES.iter().all(|(file, _)| file != *name) && is_untouched(name)) {
        fs::remove_file(dir.join(name)).with_context(|| format!("remove {name} of an earlier demo"))?;
    }
    let mut written = String::new();
    for (name, content) in FILES {
        let path = dir.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        if !path.exists() || is_untouched(name) {
            fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        }
        written.push_str(&format!("{}  {name}\n", Hash::of(content.as_bytes())));
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_kept_and_an_obsolete_one_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let old = "-- of an earlier version";
        fs::write(dir.path().join("old.sql"), old).unwrap();
        fs::write(dir.path().join("wattlake.toml"), old).unwrap();
        let hash = Hash::of(old.as_bytes());
        let written = write(dir.path(), &format!("{hash}  old.sql\n{hash}  wattlake.toml\n")).unwrap();
        assert!(!dir.path().join("old.sql").exists());
        let mine = dir.path().join("wattlake.toml");
        assert!(fs::read_to_string(&mine).unwrap().contains("[lake]"), "an earlier version's file is replaced");
        fs::write(&mine, "lake.url = 'mine'").unwrap();
        write(dir.path(), &written).unwrap();
        assert_eq!(fs::read_to_string(&mine).unwrap(), "lake.url = 'mine'");
    }
}
