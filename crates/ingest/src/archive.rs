//! Unpacks files that are delivered in an archive: `.zip` with any number of files, and `.gz`. What a file is, its content
//! tells; a workbook, which is a zip too, is not unpacked.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::error::ErrorContext;
use crate::layout::Format;
use crate::{Error, Kind, Result};

/// The most bytes of all files of an archive: a small archive may unpack to any size.
const BYTES_MAX: u64 = 16 << 30;
/// A larger file that is packed to less than a part of [`RATIO_MAX`] is refused.
const SUSPICIOUS_BYTES: u64 = 256 << 20;
const RATIO_MAX: u64 = 500;
/// The most files of an archive.
const FILES_MAX: usize = 10_000;

/// A file of an archive, unpacked.
pub struct PackedFile {
    /// Its name in the archive.
    pub name: String,
    /// Its place among the files of the archive, from 0: the one that was written last comes last.
    pub place: usize,
    /// Its content, at its beginning.
    pub content: File,
}

/// What a delivered file is.
pub enum Delivered {
    /// A file with rows.
    Plain(File),
    /// An archive with files.
    Archive(Archive),
    /// An archive that can't be unpacked, and why.
    Damaged(String),
}

/// An archive all of whose files can be unpacked.
pub struct Archive {
    packed: Packed,
    /// The names of its files that are left, with their indexes in a zip, the last one first.
    left: Vec<(usize, String)>,
    count: usize,
}

enum Packed {
    Zip(Box<ZipArchive<BufReader<File>>>),
    Gzip(File),
}

/// Opens a file that may be an archive, and reads it to its end to see whether it can be unpacked. `name` is its name,
/// `format` that of the files that are expected. It blocks.
///
/// # Errors
/// `FixSetup` where the file can't be read. A damaged archive is not an error.
pub fn open(mut file: File, name: &str, format: &Format) -> Result<Delivered> {
    let mut begins = Vec::new();
    (&mut file).take(4).read_to_end(&mut begins).during(Kind::FixSetup, "read the file")?;
    file.rewind().during(Kind::FixSetup, "read the file")?;
    let opened = match begins.as_slice() {
        [0x1f, 0x8b, ..] => gzip(file, name),
        b"PK\x03\x04" | b"PK\x05\x06" if !is_workbook(&file, format)? => zip(file),
        _ => return Ok(Delivered::Plain(file)),
    };
    match opened {
        Ok(archive) if archive.count == 0 => Ok(Delivered::Damaged("the archive has no files".to_owned())),
        Ok(archive) => Ok(Delivered::Archive(archive)),
        Err(Stop::Damaged(why)) => Ok(Delivered::Damaged(why)),
        Err(Stop::Error(error)) => Err(error),
    }
}

impl Archive {
    /// How many files it has.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Unpacks its next file, in the order in which they were written and of their names, into an unnamed file of the folder `spool`. One at a time, so that
    /// neither files are kept open nor the disk is needed for all of them. It blocks.
    ///
    /// # Errors
    /// `FixSetup` where the archive can't be read again, or the spool can't be written.
    pub fn next(&mut self, spool: &Path) -> Result<Option<PackedFile>> {
        let Some((at, name)) = self.left.pop() else { return Ok(None) };
        let place = self.count - self.left.len() - 1;
        let context = || format!("unpack {name}");
        std::fs::create_dir_all(spool).during(Kind::FixSetup, context())?;
        let mut content = tempfile::tempfile_in(spool).during(Kind::FixSetup, context())?;
        let copied = match &mut self.packed {
            Packed::Zip(archive) => {
                let mut packed = archive.by_index(at).during(Kind::FixSetup, context())?;
                io::copy(&mut packed, &mut content)
            }
            Packed::Gzip(file) => {
                file.rewind().during(Kind::FixSetup, context())?;
                io::copy(&mut MultiGzDecoder::new(BufReader::new(&mut *file)), &mut content)
            }
        };
        copied.during(Kind::FixSetup, context())?;
        content.seek(SeekFrom::Start(0)).during(Kind::FixSetup, context())?;
        Ok(Some(PackedFile { name, place, content }))
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

fn gzip(file: File, name: &str) -> std::result::Result<Archive, Stop> {
    let file_name = name.rsplit('/').next().unwrap_or(name);
    let end = file_name.len().saturating_sub(3);
    let is_named = end > 0 && file_name.is_char_boundary(end) && file_name[end..].eq_ignore_ascii_case(".gz");
    let name = if is_named { &file_name[..end] } else { file_name };
    let packed_bytes = file.metadata().during(Kind::FixSetup, "read the file")?.len();
    measure(MultiGzDecoder::new(BufReader::new(&file)), name, packed_bytes, BYTES_MAX)?;
    Ok(Archive { packed: Packed::Gzip(file), left: vec![(0, name.to_owned())], count: 1 })
}

fn zip(mut file: File) -> std::result::Result<Archive, Stop> {
    let damaged = |error: ZipError| Stop::Damaged(format!("the archive can't be read: {error}"));
    let stated = stated_count(&mut file)?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    if archive.len() > FILES_MAX {
        return Err(Stop::Damaged(format!(
            "the archive has {} files; at most {FILES_MAX} are unpacked",
            archive.len()
        )));
    }
    // Of two files with one name, the library has only the last.
    if stated.is_some_and(|stated| stated > archive.len()) {
        return Err(Stop::Damaged("the archive has two files of one name".to_owned()));
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
        let packed_bytes = packed.compressed_size();
        let written = packed.last_modified().map(|at| (at.datepart(), at.timepart()));
        left -= measure(packed, &name, packed_bytes, left)?;
        files.push((written, name, at));
    }
    let mut names: Vec<&str> = files.iter().map(|(_, name, _)| name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Stop::Damaged(format!("the archive has two files of one name, {}", pair[0])));
    }
    files.sort_by(|a, b| b.cmp(a));
    let files: Vec<(usize, String)> = files.into_iter().map(|(_, name, at)| (at, name)).collect();
    Ok(Archive { packed: Packed::Zip(Box::new(archive)), count: files.len(), left: files })
}

/// How many files a zip says that it has, in the record at its end; none where there are too many for that record.
fn stated_count(file: &mut File) -> Result<Option<usize>> {
    const RECORD: &[u8] = b"PK\x05\x06";
    let bytes = file.metadata().during(Kind::FixSetup, "read the file")?.len();
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(bytes.saturating_sub(66_000))).during(Kind::FixSetup, "read the file")?;
    file.read_to_end(&mut end).during(Kind::FixSetup, "read the file")?;
    file.rewind().during(Kind::FixSetup, "read the file")?;
    let at = end.windows(4).rposition(|window| window == RECORD);
    let count = at.and_then(|at| Some(u16::from_le_bytes(end.get(at + 10..at + 12)?.try_into().ok()?)));
    Ok(count.filter(|count| *count != u16::MAX).map(usize::from))
}

