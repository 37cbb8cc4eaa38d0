//! A transfer as its file sets it, checked: what to take, how to carry it, and where it stops.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    #[default]
    Initial,
    Incremental,
}

/// What becomes of a table that has no usable cursor in an INCREMENTAL transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnNoCursor {
    #[default]
    Error,
    /// Read it whole each time, as INITIAL does.
    Reload,
}

/// Another way to carry a column than the mapping's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnAs {
    Text,
    Double,
    Decimal(u8, i8),
    /// A text's bytes as they are, for a database whose encoding is not known.
    Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    Time(Duration),
    Ids(u64),
}

#[derive(Debug, Clone, Default)]
pub struct TableSettings {
    /// The columns of the cursor in the order of their weight. Empty: the key, where it is a single integer.
    pub cursor: Vec<String>,
    pub overlap: Option<Overlap>,
    pub key: Vec<String>,
    pub on_no_cursor: Option<OnNoCursor>,
    pub columns: BTreeMap<String, ColumnAs>,
}

/// A transfer, checked and ready to plan.
#[derive(Debug, Clone)]
pub struct Settings {
    pub name: String,
    /// How hints call the program: `wattlake -C /srv/warehouse`.
    pub program: String,
    /// The warehouse's other transfers: a table that one of them has carried is not taken from it.
    pub others: Vec<String>,
    pub mode: Mode,
    pub into: Option<String>,
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    pub mapping: Option<PathBuf>,
    pub streams: usize,
    pub parallel_tables: usize,
    pub views: bool,
    pub on_no_cursor: OnNoCursor,
    /// Of timestamp cursors.
    pub overlap: Duration,
    pub tables: BTreeMap<String, TableSettings>,
}

impl Settings {
    /// A command on one of the transfer's tables, as a shell takes it.
    pub fn command(&self, verb: &str, table: &str, options: &str) -> String {
        let quoted = |text: &str| shlex::try_quote(text).map_or_else(|_| text.to_owned(), Into::into);
        format!("{} transfer {verb} {} --table {}{options}", self.program, quoted(&self.name), quoted(table))
    }
}
