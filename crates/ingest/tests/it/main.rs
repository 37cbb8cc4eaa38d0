//! Sources at the other end of a connection, and a process that is killed: with the real servers.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, in what tests stand on too")]

mod http;
mod killed;
mod s3;
mod server;
mod sftp;
mod story;
