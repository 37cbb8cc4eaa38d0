//! Where rows go: the lake, or another PostgreSQL.

pub mod evolve;
pub mod lake;
mod legacy;
pub mod postgres;
