//! Columns that the source computes from the values of the log: types that are carried as their text, the expressions
//! and filters of a table mapping, generated columns, and all columns of servers that send texts only.
//!
//! The values are sent to the source in a `VALUES` list, and the same expressions as those of the copy are selected
//! from it. So a value has the same form, whichever way it came.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::pgoutput::Field;
use crate::decode::Decoder;
use crate::decode::bytes::Reader;
use crate::error::{Error, Result};
use crate::postgres::wire::Wire;
use crate::postgres::{Endpoint, Parameter, quote};
use crate::type_map::ColumnKind;
use arrow::array::RecordBatch;

/// The rows of one query, and the greatest number of its parameters.
const ROWS_MAX: usize = 500;
const PARAMETERS_MAX: usize = 60_000;

/// The name of the column with the number of a row; no column of a user has it by chance.
const NUMBER: &str = "\"wattlake row number\"";

/// How the columns of a table are computed.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// The table, for errors.
    pub table: String,
    /// The names and types of the tuple's values.
    pub inputs: Vec<(String, Input)>,
    /// The columns, with the SQL expressions that they are selected by.
    pub columns: Vec<(String, ColumnKind, String)>,
    /// The condition on the rows.
    pub filter: Option<String>,
    /// The values that the condition may depend on, as indices of `inputs`.
    pub filter_inputs: Vec<usize>,
    /// The columns of old rows, as indices of `columns`.
    pub matching: Vec<usize>,
}

/// The type of a value of the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The type that the column has, as SQL.
    Type(String),
    /// Another type, by its OID and modifier, from which the column was changed since.
    Changed { from: u32, modifier: i32, to: String },
    /// The column was dropped since, and no expression names it.
    Dropped,
}

/// Tuples with their values as the log has them.
#[derive(Default)]
pub struct RawTuples {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl RawTuples {
    /// The values of a tuple, as many as `count`.
    pub fn fields(&self, tuple: usize, count: usize) -> Option<Vec<Field<'_>>> {
        let mut reader = Reader::new(&self.bytes[*self.starts.get(tuple)?..]);
        let mut fields = Vec::with_capacity(count);
        for _ in 0..count {
            let format = reader.u8()?;
            let length = reader.i32()?.cast_unsigned() as usize;
            let value = reader.take(length)?;
            fields.push(match format {
                b't' => Field::Text(value),
                b'b' => Field::Binary(value),
                b'u' => Field::Unchanged,
                _ => Field::Null,
            });
        }
        Some(fields)
    }

    /// The number of tuples.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Adds a tuple.
    pub fn push(&mut self, fields: &[Field<'_>]) {
        self.starts.push(self.bytes.len());
        for field in fields {
            let (format, value) = match field {
                Field::Null => (b'n', &[][..]),
                Field::Unchanged => (b'u', &[][..]),
                Field::Text(value) => (b't', *value),
                Field::Binary(value) => (b'b', *value),
            };
            self.bytes.push(format);
            self.bytes.extend_from_slice(&(value.len() as u32).to_be_bytes());
            self.bytes.extend_from_slice(value);
        }
    }

    /// The values as parameters, where those of dropped columns are NULL, and so are those that did not change.
    fn parameters(&self, tuple: usize, inputs: &[(String, Input)]) -> Option<Vec<Parameter<'_>>> {
        let fields = self.fields(tuple, inputs.len())?;
        let values = fields.into_iter().zip(inputs).map(|(field, (_, input))| match input {
            Input::Dropped => Parameter { is_binary: true, value: None },
            _ => field.into(),
        });
        Some(values.collect())
    }
}

impl<'a> From<Field<'a>> for Parameter<'a> {
    /// The value; NULL where it did not change.
    fn from(field: Field<'a>) -> Self {
        match field {
            Field::Null | Field::Unchanged => Parameter { is_binary: true, value: None },
            Field::Text(value) => Parameter { is_binary: false, value: Some(value) },
            Field::Binary(value) => Parameter { is_binary: true, value: Some(value) },
        }
    }
}

/// Computes columns at the source, over a connection that it opens when it is first used.
pub struct Projector {
    endpoint: Endpoint,
    wire: Mutex<Option<Wire>>,
}

impl Projector {
    /// A projector without a connection.
    pub fn new(endpoint: &Endpoint) -> Self {
        Projector { endpoint: endpoint.clone(), wire: Mutex::new(None) }
    }

    /// The columns of new rows, and which of the rows the filter selects.
    pub fn rows(&self, projection: &Projection, tuples: &RawTuples) -> Result<(RecordBatch, Option<Vec<bool>>)> {
        let columns: Vec<usize> = (0..projection.columns.len()).collect();
        let mut selected = Vec::new();
        let batch = self.project(projection, tuples, &columns, projection.filter.as_deref(), &mut selected)?;
        Ok((batch, projection.filter.is_some().then_some(selected)))
    }

