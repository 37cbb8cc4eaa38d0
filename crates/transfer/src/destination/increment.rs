//! Increments of a table of the lake: rows that are read are matched with the table's by key.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use lake::{DataFile, FileWriter, HiddenRows, KeySet, OrderColumns, Table};
use tokio::runtime::Handle;

use crate::cursor::Cursor;
use crate::error::{Context, Error, Result};
use crate::plan::TablePlan;
use crate::read::Sink;

/// The number of rows, and of their bytes, that are looked up together, which bounds the memory. The last batch may
/// exceed them.
const CHUNK_ROWS: usize = 262_144;
const CHUNK_BYTES: usize = 64 << 20;

/// The values of the cursor; none where it is not a single integer.
fn integers(batch: &RecordBatch, cursor: &Cursor) -> Result<Option<Int64Array>> {
    let Some(column) = cursor.integer() else { return Ok(None) };
    let values = batch
        .column_by_name(&column.name)
        .ok_or_else(|| Error::bug(format!("read the cursor {:?}, which is not carried", column.name)))?;
    let integers = cast(values, &DataType::Int64).context("read the cursor")?;
    Ok(Some(integers.as_primitive::<Int64Type>().clone()))
}

pub fn greatest(batch: &RecordBatch, cursor: &Cursor) -> Result<Option<i64>> {
    Ok(integers(batch, cursor)?.and_then(|values| arrow::compute::max(&values)))
}

/// How the rows that are read are matched with the rows of the table.
#[derive(Clone)]
pub struct RowMatching {
    /// The columns by which rows are matched.
    pub key: Vec<String>,
    /// A row with the same values of the cursor as the table's is the same version, and is not written. `None`: the row
    /// that is read always replaces the table's.
    pub cursor: Option<Cursor>,
    /// The greatest key of the table's rows: rows above it are new, and are not looked up.
    pub top: Option<i64>,
    /// Where the cursor is the key: rows above it were inserted at the source since the last run, also where the table
    /// has rows of the same keys. `None` where rows below it were, too.
    pub high: Option<i64>,
}

/// Matches the rows that are read with the table's by key. It writes those that are new or changed, and collects the
/// table's rows that they replace.
pub struct IncrementSink {
    table: Table,
    writer: FileWriter,
    schema: SchemaRef,
    matching: RowMatching,
    orders: OrderColumns,
    cursor: Option<Cursor>,
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    waiting_bytes: usize,
    hidden: HiddenRows,
    top: Option<i64>,
    rows: u64,
    runtime: Handle,
}

/// The result of one stream of an increment.
#[derive(Default)]
pub struct Increment {
    /// The files with the rows.
    pub files: Vec<DataFile>,
    /// The table's rows that were replaced.
    pub hidden: HiddenRows,
    /// The greatest value of an integer cursor.
    pub top: Option<i64>,
    /// The number of rows in the files.
    pub rows: u64,
}

impl IncrementSink {
    /// A sink for one stream of rows, which are written with `schema`.
    pub fn new(table: &Table, plan: &TablePlan, matching: &RowMatching, schema: &SchemaRef, run: &str) -> Self {
        let names = matching.cursor.as_ref().map(Cursor::names).unwrap_or_default();
        let types = names.iter().filter_map(|name| Some(schema.field_with_name(name).ok()?.data_type().clone()));
        IncrementSink {
            writer: table.writer(run, Arc::clone(schema), Handle::current()),
            table: table.clone(),
            schema: Arc::clone(schema),
            orders: OrderColumns { types: types.collect(), names },
            matching: matching.clone(),
            cursor: plan.cursor.clone(),
            waiting: Vec::new(),
            waiting_rows: 0,
            waiting_bytes: 0,
            hidden: HiddenRows::default(),
            top: None,
            rows: 0,
            runtime: Handle::current(),
        }
    }

