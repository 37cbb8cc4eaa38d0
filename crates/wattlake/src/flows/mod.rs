//! The stories, each read in one screen.

pub mod transfer;
