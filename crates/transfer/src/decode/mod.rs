//! PostgreSQL's binary COPY to Arrow, in place: the bytes are read where the socket put them.
//! No public crate does this; it is one of the parts that Wattlake owns.
//!
//! Never looks at the catalogue and never touches the network: [`crate::carried`] says what the
//! columns are, the caller brings the bytes.

mod bytes;
mod column;
mod numeric;
mod text;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::carried::Kind;
use crate::error::{Error, Result};
use bytes::Reader;
use column::Column;

/// What `-infinity` and `infinity` become, in microseconds since 1970.
pub const INFINITE_MICROS: [i64; 2] = [column::MICROS_FIRST, column::MICROS_LAST];

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// A value that can't be carried, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub what: String,
    pub hint: Option<&'static str>,
}

impl Fault {
    fn new(what: impl Into<String>) -> Self {
        Fault { what: what.into(), hint: None }
    }

    fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }
}

/// Turns rows into batches. One decoder a stream.
pub struct Decoder {
    schema: SchemaRef,
    columns: Vec<Column>,
    kinds: Vec<Kind>,
    /// The columns that name a row in an error.
    key: Vec<usize>,
    table: String,
    rows: usize,
    bytes: usize,
    rows_decoded: u64,
    in_rows: bool,
    checks_texts: bool,
}

impl Decoder {
    pub fn new(table: &str, columns: &[(String, Kind)], key: &[usize]) -> Self {
        let fields: Vec<Field> = columns.iter().map(|(name, kind)| Field::new(name, kind.arrow(), true)).collect();
        let kinds: Vec<Kind> = columns.iter().map(|(_, kind)| kind.clone()).collect();
        Decoder {
            schema: Arc::new(Schema::new(fields)),
            columns: kinds.iter().map(Column::new).collect(),
            kinds,
            key: key.to_vec(),
            table: table.to_owned(),
            rows: 0,
            bytes: 0,
            rows_decoded: 0,
            in_rows: false,
            checks_texts: false,
        }
    }

    /// Looks at each text by itself, so that an error names its row: for a database without an encoding.
    pub fn check_texts(&mut self) {
        self.checks_texts = true;
    }

    fn text_fault(&self, index: usize, value: &[u8]) -> Option<Fault> {
        let is_bad = self.checks_texts && self.kinds[index] == Kind::Text && std::str::from_utf8(value).is_err();
        is_bad.then(|| {
            Fault::new("its bytes are not UTF-8, and the database says no encoding")
                .hint("carry the column as its bytes: [tables.\"SCHEMA.TABLE\".columns.COLUMN] as = \"bytes\"")
        })
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows waiting for [`Decoder::take`].
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes that the waiting rows had on the wire.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A new COPY on the same decoder: its header comes again.
    pub fn restart(&mut self) {
        self.in_rows = false;
    }

    /// Decodes one CopyData message.
    pub fn push(&mut self, message: &[u8]) -> Result<()> {
        let mut reader = Reader::new(message);
        if !self.in_rows {
            let header = reader.take(11).filter(|s| *s == SIGNATURE).and_then(|_| {
                let _flags = reader.i32()?;
                let extension = usize::try_from(reader.i32()?).ok()?;
                reader.take(extension)
            });
            if header.is_none() {
                return Err(Error::bug(format!("read the COPY header of {}", self.table)));
            }
            self.in_rows = true;
        }
        while !reader.is_empty() {
            let row = reader.rest();
            match reader.i16() {
                Some(-1) => return Ok(()),
                Some(count) if count as usize == self.columns.len() => {}
                other => {
                    let context =
                        format!("read a row of {}: {:?} fields, not {}", self.table, other, self.columns.len());
                    return Err(Error::bug(context));
                }
            }
            for index in 0..self.columns.len() {
                let decoded = match reader.value() {
                    None => Err(Fault::new("the row ends before its last column")),
                    Some(None) => {
                        self.columns[index].null();
                        Ok(())
                    }
                    Some(Some(value)) => match self.text_fault(index, value) {
                        Some(fault) => Err(fault),
                        None => self.columns[index].push(value),
                    },
                };
                if let Err(fault) = decoded {
                    return Err(self.fault(index, row, &fault));
                }
            }
            self.bytes += row.len() - reader.rest().len();
            self.rows += 1;
        }
        Ok(())
    }

    /// The rows decoded since the last call.
    pub fn take(&mut self) -> Result<RecordBatch> {
        let arrays = self
            .columns
            .iter_mut()
            .zip(self.schema.fields())
            .map(|(column, field)| {
                let context = || format!("decode column {:?} of {}", field.name(), self.table);
                column.finish(field.data_type()).map_err(|e| Error::input(context()).because(e))
            })
            .collect::<Result<Vec<_>>>()?;
        self.rows_decoded += self.rows as u64;
        self.rows = 0;
        self.bytes = 0;
        RecordBatch::try_new(Arc::clone(&self.schema), arrays)
            .map_err(|e| Error::bug(format!("batch the rows of {}", self.table)).because(e))
    }

    /// Names table, column and row, so that the user finds the value at the source.
    #[cold]
    fn fault(&self, index: usize, row: &[u8], fault: &Fault) -> Error {
        let column = self.schema.field(index).name();
        let key = self.key_of(row);
        let at = if key.is_empty() {
            format!("row {} of this stream", self.rows_decoded + self.rows as u64 + 1)
        } else {
            format!("row {key}")
        };
        let error = Error::input(format!("{}, column {column:?}, {at}: {}", self.table, fault.what));
        match fault.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    fn key_of(&self, row: &[u8]) -> String {
        let mut reader = Reader::new(row);
        reader.i16();
        let mut parts = Vec::new();
        for index in 0..self.columns.len() {
            let value = reader.value();
            if self.key.contains(&index) {
                let text = match value {
                    Some(Some(value)) => text::display(&self.kinds[index], value),
                    _ => "NULL".to_owned(),
                };
                parts.push(format!("{}={text}", self.schema.field(index).name()));
            }
        }
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests;
