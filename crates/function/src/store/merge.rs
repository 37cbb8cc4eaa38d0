//! Merges folders by hard links, so that a layer's bytes are on the disk once.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use walkdir::WalkDir;

use crate::error::{ErrorContext, Kind, Result};

/// Links the files of `tree` into `into`. Where both have a file or folder of the same name, that of `tree` counts.
pub(super) fn merge_tree(tree: &Path, into: &Path) -> Result<()> {
    for entry in WalkDir::new(tree).min_depth(1).sort_by_file_name() {
        let entry = entry.during(Kind::FixSetup, format!("merge layer {}", tree.display()))?;
        let inner = entry.path().strip_prefix(tree).during(Kind::Bug, "merge a layer")?;
        place(&entry, &into.join(inner))
            .during(Kind::FixSetup, format!("merge layer {}: {inner:?}", tree.display()))?;
    }
    Ok(())
}

fn place(entry: &walkdir::DirEntry, to: &Path) -> io::Result<()> {
    let there = to.symlink_metadata().ok();
    if entry.file_type().is_dir() {
        match there {
            Some(kind) if kind.is_dir() => return Ok(()),
            Some(_) => fs::remove_file(to)?,
            None => {}
        }
        return fs::create_dir(to);
    }
    match there {
        Some(kind) if kind.is_dir() => fs::remove_dir_all(to)?,
        Some(_) => fs::remove_file(to)?,
        None => {}
    }
    if entry.path_is_symlink() { symlink(fs::read_link(entry.path())?, to) } else { fs::hard_link(entry.path(), to) }
}