    /// The matching columns of old rows.
    pub fn old_rows(&self, projection: &Projection, tuples: &RawTuples) -> Result<RecordBatch> {
        self.project(projection, tuples, &projection.matching, None, &mut Vec::new())
    }

    fn project(
        &self,
        projection: &Projection,
        tuples: &RawTuples,
        columns: &[usize],
        filter: Option<&str>,
        selected: &mut Vec<bool>,
    ) -> Result<RecordBatch> {
        let kinds: Vec<(String, ColumnKind)> =
            columns.iter().map(|at| (projection.columns[*at].0.clone(), projection.columns[*at].1.clone())).collect();
        let mut decoder = Decoder::new(&projection.table, &kinds, &[]);
        self.each_row(projection, tuples, columns, filter, |is_selected, values| {
            selected.push(is_selected);
            decoder.push_values(values)
        })?;
        decoder.take()
    }

    /// Computes columns of tuples. Passes to `row` whether the filter selects a tuple, and the values of the columns in
    /// their binary format.
    pub fn each_row(
        &self,
        projection: &Projection,
        tuples: &RawTuples,
        columns: &[usize],
        filter: Option<&str>,
        mut row: impl FnMut(bool, &[Option<&[u8]>]) -> Result<()>,
    ) -> Result<()> {
        let types = if tuples.len() == 0 { HashMap::new() } else { self.types(projection)? };
        let step = ROWS_MAX.min(PARAMETERS_MAX / projection.inputs.len().max(1)).max(1);
        let mut start = 0;
        while start < tuples.len() {
            let end = (start + step).min(tuples.len());
            let mut parameters = Vec::with_capacity((end - start) * projection.inputs.len());
            for tuple in start..end {
                let values = tuples.parameters(tuple, &projection.inputs);
                parameters.extend(values.ok_or_else(|| Error::bug("read a tuple that was collected"))?);
            }
            let sql = projection.sql(end - start, columns, filter, &types);
            self.query(&sql, &parameters, |body| {
                let mut reader = Reader::new(body);
                let malformed = || Error::bug(format!("compute the columns of {}: a malformed row", projection.table));
                let (_count, _number) = (reader.i16(), reader.value());
                let is_selected = reader.value().ok_or_else(malformed)? == Some(&[1]);
                let mut values = Vec::with_capacity(columns.len());
                for _ in columns {
                    values.push(reader.value().ok_or_else(malformed)?);
                }
                row(is_selected, &values)
            })
            .map_err(|error| error.within(format!("compute the columns of {} at the source", projection.table)))?;
            start = end;
        }
        Ok(())
    }

    /// The names of the types that columns had before.
    fn types(&self, projection: &Projection) -> Result<HashMap<(u32, i32), String>> {
        let mut names = HashMap::new();
        for (_, input) in &projection.inputs {
            let Input::Changed { from, modifier, .. } = input else { continue };
            let mut name = String::new();
            self.query(&format!("SELECT format_type({from}::oid, {modifier})"), &[], |row| {
                name = row.get(6..).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
                Ok(())
            })?;
            names.insert((*from, *modifier), name);
        }
        Ok(names)
    }

    fn query(&self, sql: &str, parameters: &[Parameter<'_>], row: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut guard = self.wire.lock().unwrap_or_else(PoisonError::into_inner);
        // Where the query fails, the connection is not used again.
        let mut wire = match guard.take() {
            Some(wire) => wire,
            None => Wire::connect(&self.endpoint)?,
        };
        wire.query_binary(sql, parameters, row)?;
        *guard = Some(wire);
        Ok(())
    }
}

impl Projection {
    /// Selects a row's number, whether the filter selects the row, and the columns.
    fn sql(&self, rows: usize, columns: &[usize], filter: Option<&str>, types: &HashMap<(u32, i32), String>) -> String {
        let width = self.inputs.len();
        let row = |at: usize| {
            let value = |(column, (_, input)): (usize, &(String, Input))| {
                let number = at * width + column + 1;
                match input {
                    Input::Type(name) => format!("${number}::{name}"),
                    Input::Changed { from, modifier, to } => {
                        format!("(${number}::{})::{to}", types[&(*from, *modifier)])
                    }
                    Input::Dropped => format!("${number}::text"),
                }
            };
            let values: Vec<String> = self.inputs.iter().enumerate().map(value).collect();
            format!("({at}, {})", values.join(", "))
        };
        let names: Vec<String> = self.inputs.iter().map(|(name, _)| quote(name)).collect();
        let selected = filter.map_or_else(|| "true".to_owned(), |filter| format!("({filter}) IS TRUE"));
        let expressions: String = columns.iter().map(|at| format!(", {}", self.columns[*at].2)).collect();
        format!(
            "SELECT {NUMBER}, {selected}{expressions} FROM (VALUES {}) AS v({NUMBER}, {}) ORDER BY {NUMBER}",
            (0..rows).map(row).collect::<Vec<_>>().join(", "),
            names.join(", ")
        )
    }
}
