//! The stories, each read in one screen.

pub mod mart;
pub mod transfer;
pub mod upkeep;
