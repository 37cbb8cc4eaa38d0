//! What every test stands on: one private PostgreSQL for all of them, a database and a warehouse
//! for each, the binary, and Python for what reads beside us.

#[cfg_attr(not(feature = "failpoints"), allow(dead_code, reason = "only after a crash every file is looked at"))]
mod files;
mod python;
mod server;
mod source;
#[path = "../../../../pgserver/src/tests/stall.rs"]
mod stall;
mod warehouse;

pub use files::processes_in;
#[cfg(feature = "failpoints")]
pub use files::{Referenced, files_under};
pub use python::{Python, interpreter, python};
pub use server::Standby;
pub use source::Source;
pub use stall::stalled_way_to;
pub use warehouse::{EXAMPLE, Said, Warehouse};
