//! What a mart's commits record beside its rows: which query computed them, from which versions of
//! which tables. It is in the table's own log, in the same commit as the rows.

use std::collections::{BTreeMap, BTreeSet};

use config::{Mart, MartKind};
use lake::{Commit, Table, TableName};
use xxhash_rust::xxh3::xxh3_64;

/// The name of the position that holds the hash of the query.
const QUERY: &str = "wattlake/mart/query";

/// The hash of the text of a mart's query and of the views that it reads.
pub struct QueryHash {
    /// Two different values mean that the results may differ.
    pub value: i64,
}

impl QueryHash {
    /// The hash of a mart's query and of all views below it; comments of the mart's head don't count.
    pub fn of(config: &config::Warehouse, mart: &Mart) -> QueryHash {
        let (mut text, mut seen, mut pending) = (String::new(), BTreeSet::new(), vec![mart]);
        while let Some(mart) = pending.pop() {
            if !seen.insert(&mart.name) {
                continue;
            }
            text.push_str(&mart.name);
            // The settings in a mart's file are not its query.
            mart.sql.lines().filter(|line| !line.starts_with("--|")).for_each(|line| {
                text.push('\n');
                text.push_str(line.trim_end());
            });
            let inputs = mart.depends_on.iter().filter_map(|name| config.marts.get(name));
            pending.extend(inputs.filter(|input| input.kind == MartKind::View));
        }
        QueryHash { value: number(&text) }
    }

    /// Adds the hash and the versions of the inputs to a commit of the mart's table.
    pub fn record_in(&self, commit: Commit, inputs: &[&Table]) -> lake::Result<Commit> {
        let mut commit = commit.position(QUERY, self.value);
        for table in inputs {
            let version = i64::try_from(table.version()).unwrap_or(i64::MAX);
            commit =
                commit.position(version_of(table.name()), version).position(id_of(table.name()), number(&table.id()?));
        }
        Ok(commit)
    }
}

/// The hash of the query that computed a mart's table; `None` for a table that no mart made.
pub async fn query_of(table: &Table) -> lake::Result<Option<i64>> {
    table.position(QUERY).await
}

/// The version of each input that the rows of a mart are computed from. An input that was created
/// again since, under the same name, is left out.
pub async fn inputs_of(mart: &Table, inputs: &[&Table]) -> lake::Result<BTreeMap<TableName, u64>> {
    let mut versions = BTreeMap::new();
    for table in inputs {
        let name = table.name();
        if mart.position(&id_of(name)).await? != Some(number(&table.id()?)) {
            continue;
        }
        if let Some(version) = mart.position(&version_of(name)).await?.and_then(|version| u64::try_from(version).ok()) {
            versions.insert(name.clone(), version);
        }
    }
    Ok(versions)
}

fn version_of(table: &TableName) -> String {
    format!("wattlake/mart/version/{table}")
}

fn id_of(table: &TableName) -> String {
    format!("wattlake/mart/id/{table}")
}

/// A hash as a position of a Delta log, which is never negative.
fn number(text: &str) -> i64 {
    (xxh3_64(text.as_bytes()) >> 1).cast_signed()
}
