//! The files of the example warehouse, for `wattlake demo` and `wattlake init` to write: their names with their contents.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What the demo makes there when it is run from the repository.
const DEMO: &str = "demo";

fn main() -> io::Result<()> {
    let example = Path::new("../../warehouse");
    let mut files = Vec::new();
    for path in entries(example)? {
        // Cargo looks into folders by itself. The example's own is not named: the demo's would be in it.
        println!("cargo::rerun-if-changed={}", path.display());
        walk(path, &mut files)?;
    }
    let mut code = "&[\n".to_owned();
    for file in files {
        let name = file.strip_prefix(example).map_err(io::Error::other)?.display().to_string();
        // The texts themselves, not their paths: several checkouts may share what is built.
        let _ = writeln!(code, "    ({name:?}, {:?}),", fs::read_to_string(&file)?);
    }
    code.push(']');
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo gives no OUT_DIR"))?;
    fs::write(Path::new(&out).join("example.rs"), code)
}

fn walk(path: PathBuf, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path);
        return Ok(());
    }
    entries(&path)?.into_iter().try_for_each(|entry| walk(entry, files))
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != DEMO && !name.to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}
