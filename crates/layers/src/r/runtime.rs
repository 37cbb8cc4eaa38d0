//! The layer of R itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::machine::Machine;
use super::{KIND_RUNTIME, library, place};
use crate::elf::{self, Elf};
use crate::error::{During, Error, Kind, Result};
use crate::pack::{About, Layer, Named, Packed};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    pub machine: Machine,
    /// Beside R's own: recommended ones, or any other.
    pub packages: Vec<String>,
    pub shape: Shape,
    /// PNG and SVG by cairo, X11 and Tcl/Tk: tens of megabytes that a bill has no use for. PDF
    /// works without.
    pub graphics: bool,
}

/// How the bootstrap answers events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shape {
    /// One R polls for events and keeps what it has loaded.
    #[default]
    Persistent,
    /// A shell polls and starts `Rscript runtime.R EVENT REQUEST_ID HANDLER` for each event.
    PerEvent,
}

/// What the layer's shell scripts, and those of a bootstrap laid over it, are made of.
const PROGRAMS: [&str; 15] =
    ["bash", "cat", "cut", "curl", "date", "env", "grep", "head", "mktemp", "rm", "sed", "sort", "tail", "tr", "wc"];
const PROGRAM_FOLDERS: [&str; 2] = ["/usr/bin", "/bin"];
const SOURCE: &str = include_str!("layer/runtime-source.R");
const ZONES: &str = "/usr/share/zoneinfo";
const LOCALES: [&str; 2] = ["/usr/lib/locale/C.utf8", "/usr/lib/locale/C.UTF-8"];
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// What files come in, beside the UTF-8 that the C library has in itself.
const ENCODINGS: [&str; 9] = ["ISO8859-", "ISO_", "CP125", "CP850", "IBM850", "IBM858", "UTF-", "UNICODE", "MACINTOSH"];

/// Packs this machine's R, with a bootstrap for AWS Lambda's Runtime API.
pub fn runtime(out_zip: &Path, options: &Options) -> Result<Packed> {
    let machine = &options.machine;
    let version = machine.version()?;
    let mut layer = Layer::default();
    let packages = put_packages(&mut layer, options)?;
    put_modules(&mut layer, options)?;
    let programs = PROGRAMS.map(program).into_iter().collect::<Result<Vec<_>>>()?;
    let loader = put_programs(&mut layer, machine, &programs)?;
    put_encodings(&mut layer)?;
    let libraries = library::put_libraries(&mut layer, machine, &BTreeSet::new())?;
    rehome(&mut layer, &programs, &loader)?;
    put_zones_and_locale(&mut layer)?;
    put_scripts(&mut layer, options, &loader)?;
    layer.write(out_zip, About { kind: KIND_RUNTIME, version, packages, libraries, below: vec![] })
}

fn put_packages(layer: &mut Layer, options: &Options) -> Result<Vec<Named>> {
    let machine = &options.machine;
    let base = machine.base_packages()?;
    let given: BTreeSet<String> = base.iter().map(|package| package.name.clone()).collect();
    let mut named = Vec::new();
    for package in base.iter().filter(|package| options.graphics || package.name != "tcltk") {
        named.push(library::put(layer, &format!("{}/library", place::HOME), package)?);
    }
    if !options.graphics {
        layer.remove(&format!("{}/library/grDevices/libs/cairo.so", place::HOME));
    }
    for package in library::with_needs(machine, &options.packages, &given)?.values() {
        named.push(library::put(layer, place::SITE_LIBRARY, package)?);
    }
    Ok(named)
}

/// What R loads when it is asked for: sockets, linear algebra, and the screen.
fn put_modules(layer: &mut Layer, options: &Options) -> Result<()> {
    let screen = [Path::new("R_X11.so"), Path::new("R_de.so")];
    let from = options.machine.home.join("modules");
    layer.folder(&format!("{}/modules", place::HOME), &from, |path| options.graphics || !screen.contains(&path))?;
    for (inner, wanted) in [("share/licenses", true), ("share/encodings", true), ("etc/Renviron", false)] {
        let at = format!("{}/{inner}", place::HOME);
        let from = options.machine.home.join(inner);
        let shared = Path::new("/usr/share/R").join(inner);
        match (from.exists(), wanted) {
            (true, true) => layer.folder(&at, &from, |_| true)?,
            (true, false) => layer.file(at, &from, false),
            (false, true) if shared.exists() => layer.folder(&at, &shared, |_| true)?,
            (false, _) => {}
        }
    }
    Ok(())
}

fn program(name: &str) -> Result<PathBuf> {
    let paths = PROGRAM_FOLDERS.iter().map(|folder| Path::new(folder).join(name));
    let found = paths.into_iter().find(|path| elf::is_elf(path));
    found.ok_or_else(|| {
        let folders = PROGRAM_FOLDERS.join(", ");
        let what = format!("find the program {name}, which bootstraps in shell need: not in {folders}; install it");
        Error::new(Kind::FixSetup, what)
    })
}

