//! Lists and reads the files of a warehouse's folders.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::super::Problem;
use super::super::problem::FileProblems;

/// The prefix of the lines of TOML at the top of a SQL file.
pub const MARK: &str = "--|";

/// The sorted names in a folder of the warehouse, each with whether it is a folder; none where the folder is missing.
/// Names that begin with a dot are left out: editors write such files.
pub fn entries(root: &Path, folder: &Path) -> Result<Vec<(String, bool)>, Problem> {
    let failed = |error: std::io::Error| whole_file(folder, format!("can't be read: {error}"), None);
    let entries = match std::fs::read_dir(root.join(folder)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            found.push((name, root.join(folder).join(entry.file_name()).is_dir()));
        }
    }
    found.sort();
    Ok(found)
}

/// The files of a folder with an extension, as sorted paths relative to the warehouse.
pub fn with_extension(root: &Path, folder: &Path, extension: &str, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let entries = entries(root, folder).unwrap_or_else(|problem| {
        problems.push(problem);
        Vec::new()
    });
    // A folder with such a name is reported when it is read.
    let files = entries.into_iter().map(|(name, _)| folder.join(name));
    files.filter(|file| file.extension().is_some_and(|found| found == extension)).collect()
}

/// Reads a file as UTF-8; the problem has the place of the first wrong byte.
pub fn read_text(root: &Path, file: &Path) -> Result<String, Problem> {
    let bytes = std::fs::read(root.join(file)).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            let hint = "name the warehouse's folder with -C, or write a new one with `wattlake init DIR`";
            whole_file(file, format!("there is no such file in {}", root.display()), Some(hint.to_owned()))
        }
        _ => whole_file(file, format!("can't be read: {error}"), None),
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
        let mut report = FileProblems::new(file, &good);
        report.add(good.len()..good.len(), "this is not UTF-8", Some("save the file as UTF-8".to_owned()));
        // One was added just above.
        report.finish().remove(0)
    })
}

/// The TOML lines at the top of a SQL file. All other text is replaced by spaces, so that offsets and lines stay right.
pub fn head(text: &str) -> String {
    let mut in_head = true;
    let lines = text.split_inclusive('\n').map(|line| {
        let toml = line.strip_prefix(MARK).filter(|_| in_head);
        in_head = toml.is_some() || (in_head && line.trim().is_empty());
        match toml {
            Some(toml) => format!("{}{toml}", " ".repeat(MARK.len())),
            None => line.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect(),
        }
    });
    lines.collect()
}

/// The offset of the query in a SQL file whose [`head`] is the report's text. Lines of TOML below it are reported.
pub fn body(text: &str, report: &mut FileProblems<'_>) -> usize {
    let head_end = report.text().trim_end().len();
    for (at, _) in text.match_indices(MARK).filter(|(at, _)| *at > head_end && text[..*at].ends_with('\n')) {
        let hint = "move it to the top of the file".to_owned();
        report.add(at..at + MARK.len(), "a line that begins with --| below the start of the query", hint);
    }
    text.len() - text[head_end..].trim_start().len()
}

/// A problem of a whole file or folder, placed at its start.
pub fn whole_file(file: &Path, what: String, hint: Option<String>) -> Problem {
    Problem { file: file.to_owned(), line: 1, column: 1, what, hint }
}
