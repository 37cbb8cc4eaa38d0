//! Counts and checksums by key range, computed alike for both sides.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow_row::{RowConverter, SortField};
use tokio_postgres::Client;
use xxhash_rust::xxh3::xxh3_128;

use crate::carried::Kind;
use crate::decode::INFINITE_MICROS;
use crate::error::{Context, Error, Result};
use crate::plan::TablePlan;
use crate::postgres::quote;
use crate::read::Sink;
use crate::target::lake::schema_of;

/// Into how many ranges a table's keys are cut.
const RANGES: usize = 1024;

/// A leading key column that orders as an integer, at the source and in the batches.
pub struct Leading {
    pub column: String,
    name: String,
    /// Of instants and local times: their zone.
    utc: Option<bool>,
}

impl Leading {
    /// A bound as SQL: an integer, or microseconds since 1970.
    pub fn literal(&self, bound: i64) -> String {
        let Some(utc) = self.utc else { return format!("'{bound}'::bigint") };
        let type_name = if utc { "timestamptz" } else { "timestamp" };
        match chrono::DateTime::from_timestamp_micros(bound) {
            // Of years before the first PostgreSQL has another notation: nothing is carried from there.
            Some(at) if bound >= INFINITE_MICROS[0] => {
                let zone = if utc { "+00" } else { "" };
                format!("'{}{zone}'::{type_name}", at.format("%Y-%m-%d %H:%M:%S%.6f"))
            }
            _ => format!("'-infinity'::{type_name}"),
        }
    }

    /// An expression of the column's type as SQL that gives an integer.
    fn as_integer(&self, expression: &str) -> String {
        match self.utc {
            None => format!("({expression})::bigint"),
            Some(_) => format!(
                "CASE WHEN isfinite({expression}) THEN (extract(epoch FROM {expression}) * 1000000)::bigint END"
            ),
        }
    }
}

/// The ranges of a table's leading key column where it is a number or a time, else of its hash.
pub struct Ranges {
    pub column: Option<Leading>,
    start: i64,
    width: i64,
    count: usize,
}

impl Ranges {
    pub async fn of(plan: &TablePlan, client: &Client) -> Result<Ranges> {
        let by_hash = Ranges { column: None, start: 0, width: 0, count: if plan.key.is_empty() { 1 } else { RANGES } };
        let Some(column) = plan.key.first().and_then(|key| leading(plan, key)) else { return Ok(by_hash) };
        let (low, high) = (format!("min({})", quote(&column.column)), format!("max({})", quote(&column.column)));
        let sql =
            format!("SELECT {}, {} FROM {}", column.as_integer(&low), column.as_integer(&high), plan.source.rows());
        let row = client.query_one(&sql, &[]).await.context("read the least and greatest key")?;
        let (Some(low), Some(high)) = (row.get::<_, Option<i64>>(0), row.get::<_, Option<i64>>(1)) else {
            return Ok(by_hash);
        };
        let width = (high.saturating_sub(low) / (RANGES as i64 - 2)).max(1);
        Ok(Ranges { column: Some(column), start: low, width, count: RANGES })
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// The first range also takes what lies below the source's least key, the last what lies above.
    fn at(&self, value: i64) -> usize {
        let at = value.saturating_sub(self.start).div_euclid(self.width).saturating_add(1);
        usize::try_from(at.max(0)).unwrap_or(0).min(self.count - 1)
    }

    /// The least and greatest values of a range; `None` where it is open.
    pub fn bounds(&self, range: usize) -> (Option<i64>, Option<i64>) {
        let at = |range: usize| self.start.saturating_add(self.width.saturating_mul(range as i64 - 1));
        let low = (range > 0).then(|| at(range));
        let high = (range + 1 < self.count).then(|| at(range + 1).saturating_sub(1));
        (low, high)
    }

    /// The range of each row.
    pub fn of_rows(&self, batch: &RecordBatch, keys: &arrow_row::Rows) -> Result<Vec<usize>> {
        let Some(column) = &self.column else {
            return Ok(keys.iter().map(|key| (xxh3_128(key.as_ref()) % self.count as u128) as usize).collect());
        };
        let values = integers(batch, &column.name)?;
        Ok((0..batch.num_rows()).map(|at| if values.is_valid(at) { self.at(values.value(at)) } else { 0 }).collect())
    }
}

/// A leading key column that orders as an integer, and is the same at the source and in the target.
fn leading(plan: &TablePlan, key: &str) -> Option<Leading> {
    let column = plan.columns.iter().find(|c| c.name == key)?;
    let source = plan.source.columns.iter().find(|c| quote(&c.name) == column.expression)?;
    let utc = match column.kind {
        Kind::I16 | Kind::I32 | Kind::I64 => None,
        Kind::Timestamp { utc } => Some(utc),
        _ => return None,
    };
    Some(Leading { column: source.name.clone(), name: key.to_owned(), utc })
}

fn integers(batch: &RecordBatch, name: &str) -> Result<arrow::array::Int64Array> {
    let column =
        batch.column_by_name(name).ok_or_else(|| Error::bug(format!("compare column {name:?}, which is not there")))?;
    Ok(cast(column, &DataType::Int64).context(format!("compare column {name:?}"))?.as_primitive::<Int64Type>().clone())
}

/// A range's rows: how many, and the sum of their checksums, whatever their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest {
    pub rows: u64,
    sum: u128,
}

