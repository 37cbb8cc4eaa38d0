//! The binary from end to end: a real PostgreSQL, real folders and object stores, real readers.
//! None of the lake's own code is linked here; what it wrote is checked from outside.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, in fixtures too")]

mod world;

mod billing;
mod clients;
mod collects;
mod configuration;
#[cfg(feature = "failpoints")]
mod crash;
mod example_platform;
mod exits;
mod forecast;
mod mapping;
mod models;
mod object_store;
mod postgres_target;
mod preflight;
mod printed;
mod readers;
mod schedules;
mod serve;
mod streaming;
mod streams;
mod via;
