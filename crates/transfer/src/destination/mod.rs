//! The targets of transfers: the lake, and another database of PostgreSQL.

pub mod deleted_rows;
pub mod evolve;
pub mod history;
pub mod increment;
pub mod lake;
mod legacy;
pub mod postgres;
