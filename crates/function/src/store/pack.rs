//! Packs a folder into a zip whose bytes do not depend on where and when it is packed. Nothing is compressed, since
//! another version of the compressor would give other bytes, and so another hash.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use walkdir::WalkDir;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::error::{Error, ErrorContext, Kind, Result};

/// Names that are never packed: no function needs them, and they differ from machine to machine.
const NEVER: [&str; 3] = [".git", ".DS_Store", "__pycache__"];
/// Above this size an entry has zip64's form, so that the form depends on the size only.
const LARGE_BYTES: u64 = 1 << 31;

/// Packs `folder`, without the names `without` at its top, into the new file `to`.
pub(super) fn pack(folder: &Path, without: &[&str], to: &Path) -> Result<()> {
    let named = format!("pack {}", folder.display());
    if !folder.is_dir() {
        return Err(Error::new(Kind::FixInput, format!("{named}: the folder does not exist")));
    }
    let file = File::create_new(to).during(Kind::FixSetup, &named)?;
    let mut zip = ZipWriter::new(io::BufWriter::new(file));
    let wanted = |entry: &walkdir::DirEntry| {
        let name = entry.file_name().to_string_lossy();
        !(NEVER.contains(&&*name) || entry.depth() == 1 && without.contains(&&*name))
    };
    let mut count = 0;
    for entry in WalkDir::new(folder).min_depth(1).sort_by_file_name().into_iter().filter_entry(wanted) {
        let entry = entry.during(Kind::FixInput, &named)?;
        let inner = entry.path().strip_prefix(folder).during(Kind::Bug, &named)?;
        let context = format!("{named}: {}", inner.display());
        let Some(name) = inner.to_str() else {
            return Err(Error::new(Kind::FixInput, format!("{context}: its name is not UTF-8")));
        };
        add(&mut zip, &entry, name).during(Kind::FixInput, &context)?;
        count += 1;
    }
    if count == 0 {
        return Err(Error::new(Kind::FixInput, format!("{named}: the folder is empty")));
    }
    zip.finish().during(Kind::FixSetup, &named)?;
    Ok(())
}

fn add(zip: &mut ZipWriter<io::BufWriter<File>>, entry: &walkdir::DirEntry, name: &str) -> io::Result<()> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default());
    if entry.path_is_symlink() {
        let target = fs::read_link(entry.path())?;
        let target = target.to_str().ok_or_else(|| io::Error::other("its target is not UTF-8"))?;
        zip.add_symlink(name, target, options.unix_permissions(0o777))?;
    } else if entry.file_type().is_dir() {
        zip.add_directory(name, options.unix_permissions(0o755))?;
    } else if entry.file_type().is_file() {
        let found = entry.metadata()?;
        let mode = if found.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
        let options = options.unix_permissions(mode).large_file(found.len() > LARGE_BYTES);
        zip.start_file(name, options)?;
        io::copy(&mut File::open(entry.path())?, zip)?;
    } else {
        return Err(io::Error::other("it is not a file, a folder or a link"));
    }
    Ok(())
}
