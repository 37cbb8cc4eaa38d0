//! Fills complete series: adds their missing buckets, and the values of the added rows.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, UInt32Array,
};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, SchemaRef};
use datafusion::common::resources_err;
use datafusion::error::Result;

use super::node::Fill;
use crate::floor::Floor;

/// The most rows that are made of one input batch: a range of years in buckets of a second is taken for a mistake.
const ROWS_MAX: usize = 20_000_000;

/// Fills the series of batches.
pub(crate) struct Filler {
    /// The buckets.
    pub(crate) floor: Floor,
    /// The first instant of each series, in ticks; its own first bucket where there is none.
    pub(crate) from: Option<i64>,
    /// The instant after the last one of each series, in ticks; after its own last bucket where there is none.
    pub(crate) to: Option<i64>,
    /// The column of the bucket.
    pub(crate) bucket: usize,
    /// The columns that identify a series.
    pub(crate) series: Vec<usize>,
    /// The values of added rows, by column.
    pub(crate) fills: Vec<Fill>,
    /// The columns of the result.
    pub(crate) schema: SchemaRef,
}

/// The rows of the result. Other rows of it are named by their number in the input batch.
#[derive(Default)]
struct Rows {
    buckets: Vec<Option<i64>>,
    /// The input row; `None` for an added row.
    own: Vec<Option<u32>>,
    /// An input row of the same series.
    like: Vec<Option<u32>>,
    /// Where each series ends in the result.
    ends: Vec<usize>,
}

impl Filler {
    /// The rows of a batch of complete series, with the missing ones. `ends` says where each series of the batch ends.
    ///
    /// # Errors
    /// Where the result has more than 20 million rows.
    pub(crate) fn fill(&mut self, batch: &RecordBatch, ends: &[usize]) -> Result<RecordBatch> {
        let buckets = cast(batch.column(self.bucket), &DataType::Int64)?;
        let buckets = buckets.as_primitive::<Int64Type>();
        let mut rows = Rows::default();
        let mut from = 0;
        for end in ends {
            self.series(buckets, from, *end, &mut rows)?;
            rows.ends.push(rows.own.len());
            from = *end;
        }
        if batch.num_rows() == 0 && self.series.is_empty() && self.from.is_some() && self.to.is_some() {
            self.series(buckets, 0, 0, &mut rows)?;
            rows.ends.push(rows.own.len());
        }
        self.built(batch, rows)
    }

    fn series(&mut self, buckets: &Int64Array, from: usize, end: usize, rows: &mut Rows) -> Result<()> {
        let whole = (from..end).take_while(|row| buckets.is_valid(*row)).count();
        let held = &buckets.values()[from..from + whole];
        let start = self.from.map(|from| self.floor.of(from)).or(held.first().copied());
        let last = self.to.map(|to| self.floor.of(to.saturating_sub(1))).max(held.last().copied());
        let like = u32::try_from(from).ok().filter(|_| from < end);
        let mut at = 0;
        let mut next = start;
        while let (Some(bucket), Some(last)) = (next, last) {
            let row = held.get(at).filter(|row| **row <= bucket);
            if row.is_none() && bucket > last {
                break;
            }
            rows.buckets.push(Some(row.copied().unwrap_or(bucket)));
            rows.own.push(row.and_then(|_| u32::try_from(from + at).ok()));
            rows.like.push(like);
            at += usize::from(row.is_some());
            // A row before the range is kept; the bucket itself has not been made yet.
            if row.is_none_or(|row| *row == bucket) {
                next = Some(self.floor.next(bucket));
            }
            if rows.own.len() > ROWS_MAX {
                return resources_err!(
                    "gap filling would make more than {ROWS_MAX} rows: a wider bucket or a shorter range makes fewer"
                );
            }
        }
        for row in from + whole..end {
            rows.buckets.push(None);
            rows.own.push(u32::try_from(row).ok());
            rows.like.push(like);
        }
        Ok(())
    }

    fn built(&self, batch: &RecordBatch, rows: Rows) -> Result<RecordBatch> {
        let buckets = Int64Array::from(rows.buckets);
        let own = UInt32Array::from(rows.own);
        let like = UInt32Array::from(rows.like);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.num_columns());
        for (at, column) in batch.columns().iter().enumerate() {
            columns.push(match self.fills[at] {
                _ if at == self.bucket => cast(&buckets, column.data_type())?,
                _ if self.series.contains(&at) => take(column, &like, None)?,
                Fill::Nothing => take(column, &own, None)?,
                Fill::Locf => take(column, &carried(column, &own, &rows.ends), None)?,
                Fill::Interpolate => interpolated(&take(column, &own, None)?, &buckets, &rows.ends),
            });
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// For each row of the result the last input row of its series, up to that row, whose value is not NULL.
fn carried(column: &ArrayRef, own: &UInt32Array, ends: &[usize]) -> UInt32Array {
    let mut out = Vec::with_capacity(own.len());
    let mut from = 0;
    for end in ends {
        let mut last = None;
        for row in from..*end {
            if own.is_valid(row) && column.is_valid(own.value(row) as usize) {
                last = Some(own.value(row));
            }
            out.push(last);
        }
        from = *end;
    }
    out.into()
}

fn interpolated(values: &ArrayRef, at: &Int64Array, ends: &[usize]) -> ArrayRef {
    if let Some(decimals) = values.as_primitive_opt::<Decimal128Type>() {
        let between = |(from, to): (i128, i128), part: i128, whole: i128| {
            let product = (to - from) * part;
            // Halves away from zero, as PostgreSQL's numeric.
            let half = if product < 0 { -whole / 2 } else { whole / 2 };
            from + (product + half) / whole
        };
        let out: Decimal128Array = lines(decimals.iter().collect(), at, ends, between).into_iter().collect();
        return Arc::new(out.with_data_type(values.data_type().clone()));
    }
    let floats = values.as_primitive::<Float64Type>();
    // The parts of an interval are integers far below 2^53, which floats represent exactly.
    let between = |(from, to): (f64, f64), part: i128, whole: i128| from + (to - from) * (part as f64 / whole as f64);
    Arc::new(lines(floats.iter().collect(), at, ends, between).into_iter().collect::<Float64Array>())
}

fn lines<T: Copy>(
    mut values: Vec<Option<T>>,
    at: &Int64Array,
    ends: &[usize],
    between: impl Fn((T, T), i128, i128) -> T,
) -> Vec<Option<T>> {
    let mut from = 0;
    for end in ends {
        let mut known: Option<(usize, T)> = None;
        for row in from..*end {
            let Some(value) = values[row].filter(|_| at.is_valid(row)) else { continue };
            if let Some((before, first)) = known {
                let whole = i128::from(at.value(row)) - i128::from(at.value(before));
                for (gap, empty) in values.iter_mut().enumerate().take(row).skip(before + 1) {
                    let part = i128::from(at.value(gap)) - i128::from(at.value(before));
                    *empty = Some(between((first, value), part, whole));
                }
            }
            known = Some((row, value));
        }
        from = *end;
    }
    values
}
