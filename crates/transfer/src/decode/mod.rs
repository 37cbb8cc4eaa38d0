//! Decodes PostgreSQL's binary COPY format into Arrow arrays, directly from the receive buffer.
//!
//! This module never reads the catalogue and never uses the network: the caller passes the columns, by the kinds of
//! [`crate::type_map`], and the bytes.

pub(crate) mod bytes;
mod column;
mod numeric;
mod text;
mod value_error;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::error::{Error, Result};
use crate::type_map::ColumnKind;
use bytes::Reader;
use column::Column;
pub use value_error::ValueError;

/// The timestamps that stand for `-infinity` and `infinity`, in microseconds since 1970.
pub const INFINITE_MICROS: [i64; 2] = [column::MICROS_FIRST, column::MICROS_LAST];

/// The first bytes of the binary COPY format.
const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// Decodes the rows of one stream into batches.
pub struct Decoder {
    schema: SchemaRef,
    columns: Vec<Column>,
    kinds: Vec<ColumnKind>,
    /// The columns by which an error names a row.
    key: Vec<usize>,
    table: String,
    rows: usize,
    bytes: usize,
    rows_decoded: u64,
    in_rows: bool,
    checks_texts: bool,
}

impl Decoder {
    /// A decoder for columns with these names and kinds, in the order of the COPY. `table` and `key`, the places of the
    /// key's columns, are for errors.
    pub fn new(table: &str, columns: &[(String, ColumnKind)], key: &[usize]) -> Self {
        let fields: Vec<Field> = columns.iter().map(|(name, kind)| Field::new(name, kind.arrow(), true)).collect();
        let kinds: Vec<ColumnKind> = columns.iter().map(|(_, kind)| kind.clone()).collect();
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

    /// Makes the decoder check that each text is UTF-8, so that an error names its row: for a database without an
    /// encoding. Otherwise [`Decoder::take`] checks the texts of a batch together.
    pub fn check_texts(&mut self) {
        self.checks_texts = true;
    }

    fn check_text(&self, index: usize, value: &[u8]) -> Option<ValueError> {
        let is_bad = self.checks_texts && self.kinds[index] == ColumnKind::Text && std::str::from_utf8(value).is_err();
        is_bad.then(|| {
            ValueError::new("its bytes are not UTF-8, and the database has no encoding")
                .hint("transfer the column as bytes: [tables.\"SCHEMA.TABLE\".columns.COLUMN] as = \"bytes\"")
        })
    }

    /// The schema of the batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows decoded since the last [`Decoder::take`].
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The bytes of those rows in the COPY format.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Prepares the decoder for a further COPY, which begins with a header of its own.
    pub fn restart(&mut self) {
        self.in_rows = false;
    }

    /// Decodes one CopyData message, which holds whole rows.
    ///
    /// # Errors
    /// Where a value can't be decoded, with the table, the column and the row; a decoder is of no use after an error.
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
                    None => Err(ValueError::new("the row ends before its last column")),
                    Some(None) => {
                        self.columns[index].null();
                        Ok(())
                    }
                    Some(Some(value)) => match self.check_text(index, value) {
                        Some(error) => Err(error),
                        None => self.columns[index].push(value),
                    },
                };
                if let Err(error) = decoded {
                    return Err(self.row_error(index, &self.key_of(row), &error));
                }
            }
            self.bytes += row.len() - reader.rest().len();
            self.rows += 1;
        }
        Ok(())
    }

    /// Decodes a row from the values of its columns in their binary format; `None` is NULL.
    ///
    /// # Errors
    /// As [`Decoder::push`].
    pub fn push_values(&mut self, values: &[Option<&[u8]>]) -> Result<()> {
        for (index, value) in values.iter().enumerate() {
            let decoded = match value {
                None => {
                    self.columns[index].null();
                    Ok(())
                }
                Some(value) => match self.check_text(index, value) {
                    Some(error) => Err(error),
                    None => self.columns[index].push(value),
                },
            };
            if let Err(error) = decoded {
                let key = self.key_text(|index| values[index]);
                return Err(self.row_error(index, &key, &error));
            }
            self.bytes += 4 + value.map_or(0, <[u8]>::len);
        }
        self.rows += 1;
        Ok(())
    }

    /// Takes the rows decoded since the last call as a batch.
    ///
    /// # Errors
    /// Where a text is not UTF-8.
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

    /// An error with the table, the column and the row, so that the user finds the value at the source.
    #[cold]
    fn row_error(&self, index: usize, key: &str, cause: &ValueError) -> Error {
        let column = self.schema.field(index).name();
        let at = if key.is_empty() {
            format!("row {} of this stream", self.rows_decoded + self.rows as u64 + 1)
        } else {
            format!("row {key}")
        };
        let error = Error::input(format!("{}, column {column:?}, {at}: {}", self.table, cause.what));
        match cause.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    fn key_of(&self, row: &[u8]) -> String {
        let mut reader = Reader::new(row);
        reader.i16();
        let values: Vec<Option<&[u8]>> = (0..self.columns.len()).map(|_| reader.value().flatten()).collect();
        self.key_text(|index| values[index])
    }

    fn key_text<'v>(&self, value: impl Fn(usize) -> Option<&'v [u8]>) -> String {
        let part = |index: usize| {
            let text = value(index).map_or_else(|| "NULL".to_owned(), |value| display(&self.kinds[index], value));
            format!("{}={text}", self.schema.field(index).name())
        };
        (0..self.columns.len()).filter(|index| self.key.contains(index)).map(part).collect::<Vec<_>>().join(", ")
    }
}

/// A value as text for an error, also where its bytes can't be decoded.
fn display(kind: &ColumnKind, value: &[u8]) -> String {
    let mut column = Column::new(kind);
    let shown = column.push(value).ok().and_then(|()| column.finish(&kind.arrow()).ok());
    shown
        .and_then(|array| arrow::util::display::array_value_to_string(&array, 0).ok())
        .unwrap_or_else(|| "a value that can't be displayed".to_owned())
}

#[cfg(test)]
mod tests;
