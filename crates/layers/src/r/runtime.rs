//! The layer of R itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::machine::Machine;
use super::{KIND_RUNTIME, library, place};
use crate::error::{During, Error, Kind, Result};
use crate::ground;
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
const TOOLS: [&str; 15] =
    ["bash", "cat", "cut", "curl", "date", "env", "grep", "head", "mktemp", "rm", "sed", "sort", "tail", "tr", "wc"];

/// Packs this machine's R, with a bootstrap for AWS Lambda's Runtime API.
pub fn runtime(out_zip: &Path, options: &Options) -> Result<Packed> {
    let machine = &options.machine;
    let version = machine.version()?;
    let mut layer = Layer::default();
    let packages = put_packages(&mut layer, options)?;
    put_modules(&mut layer, options)?;
    let loader = put_r(&mut layer, machine)?;
    let tools = ground::put_programs(&mut layer, &TOOLS)?;
    ground::put_encodings(&mut layer, place::HOME)?;
    let libraries = library::put_libraries(&mut layer, machine, &BTreeSet::new())?;
    ground::rehome(&mut layer, &tools, place::LIBRARIES, &loader)?;
    ground::put_zones_and_locale(&mut layer, place::HOME)?;
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

/// The two programs that the layer's scripts start by its loader, whose name this gives.
fn put_r(layer: &mut Layer, machine: &Machine) -> Result<String> {
    let r = machine.home.join("bin/exec/R");
    layer.file(format!("{}/bin/exec/R", place::HOME), &r, true);
    layer.file(format!("{}/bin/exec/Rscript", place::HOME), &machine.home.join("bin/Rscript"), true);
    ground::loader_of(&r)
}

fn put_scripts(layer: &mut Layer, options: &Options, loader: &str) -> Result<()> {
    let home = place::HOME;
    let environment = include_str!("layer/environment.sh").replace("@LOADER@", loader);
    layer.bytes(format!("{home}/etc/environment.sh"), environment, false);
    layer.bytes(format!("{home}/etc/Rprofile.site"), include_str!("layer/Rprofile.site"), false);
    for (name, text) in [("R", include_str!("layer/R.sh")), ("Rscript", include_str!("layer/Rscript.sh"))] {
        layer.bytes(format!("{home}/bin/{name}"), text, true);
        layer.bytes(format!("{}/{name}", ground::PROGRAMS), text, true);
    }
    let bootstrap = match options.shape {
        Shape::Persistent => include_str!("layer/bootstrap-persistent.sh"),
        Shape::PerEvent => include_str!("layer/bootstrap-per-event.sh"),
    };
    layer.bytes("bootstrap", bootstrap, true);
    layer.bytes("runtime.R", include_str!("layer/runtime.R"), false);
    let source = include_str!("layer/runtime-source.R").replace("@JSON@", include_str!("layer/json.R"));
    layer.bytes(format!("{home}/etc/runtime.rds"), compiled(&options.machine, &source)?, false);
    layer.bytes(format!("{home}/etc/runtime.R"), source, false);
    Ok(())
}

/// The runtime as the machine's R compiles it; the same R gives the same bytes.
fn compiled(machine: &Machine, source: &str) -> Result<Vec<u8>> {
    const COMPILE: &str = "compile the layer's runtime.R";
    let folder = tempfile::tempdir().during(Kind::FixSetup, COMPILE)?;
    let at = |name: &str| folder.path().join(name);
    fs::write(at("runtime.R"), source).during(Kind::FixSetup, COMPILE)?;
    fs::write(at("compile.R"), include_str!("layer/compile.R")).during(Kind::FixSetup, COMPILE)?;
    let program = machine.home.join("bin/R");
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
        let said = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
        return Err(Error::new(Kind::FixSetup, format!("{COMPILE} with {}", program.display())).because(said));
    }
    fs::read(at("runtime.rds")).during(Kind::FixSetup, COMPILE)
}
