//! The messages of AWS DMS: one a change of a row, and control messages about tables.
//!
//! <https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Target.Kinesis.html>
//!
//! Some members are ours, which other readers ignore: `sent-to` of a control message that is stored in all shards; `unchanged` in the metadata of an update names columns whose
//! values the source's log does not have, because the update did not change them; `native-type` of a column is its type
//! in PostgreSQL, where DMS's is not exact; the operation `truncate-table`, which DMS does not have, empties a table.

mod read;
mod table;
mod write;

pub use read::{Body, Message, Metadata, Values};
pub use table::{ColumnDefinition, ColumnType, TableDefinition};
pub use write::{DataDetails, MessageHead, MessageWriter, TransactionDetails, write_string};

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It was read with the rest of its table, before any change.
    Load,
    /// It was inserted.
    Insert,
    /// It was updated.
    Update,
    /// It was deleted.
    Delete,
}

impl Operation {
    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Load => "load",
            Operation::Insert => "insert",
            Operation::Update => "update",
            Operation::Delete => "delete",
        }
    }

    fn of(name: &str) -> Option<Operation> {
        [Operation::Load, Operation::Insert, Operation::Update, Operation::Delete]
            .into_iter()
            .find(|operation| operation.name() == name)
    }
}

/// What happened to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlOperation {
    /// It takes part from now on.
    CreateTable,
    /// It was dropped, or is about to be read again.
    DropTable,
    /// It has another name.
    RenameTable,
    /// It has more columns.
    AddColumn,
    /// It has fewer columns.
    DropColumn,
    /// A column has another name.
    RenameColumn,
    /// A column has another type.
    ColumnTypeChange,
    /// Several of these.
    ChangeColumns,
    /// All of its rows were removed.
    TruncateTable,
}

impl ControlOperation {
    const ALL: [ControlOperation; 9] = [
        ControlOperation::CreateTable,
        ControlOperation::DropTable,
        ControlOperation::RenameTable,
        ControlOperation::AddColumn,
        ControlOperation::DropColumn,
        ControlOperation::RenameColumn,
        ControlOperation::ColumnTypeChange,
        ControlOperation::ChangeColumns,
        ControlOperation::TruncateTable,
    ];

    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            ControlOperation::CreateTable => "create-table",
            ControlOperation::DropTable => "drop-table",
            ControlOperation::RenameTable => "rename-table",
            ControlOperation::AddColumn => "add-column",
            ControlOperation::DropColumn => "drop-column",
            ControlOperation::RenameColumn => "rename-column",
            ControlOperation::ColumnTypeChange => "column-type-change",
            ControlOperation::ChangeColumns => "change-columns",
            ControlOperation::TruncateTable => "truncate-table",
        }
    }

    fn of(name: &str) -> Option<ControlOperation> {
        ControlOperation::ALL.into_iter().find(|operation| operation.name() == name)
    }
}

/// What a message's partition key is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PartitionBy {
    /// The table and its primary key: a row's changes keep their order.
    #[default]
    PrimaryKey,
    /// The table: its changes keep their order, in one shard.
    SchemaTable,
}

impl PartitionBy {
    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            PartitionBy::PrimaryKey => "primary-key",
            PartitionBy::SchemaTable => "schema-table",
        }
    }
}

/// Which columns of the row before an update or a delete a message has, where the log has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BeforeImage {
    /// None.
    #[default]
    None,
    /// Those of the primary key.
    PrimaryKey,
    /// All.
    All,
}

/// What messages contain, with the names of DMS's endpoint settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageSettings {
    /// `IncludeNullAndEmpty`: NULL is a member with the value null. Otherwise columns that are NULL are left out.
    pub include_null_and_empty: bool,
    /// `IncludeTransactionDetails`: the position of a change in the log, and in its transaction.
    pub include_transaction_details: bool,
    /// `IncludePartitionValue`: the partition key.
    pub include_partition_value: bool,
    /// `IncludeControlDetails`: control messages of tables that begin, end or are emptied.
    pub include_control_details: bool,
    /// `IncludeTableAlterOperations`: control messages of changed columns.
    pub include_table_alter_operations: bool,
    /// `PartitionIncludeSchemaTable` and the object mapping's partition key.
    pub partition_by: PartitionBy,
    /// `BeforeImageSettings`.
    pub before_image: BeforeImage,
}

impl Default for MessageSettings {
    /// Everything that a reader needs to apply each change once. DMS's own defaults leave all of it out.
    fn default() -> Self {
        MessageSettings {
            include_null_and_empty: true,
            include_transaction_details: true,
            include_partition_value: false,
            include_control_details: true,
            include_table_alter_operations: true,
            partition_by: PartitionBy::default(),
            before_image: BeforeImage::default(),
        }
    }
}

#[cfg(test)]
mod tests;
