//! The models that queries use by `predict`.

use crate::error::Result;

/// A model that predicts one number for a row.
pub trait RowModel: Send + Sync {
    /// The names of its columns, in the order of a row's values.
    fn columns(&self) -> &[String];

    /// Whether a column has categories, so that its numbers are read as texts, too.
    fn is_category(&self, column: usize) -> bool;

    /// The value of a column's text: a number, a category, or NaN where it is empty.
    ///
    /// # Errors
    /// It is none of these.
    fn value(&self, column: usize, text: &str) -> Result<f64>;

    /// Predicts a row, which has a value for each column; NaN where it is missing.
    fn predict(&self, row: &[f64]) -> f64;
}
