//! Finds the shared libraries that a program or library needs: their names are read from its headers, and the files are
//! searched where this machine's loader would search them. Nothing is executed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use goblin::elf::{self, header};
use object_rewrite::Rewriter;

use crate::error::{Error, ErrorContext, Kind, Result};

/// Is 64-bit, is little-endian, machine: the loader skips a library that differs in one of them.
type Abi = (bool, bool, u16);

const DEFAULT_FOLDERS: [&str; 4] = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"];

/// The headers of an ELF file that matter here.
pub struct Elf {
    abi: Abi,
    needed: Vec<String>,
    /// DT_RPATH, which also counts for the libraries that a needed one needs.
    rpath: Vec<String>,
    /// DT_RUNPATH, which counts for this file alone.
    runpath: Vec<String>,
    /// The path of its loader, if it is a program.
    pub interpreter: Option<String>,
}

impl Elf {
    /// Reads the headers. `None` where the file is not a program or shared library.
    pub fn read(path: &Path) -> Result<Option<Elf>> {
        let context = || format!("read {}", path.display());
        if !is_elf(path) {
            return Ok(None);
        }
        let bytes = fs::read(path).during(Kind::FixSetup, context())?;
        let elf = elf::Elf::parse(&bytes).during(Kind::FixSetup, context())?;
        if !matches!(elf.header.e_type, header::ET_EXEC | header::ET_DYN) {
            return Ok(None);
        }
        Ok(Some(Elf {
            abi: (elf.is_64, elf.little_endian, elf.header.e_machine),
            needed: elf.libraries.iter().map(|name| (*name).to_owned()).collect(),
            // With a DT_RUNPATH, a DT_RPATH does not count.
            rpath: if elf.runpaths.is_empty() { folders_of(&elf.rpaths) } else { Vec::new() },
            runpath: folders_of(&elf.runpaths),
            interpreter: elf.interpreter.map(str::to_owned),
        }))
    }
}

fn folders_of(paths: &[&str]) -> Vec<String> {
    paths.iter().flat_map(|all| all.split(':')).map(str::to_owned).collect()
}

/// Folders with the place of the file that names them.
fn resolved(folders: &[String], at: &Path) -> Vec<PathBuf> {
    let origin = at.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
    let resolve = |folder: &String| folder.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", &origin).into();
    folders.iter().map(resolve).collect()
}

/// The ABI of a file, from its first bytes.
fn abi(head: &[u8]) -> Option<Abi> {
    let header = elf::Elf::parse_header(head).ok()?;
    Some((
        header.e_ident[header::EI_CLASS] == header::ELFCLASS64,
        header.endianness().ok()?.is_little(),
        header.e_machine,
    ))
}

/// Whether the file exists and begins as ELF files do.
pub fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == header::ELFMAG
}

/// Finds shared libraries.
pub struct Finder {
    folders: Vec<PathBuf>,
}

impl Finder {
    /// Searches `first`, then the folders of /etc/ld.so.conf, then the loader's default folders.
    pub fn new(first: &[PathBuf]) -> Finder {
        let mut folders = first.to_vec();
        configured(Path::new("/etc/ld.so.conf"), 0, &mut folders);
        let arch = std::env::consts::ARCH;
        folders.extend([format!("/lib/{arch}-linux-gnu").into(), format!("/usr/lib/{arch}-linux-gnu").into()]);
        folders.extend(DEFAULT_FOLDERS.map(Into::into));
        Finder { folders }
    }

    /// Searches as ld.so(8) says: without a DT_RUNPATH, the DT_RPATH of the file and of those that have loaded it, which
    /// are `inherited`; then the machine's folders.
    fn find(&self, name: &str, by: &Elf, at: &Path, inherited: &[PathBuf]) -> Option<PathBuf> {
        let own = resolved(&by.runpath, at);
        let inherited = if by.runpath.is_empty() { inherited } else { &[] };
        inherited.iter().chain(&own).chain(&self.folders).map(|folder| folder.join(name)).find(|path| {
            let mut head = [0; header::header64::SIZEOF_EHDR];
            let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
            read.is_ok() && abi(&head) == Some(by.abi)
        })
    }

