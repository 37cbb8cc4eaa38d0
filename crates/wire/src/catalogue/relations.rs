//! The tables of the lake as a catalogue lists them: each with a number that stays the same and
//! its columns. Columns are remembered for a few seconds, since tools ask ten times in a row.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use datafusion::arrow::datatypes::SchemaRef;
use futures::{StreamExt, stream};
use lake::TableName;

use super::super::locked;
use sql::error::Result;
use sql::system;
use sql::view::{INFORMATION_SCHEMA, View};

/// How long columns are believed to be what they were.
const FRESH: Duration = Duration::from_secs(5);
const OPENED_AT_ONCE: usize = 8;
/// Below it PostgreSQL numbers what is its own.
const FIRST_OID: u32 = 16_384;

#[derive(Default)]
pub(crate) struct Known {
    columns: Mutex<HashMap<TableName, (Instant, SchemaRef)>>,
}

pub(crate) struct Relation {
    pub(crate) oid: i32,
    pub(crate) name: TableName,
    pub(crate) columns: SchemaRef,
    pub(crate) is_view: bool,
}

/// By schema, in order of names.
pub(crate) async fn all(known: &Known, view: &View) -> Result<Vec<Relation>> {
    let names = view.names().await?;
    let opening: Vec<_> = names.iter().map(|name| columns(known, view, name)).collect();
    let opened: Vec<_> = stream::iter(opening).buffered(OPENED_AT_ONCE).collect().await;
    let found = names.iter().cloned().zip(opened).filter_map(|(name, columns)| {
        let is_view = view.is_view(&name);
        Some((name, columns?, is_view))
    });
    let mut found: Vec<(TableName, SchemaRef, bool)> = found.collect();
    if view.sees_system() {
        for name in system::names(view.system.as_ref()) {
            let described = system::described(view, &name).await?;
            found.push((TableName::new(system::SCHEMA, &name), described.schema(), true));
        }
    }
    found.sort_by(|(one, ..), (other, ..)| (&one.schema, &one.table).cmp(&(&other.schema, &other.table)));
    let mut taken = HashSet::new();
    let relations = found.into_iter().map(|(name, columns, is_view)| {
        let oid = number(&format!("{}.{}", name.schema, name.table), &mut taken);
        Relation { oid, name, columns, is_view }
    });
    Ok(relations.collect())
}

/// `None` where the table can't be opened: a list goes on without it.
async fn columns(known: &Known, view: &View, name: &TableName) -> Option<SchemaRef> {
    if let Some((at, columns)) = locked(&known.columns).get(name)
        && at.elapsed() < FRESH
    {
        return Some(Arc::clone(columns));
    }
    match view.table(name).await {
        Ok(table) => {
            let columns = table?.schema();
            locked(&known.columns).insert(name.clone(), (Instant::now(), Arc::clone(&columns)));
            Some(columns)
        }
        Err(error) => {
            tracing::warn!(table = %name, %error, "left out of the catalogue");
            None
        }
    }
}

/// Schemas and their numbers, those of PostgreSQL among them.
pub(crate) fn schemas(relations: &[Relation]) -> BTreeMap<String, i32> {
    let mut schemas: BTreeMap<String, i32> = [("pg_catalog", 11), ("public", 2200), (INFORMATION_SCHEMA, 13_000)]
        .map(|(name, oid)| (name.to_owned(), oid))
        .into();
    let mut taken = HashSet::new();
    for relation in relations {
        let name = &relation.name.schema;
        if !schemas.contains_key(name) {
            let oid = number(&format!("schema {name}"), &mut taken);
            schemas.insert(name.clone(), oid);
        }
    }
    schemas
}

/// From the name alone, so that it is the same in every query and on every day (FNV-1a); the
/// next one where two names meet.
pub(crate) fn number(name: &str, taken: &mut HashSet<i32>) -> i32 {
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
    use super::number;
    use std::collections::HashSet;

    #[test]
    fn a_number_stays_with_its_name() {
        let mut taken = HashSet::new();
        let sites = number("platform.sites", &mut taken);
        assert!(sites >= 16_384);
        assert_ne!(number("platform.site", &mut taken), sites);
        assert_ne!(number("platform.sites", &mut taken), sites);
        assert_eq!(number("platform.sites", &mut HashSet::new()), sites);
    }
}
