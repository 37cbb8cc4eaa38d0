//! Launches sandboxes: gives a spare one its function, or starts a new one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use base::{Kind, Result};

use super::host_side::{Maker, Sandbox};
use super::spares::Spares;
use super::{RootSpec, Spec, cgroup};

/// Starts sandboxes by executing the running program again.
#[derive(Debug)]
pub struct Launcher {
    maker: Maker,
    spares: OnceLock<Spares>,
}

impl Launcher {
    /// `program` is the running program's own file. Its `main` must call [`super::run_if_reexecuted`] first.
    pub fn new(program: PathBuf) -> Launcher {
        Launcher { maker: Maker { program }, spares: OnceLock::new() }
    }

    /// Keeps `most` spare sandboxes ready from now on, for functions that use this machine's programs. Only the
    /// first call counts. Their root is mounted on `mount_at`, an existing folder.
    pub fn keep_spares(&self, most: usize, mount_at: &Path) {
        let root = RootSpec { mount_at: mount_at.to_owned(), base: None };
        self.spares.get_or_init(|| Spares::keep(self.maker.clone(), root, most));
    }

    /// Removes the control groups that hosts have left on this machine when they were killed.
    pub fn remove_leftovers() {
        cgroup::remove_leftovers();
    }

    /// Whether control groups limit sandboxes. Otherwise the first process of each enforces its limits.
    pub fn has_control_groups() -> bool {
        cgroup::are_available()
    }

    /// Starts a sandbox. Blocks for some milliseconds, until its program has been started. Everything that the
    /// program prints goes to `output`.
    ///
    /// # Errors
    /// [`Kind::FixInput`] where none of the spec's programs exists, [`Kind::FixSetup`] where this machine
    /// allows no namespaces. The error names the step that failed.
    pub fn launch(&self, spec: &Spec, output: &File) -> Result<Sandbox> {
        if let Some(mut spare) = self.spares.get().and_then(|spares| spares.take(spec.root.base.as_deref())) {
            match spare.begin(spec, output) {
                Ok(()) => return Ok(spare),
                // The spare has ended meanwhile: start a new sandbox.
                Err(error) if error.kind == Kind::Retry => {}
                Err(error) => return Err(error),
            }
        }
        let mut sandbox = self.maker.make(&spec.root)?;
        sandbox.begin(spec, output)?;
        Ok(sandbox)
    }
}
