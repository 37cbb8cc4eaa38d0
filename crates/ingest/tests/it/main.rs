//! Sources at the other end of a connection, and a process that is killed: with the real servers.

mod http;
mod killed;
mod s3;
mod server;
mod sftp;
