//! Rows of a request to a model that is predicted in this process.

use lightgbm::Columns;

use super::ServingError;

/// Rows of a request, one after the other.
#[derive(Debug, PartialEq)]
pub(super) struct Rows {
    pub values: Vec<f64>,
    pub count: usize,
}

impl Rows {
    /// Adds a row of missing values; returns where it begins.
    pub fn begin_row(&mut self, columns: &Columns) -> usize {
        let begin = self.values.len();
        self.values.resize(begin + columns.len(), f64::NAN);
        begin
    }
}

/// An error with its hint.
pub(super) fn described(error: &base::Error) -> String {
    match &error.hint {
        Some(hint) => format!("{}; {hint}", error.chain()),
        None => error.chain(),
    }
}

pub(super) fn check_width(width: usize, columns: &Columns, row: usize) -> Result<(), ServingError> {
    if width == columns.len() {
        return Ok(());
    }
    let message = format!("row {} has {width} values, the model has {} columns", row + 1, columns.len());
    Err(ServingError::answered(400, message))
}
