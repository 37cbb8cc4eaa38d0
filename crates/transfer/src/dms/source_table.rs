//! The tables and columns of the source, as far as the rules of a mapping need to know them.

/// The two kinds of relations that a selection rule tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// A table, whatever its kind.
    Table,
    /// A view or a materialized view.
    View,
}

/// A table or view of the source.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// The name of its schema.
    pub schema: &'a str,
    /// Its name, without the schema.
    pub name: &'a str,
    /// Whether it is a table or a view.
    pub kind: TableKind,
}

/// A column of the source.
#[derive(Debug, Clone, Copy)]
pub struct Column<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its type, as `format_type()` gives it.
    pub type_name: &'a str,
}
