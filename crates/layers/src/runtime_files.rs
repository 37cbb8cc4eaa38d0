//! Adds the files that every language's layer needs and would otherwise use from its host: a shell with its tools,
//! the C library with its loader, character sets, time zones, a locale and certificates.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::elf::{self, Elf, Finder};
use crate::error::{Error, ErrorContext, Kind, Result};
use crate::pack::{Layer, PackedPart};

/// Where layers are unpacked, here and on AWS Lambda.
const ROOT: &str = "/opt";
/// The folder of the layer's tools, `/opt/bin`, which is the last one in AWS Lambda's PATH.
pub const PROGRAMS: &str = "bin";
const PROGRAM_FOLDERS: [&str; 2] = ["/usr/bin", "/bin"];
const ZONES: &str = "/usr/share/zoneinfo";
const LOCALES: [&str; 2] = ["/usr/lib/locale/C.utf8", "/usr/lib/locale/C.UTF-8"];
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Beginnings of the names of the character sets that are packed, beside UTF-8, which is part of the C library.
const ENCODINGS: [&str; 9] = ["ISO8859-", "ISO_", "CP125", "CP850", "IBM850", "IBM858", "UTF-", "UNICODE", "MACINTOSH"];

/// Adds tools of this machine, unchanged, and gives their paths on it. [`set_loader`] has to follow once the
/// libraries are known.
pub fn put_programs(layer: &mut Layer, names: &[&str]) -> Result<Vec<PathBuf>> {
    let programs = names.iter().map(|name| program(name)).collect::<Result<Vec<_>>>()?;
    for path in &programs {
        layer.file(format!("{PROGRAMS}/{}", name_of(path)), path, true);
    }
    Ok(programs)
}

fn program(name: &str) -> Result<PathBuf> {
    let paths = PROGRAM_FOLDERS.iter().map(|folder| Path::new(folder).join(name));
    let found = paths.into_iter().find(|path| elf::is_elf(path));
    found.ok_or_else(|| {
        let folders = PROGRAM_FOLDERS.join(", ");
        let what = format!("find the program {name}, which shell bootstraps need: it is not in {folders}; install it");
        Error::new(Kind::FixSetup, what)
    })
}

/// The file name of a program's loader.
pub fn loader_of(program: &Path) -> Result<String> {
    let interpreter = Elf::read(program)?.and_then(|elf| elf.interpreter);
    let interpreter = interpreter.ok_or_else(|| {
        Error::new(
            Kind::FixSetup,
            format!("find the loader of {}: it is not a dynamically linked program", program.display()),
        )
    })?;
    Ok(name_of(Path::new(&interpreter)))
}

/// A path's file name.
pub fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Adds the shared libraries that the layer's files need to its folder `at`, without those in `provided`, which a layer
/// below contains. The folders `first` are searched before this machine's own.
pub fn put_libraries(
    layer: &mut Layer,
    at: &str,
    first: &[PathBuf],
    provided: &BTreeSet<String>,
) -> Result<Vec<PackedPart>> {
    let sources = layer.sources();
    let mut libraries = Vec::new();
    for (name, path) in Finder::new(first).closure(&sources, provided)? {
        // A package that contains its libraries finds them by itself.
        if fs::canonicalize(&path).is_ok_and(|path| sources.contains(&path)) {
            continue;
        }
        let at = format!("{at}/{name}");
        // Executable, since the loader is one of them and is started as a program.
        layer.file(&at, &path, true);
        libraries.push(PackedPart { name, version: None, at });
    }
    layer.rewrite(elf::without_runpath)?;
    Ok(libraries)
}

/// Makes the tools use the layer's loader and its libraries in `at`.
pub fn set_loader(layer: &mut Layer, programs: &[PathBuf], at: &str, loader: &str) -> Result<()> {
    for path in programs {
        let bytes = with_loader(path, at, loader)?;
        layer.bytes(format!("{PROGRAMS}/{}", name_of(path)), bytes, true);
    }
    Ok(())
}

