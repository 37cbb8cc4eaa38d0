//! A table of the lake as the target of messages.

use lake::Table;
use stream::message::{ColumnDefinition, ColumnType, TableDefinition};
use tokio::runtime::Handle;

use crate::changes::net_effect::Matching;
use crate::changes::table_writer::TableWriter;
use crate::checkpoint::Origin;
use crate::consume::ConsumeRequest;
use crate::destination::deleted_rows::{DELETED_AT, with_deleted_at};
use crate::destination::lake::origin_of;
use crate::error::{Context, Error, Result};
use crate::settings::Deletes;

/// How rows of messages are matched with those of the lake.
pub fn matching(definition: &TableDefinition, deletes: Deletes) -> Matching {
    let is_unique = !definition.primary_key.is_empty();
    let all = || definition.columns.iter().map(|column| column.name.clone()).collect();
    Matching {
        columns: if is_unique { definition.primary_key.clone() } else { all() },
        is_unique,
        deletes,
        // A message may come again, and a table may be read again into the stream.
        looks_up_inserts: is_unique,
    }
}

/// A writer for a table that is there.
pub fn writer(
    request: &ConsumeRequest,
    table: Table,
    name: &str,
    definition: &TableDefinition,
    runtime: &Handle,
) -> Result<TableWriter> {
    let transfer = &request.settings.name;
    if let Some(origin) =
        runtime.block_on(origin_of(&table))?.filter(|origin| origin.transfer != *transfer || origin.name != name)
    {
        let (target, by) = (table.name(), format!("the transfer {} with {}", origin.transfer, origin.name));
        let what = format!("apply changes of {name}: {target} is filled by {by}");
        return Err(Error::setup(what).state("other-transfer").hint("choose another schema with into = \"...\""));
    }
    let matching = matching(definition, request.settings.deletes);
    let mut writer = TableWriter::new(table, None, &request.run, matching, runtime.clone())?;
    let schema = writer.schema();
    if request.settings.deletes == Deletes::Mark && with_deleted_at(&schema) != schema {
        writer.add_columns(with_deleted_at(&schema))?;
    }
    Ok(writer)
}

/// Where the rows come from, so that no other transfer fills the table.
pub fn origin(request: &ConsumeRequest, name: &str, definition: &TableDefinition) -> Origin {
    Origin {
        transfer: request.settings.name.clone(),
        system: 0,
        database: 0,
        table: 0,
        name: name.to_owned(),
        key: definition.primary_key.clone(),
        cursor: Vec::new(),
        columns: Vec::new(),
        storage: Vec::new(),
        filter: None,
        mirrors: false,
        marks: request.settings.deletes == Deletes::Mark,
        stream: None,
        history: None,
    }
}

/// The definition of a table that the lake has and no control message has defined.
pub fn of_lake(table: &Table) -> Result<TableDefinition> {
    use arrow::datatypes::DataType;
    let schema = table.schema().context("read the table's schema")?;
    let column = |field: &std::sync::Arc<arrow::datatypes::Field>| {
        let (column_type, native) = match field.data_type() {
            DataType::Boolean => (ColumnType::Boolean, None),
            DataType::Int8 | DataType::Int16 => (ColumnType::Int(2), None),
            DataType::Int32 => (ColumnType::Int(4), None),
            DataType::Int64 => (ColumnType::Int(8), None),
            DataType::Float32 => (ColumnType::Real4, None),
            DataType::Float64 => (ColumnType::Real8, None),
            DataType::Decimal128(precision, scale) => {
                (ColumnType::Numeric(Some((*precision, (*scale).max(0).cast_unsigned()))), None)
            }
            DataType::Date32 => (ColumnType::Date, None),
            DataType::Timestamp(_, None) => (ColumnType::Datetime, Some("timestamp without time zone".to_owned())),
            DataType::Timestamp(..) => (ColumnType::Datetime, None),
            DataType::Binary => (ColumnType::Bytes(None), None),
            _ => (ColumnType::Text(None), None),
        };
        ColumnDefinition { name: field.name().clone(), column_type, nullable: true, native }
    };
    let without_mark = |field: &&std::sync::Arc<arrow::datatypes::Field>| field.name() != DELETED_AT;
    let columns = schema.fields().iter().filter(without_mark).map(column).collect();
    Ok(TableDefinition { columns, primary_key: Vec::new() })
}
