//! Reads single rows of data files by their positions.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{RecordBatch, UInt64Array, new_null_array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use object_store::path::Path;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};

use crate::error::{Context, Error, Kind, Result};
use crate::object_reader::ObjectReader;
use crate::rewrite::conform;
use crate::table::Table;
use crate::writer::DataFile;

impl Table {
    /// The values of `rows` (file and position in it) in the columns of `schema`, in the order of `rows`. The files are
    /// the table's, or among `uncommitted`.
    ///
    /// # Errors
    /// `Retry` where a file is no longer part of the table.
    pub async fn fetch_rows(
        &self,
        rows: &[(&str, u64)],
        schema: &SchemaRef,
        uncommitted: &[DataFile],
    ) -> Result<RecordBatch> {
        let mut wanted: BTreeMap<&str, Vec<(u64, usize)>> = BTreeMap::new();
        for (at, (path, position)) in rows.iter().enumerate() {
            wanted.entry(path).or_default().push((*position, at));
        }
        let mut sizes: HashMap<String, u64> = uncommitted.iter().map(|file| (file.path.clone(), file.bytes)).collect();
        for file in self.delta.snapshot().context(format!("read the files of {}", self.name))?.log_data().iter() {
            sizes.insert(file.path().into_owned(), file.size().unsigned_abs());
        }
        let (mut parts, mut order) = (Vec::new(), vec![0u64; rows.len()]);
        let mut fetched = 0;
        for (path, mut positions) in wanted {
            positions.sort_unstable();
            let bytes = sizes.get(path).ok_or_else(|| {
                Error::new(Kind::Retry, format!("read rows of {}: {path} is no longer part of it", self.name))
            })?;
            let mut distinct: Vec<u64> = positions.iter().map(|(position, _)| *position).collect();
            distinct.dedup();
            for (position, at) in positions {
                // The position is among them.
                order[at] = fetched + distinct.partition_point(|other| *other < position) as u64;
            }
            let part = self.fetch_from(path, *bytes, &distinct, schema).await;
            parts.push(
                part.map_err(|e| Error::new(e.kind, format!("read rows of {path} of {}", self.name)).because(e))?,
            );
            fetched += distinct.len() as u64;
        }
        let context = || format!("read rows of {}", self.name);
        let all = concat_batches(schema, &parts).context(context())?;
        let order = UInt64Array::from(order);
        let columns = all.columns().iter().map(|column| take(column, &order, None));
        let columns = columns.collect::<Result<Vec<_>, _>>().context(context())?;
        RecordBatch::try_new(SchemaRef::clone(schema), columns).context(context())
    }

    /// The rows at these ascending positions of a file.
    async fn fetch_from(&self, path: &str, bytes: u64, positions: &[u64], schema: &SchemaRef) -> Result<RecordBatch> {
        let reader = ObjectReader::new(self.store(), Path::from(path), bytes);
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await.context("read the footer")?;
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let known = builder.schema().fields().iter().enumerate();
        let roots: Vec<usize> =
            known.filter(|(_, field)| names.contains(&field.name().as_str())).map(|(at, _)| at).collect();
        if roots.is_empty() {
            // The file was written before these columns were added.
            let nulls = schema.fields().iter().map(|field| new_null_array(field.data_type(), positions.len()));
            return RecordBatch::try_new(SchemaRef::clone(schema), nulls.collect()).context("read rows");
        }
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let stream =
            builder.with_projection(mask).with_row_selection(selection(positions)).build().context("read rows")?;
        let batches: Vec<RecordBatch> = stream.try_collect().await.context("read rows")?;
        let batches = batches.iter().map(|batch| conform(batch, schema)).collect::<Result<Vec<_>>>()?;
        concat_batches(schema, &batches).context("read rows")
    }
}

fn selection(positions: &[u64]) -> RowSelection {
    let (mut selectors, mut next) = (Vec::with_capacity(2 * positions.len()), 0);
    for position in positions {
        if *position > next {
            // Positions are below the number of the file's rows, which fits.
            selectors.push(RowSelector::skip((position - next) as usize));
        }
        selectors.push(RowSelector::select(1));
        next = position + 1;
    }
    RowSelection::from(selectors)
}
