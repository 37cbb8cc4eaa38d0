//! The names of tables, and of the folders in which the lake has them.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// The folder of files that belong to no table; no encoded name of a schema begins like this.
pub(crate) const OBJECTS: &str = "_objects";

/// A table's name in the lake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The table within the schema.
    pub table: String,
}

impl TableName {
    /// The name of a table in a schema; any text is allowed in both.
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        TableName { schema: schema.into(), table: table.into() }
    }

    /// The folder, relative to the lake, with the names encoded: they may have characters that folders may not.
    pub(crate) fn folder(&self) -> String {
        format!("{}/{}", encode(&self.schema), encode(&self.table))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// The characters that not every store allows in a folder's name, and `%` itself.
const UNSAFE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'/')
    .add(b'\\')
    .add(b'%')
    .add(b'#')
    .add(b'?')
    .add(b'*')
    .add(b':')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'|')
    .add(b'=')
    .add(b'{')
    .add(b'}')
    .add(b'^')
    .add(b'[')
    .add(b']')
    .add(b'~')
    .add(b'`')
    .add(b'\'')
    .add(b'.');

fn encode(name: &str) -> String {
    // This name is reserved for a table's log.
    if name == "_delta_log" {
        return "=5Fdelta_log".into();
    }
    // And this one for the lake's objects.
    if name == OBJECTS {
        return "=5Fobjects".into();
    }
    utf8_percent_encode(name, UNSAFE).to_string().replace('%', "=")
}

/// The name that a folder was made from.
pub(crate) fn decode(folder: &str) -> String {
    percent_decode_str(&folder.replace('=', "%")).decode_utf8_lossy().into_owned()
}
