//! Counts and checksums of rows by ranges of keys, computed in the same way for the source and the lake.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow_row::{RowConverter, SortField};
use tokio_postgres::Client;
use xxhash_rust::xxh3::xxh3_128;

use crate::decode::INFINITE_MICROS;
use crate::destination::evolve::schema_of;
use crate::error::{Context, Error, Result};
use crate::plan::TablePlan;
use crate::postgres::quote;
use crate::read::Sink;
use crate::type_map::ColumnKind;

/// The number of ranges of a table's keys.
const RANGES: usize = 1024;

/// The first column of a key, whose values are ordered as integers at the source and in the batches.
pub struct LeadingColumn {
    /// The column at the source.
    pub column: String,
    /// The column in the target.
    name: String,
    /// None for integers; for timestamps, whether they have a time zone.
    utc: Option<bool>,
}

impl LeadingColumn {
    /// A bound, an integer or microseconds since 1970, as SQL of the column's type.
    pub fn literal(&self, bound: i64) -> String {
        let Some(utc) = self.utc else { return format!("'{bound}'::bigint") };
        let type_name = if utc { "timestamptz" } else { "timestamp" };
        match chrono::DateTime::from_timestamp_micros(bound) {
            // PostgreSQL writes years before the year 1 differently; no timestamps before it are transferred.
            Some(at) if bound >= INFINITE_MICROS[0] => {
                let zone = if utc { "+00" } else { "" };
                format!("'{}{zone}'::{type_name}", at.format("%Y-%m-%d %H:%M:%S%.6f"))
            }
            _ => format!("'-infinity'::{type_name}"),
        }
    }

    /// SQL for an expression of the column's type as an integer.
    fn as_integer(&self, expression: &str) -> String {
        match self.utc {
            None => format!("({expression})::bigint"),
            Some(_) => format!(
                "CASE WHEN isfinite({expression}) THEN (extract(epoch FROM {expression}) * 1000000)::bigint END"
            ),
        }
    }
}

/// The ranges of a table's keys: of the first column's values where they are integers or timestamps, otherwise of the
/// keys' hashes.
pub struct KeyRanges {
    /// The first column of the key; none where the ranges are of hashes.
    pub column: Option<LeadingColumn>,
    start: i64,
    width: i64,
    count: usize,
}

impl KeyRanges {
    /// Divides the keys from the source's least to its greatest into ranges.
    pub async fn of(plan: &TablePlan, client: &Client) -> Result<KeyRanges> {
        let by_hash =
            KeyRanges { column: None, start: 0, width: 0, count: if plan.key.is_empty() { 1 } else { RANGES } };
        let Some(column) = plan.key.first().and_then(|key| leading(plan, key)) else { return Ok(by_hash) };
        let (low, high) = (format!("min({})", quote(&column.column)), format!("max({})", quote(&column.column)));
        let sql =
            format!("SELECT {}, {} FROM {}", column.as_integer(&low), column.as_integer(&high), plan.source.rows());
        let row = client.query_one(&sql, &[]).await.context("read the least and greatest key")?;
        let (Some(low), Some(high)) = (row.get::<_, Option<i64>>(0), row.get::<_, Option<i64>>(1)) else {
            return Ok(by_hash);
        };
        let width = (high.saturating_sub(low) / (RANGES as i64 - 2)).max(1);
        Ok(KeyRanges { column: Some(column), start: low, width, count: RANGES })
    }

    /// The number of ranges.
    pub fn len(&self) -> usize {
        self.count
    }

    /// The range of a value. The first range also has the values below the source's least key, the last those above its
    /// greatest.
    fn at(&self, value: i64) -> usize {
        let at = value.saturating_sub(self.start).div_euclid(self.width).saturating_add(1);
        usize::try_from(at.max(0)).unwrap_or(0).min(self.count - 1)
    }

    /// The least and greatest values of a range; `None` where the range is not bounded on that side.
    pub fn bounds(&self, range: usize) -> (Option<i64>, Option<i64>) {
        let at = |range: usize| self.start.saturating_add(self.width.saturating_mul(range as i64 - 1));
        let low = (range > 0).then(|| at(range));
        let high = (range + 1 < self.count).then(|| at(range + 1).saturating_sub(1));
        (low, high)
    }

    /// The range of each row of a batch, whose keys are `keys`.
    pub fn of_rows(&self, batch: &RecordBatch, keys: &arrow_row::Rows) -> Result<Vec<usize>> {
        let Some(column) = &self.column else {
            return Ok(keys.iter().map(|key| (xxh3_128(key.as_ref()) % self.count as u128) as usize).collect());
        };
        let values = integers(batch, &column.name)?;
        Ok((0..batch.num_rows()).map(|at| if values.is_valid(at) { self.at(values.value(at)) } else { 0 }).collect())
    }
}