#[derive(Debug, Clone)]
pub struct Digests {
    pub ranges: Vec<Digest>,
}

impl Digests {
    pub fn new(count: usize) -> Self {
        Digests { ranges: vec![Digest::default(); count] }
    }

    pub fn rows(&self) -> u64 {
        self.ranges.iter().map(|range| range.rows).sum()
    }

    pub fn add(&mut self, other: &Digests) {
        for (mine, theirs) in self.ranges.iter_mut().zip(&other.ranges) {
            mine.rows += theirs.rows;
            mine.sum = mine.sum.wrapping_add(theirs.sum);
        }
    }
}

/// Turns rows into comparable bytes: the whole row, and its key.
pub struct Encoder {
    rows: RowConverter,
    pub keys: RowConverter,
    key: Vec<usize>,
}

impl Encoder {
    pub fn new(plan: &TablePlan) -> Result<Encoder> {
        let schema = schema_of(plan);
        let converter = |types: Vec<DataType>| {
            RowConverter::new(types.into_iter().map(SortField::new).collect()).context("compare rows")
        };
        let key = plan.key_positions();
        let all = schema.fields().iter().map(|f| f.data_type().clone()).collect();
        let key_types = key.iter().map(|at| schema.field(*at).data_type().clone()).collect();
        Ok(Encoder { rows: converter(all)?, keys: converter(key_types)?, key })
    }

    pub fn checksums(&self, batch: &RecordBatch) -> Result<Vec<u128>> {
        let rows = self.rows.convert_columns(batch.columns()).context("compare rows")?;
        Ok(rows.iter().map(|row| xxh3_128(row.as_ref())).collect())
    }

    pub fn keys(&self, batch: &RecordBatch) -> Result<arrow_row::Rows> {
        let columns: Vec<ArrayRef> = self.key.iter().map(|at| Arc::clone(batch.column(*at))).collect();
        self.keys.convert_columns(&columns).context("compare keys")
    }
}

pub struct DigestSink {
    encoder: Encoder,
    ranges: Arc<Ranges>,
    pub digests: Digests,
}

impl DigestSink {
    pub fn new(plan: &TablePlan, ranges: &Arc<Ranges>) -> Result<Self> {
        Ok(DigestSink { encoder: Encoder::new(plan)?, ranges: Arc::clone(ranges), digests: Digests::new(ranges.len()) })
    }

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
