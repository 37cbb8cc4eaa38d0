//! Packs layers of R packages, which need a layer with R below them.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::installation::{self, Installation, Package};
use super::{KIND_PACKAGES, KIND_RUNTIME, library, place};
use crate::base_layers::{BaseLayers, Language};
use crate::error::{Error, ErrorContext, Kind, Result, end_of};
use crate::pack::{Layer, LayerDescription, PackedLayer};

const LANGUAGE: &str = "R";

/// Packs installed packages, and all packages that they need, into the zip `out_zip`, without those that the layers
/// `below` contain. The first of these is R's own.
///
/// # Errors
/// [`Kind::FixInput`] where a named package is not installed, or the layers below do not fit.
pub fn packages(
    out_zip: &Path,
    installation: &Installation,
    names: &[String],
    below: &[PathBuf],
) -> Result<PackedLayer> {
    let below = read_below(installation, below)?;
    if !names.is_empty() || installation.required.is_empty() {
        below.check_new(names, LANGUAGE)?;
    }
    let found = library::with_needs(installation, names, &below.packages)?;
    pack(out_zip, installation, &found.into_values().collect::<Vec<_>>(), below)
}

/// Builds a source package with `R CMD INSTALL`, and packs it with all packages that it needs, without those that the
/// layers `below` contain.
///
/// # Errors
/// [`Kind::FixInput`] with the end of R's output where the package can't be built.
pub fn package_source(
    out_zip: &Path,
    installation: &Installation,
    folder: &Path,
    below: &[PathBuf],
) -> Result<PackedLayer> {
    let below = read_below(installation, below)?;
    let Some(source) = installation::read(folder)? else {
        let what = format!("build the R package in {}: it has no DESCRIPTION", folder.display());
        return Err(Error::new(Kind::FixInput, what));
    };
    let mut found = library::with_needs(installation, &source.needs, &below.packages)?;
    let built = tempfile::tempdir().during(Kind::FixSetup, "create a folder to build in")?;
    install(installation, folder, built.path())?;
    let package = installation::read(&built.path().join(&source.name))?
        .ok_or_else(|| Error::new(Kind::Bug, format!("find the R package {} after it was built", source.name)))?;
    found.insert(package.name.clone(), package);
    pack(out_zip, installation, &found.into_values().collect::<Vec<_>>(), below)
}

fn read_below(installation: &Installation, zips: &[PathBuf]) -> Result<BaseLayers> {
    BaseLayers::read(&Language { name: LANGUAGE, kind: KIND_RUNTIME, version: &installation.version()? }, zips)
}

fn install(installation: &Installation, folder: &Path, into: &Path) -> Result<()> {
    let context = format!("build the R package in {}", folder.display());
    let libraries: Vec<String> = installation.libraries.iter().map(|library| library.display().to_string()).collect();
    let mut library = std::ffi::OsString::from("--library=");
    library.push(into);
    let mut build = Command::new(installation.home.join("bin/R"));
    build
        .args(["CMD", "INSTALL", "--no-docs", "--no-test-load", "--no-staged-install"])
        .arg(library)
        .arg(folder)
        .env("R_LIBS", libraries.join(":"));
    // Through `supervisor`, so that the make and the compilers that it starts end with it.
    let ran = supervisor::output(&mut build).during(Kind::FixSetup, &context)?;
    if ran.status.success() {
        return Ok(());
    }
    Err(Error::new(Kind::FixInput, context).because(end_of(&ran.stderr)))
}

fn pack(out_zip: &Path, installation: &Installation, packages: &[Package], below: BaseLayers) -> Result<PackedLayer> {
    let mut layer = Layer::default();
    let mut named = Vec::new();
    for package in packages {
        named.push(library::put(&mut layer, place::SITE_LIBRARY, package)?);
    }
    let libraries = library::put_libraries(&mut layer, installation, &below.libraries)?;
    let version = installation.version()?;
    layer.write(
        out_zip,
        LayerDescription { kind: KIND_PACKAGES, version, packages: named, libraries, below: below.layers },
    )
}
