//! How long workers and sessions run.

/// How long a worker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumeEnd {
    /// Until it is stopped.
    Never,
    /// Until the tables have all messages of its shards.
    CaughtUp,
}

/// What ends a session without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// It was stopped, or has all messages.
    Stopped,
    /// The workers or the shards have changed.
    Changed,
}
