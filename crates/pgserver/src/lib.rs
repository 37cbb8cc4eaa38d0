//! Private PostgreSQL servers: a data folder of our own, started as our child, gone when we are gone.
//!
//! A transfer by base backup reads a copy of the platform's database from such a server, so that
//! the platform itself carries no query; the demo, the tests and the benchmarks use them as sources.
//!
//! Everything about one server is in one folder of mode 0700:
//!
//! ```text
//! DIR/private-server     says that the folder is ours, and may be removed by `sweep`
//! DIR/data/              PostgreSQL's data directory
//! DIR/tablespaces/       tablespaces brought along by a base backup
//! DIR/postgresql.conf    written by every `start`, as are pg_hba.conf and pg_ident.conf
//! DIR/restored           only after `prepare_restored`: the primary's limits, kept as a floor
//! DIR/server.log         what the server said since its last start
//! DIR/.s.PGSQL.PORT      its socket; in a short folder under /tmp where DIR is too long for one
//! ```
//!
//! PostgreSQL refuses to run as root, so for root every child runs as the user `postgres`.
//! Each program runs in a process group that a [`supervisor`] ends when our process dies, however
//! it dies. The folder that it leaves, and what a dead machine leaves, [`sweep`] removes.
//!
//! This crate never touches a server that it did not start, never puts a password on a command
//! line, and never reads the environment: its children get none of ours.

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
