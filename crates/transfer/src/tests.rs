//! Tests with a real PostgreSQL, whose own text of each value is the expected one.
//!
//! Reading order: [`fixture`] starts the server, [`random_types`] and [`random_values`] generate schemas and
//! rows, [`value_text`] writes a value as text on both sides, [`round_trip`] compares. The other modules test
//! tables, runs over time, late rows, refusals, targets and validations.

mod fixture;

mod cursors;
mod random_types;
mod random_values;
mod value_text;

mod round_trip;

mod pooling;
mod refused;
mod tables;

mod changes;
mod changes_to_postgres;
mod deleted_rows;
mod evolution;
mod failover;
mod history;
mod incremental;
mod large_transactions;
mod late;
mod masks;
mod row_history;
mod sequences;
mod stream_states;
mod streaming;

mod to_postgres;
mod validation;
