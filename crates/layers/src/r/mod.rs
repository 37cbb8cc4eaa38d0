//! R as layers: the machine's own R with all that it needs, and its packages on top.
//!
//! Inside a layer everything lies under `/opt/R`: R itself is `/opt/R` (its R_HOME), what is added
//! to it `/opt/R/site-library`, the shared libraries of both `/opt/R/lib`, so that packages of
//! several layers come together where they are laid over one another.

mod library;
mod machine;
mod packages;
mod runtime;

pub use machine::Machine;
pub use packages::{package_source, packages};
pub use runtime::{Options, Shape, runtime};

/// Where the layer puts things, by their names in its zip.
mod place {
    pub const HOME: &str = "R";
    pub const LIBRARIES: &str = "R/lib";
    pub const SITE_LIBRARY: &str = "R/site-library";
}

const KIND_RUNTIME: &str = "r";
const KIND_PACKAGES: &str = "r-packages";
