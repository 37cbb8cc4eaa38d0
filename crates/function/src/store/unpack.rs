//! Unpacks a zip. Names and links that lead out of the folder, special files and zips that are too large are
//! refused, and the error names the entry.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use zip::ZipArchive;

use crate::error::{Error, ErrorContext, Kind, Result};

/// The largest unpacked size of a zip: that of a container image on AWS Lambda, 10 GiB. Of zips it accepts 250 MiB, which
/// a deployment notes.
pub const UNPACKED_BYTES_MAX: u64 = 10 << 30;
/// A file above this size may not be compressed more than so many times: such a zip is made to fill a disk.
const LARGE_BYTES: u64 = 250 << 20;
const COMPRESSION_MAX: u64 = 100;
const ENTRIES_MAX: usize = 200_000;
const LINK_BYTES_MAX: u64 = 4096;

const KIND_MASK: u32 = 0o170_000;
const FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

/// Folders of the sandbox that an absolute link may lead to.
const SANDBOX: [&str; 5] = ["/opt", "/var/task", "/usr", "/tmp", "/var/runtime"];

/// Unpacks `zip` into a folder. `source` is the path for messages.
pub(super) fn unpack(zip: &Path, source: &Path, into: &Path) -> Result<()> {
    let named = format!("unpack {}", source.display());
    let file = File::open(zip).during(Kind::FixInput, &named)?;
    let mut archive = ZipArchive::new(file).during(Kind::FixInput, format!("{named}: it is not a zip"))?;
    if archive.len() > ENTRIES_MAX {
        return Err(Error::new(Kind::FixInput, format!("{named}: it has more than {ENTRIES_MAX} entries")));
    }
    let mut links: Vec<(PathBuf, PathBuf)> = Vec::new();
    let mut left = UNPACKED_BYTES_MAX;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).during(Kind::FixInput, format!("{named}: entry {index}"))?;
        let context = format!("{named}: entry {:?}", String::from_utf8_lossy(entry.name_raw()));
        let refuse = |why: &str| Error::new(Kind::FixInput, format!("{context} {why}"));
        let path = entry.enclosed_name().ok_or_else(|| refuse("leaves its folder"))?;
        let mode = entry.unix_mode().unwrap_or(0);
        match mode & KIND_MASK {
            _ if entry.is_dir() => fs::create_dir_all(into.join(&path)).during(Kind::FixInput, &context)?,
            FOLDER => fs::create_dir_all(into.join(&path)).during(Kind::FixInput, &context)?,
            LINK => {
                let mut target = String::new();
                entry.by_ref().take(LINK_BYTES_MAX).read_to_string(&mut target).during(Kind::FixInput, &context)?;
                let target = PathBuf::from(target);
                if !stays(&path, &target) {
                    return Err(refuse(&format!("is a link to {target:?}, which leaves its folder")));
                }
                links.push((path, target));
            }
            0 | FILE => {
                if entry.size() > LARGE_BYTES && entry.size() / COMPRESSION_MAX > entry.compressed_size() {
                    return Err(refuse(&format!("is compressed more than {COMPRESSION_MAX} times")));
                }
                let written = write(&mut entry, &into.join(&path), mode, left).during(Kind::FixInput, &context)?;
                left = left.checked_sub(written).ok_or_else(|| {
                    refuse(&format!("makes the zip larger than {} GB unpacked, the limit", UNPACKED_BYTES_MAX >> 30))
                })?;
            }
            _ => return Err(refuse("is not a file, a folder or a link")),
        }
    }
    make_links(&links, into, &named)
}

/// Creates the links, after all files have been written, so that no file is written through a link.
fn make_links(links: &[(PathBuf, PathBuf)], into: &Path, named: &str) -> Result<()> {
    let paths: BTreeSet<&Path> = links.iter().map(|(path, _)| path.as_path()).collect();
    for (path, target) in links {
        let context = || format!("{named}: entry {path:?}");
        if path.ancestors().skip(1).any(|parent| paths.contains(parent)) {
            return Err(Error::new(Kind::FixInput, format!("{} is inside a link", context())));
        }
        let place = into.join(path);
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).during(Kind::FixInput, context())?;
        }
        symlink(target, &place).during(Kind::FixInput, context())?;
    }
    Ok(())
}

/// Writes a file, at most one byte more than `left`, which shows that it is too large.
fn write(entry: &mut impl Read, path: &Path, mode: u32, left: u64) -> io::Result<u64> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    // Readable by the function's user, and never setuid.
    let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
    let mut file = File::options().write(true).create_new(true).mode(mode).open(path)?;
    let written = io::copy(&mut entry.take(left + 1), &mut file)?;
    file.flush()?;
    Ok(written)
}

/// Whether a link leads to what a function may see, wherever its folder is mounted.
fn stays(link: &Path, target: &Path) -> bool {
    if target.is_absolute() {
        let climbs = target.components().any(|part| part == Component::ParentDir);
        return !climbs && SANDBOX.iter().any(|folder| target.starts_with(folder));
    }
    let mut depth = link.components().count().cast_signed() - 1;
    target.components().all(|part| {
        match part {
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            _ => {}
        }
        depth >= 0
    }) && !target.as_os_str().is_empty()
}
