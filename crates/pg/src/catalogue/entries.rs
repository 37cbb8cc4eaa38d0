//! PostgreSQL's own entries of the catalogue (types, operators), which come from a library, and what else of the
//! catalogue all connections share.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Schema};
use datafusion::error::Result as EngineResult;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::{PgCatalogSchemaProvider, PgCatalogStaticTables};

use super::relations::ColumnCache;
use sql::error::{Context, Result};

type Library = PgCatalogSchemaProvider<Arc<dyn datafusion::catalog::CatalogProviderList>, EmptyContextProvider>;

/// The parts of the catalogue that all connections share.
pub(crate) struct Catalogue {
    /// The rows of `pg_type`, with `typreceive` as the OID by which clients join it to `pg_proc`.
    pub(super) types: RecordBatch,
    pub(super) tables: Arc<PgCatalogStaticTables>,
    pub(super) library: Library,
    /// The columns of the lake's tables, cached for a few seconds.
    pub(super) column_cache: ColumnCache,
}

impl Catalogue {
    /// Loads PostgreSQL's own entries.
    ///
    /// # Errors
    /// If the library's tables cannot be read.
    pub(crate) fn new() -> Result<Catalogue> {
        let tables = Arc::new(PgCatalogStaticTables::try_new().context("read PostgreSQL's own catalogue")?);
        let none: Arc<dyn datafusion::catalog::CatalogProviderList> =
            Arc::new(datafusion::catalog::MemoryCatalogProviderList::new());
        let library = PgCatalogSchemaProvider::try_new(none, Arc::clone(&tables), EmptyContextProvider);
        let library = library.context("read PostgreSQL's own catalogue")?;
        let types = types_with_procedure_oids(&tables).context("read PostgreSQL's own catalogue")?;
        Ok(Catalogue { types, tables, library, column_cache: ColumnCache::default() })
    }
}

fn types_with_procedure_oids(tables: &PgCatalogStaticTables) -> EngineResult<RecordBatch> {
    let [types, procedures] =
        [&tables.pg_type, &tables.pg_proc].map(|table| concat_batches(&table.schema(), table.data()));
    let (types, procedures) = (types?, procedures?);
    let column = |batch: &RecordBatch, name: &str, data_type: &DataType| {
        let at = batch.schema().index_of(name)?;
        cast(batch.column(at), data_type)
    };
    let (names, numbers) =
        (column(&procedures, "proname", &DataType::Utf8)?, column(&procedures, "oid", &DataType::Int32)?);
    let numbers = numbers.as_primitive::<Int32Type>();
    let known: HashMap<&str, i32> =
        names.as_string::<i32>().iter().flatten().zip(numbers.values().iter().copied()).collect();
    let at = types.schema().index_of("typreceive")?;
    let written = column(&types, "typreceive", &DataType::Utf8)?;
    let found =
        written.as_string::<i32>().iter().map(|name| Some(name.and_then(|name| known.get(name).copied()).unwrap_or(0)));
    let found: ArrayRef = Arc::new(found.collect::<Int32Array>());
    let schema = types.schema();
    let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
    fields[at] = Arc::new(Field::new("typreceive", DataType::Int32, true));
    let mut columns = types.columns().to_vec();
    columns[at] = found;
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
