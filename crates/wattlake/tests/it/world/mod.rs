//! Fixtures: one private PostgreSQL for all tests, a database and a warehouse for each, the binary,
//! and Python for other readers of the lake.

#[cfg_attr(not(feature = "failpoints"), allow(dead_code, reason = "used only by the tests of crashes"))]
mod files;
mod nats;
mod python;
mod server;
mod source;
#[path = "../../../../pgserver/src/tests/stall.rs"]
mod stall;
mod warehouse;

pub use files::processes_in;
#[cfg(feature = "failpoints")]
pub use files::{Referenced, files_under};
pub use nats::Nats;
pub use python::{Python, interpreter, python};
pub use server::{Standby, folder as test_folder};
pub use source::Source;
pub use stall::stalling_proxy_to;
pub use warehouse::{CommandResult, EXAMPLE, Warehouse};
