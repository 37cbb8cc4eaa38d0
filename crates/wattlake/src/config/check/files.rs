//! The files of a warehouse's folders, and their texts.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::super::problem::{Problem, Report};

/// Begins the lines of TOML at the top of a SQL file.
pub const MARK: &str = "--|";

/// Names in a folder of the warehouse, with whether each is a folder. What begins with a dot is an editor's.
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

/// `FOLDER/*.toml` and their kin, relative to the warehouse, by name.
pub fn with_extension(root: &Path, folder: &Path, extension: &str, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let entries = entries(root, folder).unwrap_or_else(|problem| {
        problems.push(problem);
        Vec::new()
    });
    // A folder of such a name is told when it is read.
    let files = entries.into_iter().map(|(name, _)| folder.join(name));
    files.filter(|file| file.extension().is_some_and(|found| found == extension)).collect()
}

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
        let mut report = Report::new(file, &good);
        report.add(good.len()..good.len(), "not UTF-8", Some("save the file as UTF-8".to_owned()));
        // One was added just above.
        report.finish().remove(0)
    })
}

/// The TOML of a SQL file, each of its bytes where it is in the file; the rest is blank.
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

/// Where the query begins, below a head that is the report's text; marks in it are reported.
pub fn body(text: &str, report: &mut Report<'_>) -> usize {
    let head_end = report.text().trim_end().len();
    for (at, _) in text.match_indices(MARK).filter(|(at, _)| *at > head_end && text[..*at].ends_with('\n')) {
        let hint = "move it to the top of the file".to_owned();
        report.add(at..at + MARK.len(), "a line that begins with --| below the query's first line", hint);
    }
    text.len() - text[head_end..].trim_start().len()
}

pub fn whole_file(file: &Path, what: String, hint: Option<String>) -> Problem {
    Problem { file: file.to_owned(), line: 1, column: 1, what, hint }
}
