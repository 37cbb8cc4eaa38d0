//! The words that keys of a transfer's file may have.

use schemars::JsonSchema;

/// What a run of a transfer reads.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// All rows; the target is replaced in one commit.
    Initial,
    /// New and changed rows by each table's cursor; rows deleted at the source stay.
    Incremental,
    /// All rows once, then the changes of the write-ahead log, seconds behind.
    Changes,
}

/// How the source is read.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// The server itself.
    Direct,
    /// A standby, which the connection names.
    Replica,
    /// A private copy made by `pg_basebackup`, which is removed when the run ends.
    Basebackup,
    /// A restored snapshot of Amazon RDS. Not implemented yet.
    #[schemars(extend("x-not-built" = true))]
    Rds,
}

/// What to do with a table without a usable cursor in incremental mode.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnNoCursor {
    /// The table fails, and the others continue.
    Error,
    /// The table is read whole each time.
    Reload,
}

/// What mode `changes` does with rows that the source deletes.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Deletes {
    /// They are removed from the target.
    Apply,
    /// They stay in the target.
    Keep,
    /// They stay in the target, with the time of the delete in the column `_deleted_at`.
    Mark,
}
