//! Packs R as layers: this machine's R with everything that it needs, and layers of packages.
//!
//! In a layer everything is in `/opt/R`: R itself (this is its R_HOME), further packages in `/opt/R/site-library`
//! and all shared libraries in `/opt/R/lib`. So the packages of several layers are in one library when the layers
//! are merged.

mod installation;
mod library;
mod packages;
mod runtime;

pub use installation::{Installation, LockedPackage};
pub use packages::{package_source, packages};
pub use runtime::{Options, Shape, runtime};

/// The layer's folders, by their names in its zip.
mod place {
    /// R_HOME.
    pub const HOME: &str = "R";
    /// Shared libraries.
    pub const LIBRARIES: &str = "R/lib";
    /// Packages that are not R's own.
    pub const SITE_LIBRARY: &str = "R/site-library";
}

const KIND_RUNTIME: &str = "r";
const KIND_PACKAGES: &str = "r-packages";
