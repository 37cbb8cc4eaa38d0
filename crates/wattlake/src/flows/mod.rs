//! The stories, each read in one screen.

pub mod columns;
pub mod control;
pub mod copies;
pub mod function;
pub mod ingest;
pub mod load;
pub mod mart;
pub mod moment;
pub mod rows;
pub mod statement;
pub mod transfer;
pub mod upkeep;
