//! `time_bucket_gapfill(width, ts [, zone])` as a GROUP BY key gives a row for every bucket of every series;
//! `locf(...)` and `interpolate(...)` say which values the added rows have.
//!
//! The three functions are only marks in a query: an optimizer rule puts the operator `GapFill` above the aggregate.

pub(crate) mod exec;
mod fill;
pub(crate) mod node;
pub(crate) mod rule;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::bucket::coerced;

/// The function that marks a GROUP BY key.
pub(crate) const GAPFILL: &str = "time_bucket_gapfill";
/// The function that marks an aggregate whose last value is carried forward.
pub(crate) const LOCF: &str = "locf";
/// The function that marks an aggregate whose values are interpolated.
pub(crate) const INTERPOLATE: &str = "interpolate";

/// One of the three functions. It fails when it is run: a query has it where the rule did not replace it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mark {
    name: &'static str,
    signature: Signature,
}

impl Mark {
    /// All three functions.
    pub(crate) fn all() -> [Mark; 3] {
        [GAPFILL, LOCF, INTERPOLATE]
            .map(|name| Mark { name, signature: Signature::user_defined(Volatility::Immutable) })
    }
}

impl ScalarUDFImpl for Mark {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match (self.name, given) {
            (GAPFILL, given) => coerced(GAPFILL, given),
            (LOCF, [value]) => Ok(vec![value.clone()]),
            (INTERPOLATE, [value]) if value.is_integer() || value.is_floating() => Ok(vec![DataType::Float64]),
            (INTERPOLATE, [value @ DataType::Decimal128(..)]) => Ok(vec![value.clone()]),
            (name, _) => plan_err!(
                "{name} takes one aggregate, as in {name}(avg(power_kw)){}",
                match name {
                    INTERPOLATE => ", of numbers",
                    _ => "",
                }
            ),
        }
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(given[usize::from(self.name == GAPFILL)].clone())
    }

    fn invoke_with_args(&self, _call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match self.name {
            GAPFILL => plan_err!(
                "{GAPFILL} must be a GROUP BY key: SELECT {GAPFILL}('1 hour', ts) AS hour, avg(x) FROM t GROUP BY hour"
            ),
            name => plan_err!("{name} takes an aggregate of a query that groups by {GAPFILL}(...)"),
        }
    }
}
