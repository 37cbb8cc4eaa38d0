//! What a mart's commits leave with its rows: which query gave them, from which versions of which
//! tables. In the table's own log, so that rows and marks are never at odds.

use std::collections::{BTreeMap, BTreeSet};

use lake::{Commit, Table, TableName};
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{self, Mart, MartKind};

const QUERY: &str = "wattlake/mart/query";

pub struct Marks {
    /// Another one gives other rows, as far as a text can tell.
    pub query: i64,
}

impl Marks {
    /// Of the query and of the views that it stands on.
    pub fn of(config: &config::Warehouse, mart: &Mart) -> Marks {
        let (mut text, mut seen, mut left) = (String::new(), BTreeSet::new(), vec![mart]);
        while let Some(mart) = left.pop() {
            if !seen.insert(&mart.name) {
                continue;
            }
            text.push_str(&mart.name);
            // What is said about the query is not the query.
            mart.sql.lines().filter(|line| !line.starts_with("--|")).for_each(|line| {
                text.push('\n');
                text.push_str(line.trim_end());
            });
            let below = mart.stands_on.iter().filter_map(|name| config.marts.get(name));
            left.extend(below.filter(|below| below.kind == MartKind::View));
        }
        Marks { query: number(&text) }
    }

    pub async fn query_of(&self, table: &Table) -> lake::Result<Option<i64>> {
        table.position(QUERY).await
    }

    pub fn on(&self, commit: Commit, inputs: &[&Table]) -> lake::Result<Commit> {
        let mut commit = commit.position(QUERY, self.query);
        for table in inputs {
            let version = i64::try_from(table.version()).unwrap_or(i64::MAX);
            commit =
                commit.position(version_of(table.name()), version).position(id_of(table.name()), number(&table.id()?));
        }
        Ok(commit)
    }
}

/// The versions that the rows of a mart are computed from; of a table that was made anew since, none.
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

/// Never negative: that is what a log's numbers are.
fn number(text: &str) -> i64 {
    (xxh3_64(text.as_bytes()) >> 1).cast_signed()
}
