//! The ranges that differ, key by key: the source's rows are remembered by key and checksum, the
//! lake's are held against them. Memory grows with a group of ranges, never with the table.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::util::display::array_value_to_string;

use super::digest::{Digests, Encoder, Ranges, integers};
use super::{Difference, TableValidation};
use crate::error::{Context, Result};
use crate::late::Position;
use crate::plan::TablePlan;
use crate::read::Sink;

/// Rows of both sides that are compared in one go.
const GROUP_ROWS: u64 = 2_000_000;

/// Cuts the differing ranges into groups of a bounded number of rows.
pub fn groups(differing: &[usize], source: &Digests, lake: &Digests) -> Vec<Vec<usize>> {
    let (mut groups, mut rows): (Vec<Vec<usize>>, u64) = (Vec::new(), 0);
    for range in differing {
        let more = source.ranges[*range].rows + lake.ranges[*range].rows;
        match groups.last_mut() {
            Some(group) if rows + more <= GROUP_ROWS => {
                group.push(*range);
                rows += more;
            }
            _ => {
                groups.push(vec![*range]);
                rows = more;
            }
        }
    }
    groups
}

struct Seen {
    checksum: u128,
    cursor: Option<i64>,
}

pub struct Comparison {
    plan: Arc<TablePlan>,
    ranges: Arc<Ranges>,
    wanted: HashSet<usize>,
    first: usize,
    last: usize,
    encoder: Option<Encoder>,
    seen: HashMap<Box<[u8]>, Seen>,
}

impl Comparison {
    pub fn new(plan: &Arc<TablePlan>, ranges: &Arc<Ranges>, group: Vec<usize>) -> Self {
        Comparison {
            plan: Arc::clone(plan),
            ranges: Arc::clone(ranges),
            first: group.first().copied().unwrap_or(0),
            last: group.last().copied().unwrap_or(0),
            wanted: group.into_iter().collect(),
            encoder: None,
            seen: HashMap::new(),
        }
    }

    /// What to ask of the source, where its key has an order.
    pub fn condition(&self) -> Option<String> {
        let column = self.ranges.column.as_ref()?;
        let name = crate::postgres::quote(&column.column);
        let (low, _) = self.ranges.bounds(self.first);
        let (_, high) = self.ranges.bounds(self.last);
        let conditions: Vec<String> = [
            low.map(|low| format!("{name} >= {}", column.literal(low))),
            high.map(|high| format!("{name} <= {}", column.literal(high))),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!conditions.is_empty()).then(|| conditions.join(" AND "))
    }

    fn each(
        &mut self,
        batch: &RecordBatch,
        mut row: impl FnMut(&mut HashMap<Box<[u8]>, Seen>, &[u8], Seen, &Encoder) -> Result<()>,
    ) -> Result<()> {
        let encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => Encoder::new(&self.plan)?,
        };
        let (checksums, keys) = (encoder.checksums(batch)?, encoder.keys(batch)?);
        let ranges = self.ranges.of_rows(batch, &keys)?;
        let cursors = match &self.plan.cursor {
            Some(cursor) => Some(integers(batch, &cursor.name)?),
            None => None,
        };
        for (at, (key, checksum)) in keys.iter().zip(checksums).enumerate() {
            if self.wanted.contains(&ranges[at]) {
                let cursor = cursors.as_ref().filter(|c| c.is_valid(at)).map(|c| c.value(at));
                row(&mut self.seen, key.as_ref(), Seen { checksum, cursor }, &encoder)?;
            }
        }
        self.encoder = Some(encoder);
        Ok(())
    }

    /// Holds the lake's rows against the source's.
    pub fn check(
        &mut self,
        batch: &RecordBatch,
        position: Option<Position>,
        validation: &mut TableValidation,
    ) -> Result<()> {
        let names = self.plan.key.clone();
        self.each(batch, |seen, key, lake, encoder| {
            match seen.remove(key) {
                None => validation.note(Difference::Purged, || show(encoder, &names, key)),
                Some(source) if source.checksum == lake.checksum => {}
                Some(source) => {
                    let moved_on = source.cursor != lake.cursor && is_ahead(source.cursor, position);
                    let difference = if moved_on { Difference::Pending } else { Difference::Differs };
                    validation.note(difference, || show(encoder, &names, key));
                }
            }
            Ok(())
        })
    }

    /// What the source has and the lake has not.
    pub fn left(self, position: Option<Position>, validation: &mut TableValidation) -> Result<()> {
        let encoder = match self.encoder {
            Some(encoder) => encoder,
            None => Encoder::new(&self.plan)?,
        };
        let mut left: Vec<(Box<[u8]>, Seen)> = self.seen.into_iter().collect();
        left.sort_by(|a, b| a.0.cmp(&b.0));
        for (key, seen) in left {
            let difference = if is_ahead(seen.cursor, position) { Difference::Pending } else { Difference::Lost };
            validation.note(difference, || show(&encoder, &self.plan.key, &key));
        }
        Ok(())
    }
}

/// Whether the next run would read the row.
fn is_ahead(cursor: Option<i64>, position: Option<Position>) -> bool {
    match (cursor, position) {
        (Some(cursor), Some(position)) => cursor > position.low || position.xid.is_some(),
        _ => false,
    }
}

fn show(encoder: &Encoder, names: &[String], key: &[u8]) -> String {
    let parser = encoder.keys.parser();
    let Ok(columns) = encoder.keys.convert_rows([parser.parse(key)]) else { return "a key that can't be shown".into() };
    let value = |column| array_value_to_string(column, 0).unwrap_or_default();
    names.iter().zip(&columns).map(|(name, column)| format!("{name}={}", value(column))).collect::<Vec<_>>().join(", ")
}

impl Sink for Comparison {
    type Done = Comparison;

    fn take(&mut self, batch: RecordBatch) -> Result<()> {
        self.each(&batch, |seen, key, row, _| {
            seen.insert(key.into(), row);
            Ok(())
        })
        .context("remember the source's keys")
    }

    fn done(self) -> Result<Comparison> {
        Ok(self)
    }
}
