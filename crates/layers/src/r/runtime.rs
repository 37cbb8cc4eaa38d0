//! Packs the layer with R itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::installation::Installation;
use super::{KIND_RUNTIME, library, place};
use crate::error::{Error, ErrorContext, Kind, Result};
use crate::pack::{Layer, LayerDescription, PackedLayer, PackedPart};
use crate::runtime_files;

/// What the layer with R contains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The R to pack.
    pub installation: Installation,
    /// Packages beside R's own.
    pub packages: Vec<String>,
    /// How its bootstrap answers events.
    pub shape: Shape,
    /// Whether to include PNG and SVG through cairo, X11 and Tcl/Tk, which take tens of megabytes. PDF works
    /// without them.
    pub graphics: bool,
}

/// How the bootstrap answers events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shape {
    /// One R process answers all events and keeps what it has loaded.
    #[default]
    Persistent,
    /// A shell script starts `Rscript runtime.R EVENT REQUEST_ID HANDLER` for each event.
    PerEvent,
}

/// The tools that the layer's shell scripts need, and those that a bootstrap in another layer usually needs.
const TOOLS: [&str; 15] =
    ["bash", "cat", "cut", "curl", "date", "env", "grep", "head", "mktemp", "rm", "sed", "sort", "tail", "tr", "wc"];

/// Packs this machine's R, with a bootstrap for AWS Lambda's Runtime API, into the zip `out_zip`.
///
/// # Errors
/// [`Kind::FixSetup`] where something that every layer needs is not installed, [`Kind::FixInput`] where a named
/// package is not installed.
pub fn runtime(out_zip: &Path, options: &Options) -> Result<PackedLayer> {
    let installation = &options.installation;
    let version = installation.version()?;
    let mut layer = Layer::default();
    let packages = put_packages(&mut layer, options)?;
    put_modules(&mut layer, options)?;
    let loader = put_r(&mut layer, installation)?;
    let tools = runtime_files::put_programs(&mut layer, &TOOLS)?;
    runtime_files::put_encodings(&mut layer, place::HOME)?;
    let libraries = library::put_libraries(&mut layer, installation, &BTreeSet::new())?;
    runtime_files::set_loader(&mut layer, &tools, place::LIBRARIES, &loader)?;
    runtime_files::put_zones_and_locale(&mut layer, place::HOME)?;
    put_scripts(&mut layer, options, &loader)?;
    layer.write(out_zip, LayerDescription { kind: KIND_RUNTIME, version, packages, libraries, below: vec![] })
}

fn put_packages(layer: &mut Layer, options: &Options) -> Result<Vec<PackedPart>> {
    let installation = &options.installation;
    let base = installation.base_packages()?;
    let provided: BTreeSet<String> = base.iter().map(|package| package.name.clone()).collect();
    let mut named = Vec::new();
    for package in base.iter().filter(|package| options.graphics || package.name != "tcltk") {
        named.push(library::put(layer, &format!("{}/library", place::HOME), package)?);
    }
    if !options.graphics {
        layer.remove(&format!("{}/library/grDevices/libs/cairo.so", place::HOME));
    }
    for package in library::with_needs(installation, &options.packages, &provided)?.values() {
        named.push(library::put(layer, place::SITE_LIBRARY, package)?);
    }
    Ok(named)
}

/// Adds the modules that R loads on demand: sockets, linear algebra and the screen.
fn put_modules(layer: &mut Layer, options: &Options) -> Result<()> {
    let screen = [Path::new("R_X11.so"), Path::new("R_de.so")];
    let from = options.installation.home.join("modules");
    layer.folder(&format!("{}/modules", place::HOME), &from, |path| options.graphics || !screen.contains(&path))?;
    for (inner, wanted) in [("share/licenses", true), ("share/encodings", true), ("etc/Renviron", false)] {
        let at = format!("{}/{inner}", place::HOME);
        let from = options.installation.home.join(inner);
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

/// Adds the two programs that the layer's scripts start through its loader, and gives the loader's file name.
fn put_r(layer: &mut Layer, installation: &Installation) -> Result<String> {
    let r = installation.home.join("bin/exec/R");
    layer.file(format!("{}/bin/exec/R", place::HOME), &r, true);
    layer.file(format!("{}/bin/exec/Rscript", place::HOME), &installation.home.join("bin/Rscript"), true);
    runtime_files::loader_of(&r)
}

fn put_scripts(layer: &mut Layer, options: &Options, loader: &str) -> Result<()> {
    let home = place::HOME;
    let environment = include_str!("layer/environment.sh").replace("@LOADER@", loader);
    layer.bytes(format!("{home}/etc/environment.sh"), environment, false);
    layer.bytes(format!("{home}/etc/Rprofile.site"), include_str!("layer/Rprofile.site"), false);
    for (name, text) in [("R", include_str!("layer/R.sh")), ("Rscript", include_str!("layer/Rscript.sh"))] {
        layer.bytes(format!("{home}/bin/{name}"), text, true);
        layer.bytes(format!("{}/{name}", runtime_files::PROGRAMS), text, true);
    }
    let bootstrap = match options.shape {
        Shape::Persistent => include_str!("layer/bootstrap-persistent.sh"),
        Shape::PerEvent => include_str!("layer/bootstrap-per-event.sh"),
    };
    layer.bytes("bootstrap", bootstrap, true);
    layer.bytes("runtime.R", include_str!("layer/runtime.R"), false);
    let source = include_str!("layer/runtime-source.R").replace("@JSON@", include_str!("layer/json.R"));
    layer.bytes(format!("{home}/etc/runtime.rds"), compiled(&options.installation, &source)?, false);
    layer.bytes(format!("{home}/etc/runtime.R"), source, false);
    Ok(())
}

/// The runtime as the machine's R compiles it; the same R gives the same bytes.
fn compiled(installation: &Installation, source: &str) -> Result<Vec<u8>> {
    const COMPILE: &str = "compile the layer's runtime.R";
    let folder = tempfile::tempdir().during(Kind::FixSetup, COMPILE)?;
    let at = |name: &str| folder.path().join(name);
    fs::write(at("runtime.R"), source).during(Kind::FixSetup, COMPILE)?;
    fs::write(at("compile.R"), include_str!("layer/compile.R")).during(Kind::FixSetup, COMPILE)?;
    let program = installation.home.join("bin/R");
    let mut compile = Command::new(&program);
    compile
        .args(["--vanilla", "--no-echo"])
        .arg(format!("--file={}", at("compile.R").display()))
        .arg("--args")
        .args([at("runtime.R"), at("runtime.rds")])
        .env("LC_ALL", "C.UTF-8");
    let ran = supervisor::output(&mut compile);
    let ran = ran.during(Kind::FixSetup, format!("{COMPILE} with {}", program.display()))?;
    if !ran.status.success() {
        let errors = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
        return Err(Error::new(Kind::FixSetup, format!("{COMPILE} with {}", program.display())).because(errors));
    }
    fs::read(at("runtime.rds")).during(Kind::FixSetup, COMPILE)
}
