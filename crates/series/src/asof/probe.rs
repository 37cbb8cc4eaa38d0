//! The right side in memory, sorted by key and time, and the search in it.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array};
use datafusion::arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::HashMap;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;

use crate::points::keys;

/// The rows with one key: the first, and the one after the last.
type Run = (usize, usize);

/// The right side, with an index of the rows whose time and keys are not NULL.
pub(crate) struct RightRows {
    /// All rows.
    pub(crate) batch: RecordBatch,
    groups: HashMap<Box<[u8]>, (usize, usize)>,
    /// Sorted within a group. Each is the time of the row at the same place in `rows`.
    times: Vec<i64>,
    rows: Vec<u32>,
    _memory: MemoryReservation,
}

/// The keys of a batch as comparable bytes, and its times.
struct KeyedBatch {
    keys: Option<Rows>,
    times: Int64Array,
    columns: Vec<ArrayRef>,
}

impl KeyedBatch {
    fn of(batch: &RecordBatch, on: &[Arc<dyn PhysicalExpr>], time: &Arc<dyn PhysicalExpr>) -> Result<KeyedBatch> {
        let of = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(batch)?.into_array(batch.num_rows());
        let columns = on.iter().map(of).collect::<Result<Vec<_>>>()?;
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let keys = match columns[..] {
            [] => None,
            _ => Some(RowConverter::new(fields)?.convert_columns(&columns)?),
        };
        Ok(KeyedBatch { keys, times: keys_of_time(&of(time)?)?, columns })
    }

    /// The key and the time of a row; `None` where one of them is NULL, which equals nothing.
    fn row(&self, row: usize) -> Option<(&[u8], i64)> {
        let whole = self.times.is_valid(row) && self.columns.iter().all(|column| column.is_valid(row));
        let key = self.keys.as_ref().map_or(&[][..], |keys| keys.row(row).data());
        whole.then(|| (key, self.times.value(row)))
    }
}

fn keys_of_time(times: &ArrayRef) -> Result<Int64Array> {
    keys(times)
}

impl RightRows {
    /// Indexes the right side. `memory` has the batch's size reserved, and grows by the size of the index.
    ///
    /// # Errors
    /// Where there is not enough memory, or there are more than 4 billion rows.
    pub(crate) fn new(
        batch: RecordBatch,
        on: &[Arc<dyn PhysicalExpr>],
        time: &Arc<dyn PhysicalExpr>,
        memory: MemoryReservation,
    ) -> Result<RightRows> {
        let keyed = KeyedBatch::of(&batch, on, time)?;
        let count = u32::try_from(batch.num_rows()).map_err(|_| {
            DataFusionError::ResourcesExhausted(
                "the right side of an ASOF join has more than 4 billion rows".to_owned(),
            )
        })?;
        memory.try_grow(batch.num_rows() * (size_of::<(u32, i64, u32)>() + size_of::<(i64, u32)>()))?;
        let mut ids: HashMap<Box<[u8]>, u32> = HashMap::new();
        let mut order: Vec<(u32, i64, u32)> = Vec::with_capacity(batch.num_rows());
        for row in 0..count {
            if let Some((key, time)) = keyed.row(row as usize) {
                let next = u32::try_from(ids.len()).unwrap_or(u32::MAX);
                let id = match ids.get(key) {
                    Some(id) => *id,
                    None => *ids.entry(key.into()).or_insert(next),
                };
                order.push((id, time, row));
            }
        }
        order.sort_unstable();
        let mut bounds = vec![(0, 0); ids.len()];
        for group in order.chunk_by(|a, b| a.0 == b.0).scan(0, |from, group| {
            let at = *from;
            *from += group.len();
            Some((group[0].0 as usize, at, *from))
        }) {
            bounds[group.0] = (group.1, group.2);
        }
        let groups = ids.into_iter().map(|(key, id)| (key, bounds[id as usize])).collect();
        let (times, rows) = order.into_iter().map(|(_, time, row)| (time, row)).unzip();
        Ok(RightRows { batch, groups, times, rows, _memory: memory })
    }

    /// For each row of the left batch the number of its row on the right side, or NULL. The left time is compared with
    /// the right one by `op`.
    pub(crate) fn matches(
        &self,
        left: &RecordBatch,
        on: &[Arc<dyn PhysicalExpr>],
        time: &Arc<dyn PhysicalExpr>,
        op: Operator,
    ) -> Result<UInt32Array> {
        let keyed = KeyedBatch::of(left, on, time)?;
        let mut known: Option<(&[u8], Option<Run>)> = None;
        let mut near = 0;
        let found = (0..left.num_rows()).map(|row| {
            let (key, time) = keyed.row(row)?;
            let group = match known {
                Some((last, group)) if last == key => group,
                _ => {
                    let group = self.groups.get(key).copied();
                    known = Some((key, group));
                    near = 0;
                    group
                }
            };
            let (from, to) = group?;
            let times = &self.times[from..to];
            let at = match op {
                Operator::GtEq => before(times, &mut near, |t| t <= time).checked_sub(1)?,
                Operator::Gt => before(times, &mut near, |t| t < time).checked_sub(1)?,
                Operator::LtEq => before(times, &mut near, |t| t < time),
                _ => before(times, &mut near, |t| t <= time),
            };
            (at < times.len()).then(|| self.rows[from + at])
        });
        Ok(found.collect())
    }
}

/// How many of the sorted times meet `holds`, which the first ones do. The search begins at `near`, the last result.
fn before(times: &[i64], near: &mut usize, holds: impl Fn(i64) -> bool) -> usize {
    let at = *near;
    let left = at == 0 || times.get(at - 1).is_some_and(|time| holds(*time));
    let right = times.get(at).is_none_or(|time| !holds(*time));
    let found = match left.cmp(&right) {
        Ordering::Equal if left => at,
        // Rows of a series are mostly in order, so the next time is the likely one.
        Ordering::Greater if times.get(at + 1).is_none_or(|time| !holds(*time)) => at + 1,
        Ordering::Greater => at + 1 + times[at + 1..].partition_point(|time| holds(*time)),
        _ => times.partition_point(|time| holds(*time)),
    };
    *near = found.min(times.len());
    *near
}
