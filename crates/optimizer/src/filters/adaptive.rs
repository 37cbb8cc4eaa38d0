//! A condition that is skipped for a number of batches where it rejects too few rows.

use datafusion::arrow::array::{BooleanArray, RecordBatch};
use datafusion::common::cast::as_boolean_array;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::scalar::ScalarValue;

use super::condition::{Condition, Cost};

/// Rows after which it is decided whether a dynamic condition is skipped.
const ROWS_SAMPLED: usize = 32 * 1024;
/// A condition that keeps a larger share of the rows costs more than it saves.
const KEPT_MAX: f64 = 0.7;
/// Batches for which it is skipped the first time, and twice as many each further time. It is not skipped for good,
/// since it may reject more rows as the query runs.
const BATCHES_SKIPPED: usize = 32;

/// A condition, with what one partition has learned of its use.
pub(super) struct AdaptiveCondition {
    /// The condition itself.
    pub(super) condition: Condition,
    rows: usize,
    rows_kept: usize,
    /// For how many batches it is skipped the next time.
    batches_without: usize,
    /// For how many batches it is still skipped.
    batches_left: usize,
}

impl AdaptiveCondition {
    /// A condition that is not skipped yet.
    pub(super) fn new(condition: Condition) -> Self {
        Self { condition, rows: 0, rows_kept: 0, batches_without: BATCHES_SKIPPED, batches_left: 0 }
    }

    /// Which rows of the batch are kept; `None` where all are.
    pub(super) fn kept(&mut self, batch: &RecordBatch) -> Result<Option<BooleanArray>> {
        if self.batches_left > 0 {
            self.batches_left -= 1;
            return Ok(None);
        }
        let kept = match self.condition.expr.evaluate(batch)? {
            // A dynamic condition that is not known yet.
            ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))) => return Ok(None),
            ColumnarValue::Array(kept) => as_boolean_array(&kept)?.clone(),
            scalar @ ColumnarValue::Scalar(_) => as_boolean_array(&scalar.into_array(batch.num_rows())?)?.clone(),
        };
        if self.condition.cost == Cost::Runtime {
            self.count(kept.len(), kept.true_count());
        }
        Ok(Some(kept))
    }

    /// Counts rows, and decides whether the condition is skipped from now on.
    fn count(&mut self, rows: usize, rows_kept: usize) {
        self.rows += rows;
        self.rows_kept += rows_kept;
        if self.rows < ROWS_SAMPLED {
            return;
        }
        if self.rows_kept as f64 > KEPT_MAX * self.rows as f64 {
            self.batches_left = self.batches_without;
            self.batches_without = self.batches_without.saturating_mul(2);
        }
        (self.rows, self.rows_kept) = (0, 0);
    }
}
