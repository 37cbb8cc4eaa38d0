//! The catalog that one query is planned against: what it names is there already, the rest is
//! opened only where `information_schema` asks for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProviderList, SchemaProvider, TableProvider,
};
use datafusion::common::TableReference;
use datafusion::error::{DataFusionError, Result as Planned};
use datafusion::logical_expr::TableType;
use lake::TableName;

use crate::error::Result;
use crate::system;
use crate::view::{CATALOG, DEFAULT_SCHEMA, INFORMATION_SCHEMA, View};

/// Schemas that are not the lake's, such as `pg_catalog`, as a view makes them.
pub trait OtherSchemas: Send + Sync {
    fn names(&self) -> &'static [&'static str];

    fn schema(&self, name: &'static str, view: &Arc<View>) -> Arc<dyn SchemaProvider>;
}

/// `functions` are names that a query may use like tables and that the lake does not hold.
pub async fn of(
    view: &Arc<View>,
    references: &[TableReference],
    functions: &BTreeSet<String>,
    others: Option<&dyn OtherSchemas>,
) -> Result<Arc<dyn CatalogProviderList>> {
    let mut schemas: BTreeMap<String, Schema> = BTreeMap::new();
    let other_names = others.map_or(&[][..], |others| others.names());
    let is_other = |reference: &TableReference| reference.schema().is_some_and(|name| other_names.contains(&name));
    if references.iter().any(|r| r.schema() == Some(INFORMATION_SCHEMA) && !is_other(r)) {
        for name in view.names().await? {
            entry(&mut schemas, view, &name.schema).listed.insert(name.table.clone());
        }
        if view.sees_system() {
            let listed = system::names(view.system.as_ref()).into_iter().collect();
            entry(&mut schemas, view, system::SCHEMA).listed = listed;
        }
    }
    for reference in references.iter().filter(|reference| !is_other(reference)) {
        if let Some(table) = view.find(reference).await? {
            let schema = entry(&mut schemas, view, reference.schema().unwrap_or(DEFAULT_SCHEMA));
            schema.found.insert(reference.table().to_owned(), table);
            continue;
        }
        let function = reference.schema().is_none() && functions.contains(reference.table());
        if !function && reference.schema() != Some(INFORMATION_SCHEMA) {
            return Err(view.unknown(reference).await?);
        }
    }
    let schemas = schemas.into_iter().map(|(name, schema)| (name, Arc::new(schema) as Arc<dyn SchemaProvider>));
    let others = others
        .into_iter()
        .flat_map(|others| other_names.iter().map(move |name| ((*name).to_owned(), others.schema(name, view))));
    let schemas = schemas.chain(others);
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(CATALOG.to_owned(), Arc::new(Catalog { schemas: schemas.collect() }));
    Ok(Arc::new(catalogs))
}

fn entry<'a>(schemas: &'a mut BTreeMap<String, Schema>, view: &Arc<View>, name: &str) -> &'a mut Schema {
    schemas.entry(name.to_owned()).or_insert_with(|| Schema {
        view: Arc::clone(view),
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
    view: Arc<View>,
    name: String,
    listed: BTreeSet<String>,
    /// By the name that the query uses, which may be of a table in another schema or at a version.
    found: HashMap<String, Arc<dyn TableProvider>>,
}

impl Schema {
    async fn open(&self, table: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if self.name == system::SCHEMA {
            return system::described(&self.view, table).await.map(Some);
        }
        self.view.table(&TableName::new(&self.name, table)).await
    }
}

#[async_trait]
impl SchemaProvider for Schema {
    fn table_names(&self) -> Vec<String> {
        self.listed.iter().cloned().collect()
    }

    async fn table(&self, name: &str) -> Planned<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if let Some(found) = self.found.get(name) {
            return Ok(Some(Arc::clone(found)));
        }
        if !self.listed.contains(name) {
            return Ok(None);
        }
        // A list of columns goes on without a table that can't be opened, or that was not yet
        // there at the session's instant: only a query that names it must fail.
        Ok(self.open(name).await.unwrap_or_else(|error| {
            tracing::warn!(schema = self.name, table = name, %error, "left out of information_schema");
            None
        }))
    }

    async fn table_type(&self, name: &str) -> Planned<Option<TableType>> {
        let is_view = self.view.is_view(&TableName::new(&self.name, name));
        Ok(self.table_exist(name).then_some(if is_view { TableType::View } else { TableType::Base }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.found.contains_key(name) || self.listed.contains(name)
    }
}
