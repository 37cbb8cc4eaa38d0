//! The history of a table's rows: every version of every row, in a second table beside it to which rows are only added.
//! From it, the table can be read as its source had it at an instant, also long after the versions of that time are
//! gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use chrono::{DateTime, Utc};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::datasource::ViewTable;
use datafusion::logical_expr::{Expr, cast, lit};
use datafusion::prelude::{SessionContext, ident};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Kind, Result};
use crate::table::Table;
use crate::table_name::TableName;

/// The property of a table with the [`HistoryState`] of its history.
pub const HISTORY: &str = "wattlake.history";

/// What was done to a row; for TRUNCATE, to all rows.
pub const OPERATION: &str = "_op";
/// When the source committed it.
pub const COMMITTED_AT: &str = "_committed_at";
/// The position of the transaction's commit in the source's log; of the snapshot, for rows that were read whole.
pub const LSN: &str = "_lsn";
/// The number of the change among those of the table in the transaction; -1 for rows that were read whole.
pub const SEQUENCE: &str = "_seq";
/// The number of the copy that the entry belongs to, or follows: the table is read whole at the beginning of each.
pub const GENERATION: &str = "_generation";
/// The id of the transaction at the source; NULL for rows that were read whole.
pub const TRANSACTION: &str = "_xid";

/// The property of a history with the number of its last copy.
pub const LAST_GENERATION: &str = "wattlake.generation";

/// [`SEQUENCE`] of rows that were read whole: they are before all changes.
pub const OF_LOAD: i64 = -1;

/// The name of the history in its query.
const ENTRIES: &str = "entries";
/// The name of the number by which entries are selected.
const NUMBER: &str = "wattlake: number";

/// What follows a table's name in the name of its history.
const SUFFIX: &str = "__history";

/// What an entry of a history says about its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOperation {
    /// It was there when the table was read whole.
    Load,
    /// It was inserted.
    Insert,
    /// It has these values after an update.
    Update,
    /// It was deleted. The entry has the columns by which rows are matched.
    Delete,
    /// All rows were removed.
    Truncate,
}

impl RowOperation {
    /// The text in [`OPERATION`].
    pub fn as_str(self) -> &'static str {
        match self {
            RowOperation::Load => "load",
            RowOperation::Insert => "insert",
            RowOperation::Update => "update",
            RowOperation::Delete => "delete",
            RowOperation::Truncate => "truncate",
        }
    }
}

/// A time for which a table's history is complete: from a copy of the table on, for as long as the source's log was
/// followed from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistorySpan {
    /// The number of the copy, by which its entries are known: positions in the log may have been used by others before.
    pub generation: i64,
    /// The columns that identify a row; empty where only all columns together do.
    pub key: Vec<String>,
    /// Its beginning, in microseconds since 1970.
    pub since: i64,
    /// Its end; `None` where it continues.
    pub until: Option<i64>,
    /// The columns that the table had at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<SourceColumns>,
}

/// The columns of a table by their numbers at the source, which a column keeps when it is renamed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceColumns {
    /// The OID of the source's table, which the numbers belong to.
    pub relation: u32,
    /// The number of each column that has one, by the name in the lake.
    pub numbers: BTreeMap<String, i16>,
}

impl SourceColumns {
    /// The name that the column `name` of `present` has in these.
    fn earlier_name(&self, name: &str, present: &SourceColumns) -> Option<&str> {
        if self.relation != present.relation || self.numbers.contains_key(name) {
            return None;
        }
        let number = present.numbers.get(name)?;
        self.numbers.iter().find(|(_, known)| *known == number).map(|(name, _)| name.as_str())
    }
}

/// What is known of a table's history: the times for which it is complete, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryState {
    /// The times. Between them the source's log was not followed.
    pub spans: Vec<HistorySpan>,
    /// The columns that the table has since it was read last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<SourceColumns>,
}

impl HistoryState {
    /// The span that changes are recorded for.
    pub fn open(&self) -> Option<&HistorySpan> {
        self.spans.last().filter(|span| span.until.is_none())
    }

    /// Ends it at an instant, where it is open. The table has these columns then.
    #[must_use]
    pub fn closed(mut self, at_micros: i64, columns: SourceColumns) -> HistoryState {
        if let Some(last) = self.spans.last_mut().filter(|span| span.until.is_none()) {
            last.until = Some(at_micros.max(last.since));
            last.columns = Some(columns);
        }
        self
    }

