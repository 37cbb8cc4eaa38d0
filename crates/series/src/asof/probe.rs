//! The right side in memory, by key and time, and the search in it.

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

/// From and to, of rows with one key.
type Run = (usize, usize);

/// All rows of the right side that have a time and whole keys.
pub(crate) struct Held {
    pub(crate) batch: RecordBatch,
    groups: HashMap<Box<[u8]>, (usize, usize)>,
    /// Within a group in order, each with the row that it is of.
    times: Vec<i64>,
    rows: Vec<u32>,
    _memory: MemoryReservation,
}

/// Columns of keys as comparable bytes, and their times.
struct Keyed {
    keys: Option<Rows>,
    times: Int64Array,
    columns: Vec<ArrayRef>,
}

impl Keyed {
    fn of(batch: &RecordBatch, on: &[Arc<dyn PhysicalExpr>], time: &Arc<dyn PhysicalExpr>) -> Result<Keyed> {
        let of = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(batch)?.into_array(batch.num_rows());
        let columns = on.iter().map(of).collect::<Result<Vec<_>>>()?;
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let keys = match columns[..] {
            [] => None,
            _ => Some(RowConverter::new(fields)?.convert_columns(&columns)?),
        };
        Ok(Keyed { keys, times: keys_of_time(&of(time)?)?, columns })
    }

    /// `None` where the key or the time is NULL: it equals nothing.
    fn row(&self, row: usize) -> Option<(&[u8], i64)> {
        let whole = self.times.is_valid(row) && self.columns.iter().all(|column| column.is_valid(row));
        let key = self.keys.as_ref().map_or(&[][..], |keys| keys.row(row).data());
        whole.then(|| (key, self.times.value(row)))
    }
}

fn keys_of_time(times: &ArrayRef) -> Result<Int64Array> {
    keys(times)
}

impl Held {
    pub(crate) fn new(
        batch: RecordBatch,
        on: &[Arc<dyn PhysicalExpr>],
        time: &Arc<dyn PhysicalExpr>,
        memory: MemoryReservation,
    ) -> Result<Held> {
        let keyed = Keyed::of(&batch, on, time)?;
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
        Ok(Held { batch, groups, times, rows, _memory: memory })
    }

    /// For each row of the left batch the row of the right one, or NULL.
    pub(crate) fn matches(
        &self,
        left: &RecordBatch,
        on: &[Arc<dyn PhysicalExpr>],
        time: &Arc<dyn PhysicalExpr>,
        op: Operator,
    ) -> Result<UInt32Array> {
        let keyed = Keyed::of(left, on, time)?;
        let mut known: Option<(&[u8], Option<Run>)> = None;
        let mut near = 0;
        let found = (0..left.num_rows()).map(|row| {
            let (key, time) = keyed.row(row)?;
            let group = match known {
                Some((held, group)) if held == key => group,
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

/// How many of the sorted times hold, searched from where the last row's was found.
fn before(times: &[i64], near: &mut usize, holds: impl Fn(i64) -> bool) -> usize {
    let at = *near;
    let left = at == 0 || times.get(at - 1).is_some_and(|time| holds(*time));
    let right = times.get(at).is_none_or(|time| !holds(*time));
    let found = match left.cmp(&right) {
        Ordering::Equal if left => at,
        // Rows of a series come in order: the next time is the likely one.
        Ordering::Greater if times.get(at + 1).is_none_or(|time| !holds(*time)) => at + 1,
        Ordering::Greater => at + 1 + times[at + 1..].partition_point(|time| holds(*time)),
        _ => times.partition_point(|time| holds(*time)),
    };
    *near = found.min(times.len());
    *near
}