    /// All libraries that these files need, directly and indirectly, by the names under which they are needed. Without
    /// those in `provided`, which a layer below contains.
    ///
    /// # Errors
    /// [`Kind::FixSetup`] names a library that can't be found, and the file that needs it.
    pub fn closure(&self, files: &[PathBuf], provided: &BTreeSet<String>) -> Result<BTreeMap<String, PathBuf>> {
        let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut waiting: Vec<(PathBuf, Vec<PathBuf>)> = files.iter().map(|file| (file.clone(), Vec::new())).collect();
        while let Some((path, above)) = waiting.pop() {
            let Some(elf) = Elf::read(&path)? else { continue };
            let inherited: Vec<PathBuf> = resolved(&elf.rpath, &path).into_iter().chain(above).collect();
            for name in &elf.needed {
                if provided.contains(name) || found.contains_key(name) {
                    continue;
                }
                let library = self.find(name, &elf, &path, &inherited).ok_or_else(|| missing(name, &path))?;
                found.insert(name.clone(), library.clone());
                waiting.push((library, inherited.clone()));
            }
        }
        Ok(found)
    }
}

fn missing(name: &str, by: &Path) -> Error {
    let what = format!(
        "find {name}, which {} needs: it is in no folder of this machine's loader; install the package that \
         contains it",
        by.display()
    );
    Error::new(Kind::FixSetup, what)
}

/// Adds the folders of a loader's configuration file, and of the files that it includes, in their order.
fn configured(path: &Path, depth: usize, folders: &mut Vec<PathBuf>) {
    const DEPTH_MAX: usize = 8;
    let Ok(text) = fs::read_to_string(path) else { return };
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        match line.strip_prefix("include ").map(str::trim) {
            Some(pattern) if depth < DEPTH_MAX => {
                included(Path::new(pattern)).iter().for_each(|file| configured(file, depth + 1, folders));
            }
            Some(_) => {}
            None if line.starts_with('/') => folders.push(line.into()),
            None => {}
        }
    }
}

/// The files of an include such as `/etc/ld.so.conf.d/*.conf`. Only a single star in the file's name is supported.
fn included(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let Some((begin, end)) = name.split_once('*') else { return vec![pattern.to_owned()] };
    let folder = pattern.parent().and_then(|folder| fs::read_dir(folder).ok());
    let mut files: Vec<PathBuf> = folder.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.retain(|file| {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end)
    });
    files.sort();
    files
}

/// The bytes of a program with another loader and library folder written into it, so that scripts can name it as
/// their interpreter. The folder is a DT_RPATH, since only that is searched before LD_LIBRARY_PATH: AWS Lambda sets
/// the latter, and its C library does not fit the loader.
pub fn with_loader(program: &Path, loader: &str, libraries: &str) -> Result<Vec<u8>> {
    let context = || format!("write the layer's loader into {}", program.display());
    let bytes = fs::read(program).during(Kind::FixSetup, context())?;
    let mut elf = Rewriter::read(&bytes).during(Kind::FixSetup, context())?;
    elf.elf_set_interpreter(loader.into()).during(Kind::FixSetup, context())?;
    elf.elf_set_runpath(libraries.into()).during(Kind::FixSetup, context())?;
    elf.elf_use_rpath().during(Kind::FixSetup, context())?;
    let mut rewritten = Vec::with_capacity(bytes.len() + 8192);
    elf.write(&mut rewritten).during(Kind::FixSetup, context())?;
    Ok(rewritten)
}

/// The bytes of a library without its search path, where that names folders of this machine: with it the loader
/// would not search the folder that the program names. `None` where the library needs no change; a path relative to
/// `$ORIGIN` stays.
pub fn without_runpath(library: &Path) -> Result<Option<Vec<u8>>> {
    let Some(elf) = Elf::read(library)? else { return Ok(None) };
    let folders: Vec<&String> = elf.rpath.iter().chain(&elf.runpath).collect();
    if folders.is_empty() || folders.iter().any(|folder| folder.contains("$ORIGIN")) {
        return Ok(None);
    }
    let context = || format!("remove the search path from {}", library.display());
    let bytes = fs::read(library).during(Kind::FixSetup, context())?;
    let mut elf = Rewriter::read(&bytes).during(Kind::FixSetup, context())?;
    elf.elf_delete_runpath().during(Kind::FixSetup, context())?;
    let mut rewritten = Vec::with_capacity(bytes.len());
    elf.write(&mut rewritten).during(Kind::FixSetup, context())?;
    Ok(Some(rewritten))
}

#[cfg(test)]
mod tests;