    /// The end of the span before an instant and the beginning of the one after it, where the instant is between spans.
    pub fn gap_at(&self, at_micros: i64) -> Option<(i64, i64)> {
        if self.at(at_micros).is_some() {
            return None;
        }
        let before = self.spans.iter().filter_map(|span| span.until).filter(|until| *until < at_micros).max()?;
        let after = self.spans.iter().map(|span| span.since).filter(|since| *since > at_micros).min()?;
        Some((before, after))
    }

    /// The span with the table's state at an instant.
    pub fn at(&self, at_micros: i64) -> Option<&HistorySpan> {
        let contains =
            |span: &&HistorySpan| span.since <= at_micros && span.until.is_none_or(|until| at_micros <= until);
        self.spans.iter().rev().find(contains)
    }
}

/// The history of a table, in a span.
pub struct RowHistory {
    /// The table with the entries.
    pub table: Table,
    /// The span.
    pub span: HistorySpan,
}

impl RowHistory {
    /// The rows of the history's table at an instant, with the present columns of `table`.
    pub async fn rows_at(&self, table: &Table, at: DateTime<Utc>) -> Result<Arc<dyn TableProvider>> {
        let at_micros = at.timestamp_micros();
        let context = format!("read {} from its history", table.name());
        let session = SessionContext::new();
        let entries = self.table.provider().await?;
        let known = entries.schema();
        session.register_table(ENTRIES, entries).context(&context)?;
        let schema = table.schema()?;
        let present = table.history_state()?.and_then(|state| state.columns);
        let columns = || schema.fields().iter().map(|field| field.name()).filter(|name| known.index_of(name).is_ok());
        let wanted = entries_until(self.span.generation, at_micros);
        let truncate = last_truncate(&session, &wanted).await.context(&context)?;
        let entries = entries_after(&wanted, truncate);
        let sql = match self.span.key.is_empty() {
            true => latest_of_equal_rows(&columns().cloned().collect::<Vec<_>>(), &entries),
            false => latest_by_key(&self.span.key, &entries),
        };
        let frame = session.sql(&sql).await.context(&context)?;
        let mut selected: Vec<Expr> = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let earlier = self.span.columns.as_ref().zip(present.as_ref());
            let earlier = earlier.and_then(|(columns, present)| columns.earlier_name(field.name(), present));
            let expr = match (earlier, known.index_of(field.name())) {
                (Some(earlier), _) => cast(ident(earlier), field.data_type().clone()).alias(field.name()),
                (None, Ok(_)) => ident(field.name()),
                // A column that the source did not have any more when the history began.
                (None, Err(_)) => lit(ScalarValue::try_from(field.data_type()).context(&context)?).alias(field.name()),
            };
            selected.push(expr);
        }
        let plan = frame.select(selected).context(&context)?.into_unoptimized_plan();
        Ok(Arc::new(ViewTable::new(plan, None)))
    }
}

impl TableName {
    /// The name of the table's history.
    pub fn history(&self) -> TableName {
        TableName::new(self.schema.clone(), format!("{}{SUFFIX}", self.table))
    }

    /// The name of the table that this is the name of the history of.
    pub fn without_history(&self) -> Option<TableName> {
        Some(TableName::new(self.schema.clone(), self.table.strip_suffix(SUFFIX)?))
    }
}

/// The schema of the history of a table with these columns, all of which may be NULL in it.
///
/// # Errors
/// `FixInput` where a column has the name of one of the history's own.
pub fn history_schema(rows: &Schema) -> Result<SchemaRef> {
    let own = [
        Field::new(OPERATION, DataType::Utf8, true),
        Field::new(COMMITTED_AT, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new(LSN, DataType::Int64, true),
        Field::new(SEQUENCE, DataType::Int64, true),
        Field::new(GENERATION, DataType::Int64, true),
        Field::new(TRANSACTION, DataType::Int64, true),
    ];
    if let Some(taken) = own.iter().find(|field| rows.field_with_name(field.name()).is_ok()) {
        let what = format!("record the history of a table: it has a column {:?} of its own", taken.name());
        return Err(Error::new(Kind::FixInput, what));
    }
    let nullable = rows.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true)));
    Ok(Arc::new(Schema::new(nullable.chain(own.into_iter().map(Arc::new)).collect::<Vec<_>>())))
}

