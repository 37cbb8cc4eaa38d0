//! `pg_catalog` and `information_schema`, which clients query to list tables, columns and types. They
//! contain the tables that the connection's role may read. PostgreSQL's own entries (types,
//! operators) come from a library, and tables without a counterpart in the lake are empty.

mod asyncpg_types;
mod catalog_rewrite;
mod empty_relations;
mod empty_tables;
pub(crate) mod entries;
mod expressions;
mod functions;
mod information;
mod object_names;
mod pg;
mod relations;
mod type_functions;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::datasource::MemTable;
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion_pg_catalog::pg_catalog::PG_CATALOG_TABLES;
use datafusion_pg_catalog::pg_catalog::oid_type_planner::PgOidTypePlanner;

use super::shared::Shared;
use super::variables::Variables;
use sql::catalog::OtherSchemas;
use sql::error::{Context, Result};
use sql::schemas::INFORMATION_SCHEMA;
use sql::session::Session;
use sql::snapshot::LakeSnapshot;

pub(crate) use asyncpg_types::short_types_query;
pub(crate) use catalog_rewrite::{parameters_cast_to_oid, reads_catalogue, rewrite, rewrite_procedure_names};
pub(crate) use empty_relations::without_rows;
use pg::PG_CATALOG;

/// Adds the catalogue's schemas, functions and types to a session.
pub(crate) fn install(
    mut session: Session,
    shared: &Arc<Shared>,
    variables: &Arc<Mutex<Variables>>,
    pid: i32,
) -> Session {
    let role = session.snapshot().role.clone().unwrap_or_default();
    {
        let state = session.context.state_ref();
        let mut state = state.write();
        let mut built =
            SessionStateBuilder::new_from_existing(state.clone()).with_type_planner(Arc::new(PgOidTypePlanner)).build();
        // The engine's own information_schema is replaced by the one of this module.
        built.config_mut().options_mut().catalog.information_schema = false;
        *state = built;
    }
    functions::register(&session.context, shared, variables, &role, pid);
    session.other_schemas =
        Some(Arc::new(CatalogueSchemas { shared: Arc::downgrade(shared), variables: Arc::clone(variables) }));
    session
}

struct CatalogueSchemas {
    /// Weak, since the shared state owns the connections and through them this value.
    shared: std::sync::Weak<Shared>,
    variables: Arc<Mutex<Variables>>,
}

impl OtherSchemas for CatalogueSchemas {
    fn names(&self) -> &'static [&'static str] {
        &[PG_CATALOG, INFORMATION_SCHEMA]
    }

    fn schema(&self, name: &'static str, view: &Arc<LakeSnapshot>) -> Arc<dyn SchemaProvider> {
        Arc::new(CatalogueSchema {
            name,
            view: Arc::clone(view),
            shared: self.shared.clone(),
            variables: Arc::clone(&self.variables),
        })
    }
}

struct CatalogueSchema {
    name: &'static str,
    view: Arc<LakeSnapshot>,
    shared: std::sync::Weak<Shared>,
    variables: Arc<Mutex<Variables>>,
}

impl std::fmt::Debug for CatalogueSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CatalogueSchema").field(&self.name).finish()
    }
}

impl CatalogueSchema {
    async fn table_named(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(shared) = self.shared.upgrade() else { return Ok(None) };
        if self.name == INFORMATION_SCHEMA {
            return match information::table(&shared, &self.view, name).await? {
                None => empty_tables::information(name),
                table => Ok(table),
            };
        }
        if let Some(table) = pg::table(&shared, &self.view, &self.variables, name).await? {
            return Ok(Some(table));
        }
        if name == "pg_type" {
            let types = shared.catalogue.types.clone();
            let table = MemTable::try_new(types.schema(), vec![vec![types]]).context("read the catalogue")?;
            return Ok(Some(Arc::new(table)));
        }
        let library = shared.catalogue.library.build_table_by_name(name).context("read the catalogue")?;
        match library {
            Some(table) => table.try_into_table_provider().context("read the catalogue").map(Some),
            None => empty_tables::pg(name),
        }
    }
}

#[async_trait]
impl SchemaProvider for CatalogueSchema {
    fn table_names(&self) -> Vec<String> {
        match self.name {
            PG_CATALOG => PG_CATALOG_TABLES.iter().map(|name| (*name).to_owned()).collect(),
            _ => information::NAMES.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    async fn table(&self, name: &str) -> EngineResult<Option<Arc<dyn TableProvider>>, DataFusionError> {
        self.table_named(name).await.map_err(|error| DataFusionError::External(Box::new(error)))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|known| known == name)
    }
}
