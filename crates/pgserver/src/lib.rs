//! Private PostgreSQL servers: each has a data folder of its own, runs as a child of this process, and ends with it.
//!
//! A transfer by base backup reads a copy of the platform's database from such a server, so that no query runs on the
//! platform itself. The demo, the tests and the benchmarks use private servers as sources.
//!
//! All files of a server are in one folder of mode 0700:
//!
//! ```text
//! DIR/private-server     marks the folder as one of this crate, which `sweep` may remove
//! DIR/data/              PostgreSQL's data directory
//! DIR/tablespaces/       the tablespaces of a base backup
//! DIR/postgresql.conf    written by every `start`, as are pg_hba.conf and pg_ident.conf
//! DIR/restored           only after `prepare_restored`: the primary's limits, the least values of these settings
//! DIR/server.log         the server's log since its last start
//! DIR/.s.PGSQL.PORT      its socket; in a short folder under /tmp where the path of DIR is too long for a socket
//! ```
//!
//! PostgreSQL refuses to run as root, so for root every program runs as the user `postgres`. Each program runs in a
//! process group that a [`supervisor`] ends when this process ends, also by SIGKILL. [`sweep`] removes the folder that
//! such an end, or a failure of the machine, leaves.
//!
//! This crate never uses a server that it did not start, never puts a password on a command line, and never reads the
//! environment or passes it on to the programs.

mod error;

mod account;
mod binaries;
mod cancellation;
mod folder;

mod backup;
mod restored;
mod settings;

mod server;
mod sweep;

#[cfg(test)]
mod tests;

pub use backup::{base_backup, base_backup_until};
pub use binaries::Binaries;
pub use cancellation::Cancellation;
pub use error::{Error, Kind, Result};
pub use restored::prepare_restored;
pub use server::{Server, init, init_as, start};
pub use settings::Options;
pub use sweep::sweep;
