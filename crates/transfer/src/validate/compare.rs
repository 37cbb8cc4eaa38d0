//! The comparison of the ranges that differ, row by row: the source's rows are held in memory by key and checksum, and
//! the lake's rows are compared with them. Memory grows with a group of ranges, not with the table.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;

use super::digest::{Digests, KeyRanges, RowEncoder};
use super::streamed::Keys;
use super::table_validation::{Difference, TableValidation};
use crate::cursor::Cursor;
use crate::error::{Context, Result};
use crate::plan::TablePlan;
use crate::read::Sink;

/// The number of rows, of the source and the lake together, that one group of ranges has at most.
const GROUP_ROWS: u64 = 2_000_000;

/// Divides the differing ranges into groups of at most [`GROUP_ROWS`] rows; a larger range is a group of its own.
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

/// The name of the last column of the source's batches, which tells whether the next run would read the row.
pub const IS_PENDING: &str = "wattlake: is pending";

struct Row {
    checksum: u128,
    /// The digest of the cursor's columns, which differs between versions of the row.
    version: u128,
    is_pending: bool,
}

/// The comparison of one group of ranges. As a sink it takes the source's rows; then [`Comparison::check`] compares the
/// lake's rows, and [`Comparison::note_unmatched`] reports the rest.
pub struct Comparison {
    plan: Arc<TablePlan>,
    ranges: Arc<KeyRanges>,
    wanted: HashSet<usize>,
    first: usize,
    last: usize,
    encoder: Option<RowEncoder>,
    seen: HashMap<Box<[u8]>, Row>,
    /// The keys of the lake's rows so far.
    checked: HashSet<Box<[u8]>>,
    /// The keys of rows whose changes may be later than the source's snapshot.
    changed: Keys,
}

impl Comparison {
    /// A comparison of the ranges of `group`, which ascend.
    pub fn new(plan: &Arc<TablePlan>, ranges: &Arc<KeyRanges>, group: Vec<usize>, changed: Keys) -> Self {
        Comparison {
            plan: Arc::clone(plan),
            ranges: Arc::clone(ranges),
            first: group.first().copied().unwrap_or(0),
            last: group.last().copied().unwrap_or(0),
            wanted: group.into_iter().collect(),
            encoder: None,
            seen: HashMap::new(),
            checked: HashSet::new(),
            changed,
        }
    }

    /// The SQL condition for the source's rows of the group; none where the ranges are of hashes.
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
        mut row: impl FnMut(&mut Comparison, &[u8], Row, &RowEncoder) -> Result<()>,
    ) -> Result<()> {
        let encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => RowEncoder::new(&self.plan)?,
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
            false => lake::order_digests(batch, &names, &types).context("compare versions of rows")?,
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

    /// Compares a batch of the lake's rows with the source's.
    pub fn check(&mut self, batch: &RecordBatch, validation: &mut TableValidation) -> Result<()> {
        let names = self.plan.key.clone();
        self.each(batch, None, |this, key, lake, encoder| {
            if !this.checked.insert(key.into()) {
                validation.note(Difference::Doubled, || show(encoder, &names, key));
                return Ok(());
            }
            match this.seen.remove(key) {
                None => {
                    let is_pending = this.changed.contains(key);
                    let difference = if is_pending { Difference::Pending } else { Difference::Purged };
                    validation.note(difference, || show(encoder, &names, key));
                }
                Some(source) if source.checksum == lake.checksum => {}
                Some(source) => {
                    let has_moved =
                        source.version != lake.version || this.plan.cursor.as_ref().is_some_and(Cursor::is_transaction);
                    let is_pending = (has_moved && source.is_pending) || this.changed.contains(key);
                    let difference = if is_pending { Difference::Pending } else { Difference::Differs };
                    if difference == Difference::Differs {
                        validation.suspect(key);
                    }
                    validation.note(difference, || show(encoder, &names, key));
                }
            }
            Ok(())
        })
    }

    /// Reports the rows that the source has and the lake does not have.
    pub fn note_unmatched(self, validation: &mut TableValidation) -> Result<()> {
        let encoder = match self.encoder {
            Some(encoder) => encoder,
            None => RowEncoder::new(&self.plan)?,
        };
        let mut unmatched: Vec<(Box<[u8]>, Row)> = self.seen.into_iter().collect();
        unmatched.sort_by(|a, b| a.0.cmp(&b.0));
        for (key, row) in unmatched {
            let is_pending = row.is_pending || self.changed.contains(&key);
            let difference = if is_pending { Difference::Pending } else { Difference::Lost };
            if difference == Difference::Lost {
                validation.suspect(&key);
            }
            validation.note(difference, || show(&encoder, &self.plan.key, &key));
        }
        Ok(())
    }
}

fn show(encoder: &RowEncoder, names: &[String], key: &[u8]) -> String {
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
        .context("read the source's keys")
    }

    fn done(self) -> Result<Comparison> {
        Ok(self)
    }
}
