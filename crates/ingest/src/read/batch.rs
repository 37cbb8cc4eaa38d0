//! Rows on their way into an Arrow batch.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder, RecordBatch,
    StringBuilder, TimestampMicrosecondBuilder, UInt64Array,
};
use arrow::datatypes::SchemaRef;

use super::Rows;
use super::value::Value;
use crate::error::During;
use crate::layout::{Layout, Type};
use crate::{Error, Kind, Result};

const ROWS_MAX: usize = 8192;
/// Of texts.
const BYTES_MAX: usize = 8 << 20;

enum Builder {
    Text(StringBuilder),
    Whole(Int64Builder),
    Decimal(Decimal128Builder),
    Double(Float64Builder),
    Boolean(BooleanBuilder),
    Date(Date32Builder),
    Instant(TimestampMicrosecondBuilder),
}

pub struct Batch {
    schema: SchemaRef,
    builders: Vec<Builder>,
    lines: Vec<u64>,
    bytes: usize,
}

impl Batch {
    pub fn new(layout: &Layout) -> Batch {
        let builders = layout.columns.iter().map(|column| builder(&column.kind)).collect();
        Batch { schema: layout.schema(), builders, lines: Vec::new(), bytes: 0 }
    }

    /// One value for each column.
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

    pub fn is_full(&self) -> bool {
        self.lines.len() >= ROWS_MAX || self.bytes >= BYTES_MAX
    }

    /// `None` where there is no row. Empty afterwards.
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

fn builder(kind: &Type) -> Builder {
    match kind {
        Type::Text | Type::Enum(_) => Builder::Text(StringBuilder::new()),
        Type::Integer | Type::Duration => Builder::Whole(Int64Builder::new()),
        Type::Decimal { .. } => Builder::Decimal(Decimal128Builder::new().with_data_type(kind.data_type())),
        Type::Double => Builder::Double(Float64Builder::new()),
        Type::Boolean { .. } => Builder::Boolean(BooleanBuilder::new()),
        Type::Date { .. } => Builder::Date(Date32Builder::new()),
        Type::Timestamp { .. } => Builder::Instant(TimestampMicrosecondBuilder::new().with_data_type(kind.data_type())),
    }
}

fn append(builder: &mut Builder, value: Option<&Value<'_>>) -> Result<()> {
    match (builder, value) {
        (Builder::Text(builder), Some(Value::Text(text))) => builder.append_value(text),
        (Builder::Whole(builder), Some(Value::Whole(whole))) => builder.append_value(*whole),
        (Builder::Decimal(builder), Some(Value::Decimal(mantissa))) => builder.append_value(*mantissa),
        (Builder::Double(builder), Some(Value::Double(double))) => builder.append_value(*double),
        (Builder::Boolean(builder), Some(Value::Boolean(value))) => builder.append_value(*value),
        (Builder::Date(builder), Some(Value::Date(days))) => builder.append_value(*days),
        (Builder::Instant(builder), Some(Value::Instant(at))) => builder.append_value(*at),
        (builder, None) => append_null(builder),
        (_, Some(_)) => return Err(Error::new(Kind::Bug, "make a batch of rows: a value of another type")),
    }
    Ok(())
}

fn append_null(builder: &mut Builder) {
    match builder {
        Builder::Text(builder) => builder.append_null(),
        Builder::Whole(builder) => builder.append_null(),
        Builder::Decimal(builder) => builder.append_null(),
        Builder::Double(builder) => builder.append_null(),
        Builder::Boolean(builder) => builder.append_null(),
        Builder::Date(builder) => builder.append_null(),
        Builder::Instant(builder) => builder.append_null(),
    }
}

fn finish(builder: &mut Builder) -> ArrayRef {
    match builder {
        Builder::Text(builder) => Arc::new(builder.finish()),
        Builder::Whole(builder) => Arc::new(builder.finish()),
        Builder::Decimal(builder) => Arc::new(builder.finish()),
        Builder::Double(builder) => Arc::new(builder.finish()),
        Builder::Boolean(builder) => Arc::new(builder.finish()),
        Builder::Date(builder) => Arc::new(builder.finish()),
        Builder::Instant(builder) => Arc::new(builder.finish()),
    }
}
