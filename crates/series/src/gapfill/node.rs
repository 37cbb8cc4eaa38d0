//! The logical node of gap filling.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::Field;
use datafusion::common::{DFSchema, DFSchemaRef, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

/// The value of a column in added rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd)]
pub(crate) enum Fill {
    /// NULL.
    Nothing,
    /// The last value before it that is not NULL (last observation carried forward).
    Locf,
    /// A value on the line between the nearest values before and after it that are not NULL.
    Interpolate,
}

/// The buckets of a query. The zone is a text, so that plans can be compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub(crate) struct Grid {
    /// The width of each bucket.
    pub(crate) width: crate::width::Width,
    /// The time zone, if the query names one.
    pub(crate) zone: Option<String>,
    /// A local time, in ticks, at which a bucket begins.
    pub(crate) origin: Option<i64>,
    /// The first instant, in ticks; a series begins with its own first row where there is none.
    pub(crate) from: Option<i64>,
    /// The instant after the last one, in ticks; a series ends with its own last row where there is none.
    pub(crate) to: Option<i64>,
}

/// Adds a row for each missing bucket of each series.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct GapFill {
    /// The aggregate, and a column for each mark.
    pub(crate) input: LogicalPlan,
    /// The column of the bucket.
    pub(crate) bucket: usize,
    /// The columns that identify a series.
    pub(crate) series: Vec<usize>,
    /// The values of added rows, for each column of the input.
    pub(crate) fills: Vec<Fill>,
    /// The buckets.
    pub(crate) grid: Grid,
    schema: DFSchemaRef,
}

impl GapFill {
    /// An error where the schema of the result can't be built.
    pub(crate) fn new(
        input: LogicalPlan,
        bucket: usize,
        series: Vec<usize>,
        fills: Vec<Fill>,
        grid: Grid,
    ) -> Result<Self> {
        // Added rows are NULL in all columns but those of the series, even where an aggregate never is.
        let fields = input.schema().iter().enumerate().map(|(at, (qualifier, field))| {
            let field = if series.contains(&at) {
                Arc::clone(field)
            } else {
                Arc::new(Field::clone(field).with_nullable(true))
            };
            (qualifier.cloned(), field)
        });
        let schema = Arc::new(DFSchema::new_with_metadata(fields.collect(), input.schema().metadata().clone())?);
        Ok(GapFill { input, bucket, series, fills, grid, schema })
    }
}

impl PartialOrd for GapFill {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

impl UserDefinedLogicalNodeCore for GapFill {
    fn name(&self) -> &'static str {
        "GapFill"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GapFill: {:?}", self.grid)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match inputs.pop() {
            Some(input) => GapFill::new(input, self.bucket, self.series.clone(), self.fills.clone(), self.grid.clone()),
            None => internal_err!("gap filling has one input"),
        }
    }
}
