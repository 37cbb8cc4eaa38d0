//! The messages of one table.

use stream::message::{
    BeforeImage, ColumnDefinition, ControlOperation, DataDetails, MessageHead, MessageWriter, Operation, PartitionBy,
    TableDefinition, TransactionDetails, write_string,
};
use stream::{Destination, Record};

use super::value::{ValueForm, describe};
use crate::changes::pgoutput::{Field, Relation};
use crate::error::{Error, Result};
use crate::plan::TablePlan;
use crate::postgres::quote;

/// Writes the messages of a table.
pub struct TableEncoder {
    /// `schema.table` of the messages.
    name: String,
    /// `schema.table` of the source, for errors.
    source: String,
    head: MessageHead,
    columns: Vec<EncodedColumn>,
    /// The key's columns, as indices of `columns`; all columns where the table has no key.
    key: Vec<usize>,
    /// The table as messages define it.
    pub definition: TableDefinition,
    bytes_max: usize,
    data: Vec<u8>,
    before: Vec<u8>,
}

struct EncodedColumn {
    /// `"name":`
    member: Vec<u8>,
    name: String,
    form: ValueForm,
    /// The place of its values in a row.
    at: usize,
}

/// The place of a change in the log.
#[derive(Debug, Clone, Copy)]
pub struct ChangePlace<'a> {
    /// When it was committed, as messages have it.
    pub timestamp: &'a str,
    /// Its transaction.
    pub transaction: Option<TransactionDetails<'a>>,
}

/// Refuses a table whose values messages would not have as its plan has them.
pub fn check_plan(plan: &TablePlan) -> Result<()> {
    let refused = |what: &str| {
        let table = plan.source.display();
        Err(Error::setup(format!("publish {table}: {what}, which is not implemented for streams"))
            .state("not-in-messages")
            .hint("leave it to the transfer that reads the stream, or exclude the table"))
    };
    if plan.filter.is_some() {
        return refused("the table mapping selects its rows by a filter");
    }
    // The plan casts some types for the lake: messages have every type's text.
    let is_computed = |column: &&crate::plan::PlanColumn| match &column.source {
        None => true,
        Some(source) => !column.expression.starts_with(&quote(&source.name)),
    };
    match plan.columns.iter().find(is_computed) {
        Some(column) => refused(&format!("column {:?} is computed", column.name)),
        None => Ok(()),
    }
}

impl TableEncoder {
    /// An encoder for the rows of a table. `names` are the source's columns in the order of a row's values.
    pub fn new(plan: &TablePlan, names: &[&str], bytes_max: usize) -> Result<TableEncoder> {
        let mut columns = Vec::with_capacity(plan.columns.len());
        let mut definition = TableDefinition { columns: Vec::new(), primary_key: plan.key.clone() };
        for column in &plan.columns {
            let name = column.source.as_ref().map(|source| source.name.as_str()).unwrap_or_default();
            // A column that was added, or whose values are generated, is not in the log's description.
            let Some(at) = names.iter().position(|known| *known == name) else { continue };
            let Some(of_source) = plan.source.columns.iter().find(|known| known.name == name) else { continue };
            let (column_type, native, form) = describe(&of_source.source, &of_source.type_name);
            let mut member = Vec::new();
            write_string(&column.name, &mut member);
            member.push(b':');
            columns.push(EncodedColumn { member, name: column.name.clone(), form, at });
            definition.columns.push(ColumnDefinition {
                name: column.name.clone(),
                column_type,
                nullable: of_source.nullable && !plan.key.contains(&column.name),
                native,
            });
        }
        let key: Option<Vec<usize>> = match plan.key.is_empty() {
            true => Some((0..columns.len()).collect()),
            false => plan.key.iter().map(|key| columns.iter().position(|column| column.name == *key)).collect(),
        };
        let source = plan.source.display();
        let key = key.ok_or_else(|| Error::setup(format!("publish {source}: its key is not among its columns")))?;
        Ok(TableEncoder {
            name: format!("{}.{}", plan.target.schema, plan.target.table),
            source,
            head: MessageHead::new(&plan.target.schema, &plan.target.table),
            columns,
            key,
            definition,
            bytes_max,
            data: Vec::new(),
            before: Vec::new(),
        })
    }

    /// An encoder for the table as the log describes it.
    pub fn of_relation(plan: &TablePlan, relation: &Relation, bytes_max: usize) -> Result<TableEncoder> {
        let names: Vec<&str> = relation.columns.iter().map(|column| column.name.as_str()).collect();
        TableEncoder::new(plan, &names, bytes_max)
    }

    /// `schema.table` of the messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the table has a key.
    pub fn is_keyed(&self) -> bool {
        !self.definition.primary_key.is_empty()
    }

    /// Whether two rows have the same key.
    pub fn has_same_key(&self, one: &[Field<'_>], other: &[Field<'_>]) -> bool {
        self.key.iter().all(|key| one.get(self.columns[*key].at) == other.get(self.columns[*key].at))
    }

