//! What every test stands on: one private PostgreSQL for all of them, a database and a warehouse
//! for each, the binary, and Python for what reads beside us.

mod files;
mod python;
mod server;
mod source;
mod warehouse;

pub use files::{Referenced, files_under, processes_in};
pub use python::{Python, python};
pub use server::Standby;
pub use source::Source;
pub use warehouse::{Said, Warehouse};
