//! Sources over a network, with real servers, and a process that is killed.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, in shared code of tests too")]

mod file_history;
mod http;
mod killed;
mod ready_made;
mod s3;
mod server;
mod sftp;
