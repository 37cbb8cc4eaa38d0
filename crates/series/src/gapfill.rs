//! `time_bucket_gapfill(width, ts [, zone])` as a key of GROUP BY: a row for every bucket of every
//! series, and `locf(...)`, `interpolate(...)` for what the added rows hold.
//!
//! The three are marks in a query; a rule puts the operator `GapFill` above the aggregate.

pub(crate) mod exec;
mod fill;
pub(crate) mod node;
pub(crate) mod rule;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::bucket::coerced;

pub(crate) const GAPFILL: &str = "time_bucket_gapfill";
pub(crate) const LOCF: &str = "locf";
pub(crate) const INTERPOLATE: &str = "interpolate";

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mark {
    name: &'static str,
    signature: Signature,
}

impl Mark {
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
                "{GAPFILL} is a key of GROUP BY: SELECT {GAPFILL}('1 hour', ts) AS hour, avg(x) FROM t GROUP BY hour"
            ),
            name => plan_err!("{name} stands around an aggregate of a query that groups by {GAPFILL}(...)"),
        }
    }
}