    fn flush(&mut self) -> Result<()> {
        let Some(first) = self.waiting.first() else { return Ok(()) };
        let batch = concat_batches(&first.schema(), &self.waiting).context("join batches")?;
        self.waiting.clear();
        (self.waiting_rows, self.waiting_bytes) = (0, 0);
        let is_new = self.new_rows(&batch)?;
        let known_at: Vec<usize> = (0..batch.num_rows()).filter(|at| !is_new[*at]).collect();
        let mut keep = vec![true; batch.num_rows()];
        if !known_at.is_empty() {
            let known: BooleanArray = is_new.iter().map(|is_new| Some(!is_new)).collect();
            let looked_for = filter_record_batch(&batch, &known).context("select rows")?;
            self.match_rows(&looked_for, &known_at, &mut keep)?;
        }
        let batch = filter_record_batch(&batch, &BooleanArray::from(keep)).context("select rows")?;
        self.rows += batch.num_rows() as u64;
        let batch = lake::conform(&batch, &self.schema).context("write rows to the lake")?;
        self.writer.write(&batch).context("write rows to the lake")
    }

    /// Which rows are new without a look-up: where the cursor is the key, those above the table's greatest key.
    fn new_rows(&self, batch: &RecordBatch) -> Result<Vec<bool>> {
        let values = match (&self.matching.cursor, self.matching.top) {
            (Some(cursor), Some(top)) if cursor.is_key => integers(batch, cursor)?.map(|values| (values, top)),
            _ => None,
        };
        Ok(match values {
            None => vec![false; batch.num_rows()],
            Some((values, top)) => values.iter().map(|value| value.is_some_and(|value| value > top)).collect(),
        })
    }

    /// Whether there are rows that must be compared by all their values, since the cursor is the key and the rows were
    /// inserted since the last run: where ids have started again, and for ids far above the sequence.
    fn was_inserted_since(&self, looked_for: &RecordBatch) -> Result<bool> {
        Ok(match &self.matching.cursor {
            Some(cursor) if cursor.is_key => greatest(looked_for, cursor)? > self.matching.high,
            _ => false,
        })
    }

    /// All columns, for a comparison by all values.
    fn whole_rows(&self) -> OrderColumns {
        let fields = self.schema.fields();
        OrderColumns {
            names: fields.iter().map(|field| field.name().clone()).collect(),
            types: fields.iter().map(|field| field.data_type().clone()).collect(),
        }
    }

    fn match_rows(&mut self, looked_for: &RecordBatch, known_at: &[usize], keep: &mut [bool]) -> Result<()> {
        let matching = &self.matching;
        let context = || format!("look for rows of {}", self.table.name());
        let keys = if matching.cursor.is_some() {
            KeySet::of(looked_for, &matching.key)
        } else {
            KeySet::with_duplicates(looked_for, &matching.key)
        };
        let keys = keys.context(context())?;
        let orders = if self.was_inserted_since(looked_for)? { self.whole_rows() } else { self.orders.clone() };
        let search = self.table.find(&keys, &orders, &self.hidden);
        let found = self.runtime.block_on(search).context("look for rows")?;
        let orders = match orders.names.is_empty() || found.is_empty() {
            true => None,
            false => Some(lake::order_digests(looked_for, &orders.names, &orders.types).context("look for rows")?),
        };
        for row in found {
            let is_same = orders.as_ref().is_some_and(|orders| row.order == Some(orders[row.index]));
            if is_same {
                keep[known_at[row.index]] = false;
            } else {
                self.hidden.insert(&row.path, row.position);
            }
        }
        Ok(())
    }
}

impl Sink for IncrementSink {
    type Done = Increment;

    fn take(&mut self, batch: RecordBatch) -> Result<()> {
        if let Some(cursor) = &self.cursor {
            self.top = self.top.max(greatest(&batch, cursor)?);
        }
        self.waiting_rows += batch.num_rows();
        self.waiting_bytes += batch.get_array_memory_size();
        self.waiting.push(batch);
        if self.waiting_rows >= CHUNK_ROWS || self.waiting_bytes >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    fn done(mut self) -> Result<Increment> {
        self.flush()?;
        let files = self.writer.finish().context("write rows to the lake")?;
        Ok(Increment { files, hidden: self.hidden, top: self.top, rows: self.rows })
    }
}
