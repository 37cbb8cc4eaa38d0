//! The R that is installed on this machine: where it is, its version and its packages.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use deb822_fast::Deb822;
use serde::Deserialize;

use crate::error::{Error, ErrorContext, Kind, Result};

/// Where R and its packages are installed on this machine. The default is where Debian and Ubuntu install them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The folder that `R RHOME` prints.
    pub home: PathBuf,
    /// The folders that `.libPaths()` prints. The first that has a package counts.
    pub libraries: Vec<PathBuf>,
    /// Packages that are packed beside those that a layer names, in exactly these versions; those that a layer below has are
    /// left out.
    pub required: Vec<LockedPackage>,
}

/// A package of an `renv.lock`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LockedPackage {
    /// Its name.
    #[serde(rename = "Package")]
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Default for Installation {
    fn default() -> Self {
        let libraries = ["/usr/local/lib/R/site-library", "/usr/lib/R/site-library", "/usr/lib/R/library"];
        Installation { home: "/usr/lib/R".into(), libraries: libraries.map(Into::into).to_vec(), required: vec![] }
    }
}

/// An installed package, from its DESCRIPTION.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it is installed.
    pub folder: PathBuf,
    /// The packages in Depends and Imports, without R itself.
    pub needs: Vec<String>,
    /// The packages in LinkingTo: needed to build it, and sometimes at run time, for functions that they register. A
    /// distribution may not install them.
    pub links: Vec<String>,
    /// Whether it is one of R's own packages.
    pub base: bool,
}

impl Installation {
    /// Requires the packages of an `renv.lock`, but for renv itself.
    ///
    /// # Errors
    /// [`Kind::FixInput`] where the file is not one.
    pub fn require(&mut self, lock_file: &Path) -> Result<()> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct LockFile {
            packages: BTreeMap<String, LockedPackage>,
        }
        let context = format!("read {}", lock_file.display());
        let text = fs::read(lock_file).during(Kind::FixInput, &context)?;
        let file: LockFile = serde_json::from_slice(&text).during(Kind::FixInput, &context)?;
        self.required = file.packages.into_values().filter(|package| package.name != "renv").collect();
        Ok(())
    }

    /// R's version, such as `4.2.2`, which is the version of its package `base`.
    ///
    /// # Errors
    /// [`Kind::FixSetup`] where R is not installed there.
    pub fn version(&self) -> Result<String> {
        match read(&self.home.join("library/base"))? {
            Some(base) => Ok(base.version),
            None => Err(Error::new(
                Kind::FixSetup,
                format!(
                    "find R in {}: it has no library/base; install r-base-core, or name the folder that \
                     `R RHOME` prints",
                    self.home.display()
                ),
            )),
        }
    }

    /// Finds an installed package.
    ///
    /// # Errors
    /// [`Kind::FixInput`] where `name` is not a package's name.
    pub(super) fn package(&self, name: &str) -> Result<Option<Package>> {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '.') {
            let what = format!("find the R package {name:?}: a name has only letters, digits and dots");
            return Err(Error::new(Kind::FixInput, what));
        }
        for library in self.libraries.iter().chain([&self.home.join("library")]) {
            if let Some(package) = read(&library.join(name))? {
                return Ok(Some(package));
            }
        }
        Ok(None)
    }

    /// R's own packages, in the order of their names.
    pub(super) fn base_packages(&self) -> Result<Vec<Package>> {
        let library = self.home.join("library");
        let entries = fs::read_dir(&library).during(Kind::FixSetup, format!("read {}", library.display()))?;
        let mut packages = Vec::new();
        for entry in entries {
            let entry = entry.during(Kind::FixSetup, format!("read {}", library.display()))?;
            packages.extend(read(&entry.path())?.filter(|package| package.base));
        }
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(packages)
    }
}

/// Reads a package's DESCRIPTION. `None` where the folder has none.
pub(super) fn read(folder: &Path) -> Result<Option<Package>> {
    let path = folder.join("DESCRIPTION");
    if !path.is_file() {
        return Ok(None);
    }
    let context = || format!("read {}", path.display());
    // Some files are in Latin-1; the fields that are read here are in ASCII.
    let text = String::from_utf8_lossy(&fs::read(&path).during(Kind::FixSetup, context())?).into_owned();
    let parsed: Deb822 = text.parse::<Deb822>().during(Kind::FixInput, context())?;
    let fields = parsed.iter().next();
    let field = |name: &str| fields.and_then(|fields| fields.get(name)).map(str::trim);
    let required = |name: &str| {
        let missing = || Error::new(Kind::FixInput, format!("{}: it has no field {name}", context()));
        field(name).map(str::to_owned).ok_or_else(missing)
    };
    let named = |fields: &[&str]| {
        let all = fields.iter().filter_map(|name| field(name)).flat_map(names);
        all.filter(|name| name != "R").collect::<Vec<_>>()
    };
    Ok(Some(Package {
        name: required("Package")?,
        version: required("Version")?,
        folder: folder.to_owned(),
        needs: named(&["Depends", "Imports"]),
        links: named(&["LinkingTo"]),
        base: field("Priority") == Some("base"),
    }))
}

/// The names in a field such as `methods, Rcpp (>= 1.0), R6`.
fn names(field: &str) -> impl Iterator<Item = String> {
    field
        .split(',')
        .map(|one| one.split('(').next().unwrap_or_default().trim().to_owned())
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
