//! The catalog that one query is planned against. The tables that the query names are opened before planning; all
//! others are listed, and opened only when `information_schema` reads their columns.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProviderList, SchemaProvider, TableProvider,
};
use datafusion::common::TableReference;
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::logical_expr::TableType;
use lake::TableName;

use crate::error::Result;
use crate::schemas::{CATALOG, DEFAULT_SCHEMA, INFORMATION_SCHEMA};
use crate::snapshot::LakeSnapshot;
use crate::system;

/// Schemas that do not belong to the lake, such as `pg_catalog`.
pub trait OtherSchemas: Send + Sync {
    /// The names of all these schemas. They take precedence over schemas of the lake with the same name.
    fn names(&self) -> &'static [&'static str];

    /// The schema `name`, one of [`OtherSchemas::names`], with the tables that the snapshot's role may read.
    fn schema(&self, name: &'static str, snapshot: &Arc<LakeSnapshot>) -> Arc<dyn SchemaProvider>;
}

/// The catalog for a query that names `references`. `functions` are the names of table functions, which a query uses
/// like tables.
///
/// # Errors
/// Where a reference names no table, or one that the snapshot's role may not read.
pub async fn build(
    snapshot: &Arc<LakeSnapshot>,
    references: &[TableReference],
    functions: &BTreeSet<String>,
    others: Option<&dyn OtherSchemas>,
) -> Result<Arc<dyn CatalogProviderList>> {
    let mut schemas: BTreeMap<String, Schema> = BTreeMap::new();
    let other_names = others.map_or(&[][..], |others| others.names());
    let is_other = |reference: &TableReference| reference.schema().is_some_and(|name| other_names.contains(&name));
    if references.iter().any(|r| r.schema() == Some(INFORMATION_SCHEMA) && !is_other(r)) {
        for name in snapshot.names().await? {
            entry(&mut schemas, snapshot, &name.schema).listed.insert(name.table.clone());
        }
        if snapshot.sees_system() {
            let listed = system::names(snapshot.system.as_ref()).into_iter().collect();
            entry(&mut schemas, snapshot, system::SCHEMA).listed = listed;
        }
    }
    for reference in references.iter().filter(|reference| !is_other(reference)) {
        if let Some(table) = snapshot.find(reference).await? {
            let schema = entry(&mut schemas, snapshot, reference.schema().unwrap_or(DEFAULT_SCHEMA));
            schema.found.insert(reference.table().to_owned(), table);
            continue;
        }
        let function = reference.schema().is_none() && functions.contains(reference.table());
        if !function && reference.schema() != Some(INFORMATION_SCHEMA) {
            return Err(snapshot.unknown(reference).await?);
        }
    }
    let schemas = schemas.into_iter().map(|(name, schema)| (name, Arc::new(schema) as Arc<dyn SchemaProvider>));
    let others = others
        .into_iter()
        .flat_map(|others| other_names.iter().map(move |name| ((*name).to_owned(), others.schema(name, snapshot))));
    let schemas = schemas.chain(others);
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(CATALOG.to_owned(), Arc::new(Catalog { schemas: schemas.collect() }));
    Ok(Arc::new(catalogs))
}

fn entry<'a>(schemas: &'a mut BTreeMap<String, Schema>, snapshot: &Arc<LakeSnapshot>, name: &str) -> &'a mut Schema {
    schemas.entry(name.to_owned()).or_insert_with(|| Schema {
        snapshot: Arc::clone(snapshot),
        name: name.to_owned(),
        listed: BTreeSet::new(),
        found: HashMap::new(),
    })
}

#[derive(Debug)]
struct Catalog {
    schemas: BTreeMap<String, Arc<dyn SchemaProvider>>,
}

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        self.schemas.keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.schemas.get(name).cloned()
    }
}

#[derive(Debug)]
struct Schema {
    snapshot: Arc<LakeSnapshot>,
    name: String,
    listed: BTreeSet<String>,
    /// Tables that the query names, by the name that it uses: the table may be in another schema, or at a version.
    found: HashMap<String, Arc<dyn TableProvider>>,
}

impl Schema {
    async fn open(&self, table: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if self.name == system::SCHEMA {
            return system::schema_only_table(table, &self.snapshot.system).await.map(Some);
        }
        self.snapshot.table(&TableName::new(&self.name, table)).await
    }
}

#[async_trait]
impl SchemaProvider for Schema {
    fn table_names(&self) -> Vec<String> {
        self.listed.iter().cloned().collect()
    }

    async fn table(&self, name: &str) -> EngineResult<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if let Some(found) = self.found.get(name) {
            return Ok(Some(Arc::clone(found)));
        }
        if !self.listed.contains(name) {
            return Ok(None);
        }
        // `information_schema` lists no columns of a table that can't be opened, or that did not exist at the
        // session's instant: only a query that names the table must fail.
        Ok(self.open(name).await.unwrap_or_else(|error| {
            // A view over tables that are not there yet is no fault; `system.marts` says why it can't be read.
            tracing::debug!(
                schema = self.name,
                table = name,
                error = base::chain(&error),
                "left out of information_schema"
            );
            None
        }))
    }

    async fn table_type(&self, name: &str) -> EngineResult<Option<TableType>> {
        let is_view = self.snapshot.is_view(&TableName::new(&self.name, name));
        Ok(self.table_exist(name).then_some(if is_view { TableType::View } else { TableType::Base }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.found.contains_key(name) || self.listed.contains(name)
    }
}
