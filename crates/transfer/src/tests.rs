//! A real PostgreSQL as the judge: whatever it holds must come out of the lake as it says itself.
//!
//! Reading order: [`world`] sets the scene, [`columns`] and [`values`] draw schemas and rows,
//! [`shown`] writes a value as text on both sides, [`round_trip`] compares. The other modules
//! tell stories: tables, runs over time, late rows, refusals, targets, proofs.

mod world;

mod columns;
mod cursors;
mod shown;
mod values;

mod round_trip;

mod pooling;
mod refused;
mod tables;

mod changes;
mod evolution;
mod failover;
mod history;
mod incremental;
mod late;
mod masks;
mod sequences;

mod to_postgres;
mod validation;
