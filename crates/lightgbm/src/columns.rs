//! The columns of a model: their names, and the categories that pandas had for them.

use base::{Error, Result, suggestion};
use serde::Deserialize;

/// Below it, each integer is a float.
const EXACT_MAX: u64 = 1 << 53;

/// A category of pandas, as a model lists it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Category {
    Truth(bool),
    /// Exact: a number of 64 bits has more digits than a float.
    Integer(i64),
    Number(f64),
    Text(String),
}

impl Category {
    /// Whether a written field has this value. Numbers are equal as numbers: `1` is `1.0`.
    fn is(&self, written: &str) -> bool {
        let trimmed = written.trim();
        match self {
            Category::Text(text) => text == written,
            Category::Truth(truth) => trimmed.eq_ignore_ascii_case(if *truth { "true" } else { "false" }),
            Category::Integer(number) => match trimmed.parse::<i64>() {
                Ok(written) => written == *number,
                Err(_) => number.unsigned_abs() < EXACT_MAX && trimmed.parse() == Ok(*number as f64),
            },
            Category::Number(number) => trimmed.parse() == Ok(*number),
        }
    }
}

/// The columns that a row needs, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Columns {
    names: Vec<String>,
    /// By column: its categories, where the model was trained with pandas' categories. A category's
    /// place is the number that the trees know.
    categories: Vec<Option<Vec<Category>>>,
}

impl Columns {
    pub(crate) fn new(names: Vec<String>, categories: Vec<Option<Vec<Category>>>) -> Columns {
        Columns { names, categories }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Their names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether a column has categories of pandas, so that its numbers are texts of categories, too.
    pub fn is_category(&self, column: usize) -> bool {
        self.categories.get(column).is_some_and(Option::is_some)
    }

    /// Whether any column has.
    pub fn has_categories(&self) -> bool {
        self.categories.iter().any(Option::is_some)
    }

    /// The place of a column.
    ///
    /// # Errors
    /// [`base::Kind::FixInput`] where there is none of that name, with the nearest name.
    pub fn position(&self, name: &str) -> Result<usize> {
        self.names.iter().position(|known| known == name).ok_or_else(|| {
            let unknown = Error::input(format!("the model has no column {name:?}"));
            let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
            match suggestion("column", name, &names) {
                Some(hint) => unknown.hint(hint),
                None => unknown,
            }
        })
    }

    /// The value of a written field: a number; nothing, `NA`, `NaN` or `null`, which are missing; or a category's text,
    /// where one that the model does not know is missing too, as in LightGBM's own reading of pandas' categories.
    ///
    /// # Errors
    /// [`base::Kind::FixInput`] for another text.
    pub fn value(&self, column: usize, written: &str) -> Result<f64> {
        let trimmed = written.trim();
        if let Some(Some(categories)) = self.categories.get(column) {
            let place_of = |text: &str| categories.iter().position(|category| category.is(text));
            let place = place_of(written).or_else(|| place_of(trimmed));
            return Ok(place.map_or(f64::NAN, |place| place as f64));
        }
        // As Python writes a column of flags.
        for (flag, value) in [("true", 1.0), ("false", 0.0)] {
            if trimmed.eq_ignore_ascii_case(flag) {
                return Ok(value);
            }
        }
        if trimmed.is_empty() || ["na", "nan", "null", "none"].iter().any(|none| trimmed.eq_ignore_ascii_case(none)) {
            return Ok(f64::NAN);
        }
        trimmed.parse().map_err(|_| {
            let name = self.names.get(column).map_or_else(String::new, |name| format!(" of column {name:?}"));
            Error::input(format!("the value {trimmed:?}{name} is not a number"))
        })
    }
}
