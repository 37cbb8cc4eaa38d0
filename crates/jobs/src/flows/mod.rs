//! What each kind of job does, from its configuration to its result: one module a kind.

mod as_known;
pub mod base_backups;
pub mod collect;
pub mod columns;
pub mod consumer;
pub mod control;
mod declared;
pub mod function;
mod function_source;
pub mod ingest;
pub mod load;
pub mod mart;
pub mod moment;
pub mod prediction;
pub mod rows;
pub mod statement;
pub mod stream;
mod stream_report;
pub mod training;
pub mod transfer;
pub mod upkeep;
