//! Rows of a request to a model that is predicted in this process.

use lightgbm::Columns;

use super::ServingError;

/// The most values of a request: more than its largest body has in writing.
const VALUES_MAX: usize = 14_000_000;

/// Rows of a request, one after the other.
#[derive(Debug, PartialEq)]
pub(super) struct Rows {
    pub values: Vec<f64>,
    pub count: usize,
}

impl Rows {
    /// Adds a row of missing values; returns where it begins. A row that names few of many columns is short, and its
    /// values are not: so they have a bound of their own.
    pub fn begin_row(&mut self, columns: &Columns) -> Result<usize, ServingError> {
        let begin = self.values.len();
        if begin + columns.len() > VALUES_MAX {
            let message = format!("the request has more than {VALUES_MAX} values, of {} columns a row", columns.len());
            return Err(ServingError::answered(413, message));
        }
        self.values.resize(begin + columns.len(), f64::NAN);
        Ok(begin)
    }
}

/// An error with its hint.
pub(super) fn described(error: &base::Error) -> String {
    match &error.hint {
        Some(hint) => format!("{}; {hint}", error.chain()),
        None => error.chain(),
    }
}

/// Refuses a column that is named twice: another one would be missing without a word.
pub(super) fn check_once(places: &[usize], columns: &Columns) -> Result<(), String> {
    let mut sorted = places.to_vec();
    sorted.sort_unstable();
    let twice = sorted.windows(2).find(|pair| pair[0] == pair[1]);
    twice.map_or(Ok(()), |pair| Err(format!("the column {:?} is named twice", columns.names()[pair[0]])))
}

pub(super) fn check_width(width: usize, columns: &Columns, row: usize) -> Result<(), ServingError> {
    if width == columns.len() {
        return Ok(());
    }
    let message = format!("row {} has {width} values, the model has {} columns", row + 1, columns.len());
    Err(ServingError::answered(400, message))
}