/// What macOS adds to archives.
fn is_of_the_system(name: &str) -> bool {
    name.starts_with("__MACOSX/") || name.rsplit('/').next() == Some(".DS_Store")
}

/// Reads a packed file to its end, which checks it, and returns how many bytes it has.
fn measure(mut packed: impl Read, name: &str, packed_bytes: u64, most: u64) -> std::result::Result<u64, Stop> {
    let (mut piece, mut bytes) = (vec![0; 256 << 10], 0);
    loop {
        let read = match packed.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Stop::Damaged(format!("{name} can't be unpacked: {error}"))),
        };
        bytes += read as u64;
        if bytes > most {
            let gib = BYTES_MAX >> 30;
            return Err(Stop::Damaged(format!("the files of the archive have more than {gib} GiB")));
        }
        // Rows of text are packed to a tenth or a hundredth: such a file is made to fill a disk.
        if bytes > SUSPICIOUS_BYTES && bytes / packed_bytes.max(1) > RATIO_MAX {
            return Err(Stop::Damaged(format!("{name} is more than {RATIO_MAX} times as large as it is packed")));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::io::{Cursor, Read, Seek, Write};

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::{Delivered, open};
    use crate::layout::{Format, Layout};

    fn format(name: &str) -> Format {
        Layout::parse(&format!("format='{name}'\n[columns.a]\ntype='text'")).unwrap().format
    }

    fn unpacked(name: &str, bytes: &[u8], format: &Format) -> Delivered {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        open(file, name, format).unwrap()
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
        let Delivered::Archive(mut archive) = delivered else { panic!("not an archive") };
        let spool = tempfile::tempdir().unwrap();
        let mut texts = Vec::new();
        while let Some(mut file) = archive.next(spool.path()).unwrap() {
            let mut text = String::new();
            file.content.read_to_string(&mut text).unwrap();
            texts.push((file.name, text));
        }
        assert_eq!(archive.count(), texts.len());
        texts
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
    fn the_file_that_was_written_last_comes_last() {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, minute) in [("a.csv", 30), ("b.csv", 10), ("c.csv", 20), ("0.csv", 20)] {
            let written = zip::DateTime::from_date_and_time(2026, 4, 5, 12, minute, 0).unwrap();
            writer.start_file(name, SimpleFileOptions::default().last_modified_time(written)).unwrap();
        }
        let archive = writer.finish().unwrap().into_inner();
        let names: Vec<String> =
            texts(unpacked("a.zip", &archive, &format("csv"))).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["b.csv", "0.csv", "c.csv", "a.csv"]);
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
        assert!(why(&zipped(&[("a/1.csv", "x"), ("a\\1.csv", "y")])).contains("two files of one name, a/1.csv"));
        // The library refuses to write two files of one name: the second one's name is changed afterwards.
        let mut doubled = zipped(&[("1.csv", "one"), ("2.csv", "two")]);
        let places: Vec<usize> = (0..doubled.len() - 5).filter(|at| doubled[*at..].starts_with(b"2.csv")).collect();
        places.into_iter().for_each(|at| doubled[at] = b'1');
        assert!(why(&doubled).contains("two files of one name"));
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let zeros = vec![0; 1 << 20];
        (0..300).for_each(|_| encoder.write_all(&zeros).unwrap());
        assert!(why(&encoder.finish().unwrap()).contains("more than 500 times as large"));
    }
}
