//! The R of this machine: where it is, which version, which packages.

use std::fs;
use std::path::{Path, PathBuf};

use deb822_fast::Deb822;

use crate::error::{During, Error, Kind, Result};

/// Where R and its packages are; the default is where Debian and Ubuntu put them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// What `R RHOME` says.
    pub home: PathBuf,
    /// What `.libPaths()` says; the first that has a package is taken.
    pub libraries: Vec<PathBuf>,
}

impl Default for Machine {
    fn default() -> Self {
        let libraries = ["/usr/local/lib/R/site-library", "/usr/lib/R/site-library", "/usr/lib/R/library"];
        Machine { home: "/usr/lib/R".into(), libraries: libraries.map(Into::into).to_vec() }
    }
}

/// What an installed package says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    pub name: String,
    pub version: String,
    pub folder: PathBuf,
    /// Depends and Imports, without R itself.
    pub needs: Vec<String>,
    /// LinkingTo: needed to build it, and here and there for a function that they hand it. A
    /// distribution's package may come without.
    pub links: Vec<String>,
    /// One of R's own.
    pub base: bool,
}

impl Machine {
    /// R's version, `4.2.2`: the version of its package `base`.
    pub fn version(&self) -> Result<String> {
        match read(&self.home.join("library/base"))? {
            Some(base) => Ok(base.version),
            None => Err(Error::new(
                Kind::FixSetup,
                format!(
                    "find R in {}: it has no library/base; install r-base-core, or name the folder that `R RHOME` prints",
                    self.home.display()
                ),
            )),
        }
    }

    pub(super) fn package(&self, name: &str) -> Result<Option<Package>> {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '.') {
            let what = format!("find the R package {name:?}: a name has letters, digits and points only");
            return Err(Error::new(Kind::FixInput, what));
        }
        for library in self.libraries.iter().chain([&self.home.join("library")]) {
            if let Some(package) = read(&library.join(name))? {
                return Ok(Some(package));
            }
        }
        Ok(None)
    }

    /// R's own packages, by name.
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

/// None where the folder holds no installed package.
pub(super) fn read(folder: &Path) -> Result<Option<Package>> {
    let path = folder.join("DESCRIPTION");
    if !path.is_file() {
        return Ok(None);
    }
    let context = || format!("read {}", path.display());
    // Some are in Latin-1; what counts here is in ASCII.
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

/// `methods, Rcpp (>= 1.0), R6`: the names.
fn names(field: &str) -> impl Iterator<Item = String> {
    field
        .split(',')
        .map(|one| one.split('(').next().unwrap_or_default().trim().to_owned())
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
