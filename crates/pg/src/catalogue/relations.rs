//! The tables of the lake as relations of the catalogue, with their columns and stable OIDs. Columns
//! are cached for a few seconds, since clients send many catalogue queries in a row.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use datafusion::arrow::datatypes::SchemaRef;
use futures::{StreamExt, stream};
use lake::TableName;

use super::super::lock::locked;
use sql::error::Result;
use sql::schemas::INFORMATION_SCHEMA;
use sql::snapshot::LakeSnapshot;
use sql::system;

/// How long cached columns are used.
const COLUMNS_MAX_AGE: Duration = Duration::from_secs(5);
const TABLES_OPENED_AT_ONCE: usize = 8;
/// OIDs below are PostgreSQL's own.
const FIRST_OID: u32 = 16_384;

/// The columns of tables, with the time when they were read.
#[derive(Default)]
pub(crate) struct ColumnCache {
    columns: Mutex<HashMap<TableName, (Instant, SchemaRef)>>,
}

/// A table or view.
pub(crate) struct Relation {
    pub(crate) oid: i32,
    pub(crate) name: TableName,
    pub(crate) columns: SchemaRef,
    pub(crate) is_view: bool,
}

/// The tables and views that the role of `view` may read, ordered by schema and name. Tables that cannot be opened are
/// left out with a warning.
///
/// # Errors
/// If the names of the tables cannot be listed.
pub(crate) async fn all(cache: &ColumnCache, view: &LakeSnapshot) -> Result<Vec<Relation>> {
    let names = view.names().await?;
    let opening: Vec<_> = names.iter().map(|name| columns(cache, view, name)).collect();
    let opened: Vec<_> = stream::iter(opening).buffered(TABLES_OPENED_AT_ONCE).collect().await;
    let found = names.iter().cloned().zip(opened).filter_map(|(name, columns)| {
        let is_view = view.is_view(&name);
        Some((name, columns?, is_view))
    });
    let mut found: Vec<(TableName, SchemaRef, bool)> = found.collect();
    if view.sees_system() {
        for name in system::names(view.system.as_ref()) {
            let described = system::schema_only_table(&name, &view.system).await?;
            found.push((TableName::new(system::SCHEMA, &name), described.schema(), true));
        }
    }
    found.sort_by(|(one, ..), (other, ..)| (&one.schema, &one.table).cmp(&(&other.schema, &other.table)));
    let mut taken = HashSet::new();
    let relations = found.into_iter().map(|(name, columns, is_view)| {
        let oid = oid_of(&format!("{}.{}", name.schema, name.table), &mut taken);
        Relation { oid, name, columns, is_view }
    });
    Ok(relations.collect())
}

/// The columns of a table; `None` if the table cannot be opened.
async fn columns(cache: &ColumnCache, view: &LakeSnapshot, name: &TableName) -> Option<SchemaRef> {
    if let Some((at, columns)) = locked(&cache.columns).get(name)
        && at.elapsed() < COLUMNS_MAX_AGE
    {
        return Some(Arc::clone(columns));
    }
    match view.table(name).await {
        Ok(table) => {
            let columns = table?.schema();
            locked(&cache.columns).insert(name.clone(), (Instant::now(), Arc::clone(&columns)));
            Some(columns)
        }
        Err(error) => {
            tracing::warn!(table = %name, %error, "a table cannot be opened, it is left out of the catalogue");
            None
        }
    }
}

/// Schemas and their OIDs, with those of PostgreSQL.
pub(crate) fn schemas(relations: &[Relation]) -> BTreeMap<String, i32> {
    let mut schemas: BTreeMap<String, i32> = [("pg_catalog", 11), ("public", 2200), (INFORMATION_SCHEMA, 13_000)]
        .map(|(name, oid)| (name.to_owned(), oid))
        .into();
    let mut taken = HashSet::new();
    for relation in relations {
        let name = &relation.name.schema;
        if !schemas.contains_key(name) {
            let oid = oid_of(&format!("schema {name}"), &mut taken);
            schemas.insert(name.clone(), oid);
        }
    }
    schemas
}

/// An OID that depends only on the name (FNV-1a), so that it is the same in every query and session. If it is in
/// `taken`, the next free one; the OID is added to `taken`.
pub(crate) fn oid_of(name: &str, taken: &mut HashSet<i32>) -> i32 {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let space = i32::MAX as u32 - FIRST_OID;
    let mut number = hash % space;
    loop {
        let oid = i32::try_from(FIRST_OID + number).unwrap_or(i32::MAX);
        if taken.insert(oid) {
            return oid;
        }
        number = (number + 1) % space;
    }
}

#[cfg(test)]
mod tests {
    use super::oid_of;
    use std::collections::HashSet;

    #[test]
    fn an_oid_depends_on_the_name() {
        let mut taken = HashSet::new();
        let sites = oid_of("platform.sites", &mut taken);
        assert!(sites >= 16_384);
        assert_ne!(oid_of("platform.site", &mut taken), sites);
        assert_ne!(oid_of("platform.sites", &mut taken), sites);
        assert_eq!(oid_of("platform.sites", &mut HashSet::new()), sites);
    }
}
