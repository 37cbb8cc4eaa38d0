//! The layers below a layer of packages, and what they contain already.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::error::{Error, Kind, Result};
use crate::pack::{Manifest, Part};

/// The layers below a layer of packages: the language's own layer, and any others.
pub struct BaseLayers {
    /// Their manifests.
    pub layers: Vec<Manifest>,
    /// The names of all packages in them.
    pub packages: BTreeSet<String>,
    /// The names of all shared libraries in them.
    pub libraries: BTreeSet<String>,
}

/// The language that packages are packed for.
pub struct Language<'a> {
    /// Its name in messages.
    pub name: &'a str,
    /// The [`Manifest::kind`] of the layer that contains it.
    pub kind: &'a str,
    /// The version that is installed on this machine.
    pub version: &'a str,
}

impl BaseLayers {
    /// Reads the manifests of the layers below.
    ///
    /// # Errors
    /// [`Kind::FixInput`] where none of them contains the language, or where one contains another series of it.
    pub fn read(language: &Language<'_>, zips: &[PathBuf]) -> Result<BaseLayers> {
        let Language { name, kind, version } = language;
        let layers = zips.iter().map(|zip| Manifest::of(zip)).collect::<Result<Vec<_>>>()?;
        let Some(runtime) = layers.iter().find(|layer| layer.kind == *kind) else {
            let what = format!(
                "pack a layer of {name} packages: none of the layers below contains {name}; name {name}'s own layer \
                 first"
            );
            return Err(Error::new(Kind::FixInput, what));
        };
        if series(&runtime.version) != series(version) || runtime.architecture != std::env::consts::ARCH {
            let what = format!(
                "pack {name} packages of this machine ({name} {version}, {}) on a layer of {name} \
                 {}, {}: they do not fit; pack that layer on this machine too",
                std::env::consts::ARCH,
                runtime.version,
                runtime.architecture
            );
            return Err(Error::new(Kind::FixInput, what));
        }
        let names = |parts: fn(&Manifest) -> &Vec<Part>| {
            layers.iter().flat_map(parts).map(|part| part.name.clone()).collect::<BTreeSet<_>>()
        };
        let (packages, libraries) = (names(|layer| &layer.packages), names(|layer| &layer.libraries));
        Ok(BaseLayers { layers, packages, libraries })
    }

    /// Checks that packages are named, and that no layer below has one of them.
    pub fn check_new(&self, names: &[String], language: &str) -> Result<()> {
        if names.is_empty() {
            let what = format!("pack a layer of {language} packages: no package is named; name at least one");
            return Err(Error::new(Kind::FixInput, what));
        }
        if let Some(there) = names.iter().find(|name| self.packages.contains(*name)) {
            let what = format!(
                "pack the {language} package {there}: a layer below contains it already; remove it from the list"
            );
            return Err(Error::new(Kind::FixInput, what));
        }
        Ok(())
    }
}

/// The series that packages are built for: `4.2` of `4.2.2`.
fn series(version: &str) -> Vec<&str> {
    version.split('.').take(2).collect()
}

#[cfg(test)]
mod tests;
