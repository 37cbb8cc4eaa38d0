//! Unpacks files that are delivered in an archive: `.zip` with any number of files, and `.gz`. What a file is, its content
//! tells; a workbook, which is a zip too, is not unpacked.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::error::ErrorContext;
use crate::layout::Format;
use crate::{Error, Kind, Result};

/// The most bytes of all files of an archive: a small archive may unpack to any size.
const BYTES_MAX: u64 = 16 << 30;
/// The most files of an archive.
const FILES_MAX: usize = 10_000;

/// A file of an archive, unpacked.
pub struct PackedFile {
    /// Its name in the archive.
    pub name: String,
    /// Its content, at its beginning.
    pub content: File,
}

/// What a delivered file is.
pub enum Delivered {
    /// A file with rows.
    Plain(File),
    /// An archive with these files.
    Archive(Vec<PackedFile>),
    /// An archive that can't be unpacked, and why.
    Damaged(String),
}

/// Unpacks a file where it is an archive. `name` is its name, `format` that of the files that are expected; unpacked files
/// are unnamed files of the folder `spool`. It blocks.
///
/// # Errors
/// `FixSetup` where the file can't be read, or the spool can't be written. A damaged archive is not an error.
pub fn unpack(mut file: File, name: &str, format: &Format, spool: &Path) -> Result<Delivered> {
    let mut begins = Vec::new();
    (&mut file).take(4).read_to_end(&mut begins).during(Kind::FixSetup, "read the file")?;
    file.rewind().during(Kind::FixSetup, "read the file")?;
    let unpacked = match begins.as_slice() {
        [0x1f, 0x8b, ..] => gzip(&file, name, spool),
        b"PK\x03\x04" | b"PK\x05\x06" if !is_workbook(&file, format)? => zip(&file, spool),
        _ => return Ok(Delivered::Plain(file)),
    };
    match unpacked {
        Ok(files) if files.is_empty() => Ok(Delivered::Damaged("the archive has no files".to_owned())),
        Ok(files) => Ok(Delivered::Archive(files)),
        Err(Stop::Damaged(why)) => Ok(Delivered::Damaged(why)),
        Err(Stop::Error(error)) => Err(error),
    }
}

/// Whether a zip is the workbook that is expected.
fn is_workbook(file: &File, format: &Format) -> Result<bool> {
    if !matches!(format, Format::Xlsx(_)) {
        return Ok(false);
    }
    let mut again = file.try_clone().during(Kind::FixSetup, "read the file")?;
    let is_one = ZipArchive::new(BufReader::new(&mut again)).is_ok_and(|archive| {
        let parts = ["[Content_Types].xml", "content.xml"];
        parts.iter().any(|part| archive.index_for_name(part).is_some())
    });
    again.rewind().during(Kind::FixSetup, "read the file")?;
    Ok(is_one)
}

/// Why unpacking ends early.
enum Stop {
    Damaged(String),
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Error(error)
    }
}

fn gzip(file: &File, name: &str, spool: &Path) -> std::result::Result<Vec<PackedFile>, Stop> {
    let file_name = name.rsplit('/').next().unwrap_or(name);
    let end = file_name.len().saturating_sub(3);
    let is_named = end > 0 && file_name.is_char_boundary(end) && file_name[end..].eq_ignore_ascii_case(".gz");
    let name = if is_named { &file_name[..end] } else { "content" };
    let content = copy(MultiGzDecoder::new(BufReader::new(file)), name, BYTES_MAX, spool)?;
    Ok(vec![PackedFile { name: name.to_owned(), content }])
}

