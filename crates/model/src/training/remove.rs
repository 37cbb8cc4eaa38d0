//! Removes a folder that a program has written: whatever its depth, and whatever the modes of its folders.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Removes a folder with all that is in it. Each folder in it is first moved up: so no path is too long, and no file is
/// kept open for a level of nesting.
///
/// # Errors
/// The first error; as much as possible is removed.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    if fs::symlink_metadata(folder).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(());
    }
    let mut first: Option<io::Error> = None;
    let (mut to_empty, mut number) = (vec![folder.to_owned()], 0_u64);
    // The last ones are removed first; the folder itself holds those that were moved up.
    let mut emptied: Vec<PathBuf> = Vec::new();
    while let Some(at) = to_empty.pop() {
        let _ = fs::set_permissions(&at, fs::Permissions::from_mode(0o700));
        let entries = match fs::read_dir(&at) {
            Ok(entries) => entries,
            Err(error) => {
                first.get_or_insert(error);
                continue;
            }
        };
        for entry in entries.flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let done = match is_folder {
                false => fs::remove_file(entry.path()),
                // Moved here a moment ago, or by a removal that was interrupted.
                true if at == folder && is_moved(&entry.file_name()) => {
                    if !to_empty.contains(&entry.path()) {
                        to_empty.push(entry.path());
                    }
                    Ok(())
                }
                true => {
                    // A folder is moved only by who may write to it.
                    let _ = fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o700));
                    number += 1;
                    let up = folder.join(format!("{MOVED}{}-{number}", uuid::Uuid::now_v7().simple()));
                    fs::rename(entry.path(), &up).map(|()| to_empty.push(up))
                }
            };
            if let Err(error) = done {
                first.get_or_insert(error);
            }
        }
        emptied.push(at);
    }
    for at in emptied.into_iter().rev() {
        if let Err(error) = fs::remove_dir(&at) {
            first.get_or_insert(error);
        }
    }
    first.map_or(Ok(()), Err)
}

/// The beginning of the names of folders that were moved up.
const MOVED: &str = ".removed-";

fn is_moved(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with(MOVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_and_closed_folders_are_removed() {
        let base = tempfile::tempdir().expect("a folder");
        let folder = base.path().join("job");
        let deep = folder.join("a");
        fs::create_dir_all(&deep).expect("a folder");
        // Deeper than a path can be long: each part is moved below the next.
        let long = "x".repeat(200);
        for _ in 0..60 {
            let (above, part) = (base.path().join("above"), &long);
            fs::create_dir(&above).expect("a folder");
            fs::rename(&deep, above.join(part)).expect("move");
            fs::rename(&above, &deep).expect("move");
        }
        fs::write(folder.join("file"), "1").expect("a file");
        std::os::unix::fs::symlink("/etc", folder.join("link")).expect("a link");
        fs::create_dir(folder.join("closed")).expect("a folder");
        fs::write(folder.join("closed/file"), "1").expect("a file");
        fs::set_permissions(folder.join("closed"), fs::Permissions::from_mode(0o0)).expect("a mode");
        remove_folder(&folder).expect("removed");
        assert!(!folder.exists() && Path::new("/etc").exists());
        remove_folder(&folder).expect("there is nothing");
    }
}
