//! Packages of R and what they need in turn, into a layer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::machine::{Machine, Package};
use super::place;
use crate::error::{Error, Kind, Result};
use crate::ground;
use crate::pack::{Layer, Named};

/// Help, examples, tests and headers: nothing that runs reads them. A package that others link to
/// stays, for the functions that it hands them, but its headers are for compilers.
const LEFT_OUT: [&str; 8] = ["help", "html", "doc", "demo", "tests", "include", "po", "tinytest"];

/// The named packages and all that they need, but not what is `given`; by name.
pub(super) fn with_needs(
    machine: &Machine,
    names: &[String],
    given: &BTreeSet<String>,
) -> Result<BTreeMap<String, Package>> {
    let mut found = BTreeMap::new();
    let mut waiting: Vec<(String, Option<String>)> = names.iter().map(|name| (name.clone(), None)).collect();
    while let Some((name, needed_by)) = waiting.pop() {
        if given.contains(&name) || found.contains_key(&name) {
            continue;
        }
        let package = machine.package(&name)?.ok_or_else(|| missing(machine, &name, needed_by.as_deref()))?;
        for link in &package.links {
            if machine.package(link)?.is_some() {
                waiting.push((link.clone(), Some(name.clone())));
            }
        }
        waiting.extend(package.needs.iter().map(|need| (need.clone(), Some(name.clone()))));
        found.insert(name, package);
    }
    Ok(found)
}

fn missing(machine: &Machine, name: &str, needed_by: Option<&str>) -> Error {
    let by = needed_by.map(|by| format!(", which {by} needs")).unwrap_or_default();
    let libraries: Vec<String> = machine.libraries.iter().map(|library| library.display().to_string()).collect();
    let what = format!(
        "find the R package {name}{by}: none of {} has it; install it, with `apt-get install r-cran-{}` or R's install.packages(\"{name}\")",
        libraries.join(", "),
        name.to_lowercase()
    );
    Error::new(if needed_by.is_some() { Kind::FixSetup } else { Kind::FixInput }, what)
}

pub(super) fn put(layer: &mut Layer, library: &str, package: &Package) -> Result<Named> {
    let at = format!("{library}/{}", package.name);
    layer.folder(&at, &package.folder, wanted)?;
    Ok(Named { name: package.name.clone(), version: Some(package.version.clone()), at })
}

fn wanted(inner: &Path) -> bool {
    !LEFT_OUT.iter().any(|folder| inner == Path::new(folder))
}

/// The shared libraries that what is in the layer needs, R's own among them.
pub(super) fn put_libraries(layer: &mut Layer, machine: &Machine, given: &BTreeSet<String>) -> Result<Vec<Named>> {
    ground::put_libraries(layer, place::LIBRARIES, &[machine.home.join("lib")], given)
}
