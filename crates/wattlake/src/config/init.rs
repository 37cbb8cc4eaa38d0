//! A commented warehouse to start from. It writes new files only: nothing that is there is ever touched.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::raw::{Which, json_schema};
use crate::example;

/// Returns the files written, in `dir`, which is made where it isn't there.
///
/// # Errors
/// `AlreadyExists`, with the names, where one of the files is there already: then nothing is written.
pub fn init(dir: &Path, with_billing: bool) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<(&str, String)> = vec![
        ("wattlake.toml", include_str!("init/wattlake.toml").to_owned()),
        ("transfers/platform.toml", include_str!("init/platform.toml").to_owned()),
        (".gitignore", include_str!("init/gitignore").to_owned()),
        ("schema/wattlake.schema.json", pretty(Which::Warehouse)),
        ("schema/transfer.schema.json", pretty(Which::Transfer)),
    ];
    if with_billing {
        // To a warehouse that is there, it is added.
        if dir.join("wattlake.toml").exists() {
            files.clear();
        }
        files.extend(example::billing().map(|(name, text)| (name, text.to_owned())));
    }
    let there: Vec<String> = files
        .iter()
        .map(|(name, _)| dir.join(name))
        .filter(|path| path.symlink_metadata().is_ok())
        .map(|path| path.display().to_string())
        .collect();
    if !there.is_empty() {
        let what = format!("already there, and left as they are: {}", there.join(", "));
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    files.iter().map(|(name, text)| write_new(dir.join(name), text)).collect()
}

fn write_new(path: PathBuf, text: &str) -> io::Result<PathBuf> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("write {}: {error}", path.display()));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(named)?;
    }
    let mut file = std::fs::File::create_new(&path).map_err(named)?;
    file.write_all(text.as_bytes()).map_err(named)?;
    Ok(path)
}

fn pretty(which: Which) -> String {
    format!("{:#}\n", json_schema(which))
}