/// R's own two, which the layer's loader starts, and the tools, as they are: [`rehome`] comes when
/// their libraries are known. Gives the loader's name.
fn put_programs(layer: &mut Layer, machine: &Machine, programs: &[PathBuf]) -> Result<String> {
    let r = machine.home.join("bin/exec/R");
    layer.file(format!("{}/bin/exec/R", place::HOME), &r, true);
    layer.file(format!("{}/bin/exec/Rscript", place::HOME), &machine.home.join("bin/Rscript"), true);
    for path in programs {
        layer.file(format!("{}/{}", place::PROGRAMS, name_of(path)), path, true);
    }
    let interpreter = Elf::read(&r)?.and_then(|elf| elf.interpreter);
    let interpreter =
        interpreter.ok_or_else(|| Error::new(Kind::FixSetup, format!("find the loader of {}", r.display())))?;
    Ok(name_of(Path::new(&interpreter)))
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn rehome(layer: &mut Layer, programs: &[PathBuf], loader: &str) -> Result<()> {
    let libraries = format!("{}/{}", place::ROOT, place::LIBRARIES);
    for path in programs {
        let bytes = elf::rehomed(path, &format!("{libraries}/{loader}"), &libraries)?;
        layer.bytes(format!("{}/{}", place::PROGRAMS, name_of(path)), bytes, true);
    }
    Ok(())
}

/// The C library's converters for Latin-1 and its kin, which it looks for beside itself.
fn put_encodings(layer: &mut Layer) -> Result<()> {
    let arch = std::env::consts::ARCH;
    let folders = [format!("/usr/lib/{arch}-linux-gnu/gconv"), "/usr/lib64/gconv".into(), "/usr/lib/gconv".into()];
    let Some(from) = folders.iter().map(Path::new).find(|folder| folder.join("gconv-modules").is_file()) else {
        let what = format!("find the C library's character sets: no gconv-modules in {}", folders.join(", "));
        return Err(Error::new(Kind::FixSetup, what));
    };
    let at = format!("{}/gconv", place::HOME);
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

/// The lines about the modules that are there, aliases included.
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

fn put_zones_and_locale(layer: &mut Layer) -> Result<()> {
    let zones = Path::new(ZONES);
    if !zones.join("Europe/Paris").is_file() {
        let what = format!("find the time zones: no Europe/Paris in {ZONES}; install tzdata");
        return Err(Error::new(Kind::FixSetup, what));
    }
    // Twice the same: with leap seconds, and under another name.
    let twice = ["right", "posix", "localtime"];
    layer.folder(&format!("{}/zoneinfo", place::HOME), zones, |path| {
        !twice.iter().any(|name| path == Path::new(name))
    })?;
    let Some(locale) = LOCALES.iter().map(Path::new).find(|folder| folder.is_dir()) else {
        let what = format!("find the locale C.UTF-8: no {}; install libc-bin", LOCALES.join(", no "));
        return Err(Error::new(Kind::FixSetup, what));
    };
    layer.folder(&format!("{}/locale/C.utf8", place::HOME), locale, |_| true)?;
    let certificates = Path::new(CERTIFICATES);
    if certificates.is_file() {
        layer.file(format!("{}/etc/ca-certificates.crt", place::HOME), certificates, false);
    }
    Ok(())
}

fn put_scripts(layer: &mut Layer, options: &Options, loader: &str) -> Result<()> {
    let home = place::HOME;
    let environment = include_str!("layer/environment.sh").replace("@LOADER@", loader);
    layer.bytes(format!("{home}/etc/environment.sh"), environment, false);
    layer.bytes(format!("{home}/etc/Rprofile.site"), include_str!("layer/Rprofile.site"), false);
    for (name, text) in [("R", include_str!("layer/R.sh")), ("Rscript", include_str!("layer/Rscript.sh"))] {
        layer.bytes(format!("{home}/bin/{name}"), text, true);
        layer.bytes(format!("{}/{name}", place::PROGRAMS), text, true);
    }
    let bootstrap = match options.shape {
        Shape::Persistent => include_str!("layer/bootstrap-persistent.sh"),
        Shape::PerEvent => include_str!("layer/bootstrap-per-event.sh"),
    };
    layer.bytes("bootstrap", bootstrap, true);
    layer.bytes("runtime.R", include_str!("layer/runtime.R"), false);
    layer.bytes(format!("{home}/etc/runtime.R"), SOURCE, false);
    layer.bytes(format!("{home}/etc/runtime.rds"), compiled(&options.machine)?, false);
    Ok(())
}

/// The runtime as the machine's R compiles it; the same R gives the same bytes.
fn compiled(machine: &Machine) -> Result<Vec<u8>> {
    const COMPILE: &str = "compile the layer's runtime.R";
    let folder = tempfile::tempdir().during(Kind::FixSetup, COMPILE)?;
    let at = |name: &str| folder.path().join(name);
    fs::write(at("runtime.R"), SOURCE).during(Kind::FixSetup, COMPILE)?;
    fs::write(at("compile.R"), include_str!("layer/compile.R")).during(Kind::FixSetup, COMPILE)?;
    let program = machine.home.join("bin/R");
    let ran = Command::new(&program)
        .args(["--vanilla", "--no-echo"])
        .arg(format!("--file={}", at("compile.R").display()))
        .arg("--args")
        .args([at("runtime.R"), at("runtime.rds")])
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .during(Kind::FixSetup, format!("{COMPILE} with {}", program.display()))?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
        return Err(Error::new(Kind::FixSetup, format!("{COMPILE} with {}", program.display())).because(said));
    }
    fs::read(at("runtime.rds")).during(Kind::FixSetup, COMPILE)
}
