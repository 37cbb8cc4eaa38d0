//! Adds packages of R, and the packages that they need, to a layer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::installation::{Installation, Package};
use super::place;
use crate::error::{Error, Kind, Result};
use crate::pack::{Layer, PackedPart};
use crate::runtime_files;

/// Folders that are not packed: help, examples, tests and headers, which nothing reads at run time.
const LEFT_OUT: [&str; 8] = ["help", "html", "doc", "demo", "tests", "include", "po", "tinytest"];

/// The named packages and all packages that they need, by name; without those in `provided`.
pub(super) fn with_needs(
    installation: &Installation,
    names: &[String],
    provided: &BTreeSet<String>,
) -> Result<BTreeMap<String, Package>> {
    let mut found = BTreeMap::new();
    let required = installation.required.iter().map(|package| &package.name);
    let mut waiting: Vec<(String, Option<String>)> =
        names.iter().chain(required).map(|name| (name.clone(), None)).collect();
    while let Some((name, needed_by)) = waiting.pop() {
        if provided.contains(&name) || found.contains_key(&name) {
            continue;
        }
        let package = installation.package(&name)?.ok_or_else(|| missing(installation, &name, needed_by.as_deref()))?;
        for link in &package.links {
            if installation.package(link)?.is_some() {
                waiting.push((link.clone(), Some(name.clone())));
            }
        }
        waiting.extend(package.needs.iter().map(|need| (need.clone(), Some(name.clone()))));
        found.insert(name, package);
    }
    for locked in &installation.required {
        if let Some(package) = found.get(&locked.name).filter(|package| package.version != locked.version) {
            let what = format!(
                "find version {} of the R package {}: {} has {}; have renv::restore() install what the lock file lists, and \
                 name renv's library by the layer's `libraries`",
                locked.version,
                locked.name,
                package.folder.display(),
                package.version
            );
            return Err(Error::new(Kind::FixInput, what));
        }
    }
    Ok(found)
}

fn missing(installation: &Installation, name: &str, needed_by: Option<&str>) -> Error {
    let by = needed_by.map(|by| format!(", which {by} needs")).unwrap_or_default();
    let libraries: Vec<String> = installation.libraries.iter().map(|library| library.display().to_string()).collect();
    let what = format!(
        "find the R package {name}{by}: it is in none of {}; install it with `apt-get install r-cran-{}` \
         or R's install.packages(\"{name}\")",
        libraries.join(", "),
        name.to_lowercase()
    );
    Error::new(if needed_by.is_some() { Kind::FixSetup } else { Kind::FixInput }, what)
}

/// Adds an installed package to a library of the layer.
pub(super) fn put(layer: &mut Layer, library: &str, package: &Package) -> Result<PackedPart> {
    let at = format!("{library}/{}", package.name);
    layer.folder(&at, &package.folder, wanted)?;
    Ok(PackedPart { name: package.name.clone(), version: Some(package.version.clone()), at })
}

fn wanted(inner: &Path) -> bool {
    !LEFT_OUT.iter().any(|folder| inner == Path::new(folder))
}

/// Adds the shared libraries that the layer's files need, R's own among them.
pub(super) fn put_libraries(
    layer: &mut Layer,
    installation: &Installation,
    provided: &BTreeSet<String>,
) -> Result<Vec<PackedPart>> {
    runtime_files::put_libraries(layer, place::LIBRARIES, &[installation.home.join("lib")], provided)
}
