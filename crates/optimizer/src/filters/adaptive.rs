//! A condition that is left out for a while where it is not worth its cost.

use datafusion::arrow::array::{BooleanArray, RecordBatch};
use datafusion::common::cast::as_boolean_array;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::scalar::ScalarValue;

use super::condition::{Condition, Cost};

/// Rows after which a runtime condition is judged.
const ROWS_JUDGED: usize = 32 * 1024;
/// One that keeps more of the rows costs more than it saves.
const KEPT_MAX: f64 = 0.7;
/// Batches without it, then twice as many after each time that it was not worth its cost: it may become narrower while
/// the query runs.
const BATCHES_WITHOUT: usize = 32;

/// A condition as one partition evaluates it.
pub(super) struct AdaptiveCondition {
    pub(super) condition: Condition,
    rows: usize,
    rows_kept: usize,
    batches_without: usize,
    batches_left: usize,
}

impl AdaptiveCondition {
    pub(super) fn new(condition: Condition) -> Self {
        Self { condition, rows: 0, rows_kept: 0, batches_without: BATCHES_WITHOUT, batches_left: 0 }
    }

    /// The rows to keep; `None` for all.
    pub(super) fn kept(&mut self, batch: &RecordBatch) -> Result<Option<BooleanArray>> {
        if self.batches_left > 0 {
            self.batches_left -= 1;
            return Ok(None);
        }
        let kept = match self.condition.expr.evaluate(batch)? {
            // Of a runtime condition: it is not known yet.
            ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))) => return Ok(None),
            ColumnarValue::Array(kept) => as_boolean_array(&kept)?.clone(),
            scalar @ ColumnarValue::Scalar(_) => as_boolean_array(&scalar.into_array(batch.num_rows())?)?.clone(),
        };
        if self.condition.cost == Cost::Runtime {
            self.judge(kept.len(), kept.true_count());
        }
        Ok(Some(kept))
    }

    fn judge(&mut self, rows: usize, rows_kept: usize) {
        self.rows += rows;
        self.rows_kept += rows_kept;
        if self.rows < ROWS_JUDGED {
            return;
        }
        if self.rows_kept as f64 > KEPT_MAX * self.rows as f64 {
            self.batches_left = self.batches_without;
            self.batches_without = self.batches_without.saturating_mul(2);
        }
        (self.rows, self.rows_kept) = (0, 0);
    }
}
