//! The settings of a transfer, checked: which tables it carries and how, and when it refuses a table.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How a transfer reads its tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Each run reads the tables whole and replaces those of the target.
    #[default]
    Initial,
    /// Each run reads what is new or changed since the position; rows that the source deletes are kept.
    Incremental,
    /// The tables are read whole once, and then follow the source's write-ahead log.
    Changes,
}

/// What CHANGES does with rows that the source deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deletes {
    /// They are removed from the target.
    #[default]
    Apply,
    /// They are kept.
    Keep,
    /// They are kept, with the time of the delete in a column of their own.
    Mark,
}

/// The settings of CHANGES.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangesSettings {
    /// The name of the replication slot.
    pub slot: String,
    /// The name of the publication.
    pub publication: String,
    /// Whether the publication is created, changed and dropped as the transfer needs it.
    pub manages_publication: bool,
    /// What happens to rows that the source deletes.
    pub deletes: Deletes,
    /// Whether every version of every row is recorded in a second table.
    pub history: bool,
    /// How long changes may wait for a commit.
    pub commit_interval: Duration,
}

/// How long changes wait for a commit by default.
pub const COMMIT_INTERVAL: Duration = Duration::from_millis(500);

impl ChangesSettings {
    /// The defaults for the transfer with this name.
    pub fn of(transfer: &str) -> ChangesSettings {
        let name = slot_name(transfer);
        ChangesSettings {
            slot: name.clone(),
            publication: name,
            manages_publication: true,
            deletes: Deletes::default(),
            history: false,
            commit_interval: COMMIT_INTERVAL,
        }
    }
}

/// The name of a transfer's slot: of the characters and the length that PostgreSQL allows.
fn slot_name(transfer: &str) -> String {
    let allowed = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '_' };
    let name: String = transfer.to_lowercase().chars().map(allowed).collect();
    format!("wattlake_{name}").chars().take(63).collect()
}

/// What an INCREMENTAL transfer does with a table that has no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnNoCursor {
    /// Refuses it.
    #[default]
    Error,
    /// Reads it whole each time, as INITIAL does.
    Reload,
}

/// The type of a column in the target, in place of the one that its type at the source maps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnAs {
    /// A text, as PostgreSQL casts the value to it.
    Text,
    /// A double-precision number; digits beyond its precision are lost.
    Double,
    /// A decimal of this precision and scale.
    Decimal(u8, i8),
    /// The bytes of a text without a conversion, for a database whose encoding is not known.
    Bytes,
}

/// How far before the position each run starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// For a cursor of instants, times or dates.
    Time(Duration),
    /// For a cursor of numbers.
    Ids(u64),
}

/// The settings of one table, in place of the transfer's.
#[derive(Debug, Clone, Default)]
pub struct TableSettings {
    /// The source's columns of the cursor, the first in order first. Empty: the key, where it is a single integer.
    pub cursor: Vec<String>,
    /// In place of the transfer's overlap, or of none.
    pub overlap: Option<Overlap>,
    /// The source's columns that identify a row, in place of the primary key. Empty: the primary key.
    pub key: Vec<String>,
    /// In place of the transfer's.
    pub on_no_cursor: Option<OnNoCursor>,
    /// The types of columns in the target, by the column's name.
    pub columns: BTreeMap<String, ColumnAs>,
}

/// The settings of a transfer.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The transfer's name.
    pub name: String,
    /// The program in the commands of hints: `wattlake -C /srv/warehouse`.
    pub program: String,
    /// The names of the warehouse's other transfers: a target's table that one of them has filled is refused.
    pub others: Vec<String>,
    /// How the tables are read.
    pub mode: Mode,
    /// The schema of all tables in the target, in place of their own.
    pub into: Option<String>,
    /// Patterns of `schema.table` with `*` and `?`; empty for all tables.
    pub include: Vec<String>,
    /// Patterns of tables that are not transferred.
    pub exclude: Vec<String>,
    /// The file of a table mapping of AWS DMS, in place of `include` and `exclude`.
    pub mapping: Option<PathBuf>,
    /// The number of connections that read one large table.
    pub streams: usize,
    /// The number of large tables that are read at a time.
    pub parallel_tables: usize,
    /// Whether views are transferred, as tables.
    pub views: bool,
    /// What INCREMENTAL does with tables that have no cursor.
    pub on_no_cursor: OnNoCursor,
    /// The overlap of cursors of instants, times or dates.
    pub overlap: Duration,
    /// The settings of CHANGES.
    pub changes: ChangesSettings,
    /// The settings of single tables, by `schema.table`.
    pub tables: BTreeMap<String, TableSettings>,
}

impl Settings {
    /// Whether rows that the source deletes are removed from the target.
    pub fn has_deletes(&self) -> bool {
        self.mode == Mode::Changes && self.changes.deletes == Deletes::Apply
    }

    /// Whether rows that the source deletes are kept with the time of the delete.
    pub fn marks_deleted(&self) -> bool {
        self.mode == Mode::Changes && self.changes.deletes == Deletes::Mark
    }

    /// A command `wattlake transfer VERB` on one of the transfer's tables, quoted for a shell.
    pub fn command(&self, verb: &str, table: &str, options: &str) -> String {
        let quoted = |text: &str| shlex::try_quote(text).map_or_else(|_| text.to_owned(), Into::into);
        format!("{} transfer {verb} {} --table {}{options}", self.program, quoted(&self.name), quoted(table))
    }
}
