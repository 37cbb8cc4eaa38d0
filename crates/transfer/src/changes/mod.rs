//! CHANGES: applies the inserts, updates and deletes of PostgreSQL's write-ahead log to the tables of the lake, or of another
//! PostgreSQL.
//!
//! Reading order: [`run`] makes the slot, reads the tables once ([`open_tables`]) and starts a [`session`], which receives
//! the log by [`capture`]. [`pgoutput`] parses its messages; [`streamed_transactions`] keeps those of transactions that are
//! not committed yet. An [`applier`] writes them. For the lake, each [`table_stream`] collects the changes of one table as a
//! [`chunk`], by its [`mapping`]; [`net_effect`] finds what a chunk comes to, and [`table_writer`] commits it. For another
//! PostgreSQL, [`target_table`] has the statements.

pub(crate) mod applier;
mod open_tables;
mod run;
pub(crate) mod session;
mod slot;
pub mod source;
pub mod status;
pub(crate) mod stream_record;
mod stream_store;

mod capture;
pub mod pgoutput;
mod streamed_transactions;

pub(crate) mod chunk;
pub(crate) mod mapping;
mod projection;
pub(crate) mod schema;
mod table_stream;

mod apply_task;
mod history_writer;
mod lake_applier;
pub(crate) mod net_effect;
pub(crate) mod table_writer;
mod upkeep;

mod postgres_applier;
mod target_table;

pub use run::{StreamEnd, drop_slot, run};
pub use slot::snapshot_at_position;
pub use source::{LogState, LogWatcher};
pub use status::{ChangeCounts, ShardStatus, StreamObserver, StreamStatus, TableStatus};
pub use stream_record::{ReachedTimes, RereadRequest, StreamRecord};
pub use stream_store::StreamStore;
