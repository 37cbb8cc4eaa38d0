//! Further layers: packages of R on a layer that holds R.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::machine::{self, Machine, Package};
use super::{KIND_PACKAGES, KIND_RUNTIME, library, place};
use crate::below::{Below, Language};
use crate::error::{During, Error, Kind, Result};
use crate::pack::{About, Layer, Packed};

const LANGUAGE: &str = "R";

/// Packs installed packages and all that they need, less what the layers `below` have: R's own
/// first, then those that this one is laid over.
pub fn packages(out_zip: &Path, machine: &Machine, names: &[String], below: &[PathBuf]) -> Result<Packed> {
    let below = read_below(machine, below)?;
    below.check_new(names, LANGUAGE)?;
    let found = library::with_needs(machine, names, &below.packages)?;
    pack(out_zip, machine, &found.into_values().collect::<Vec<_>>(), below)
}

/// Builds a source package of the user's own with `R CMD INSTALL`, and packs it with all that it
/// needs, less what the layers `below` have.
pub fn package_source(out_zip: &Path, machine: &Machine, folder: &Path, below: &[PathBuf]) -> Result<Packed> {
    let below = read_below(machine, below)?;
    let Some(source) = machine::read(folder)? else {
        let what = format!("build the R package in {}: it has no DESCRIPTION", folder.display());
        return Err(Error::new(Kind::FixInput, what));
    };
    let mut found = library::with_needs(machine, &source.needs, &below.packages)?;
    let built = tempfile::tempdir().during(Kind::FixSetup, "make a folder to build in")?;
    install(machine, folder, built.path())?;
    let package = machine::read(&built.path().join(&source.name))?
        .ok_or_else(|| Error::new(Kind::Bug, format!("find the R package {} after it was built", source.name)))?;
    found.insert(package.name.clone(), package);
    pack(out_zip, machine, &found.into_values().collect::<Vec<_>>(), below)
}

fn read_below(machine: &Machine, zips: &[PathBuf]) -> Result<Below> {
    Below::read(&Language { name: LANGUAGE, kind: KIND_RUNTIME, version: &machine.version()? }, zips)
}

fn install(machine: &Machine, folder: &Path, into: &Path) -> Result<()> {
    const SAID_BYTES_MAX: usize = 2000;
    let context = format!("build the R package in {}", folder.display());
    let libraries: Vec<String> = machine.libraries.iter().map(|library| library.display().to_string()).collect();
    let mut library = std::ffi::OsString::from("--library=");
    library.push(into);
    let mut build = Command::new(machine.home.join("bin/R"));
    build
        .args(["CMD", "INSTALL", "--no-docs", "--no-test-load", "--no-staged-install"])
        .arg(library)
        .arg(folder)
        .env("R_LIBS", libraries.join(":"));
    // It starts make and compilers, which end with it.
    let ran = supervisor::output(&mut build).during(Kind::FixSetup, &context)?;
    if ran.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    let from = said.char_indices().map(|(at, _)| at).find(|at| said.len() - at <= SAID_BYTES_MAX).unwrap_or(0);
    Err(Error::new(Kind::FixInput, context).because(said[from..].trim().to_owned()))
}

fn pack(out_zip: &Path, machine: &Machine, packages: &[Package], below: Below) -> Result<Packed> {
    let mut layer = Layer::default();
    let mut named = Vec::new();
    for package in packages {
        named.push(library::put(&mut layer, place::SITE_LIBRARY, package)?);
    }
    let libraries = library::put_libraries(&mut layer, machine, &below.libraries)?;
    let version = machine.version()?;
    layer.write(out_zip, About { kind: KIND_PACKAGES, version, packages: named, libraries, below: below.layers })
}
