//! The layers that a layer of packages will lie on, and what they have already.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::error::{Error, Kind, Result};
use crate::pack::{Manifest, Part};

pub struct Below {
    pub layers: Vec<Manifest>,
    pub packages: BTreeSet<String>,
    pub libraries: BTreeSet<String>,
}

/// The language that packages are packed for.
pub struct Language<'a> {
    pub name: &'a str,
    /// The kind of the layer that holds it.
    pub kind: &'a str,
    /// This machine's.
    pub version: &'a str,
}

impl Below {
    /// # Errors
    /// [`Kind::FixInput`] where none of them holds the language, or another series of it.
    pub fn read(language: &Language<'_>, zips: &[PathBuf]) -> Result<Below> {
        let Language { name, kind, version } = language;
        let layers = zips.iter().map(|zip| Manifest::of(zip)).collect::<Result<Vec<_>>>()?;
        let Some(runtime) = layers.iter().find(|layer| layer.kind == *kind) else {
            let what = format!(
                "pack a layer of {name} packages: none of the layers below holds {name}; name {name}'s own layer first"
            );
            return Err(Error::new(Kind::FixInput, what));
        };
        if series(&runtime.version) != series(version) || runtime.architecture != std::env::consts::ARCH {
            let what = format!(
                "pack {name} packages of this machine ({name} {version}, {}) on a layer of {name} {}, {}: pack that layer here too",
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
        Ok(Below { layers, packages, libraries })
    }

    /// Packages that are asked for by name must be new.
    pub fn check_new(&self, names: &[String], language: &str) -> Result<()> {
        if names.is_empty() {
            let what = format!("pack a layer of {language} packages: name at least one");
            return Err(Error::new(Kind::FixInput, what));
        }
        if let Some(there) = names.iter().find(|name| self.packages.contains(*name)) {
            let what = format!("pack the {language} package {there}: a layer below has it already");
            return Err(Error::new(Kind::FixInput, what));
        }
        Ok(())
    }
}

/// Packages are built for a series, `4.2`.
fn series(version: &str) -> Vec<&str> {
    version.split('.').take(2).collect()
}

#[cfg(test)]
mod tests;
