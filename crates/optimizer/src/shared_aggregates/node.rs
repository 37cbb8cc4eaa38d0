//! The logical node of a shared aggregate.

use std::fmt;

use datafusion::common::{DFSchemaRef, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

/// An aggregate that occurs more than once in a query. All nodes with the same number return the same rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub(super) struct SharedAggregate {
    /// The number of the aggregate within the query.
    pub(super) at: usize,
    /// The aggregate.
    pub(super) input: LogicalPlan,
}

impl UserDefinedLogicalNodeCore for SharedAggregate {
    fn name(&self) -> &'static str {
        "Shared"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared: {}", self.at)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (inputs.pop(), inputs.len()) {
            (Some(input), 0) => Ok(SharedAggregate { at: self.at, input }),
            _ => internal_err!("a shared result has one input"),
        }
    }
}