fn zip(file: &File, spool: &Path) -> std::result::Result<Vec<PackedFile>, Stop> {
    let damaged = |error: ZipError| Stop::Damaged(format!("the archive can't be read: {error}"));
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    if archive.len() > FILES_MAX {
        return Err(Stop::Damaged(format!(
            "the archive has {} files; at most {FILES_MAX} are unpacked",
            archive.len()
        )));
    }
    let (mut files, mut left) = (Vec::new(), BYTES_MAX);
    for at in 0..archive.len() {
        let packed = match archive.by_index(at) {
            Ok(packed) => packed,
            Err(ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED)) => {
                return Err(Stop::Damaged("the archive has a password: have it delivered without one".to_owned()));
            }
            Err(error) => return Err(damaged(error)),
        };
        let name = packed.name().map_err(damaged)?.replace('\\', "/");
        if packed.is_dir() || is_of_the_system(&name) {
            continue;
        }
        let content = copy(packed, &name, left, spool)?;
        left -= content.metadata().during(Kind::FixSetup, "read an unpacked file")?.len();
        files.push(PackedFile { name, content });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// What macOS adds to archives.
fn is_of_the_system(name: &str) -> bool {
    name.starts_with("__MACOSX/") || name.rsplit('/').next() == Some(".DS_Store")
}

fn copy(mut packed: impl Read, name: &str, most: u64, spool: &Path) -> std::result::Result<File, Stop> {
    let context = || format!("unpack {name}");
    std::fs::create_dir_all(spool).during(Kind::FixSetup, context())?;
    let mut content = tempfile::tempfile_in(spool).during(Kind::FixSetup, context())?;
    let (mut piece, mut bytes) = (vec![0; 256 << 10], 0);
    loop {
        let read = match packed.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Stop::Damaged(format!("{name} can't be unpacked: {error}"))),
        };
        bytes += read as u64;
        if bytes > most {
            let gib = BYTES_MAX >> 30;
            return Err(Stop::Damaged(format!("the files of the archive have more than {gib} GiB")));
        }
        content.write_all(&piece[..read]).during(Kind::FixSetup, context())?;
    }
    content.seek(SeekFrom::Start(0)).during(Kind::FixSetup, context())?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::io::{Cursor, Read, Seek, Write};

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::{Delivered, unpack};
    use crate::layout::{Format, Layout};

    fn format(name: &str) -> Format {
        Layout::parse(&format!("format='{name}'\n[columns.a]\ntype='text'")).unwrap().format
    }

    fn unpacked(name: &str, bytes: &[u8], format: &Format) -> Delivered {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        let spool = tempfile::tempdir().unwrap();
        unpack(file, name, format, spool.path()).unwrap()
    }

    fn zipped(files: &[(&str, &str)]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, text) in files {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(text.as_bytes()).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn texts(delivered: Delivered) -> Vec<(String, String)> {
        let Delivered::Archive(files) = delivered else { panic!("not an archive") };
        let text = |mut file: std::fs::File| {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            text
        };
        files.into_iter().map(|file| (file.name, text(file.content))).collect()
    }

    #[test]
    fn archives_are_unpacked_and_other_files_are_not() {
        let csv = format("csv");
        let files = [("b/2.csv", "two"), ("1.csv", "one"), ("__MACOSX/1.csv", "x"), ("b/.DS_Store", "x")];
        let archive = zipped(&files);
        let expected = [("1.csv", "one"), ("b/2.csv", "two")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(texts(unpacked("a.zip", &archive, &csv)), expected);

        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"rows").unwrap();
        let gzip = encoder.finish().unwrap();
        assert_eq!(texts(unpacked("x/a.csv.GZ", &gzip, &csv)), [("a.csv".to_owned(), "rows".to_owned())]);

        assert!(matches!(unpacked("a.csv", b"a\n1\n", &csv), Delivered::Plain(_)));
        let workbook = zipped(&[("[Content_Types].xml", ""), ("xl/workbook.xml", "")]);
        assert!(matches!(unpacked("a.xlsx", &workbook, &format("xlsx")), Delivered::Plain(_)));
        assert!(matches!(unpacked("a.zip", &zipped(&[("a.xlsx", "")]), &format("xlsx")), Delivered::Archive(_)));
    }

    #[test]
    fn damaged_archives_say_why() {
        let csv = format("csv");
        let why = |bytes: &[u8]| match unpacked("a.zip", bytes, &csv) {
            Delivered::Damaged(why) => why,
            Delivered::Plain(_) | Delivered::Archive(_) => panic!("it is unpacked"),
        };
        let archive = zipped(&[("1.csv", &"one ".repeat(1000))]);
        assert!(why(&archive[..archive.len() / 2]).contains("can't be read"));
        assert!(why(&zipped(&[("__MACOSX/1.csv", "x")])).contains("has no files"));
        assert!(why(&[0x1f, 0x8b, 8, 0, 0, 0]).contains("can't be unpacked"));
    }
}
