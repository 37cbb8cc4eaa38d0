//! The roles of the columns of a document's rows, and their checks.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::Schema;
use arrow::util::display::array_value_to_string;
use base::nearest;

use crate::{Error, Kind, Result};

/// The roles of a document's columns. Columns in none of the lists are compared and stored unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnRoles {
    /// The columns that identify a row: at least one; their values are unique within a document.
    pub key: Vec<String>,
    /// Columns of signed numbers, which a reversal negates.
    pub amounts: Vec<String>,
    /// Columns that are stored but not compared, such as the line that a row came from.
    pub carried: Vec<String>,
}

impl ColumnRoles {
    /// Whether the columns exist and can have their roles.
    pub(super) fn check(&self, schema: &Schema) -> Result<()> {
        let wrong = |what: String| Err(Error::new(Kind::FixInput, format!("load the rows: {what}")));
        if self.key.is_empty() {
            return wrong("they have no key; name at least one column".to_owned());
        }
        for name in self.key.iter().chain(&self.amounts).chain(&self.carried) {
            if schema.field_with_name(name).is_err() {
                let near = nearest(name, schema.fields().iter().map(|field| field.name().as_str()));
                let hint = near.map(|near| format!("; nearest: {near:?}")).unwrap_or_default();
                return wrong(format!("they have no column {name:?}{hint}"));
            }
        }
        let twice = self.key.iter().find(|name| self.amounts.contains(name) || self.carried.contains(name));
        if let Some(name) = twice.or(self.amounts.iter().find(|name| self.carried.contains(name))) {
            return wrong(format!("the column {name:?} has two roles; give it one"));
        }
        for name in &self.amounts {
            let kind = schema.field_with_name(name).map(|field| field.data_type().clone());
            if !kind.as_ref().is_ok_and(|kind| kind.is_signed_integer() || kind.is_floating() || kind.is_decimal()) {
                return wrong(format!("the amount {name:?} is not a signed number and can't be reversed"));
            }
        }
        Ok(())
    }

    /// Whether every row has a value in each column of the key.
    pub(super) fn check_keys(&self, rows: &RecordBatch) -> Result<()> {
        for name in &self.key {
            let null = rows.column_by_name(name).and_then(|column| (0..column.len()).find(|row| column.is_null(*row)));
            if let Some(row) = null {
                let what = format!("load the rows: the key {name:?} has no value in row {}", row + 1);
                return Err(Error::new(Kind::FixInput, what));
            }
        }
        Ok(())
    }

    /// The columns that are compared; the key is among them, so that there is always one.
    pub(super) fn compared(&self, schema: &Schema) -> Vec<String> {
        let names = schema.fields().iter().map(|field| field.name());
        names.filter(|name| !self.carried.contains(name)).cloned().collect()
    }

    /// A row's key, for messages.
    pub(super) fn shown(&self, batch: &RecordBatch, row: usize) -> String {
        let one = |name: &String| {
            let value = batch.column_by_name(name).and_then(|array| array_value_to_string(array, row).ok());
            format!("{name} = {}", value.unwrap_or_default())
        };
        self.key.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}
