//! What this process passes on to the warehouse, and commands in messages, written so that a user can paste them into a
//! shell.

use std::path::Path;

use anyhow::{Context, Result};
use jobs::warehouse::{Environment, Warehouse};

/// Opens the warehouse in a folder, with the environment of this process.
pub fn open_warehouse(root: &Path) -> Result<Warehouse> {
    // A variable that is no text can't be named in a file.
    let texts = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let variables = std::env::vars_os().filter_map(texts).collect();
    let executable = std::env::current_exe().context("find the path of this program")?;
    Warehouse::open(root, Environment { variables, command: program_in(root), executable })
}

/// `wattlake` where `PATH` leads to this very program under that name, else the quoted path of this program.
pub fn program() -> String {
    let Ok(own) = std::env::current_exe().and_then(|path| path.canonicalize()) else { return "wattlake".to_owned() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join("wattlake")).filter(|file| file.is_file());
    match found.next().and_then(|file| file.canonicalize().ok()) {
        Some(first) if first == own => "wattlake".to_owned(),
        _ => quoted(&own),
    }
}

/// The command that runs this program on the warehouse in `root`, with `-C` unless it is the current folder.
pub fn program_in(root: &Path) -> String {
    match std::env::current_dir().and_then(|folder| folder.canonicalize()) {
        Ok(folder) if root.canonicalize().is_ok_and(|root| root == folder) => program(),
        _ => format!("{} -C {}", program(), quoted(root)),
    }
}

/// The path for a shell, in single quotes where it has characters that a shell interprets.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:=@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_special_characters_are_quoted() {
        assert_eq!(quoted(Path::new("/srv/wattlake-2/a.b")), "/srv/wattlake-2/a.b");
        assert_eq!(quoted(Path::new("a b")), "'a b'");
        assert_eq!(quoted(Path::new("it's")), "'it'\\''s'");
    }
}