impl Table {
    /// The span of the table's history that has its state at an instant; `None` before the first and after the last.
    ///
    /// # Errors
    /// `FixInput` for an instant between two spans: what the source had then is not known.
    pub fn history_span(&self, at: DateTime<Utc>) -> Result<Option<HistorySpan>> {
        let Some(state) = self.history_state()? else { return Ok(None) };
        if let Some((before, after)) = state.gap_at(at.timestamp_micros()) {
            let text = |micros| DateTime::from_timestamp_micros(micros).unwrap_or_default();
            let what = format!("its changes between {} and {} were not streamed", text(before), text(after));
            let error = Error::new(Kind::FixInput, format!("read {} as of {at}: {what}", self.name));
            return Err(error.hint(format!(
                "`wattlake lake describe {}` lists the versions in the lake: read one of them with FOR VERSION AS OF",
                self.name
            )));
        }
        Ok(state.at(at.timestamp_micros()).cloned())
    }
}

impl Table {
    fn history_state(&self) -> Result<Option<HistoryState>> {
        let Some(text) = self.property(HISTORY)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).context(format!("read the history of {}", self.name))
    }
}

/// The condition of the entries of a copy and of the changes after it up to an instant.
fn entries_until(generation: i64, at_micros: i64) -> String {
    let (of_generation, committed_at) = (quoted(GENERATION), quoted(COMMITTED_AT));
    format!(
        "{of_generation} = {generation} \
         AND {committed_at} <= arrow_cast({at_micros}, 'Timestamp(Microsecond, Some(\"UTC\"))')"
    )
}

/// The position and the number of the last TRUNCATE among these entries; a position before all where there is none. With
/// two numbers in place of subqueries, files with earlier entries only are skipped by their bounds.
async fn last_truncate(session: &SessionContext, wanted: &str) -> datafusion::error::Result<(i64, i64)> {
    let (op, lsn, sequence) = (quoted(OPERATION), quoted(LSN), quoted(SEQUENCE));
    let sql = format!(
        "SELECT {lsn}, {sequence} FROM {ENTRIES} WHERE {op} = '{}' AND {wanted} ORDER BY {lsn} DESC, {sequence} DESC LIMIT 1",
        RowOperation::Truncate.as_str()
    );
    let batches = session.sql(&sql).await?.collect().await?;
    let Some(batch) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok((-1, OF_LOAD)) };
    let number = |column: usize| batch.column(column).as_primitive::<Int64Type>().value(0);
    Ok((number(0), number(1)))
}

/// The entries that a TRUNCATE has not removed.
fn entries_after(wanted: &str, (truncated_lsn, truncated_sequence): (i64, i64)) -> String {
    let (op, lsn, sequence) = (quoted(OPERATION), quoted(LSN), quoted(SEQUENCE));
    format!(
        "SELECT * FROM {ENTRIES} WHERE {wanted} AND {op} <> '{}' \
         AND ({lsn} > {truncated_lsn} OR ({lsn} = {truncated_lsn} AND {sequence} > {truncated_sequence}))",
        RowOperation::Truncate.as_str()
    )
}

/// Of each key the last entry, unless it is a delete. An update to a key that is written otherwise and is equal (0.0 and
/// -0.0) has a delete of the same number, which is before it.
fn latest_by_key(key: &[String], entries: &str) -> String {
    let (lsn, sequence, number) = (quoted(LSN), quoted(SEQUENCE), quoted(NUMBER));
    let key: Vec<String> = key.iter().map(|name| quoted(name)).collect();
    let is_delete = format!("({} = '{}')", quoted(OPERATION), RowOperation::Delete.as_str());
    format!(
        "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY {} ORDER BY {lsn} DESC, {sequence} DESC, {is_delete}) \
         AS {number} FROM ({entries})) WHERE {number} = 1 AND NOT {is_delete}",
        key.join(", "),
    )
}

/// Of equal rows as many as were added and not deleted.
fn latest_of_equal_rows(columns: &[String], entries: &str) -> String {
    let columns: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
    let (columns, number) = (columns.join(", "), quoted(NUMBER));
    let is_delete = format!("{} = '{}'", quoted(OPERATION), RowOperation::Delete.as_str());
    format!(
        "SELECT * FROM (SELECT *, {is_delete} AS \"wattlake: deletes\", \
         row_number() OVER (PARTITION BY {columns}, {is_delete} ORDER BY {}) AS {number}, \
         sum(CASE WHEN {is_delete} THEN 1 ELSE 0 END) OVER (PARTITION BY {columns}) AS \"wattlake: deleted\" FROM ({entries})) \
         WHERE NOT \"wattlake: deletes\" AND {number} > \"wattlake: deleted\"",
        quoted(LSN),
    )
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