    /// A column whose value the log does not have, because the update did not change it.
    pub fn unchanged_column(&self, row: &[Field<'_>]) -> Option<&str> {
        let unchanged = |column: &&EncodedColumn| row.get(column.at) == Some(&Field::Unchanged);
        self.columns.iter().find(unchanged).map(|column| column.name.as_str())
    }

    /// The message of a row, which is that after the change or, of a delete, that before it. `before` is the row before
    /// an update, where the log has it.
    pub fn row(
        &mut self,
        writer: &MessageWriter,
        operation: Operation,
        row: &[Field<'_>],
        before: Option<&[Field<'_>]>,
        place: ChangePlace<'_>,
    ) -> Result<Record> {
        let mut data = std::mem::take(&mut self.data);
        data.clear();
        let keys_only = operation == Operation::Delete && self.is_keyed() && self.lacks_values(row);
        let mut unchanged: Vec<&str> = Vec::new();
        for (index, column) in self.columns.iter().enumerate() {
            if keys_only && !self.key.contains(&index) {
                continue;
            }
            match row.get(column.at) {
                Some(Field::Text(text)) => column.write(self.text(text, &column.name)?, &mut data),
                Some(Field::Unchanged) => unchanged.push(&column.name),
                Some(Field::Null) if writer.settings.include_null_and_empty => column.write_null(&mut data),
                Some(Field::Null) | None => {}
                Some(Field::Binary(_)) => return Err(Error::bug(format!("publish {}: a binary value", self.source))),
            }
        }
        let mut image = std::mem::take(&mut self.before);
        image.clear();
        if let Some(before) = before.filter(|_| writer.settings.before_image != BeforeImage::None) {
            for (index, column) in self.columns.iter().enumerate() {
                let is_wanted = writer.settings.before_image == BeforeImage::All || self.key.contains(&index);
                if let Some(Field::Text(text)) = before.get(column.at).filter(|_| is_wanted) {
                    column.write(self.text(text, &column.name)?, &mut image);
                }
            }
        }
        let key = self.partition_key(writer.settings.partition_by, row)?;
        let details = DataDetails {
            timestamp: place.timestamp,
            transaction: place.transaction,
            partition_key: &key,
            unchanged: &unchanged,
        };
        let mut out = Vec::with_capacity(data.len() + image.len() + 512);
        let before = (!image.is_empty()).then_some(image.as_slice());
        writer.data(&mut out, &self.head, operation, (&data, before), &details);
        let (size, row_key) = (out.len(), key.clone());
        let row = (!self.is_keyed()).then(|| (xxhash_rust::xxh3::xxh3_64(&data), operation == Operation::Delete));
        drop(unchanged);
        (self.data, self.before) = (data, image);
        if size > self.bytes_max {
            let what = format!(
                "publish the row {row_key}: its message has {size} bytes, and the stream takes {}",
                self.bytes_max
            );
            let hint = "raise max_payload of nats-server (Kinesis can't), or exclude the column by a table mapping";
            return Err(Error::input(what).state("message-size").hint(hint));
        }
        Ok(Record { destination: Destination::Key(key), data: out, point: None, row })
    }

    /// A message about the table, for all shards.
    pub fn control(
        &self,
        writer: &MessageWriter,
        operation: ControlOperation,
        timestamp: &str,
        place: Option<(&str, u64)>,
    ) -> Record {
        let data = writer.control(&self.head, operation, &self.definition, timestamp, place);
        Record { destination: Destination::AllShards, data, point: None, row: None }
    }

    /// Whether the log has the key of a row only.
    fn lacks_values(&self, row: &[Field<'_>]) -> bool {
        let is_other = |(index, column): (usize, &EncodedColumn)| {
            !self.key.contains(&index) && !matches!(row.get(column.at), None | Some(Field::Null))
        };
        !self.columns.iter().enumerate().any(is_other)
    }

    fn partition_key(&self, by: PartitionBy, row: &[Field<'_>]) -> Result<String> {
        let mut key = self.name.clone();
        if by == PartitionBy::PrimaryKey && self.is_keyed() {
            for index in &self.key {
                let column = &self.columns[*index];
                if let Some(Field::Text(text)) = row.get(column.at) {
                    key.push('.');
                    key.push_str(self.text(text, &column.name)?);
                }
            }
        }
        Ok(key)
    }

    fn text<'t>(&self, bytes: &'t [u8], column: &str) -> Result<&'t str> {
        std::str::from_utf8(bytes).map_err(|error| {
            let what = format!("publish {}: column {column:?} has bytes that are not UTF-8", self.source);
            Error::input(what).state("value").because(error)
        })
    }
}

impl EncodedColumn {
    fn write(&self, text: &str, out: &mut Vec<u8>) {
        self.begin(out);
        self.form.write(text, out);
    }

    fn write_null(&self, out: &mut Vec<u8>) {
        self.begin(out);
        out.extend_from_slice(b"null");
    }

    fn begin(&self, out: &mut Vec<u8>) {
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(&self.member);
    }
}

/// What has changed from one definition of a table to another; `None` where nothing has.
pub fn changed(before: &TableDefinition, now: &TableDefinition) -> Option<ControlOperation> {
    if before == now {
        return None;
    }
    let is_in = |table: &TableDefinition, column: &ColumnDefinition| table.columns.contains(column);
    let removed: Vec<&ColumnDefinition> = before.columns.iter().filter(|column| !is_in(now, column)).collect();
    let added: Vec<&ColumnDefinition> = now.columns.iter().filter(|column| !is_in(before, column)).collect();
    let same_type =
        |a: &ColumnDefinition, b: &ColumnDefinition| (a.column_type, &a.native) == (b.column_type, &b.native);
    Some(match (removed.as_slice(), added.as_slice()) {
        ([], [_, ..]) => ControlOperation::AddColumn,
        ([_, ..], []) => ControlOperation::DropColumn,
        ([was], [is]) if was.name == is.name => ControlOperation::ColumnTypeChange,
        ([was], [is]) if same_type(was, is) && before.place(&was.name) == now.place(&is.name) => {
            ControlOperation::RenameColumn
        }
        _ => ControlOperation::ChangeColumns,
    })
}
