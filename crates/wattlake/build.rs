//! The files of the example warehouse, for `wattlake demo` to write: their names with their contents.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What the demo makes there when it is run from the repository.
const NOT_OF_IT: [&str; 2] = ["demo", "lake"];

fn main() -> io::Result<()> {
    let example = Path::new("../../warehouse");
    let mut files = Vec::new();
    walk(example, &mut files)?;
    files.sort();
    let mut code = "&[\n".to_owned();
    for file in files {
        let path = fs::canonicalize(&file)?;
        let name = file.strip_prefix(example).map_err(io::Error::other)?.display().to_string();
        let _ = writeln!(code, "    ({name:?}, include_str!({path:?})),");
    }
    code.push(']');
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo gives no OUT_DIR"))?;
    fs::write(Path::new(&out).join("example.rs"), code)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    // New files in it.
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || NOT_OF_IT.contains(&&*name) {
            continue;
        }
        if kind?.is_dir() { walk(&path, files)? } else { files.push(path) }
    }
    Ok(())
}
