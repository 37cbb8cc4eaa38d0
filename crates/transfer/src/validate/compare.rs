//! The ranges that differ, key by key: the source's rows are remembered by key and checksum, the
//! lake's are held against them. Memory grows with a group of ranges, never with the table.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;

use super::digest::{Digests, Encoder, Ranges};
use super::{Difference, TableValidation};
use crate::cursor::Cursor;
use crate::error::{Context, Result};
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

/// The column of the source's batches that says whether the next run would read the row. The last one.
pub const IS_PENDING: &str = "wattlake: is pending";

struct Row {
    checksum: u128,
    /// Of the cursor's columns: tells the row's versions apart.
    version: u128,
    is_pending: bool,
}

pub struct Comparison {
    plan: Arc<TablePlan>,
    ranges: Arc<Ranges>,
    wanted: HashSet<usize>,
    first: usize,
    last: usize,
    encoder: Option<Encoder>,
    seen: HashMap<Box<[u8]>, Row>,
    /// Keys of the lake.
    checked: HashSet<Box<[u8]>>,
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
            checked: HashSet::new(),
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
        pending: Option<&BooleanArray>,
        mut row: impl FnMut(&mut Comparison, &[u8], Row, &Encoder) -> Result<()>,
    ) -> Result<()> {
        let encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => Encoder::new(&self.plan)?,
        };
        let (checksums, keys) = (encoder.checksums(batch)?, encoder.keys(batch)?);
        let ranges = self.ranges.of_rows(batch, &keys)?;
        let names = self.plan.cursor.as_ref().map(Cursor::names).unwrap_or_default();
        let types: Vec<DataType> = names
            .iter()
            .filter_map(|name| Some(batch.schema().field_with_name(name).ok()?.data_type().clone()))
            .collect();
        let versions = match names.is_empty() {
            true => vec![0; batch.num_rows()],
            false => lake::orders_of(batch, &names, &types).context("compare versions of rows")?,
        };
        for (at, (key, checksum)) in keys.iter().zip(checksums).enumerate() {
            if self.wanted.contains(&ranges[at]) {
                let is_pending = pending.is_some_and(|pending| pending.is_valid(at) && pending.value(at));
                row(self, key.as_ref(), Row { checksum, version: versions[at], is_pending }, &encoder)?;
            }
        }
        self.encoder = Some(encoder);
        Ok(())
    }

    /// Compares the lake's rows with the source's.
    pub fn check(&mut self, batch: &RecordBatch, validation: &mut TableValidation) -> Result<()> {
        let names = self.plan.key.clone();
        self.each(batch, None, |this, key, lake, encoder| {
            if !this.checked.insert(key.into()) {
                validation.note(Difference::Doubled, || show(encoder, &names, key));
                return Ok(());
            }
            match this.seen.remove(key) {
                None => validation.note(Difference::Purged, || show(encoder, &names, key)),
                Some(source) if source.checksum == lake.checksum => {}
                Some(source) => {
                    let has_moved =
                        source.version != lake.version || this.plan.cursor.as_ref().is_some_and(Cursor::is_transaction);
                    let difference =
                        if has_moved && source.is_pending { Difference::Pending } else { Difference::Differs };
                    validation.note(difference, || show(encoder, &names, key));
                }
            }
            Ok(())
        })
    }

    /// What the source has and the lake has not.
    pub fn left(self, validation: &mut TableValidation) -> Result<()> {
        let encoder = match self.encoder {
            Some(encoder) => encoder,
            None => Encoder::new(&self.plan)?,
        };
        let mut left: Vec<(Box<[u8]>, Row)> = self.seen.into_iter().collect();
        left.sort_by(|a, b| a.0.cmp(&b.0));
        for (key, row) in left {
            let difference = if row.is_pending { Difference::Pending } else { Difference::Lost };
            validation.note(difference, || show(&encoder, &self.plan.key, &key));
        }
        Ok(())
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
        let last = batch.num_columns().saturating_sub(1);
        let pending = batch.column(last).as_boolean().clone();
        let rows = batch.project(&(0..last).collect::<Vec<_>>()).context("compare rows")?;
        self.each(&rows, Some(&pending), |this, key, row, _| {
            this.seen.insert(key.into(), row);
            Ok(())
        })
        .context("remember the source's keys")
    }

    fn done(self) -> Result<Comparison> {
        Ok(self)
    }
}
