//! The users of processes in sandboxes, where the host is root.

/// How many user ids endpoints have, and training jobs have.
pub const USERS: u32 = 1000;

/// A number below [`USERS`] for a name: two names rarely share one.
pub fn user_number(name: &str) -> u32 {
    name.bytes().fold(5381_u32, |sum, byte| sum.wrapping_mul(33).wrapping_add(u32::from(byte))) % USERS
}
