//! The operator in a logical plan.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::Field;
use datafusion::common::{DFSchema, DFSchemaRef, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

/// What an added row holds in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd)]
pub(crate) enum Fill {
    /// NULL.
    Nothing,
    /// What the last row before it holds that is not NULL.
    Locf,
    /// On the line between the rows around it that are not NULL.
    Interpolate,
}

/// Which buckets there are. Texts, so that a plan can be compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub(crate) struct Grid {
    pub(crate) width: crate::width::Width,
    pub(crate) zone: Option<String>,
    /// A local time in ticks.
    pub(crate) origin: Option<i64>,
    /// In ticks: the first instant, and the first after the last. Where there is none, a series is
    /// filled from its own first, or to its own last, row.
    pub(crate) from: Option<i64>,
    pub(crate) to: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct GapFill {
    pub(crate) input: LogicalPlan,
    pub(crate) bucket: usize,
    pub(crate) series: Vec<usize>,
    /// By column of the input.
    pub(crate) fills: Vec<Fill>,
    pub(crate) grid: Grid,
    schema: DFSchemaRef,
}

impl GapFill {
    pub(crate) fn new(
        input: LogicalPlan,
        bucket: usize,
        series: Vec<usize>,
        fills: Vec<Fill>,
        grid: Grid,
    ) -> Result<Self> {
        // Added rows are NULL in all but their series, even where an aggregate of rows never is.
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