/// The key's first column, where its values are ordered as integers and are the same at the source and in the target.
fn leading(plan: &TablePlan, key: &str) -> Option<LeadingColumn> {
    let column = plan.columns.iter().find(|c| c.name == key)?;
    let source = plan.source.columns.iter().find(|c| quote(&c.name) == column.expression)?;
    let utc = match column.kind {
        ColumnKind::I16 | ColumnKind::I32 | ColumnKind::I64 => None,
        ColumnKind::Timestamp { utc } => Some(utc),
        _ => return None,
    };
    Some(LeadingColumn { column: source.name.clone(), name: key.to_owned(), utc })
}

fn integers(batch: &RecordBatch, name: &str) -> Result<arrow::array::Int64Array> {
    let column =
        batch.column_by_name(name).ok_or_else(|| Error::bug(format!("compare column {name:?}, which is not there")))?;
    Ok(cast(column, &DataType::Int64).context(format!("compare column {name:?}"))?.as_primitive::<Int64Type>().clone())
}

/// The number of rows of a range, and the sum of their checksums, which does not depend on the rows' order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest {
    /// The number of rows.
    pub rows: u64,
    sum: u128,
}

/// The digests of all ranges of a table.
#[derive(Debug, Clone)]
pub struct Digests {
    /// By the range's index.
    pub ranges: Vec<Digest>,
}

impl Digests {
    /// Digests of `count` ranges without rows.
    pub fn new(count: usize) -> Self {
        Digests { ranges: vec![Digest::default(); count] }
    }

    /// The number of rows of all ranges.
    pub fn rows(&self) -> u64 {
        self.ranges.iter().map(|range| range.rows).sum()
    }

    /// Adds the rows of `other`, range by range.
    pub fn add(&mut self, other: &Digests) {
        for (mine, theirs) in self.ranges.iter_mut().zip(&other.ranges) {
            mine.rows += theirs.rows;
            mine.sum = mine.sum.wrapping_add(theirs.sum);
        }
    }
}

/// Encodes rows and their keys as comparable bytes.
pub struct RowEncoder {
    rows: RowConverter,
    /// The converter of keys.
    pub keys: RowConverter,
    key: Vec<usize>,
}

impl RowEncoder {
    /// An encoder of a table's rows, with the columns of the plan.
    pub fn new(plan: &TablePlan) -> Result<RowEncoder> {
        let schema = schema_of(plan);
        let converter = |types: Vec<DataType>| {
            RowConverter::new(types.into_iter().map(SortField::new).collect()).context("compare rows")
        };
        let key = plan.key_positions();
        let all = schema.fields().iter().map(|f| f.data_type().clone()).collect();
        let key_types = key.iter().map(|at| schema.field(*at).data_type().clone()).collect();
        Ok(RowEncoder { rows: converter(all)?, keys: converter(key_types)?, key })
    }

    /// The checksum of each row.
    pub fn checksums(&self, batch: &RecordBatch) -> Result<Vec<u128>> {
        let rows = self.rows.convert_columns(batch.columns()).context("compare rows")?;
        Ok(rows.iter().map(|row| xxh3_128(row.as_ref())).collect())
    }

    /// The key of each row.
    pub fn keys(&self, batch: &RecordBatch) -> Result<arrow_row::Rows> {
        let columns: Vec<ArrayRef> = self.key.iter().map(|at| Arc::clone(batch.column(*at))).collect();
        self.keys.convert_columns(&columns).context("compare keys")
    }
}

/// Computes the digests of the rows that it receives.
pub struct DigestSink {
    encoder: RowEncoder,
    ranges: Arc<KeyRanges>,
    /// The digests of the rows so far.
    pub digests: Digests,
}

impl DigestSink {
    /// A sink without rows.
    pub fn new(plan: &TablePlan, ranges: &Arc<KeyRanges>) -> Result<Self> {
        Ok(DigestSink {
            encoder: RowEncoder::new(plan)?,
            ranges: Arc::clone(ranges),
            digests: Digests::new(ranges.len()),
        })
    }

    /// Adds the rows of a batch.
    pub fn count(&mut self, batch: &RecordBatch) -> Result<()> {
        let checksums = self.encoder.checksums(batch)?;
        let ranges = if self.ranges.len() == 1 {
            vec![0; batch.num_rows()]
        } else {
            self.ranges.of_rows(batch, &self.encoder.keys(batch)?)?
        };
        for (range, checksum) in ranges.into_iter().zip(checksums) {
            let digest = &mut self.digests.ranges[range];
            digest.rows += 1;
            digest.sum = digest.sum.wrapping_add(checksum);
        }
        Ok(())
    }
}

impl Sink for DigestSink {
    type Done = Digests;

    fn take(&mut self, batch: RecordBatch) -> Result<()> {
        self.count(&batch)
    }

    fn done(self) -> Result<Digests> {
        Ok(self.digests)
    }
}