/// The bytes of a program that uses the layer's loader, and the layer's libraries in `at`.
pub fn with_loader(program: &Path, at: &str, loader: &str) -> Result<Vec<u8>> {
    let libraries = format!("{ROOT}/{at}");
    elf::with_loader(program, &format!("{libraries}/{loader}"), &libraries)
}

/// Adds the C library's converters for Latin-1 and similar character sets, which the library loads at run time.
pub fn put_encodings(layer: &mut Layer, home: &str) -> Result<()> {
    let arch = std::env::consts::ARCH;
    let folders = [format!("/usr/lib/{arch}-linux-gnu/gconv"), "/usr/lib64/gconv".into(), "/usr/lib/gconv".into()];
    let Some(from) = folders.iter().map(Path::new).find(|folder| folder.join("gconv-modules").is_file()) else {
        let what = format!("find the C library's character sets: there is no gconv-modules in {}", folders.join(", "));
        return Err(Error::new(Kind::FixSetup, what));
    };
    let at = format!("{home}/gconv");
    let kept = |name: &str| name.ends_with(".so") && ENCODINGS.iter().any(|begin| name.starts_with(begin));
    let entries = fs::read_dir(from).during(Kind::FixSetup, format!("read {}", from.display()))?;
    let modules: BTreeSet<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| kept(name))
        .collect();
    for name in &modules {
        layer.file(format!("{at}/{name}"), &from.join(name), true);
    }
    layer.bytes(format!("{at}/gconv-modules"), configuration(from, &modules)?, false);
    Ok(())
}

/// The configuration's lines for the packed modules, aliases included.
fn configuration(from: &Path, modules: &BTreeSet<String>) -> Result<String> {
    let mut files = vec![from.join("gconv-modules")];
    let more = fs::read_dir(from.join("gconv-modules.d")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut more: Vec<PathBuf> = more.filter(|path| path.extension().is_some_and(|end| end == "conf")).collect();
    more.sort();
    files.append(&mut more);
    let mut lines = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).during(Kind::FixSetup, format!("read {}", file.display()))?;
        lines.extend(text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()));
    }
    let is_kept =
        |words: &[String]| words.len() >= 4 && words[0] == "module" && modules.contains(&format!("{}.so", words[3]));
    let names: BTreeSet<String> =
        lines.iter().filter(|words| is_kept(words)).flat_map(|words| words[1..3].to_vec()).collect();
    let kept = lines
        .iter()
        .filter(|words| is_kept(words) || (words.len() >= 3 && words[0] == "alias" && names.contains(&words[2])));
    Ok(kept.map(|words| words.join(" ") + "\n").collect())
}

/// Adds time zones, a locale and certificates. Without the first two a local time would silently become UTC, and an
/// accented letter two other characters.
pub fn put_zones_and_locale(layer: &mut Layer, home: &str) -> Result<()> {
    let zones = Path::new(ZONES);
    if !zones.join("Europe/Paris").is_file() {
        let what = format!("find the time zones: there is no Europe/Paris in {ZONES}; install tzdata");
        return Err(Error::new(Kind::FixSetup, what));
    }
    // Copies of the same zones: with leap seconds, and under another name.
    let twice = ["right", "posix", "localtime"];
    layer.folder(&format!("{home}/zoneinfo"), zones, |path| !twice.iter().any(|name| path == Path::new(name)))?;
    let Some(locale) = LOCALES.iter().map(Path::new).find(|folder| folder.is_dir()) else {
        let what = format!("find the locale C.UTF-8: there is no {}; install libc-bin", LOCALES.join(" and no "));
        return Err(Error::new(Kind::FixSetup, what));
    };
    layer.folder(&format!("{home}/locale/C.utf8"), locale, |_| true)?;
    let certificates = Path::new(CERTIFICATES);
    if certificates.is_file() {
        layer.file(format!("{home}/etc/ca-certificates.crt"), certificates, false);
    }
    Ok(())
}
