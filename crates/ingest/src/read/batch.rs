//! Builds Arrow batches of rows.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder, RecordBatch,
    StringBuilder, TimestampMicrosecondBuilder, UInt64Array,
};
use arrow::datatypes::SchemaRef;

use super::Rows;
use super::value::Value;
use crate::error::ErrorContext;
use crate::layout::{Layout, Type};
use crate::{Error, Kind, Result};

const ROWS_MAX: usize = 8192;
/// The bytes of texts in a batch.
const BYTES_MAX: usize = 8 << 20;

enum ColumnBuilder {
    Text(StringBuilder),
    Whole(Int64Builder),
    Decimal(Decimal128Builder),
    Double(Float64Builder),
    Boolean(BooleanBuilder),
    Date(Date32Builder),
    Instant(TimestampMicrosecondBuilder),
}

/// Collects rows into batches of bounded size.
pub struct BatchBuilder {
    schema: SchemaRef,
    builders: Vec<ColumnBuilder>,
    lines: Vec<u64>,
    bytes: usize,
}

impl BatchBuilder {
    /// For the columns of a layout.
    pub fn new(layout: &Layout) -> BatchBuilder {
        let builders = layout.columns.iter().map(|column| builder(&column.kind)).collect();
        BatchBuilder { schema: layout.schema(), builders, lines: Vec::new(), bytes: 0 }
    }

    /// Adds a row, one value for each column.
    pub fn push(&mut self, line: u64, row: &[Option<Value<'_>>]) -> Result<()> {
        for (builder, value) in self.builders.iter_mut().zip(row) {
            if let Some(Value::Text(text)) = value {
                self.bytes += text.len();
            }
            append(builder, value.as_ref())?;
        }
        self.lines.push(line);
        Ok(())
    }

    /// Whether the batch has reached its size and is to be taken.
    pub fn is_full(&self) -> bool {
        self.lines.len() >= ROWS_MAX || self.bytes >= BYTES_MAX
    }

    /// The rows added so far, `None` where there are none; the builder is empty afterwards.
    pub fn take(&mut self) -> Result<Option<Rows>> {
        if self.lines.is_empty() {
            return Ok(None);
        }
        self.bytes = 0;
        let columns: Vec<ArrayRef> = self.builders.iter_mut().map(finish).collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns);
        let lines = UInt64Array::from(std::mem::take(&mut self.lines));
        Ok(Some(Rows { batch: batch.during(Kind::Bug, "make a batch of rows")?, lines }))
    }
}

fn builder(kind: &Type) -> ColumnBuilder {
    match kind {
        Type::Text | Type::Enum(_) => ColumnBuilder::Text(StringBuilder::new()),
        Type::Integer | Type::Duration => ColumnBuilder::Whole(Int64Builder::new()),
        Type::Decimal { .. } => ColumnBuilder::Decimal(Decimal128Builder::new().with_data_type(kind.data_type())),
        Type::Double => ColumnBuilder::Double(Float64Builder::new()),
        Type::Boolean { .. } => ColumnBuilder::Boolean(BooleanBuilder::new()),
        Type::Date { .. } => ColumnBuilder::Date(Date32Builder::new()),
        Type::Timestamp { .. } => {
            ColumnBuilder::Instant(TimestampMicrosecondBuilder::new().with_data_type(kind.data_type()))
        }
    }
}

fn append(builder: &mut ColumnBuilder, value: Option<&Value<'_>>) -> Result<()> {
    match (builder, value) {
        (ColumnBuilder::Text(builder), Some(Value::Text(text))) => builder.append_value(text),
        (ColumnBuilder::Whole(builder), Some(Value::Whole(whole))) => builder.append_value(*whole),
        (ColumnBuilder::Decimal(builder), Some(Value::Decimal(mantissa))) => builder.append_value(*mantissa),
        (ColumnBuilder::Double(builder), Some(Value::Double(double))) => builder.append_value(*double),
        (ColumnBuilder::Boolean(builder), Some(Value::Boolean(value))) => builder.append_value(*value),
        (ColumnBuilder::Date(builder), Some(Value::Date(days))) => builder.append_value(*days),
        (ColumnBuilder::Instant(builder), Some(Value::Instant(at))) => builder.append_value(*at),
        (builder, None) => append_null(builder),
        (_, Some(_)) => {
            return Err(Error::new(Kind::Bug, "make a batch of rows: a value has another type than its column"));
        }
    }
    Ok(())
}

fn append_null(builder: &mut ColumnBuilder) {
    match builder {
        ColumnBuilder::Text(builder) => builder.append_null(),
        ColumnBuilder::Whole(builder) => builder.append_null(),
        ColumnBuilder::Decimal(builder) => builder.append_null(),
        ColumnBuilder::Double(builder) => builder.append_null(),
        ColumnBuilder::Boolean(builder) => builder.append_null(),
        ColumnBuilder::Date(builder) => builder.append_null(),
        ColumnBuilder::Instant(builder) => builder.append_null(),
    }
}

fn finish(builder: &mut ColumnBuilder) -> ArrayRef {
    match builder {
        ColumnBuilder::Text(builder) => Arc::new(builder.finish()),
        ColumnBuilder::Whole(builder) => Arc::new(builder.finish()),
        ColumnBuilder::Decimal(builder) => Arc::new(builder.finish()),
        ColumnBuilder::Double(builder) => Arc::new(builder.finish()),
        ColumnBuilder::Boolean(builder) => Arc::new(builder.finish()),
        ColumnBuilder::Date(builder) => Arc::new(builder.finish()),
        ColumnBuilder::Instant(builder) => Arc::new(builder.finish()),
    }
}
