//! The keys of a transfer that publishes into a stream, or reads one.

use schemars::JsonSchema;

use super::Field;

/// What messages of a stream contain, as AWS DMS's endpoint settings say it.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Messages {
    /// `IncludeNullAndEmpty`: columns that are NULL are members with the value null. Otherwise they are left out.
    #[schemars(extend("default" = true))]
    pub include_null_and_empty: Field<bool>,
    /// `IncludeTransactionDetails`: positions in the log and in the transaction. Without them, changes may come twice
    /// after an interruption.
    #[schemars(extend("default" = true))]
    pub include_transaction_details: Field<bool>,
    /// `IncludePartitionValue`: the partition key.
    #[schemars(extend("default" = false))]
    pub include_partition_value: Field<bool>,
    /// `IncludeControlDetails`: control messages of tables that begin or are emptied.
    #[schemars(extend("default" = true))]
    pub include_control_details: Field<bool>,
    /// `IncludeTableAlterOperations`: control messages of changed columns.
    #[schemars(extend("default" = true))]
    pub include_table_alter_operations: Field<bool>,
    /// What the partition key is made of.
    #[schemars(extend("default" = "primary-key"))]
    pub partition_by: Field<PartitionBy>,
    /// Columns of the row before an update or a delete, where the log has them (`REPLICA IDENTITY FULL`).
    #[schemars(extend("default" = "none"))]
    pub before_image: Field<BeforeImage>,
}

/// What a partition key is made of.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionBy {
    /// The table and its primary key: a row's changes keep their order.
    PrimaryKey,
    /// The table: its changes keep their order, in one shard.
    SchemaTable,
}

/// Which columns a before-image has.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BeforeImage {
    /// None.
    None,
    /// Those of the primary key.
    PrimaryKey,
    /// All.
    All,
}

/// What a column means that an update leaves out.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LeftOut {
    /// It is NULL, as DMS's default `IncludeNullAndEmpty = false` writes it.
    Null,
    /// It was not changed.
    Unchanged,
}
