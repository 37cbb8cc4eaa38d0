//! Reads the queries of a benchmark, a file each.
//!
//! A file begins with a comment that says what the query computes. Where DuckDB needs other SQL for the same result, it
//! follows a line `-- duckdb`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const DUCKDB_MARK: &str = "\n-- duckdb\n";

/// A query for both programs.
pub struct BenchQuery {
    /// The file's name without `.sql`.
    pub name: String,
    /// What it computes, in one line.
    pub about: String,
    /// The SQL for Wattlake.
    pub wattlake: String,
    /// The SQL for DuckDB.
    pub duckdb: String,
}

/// All queries of a folder, or those in `only`, sorted by name.
pub fn read(folder: &Path, only: &[String]) -> Result<Vec<BenchQuery>> {
    let mut queries = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.context("list the queries")?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()?.strip_suffix(".sql")) else { continue };
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        queries.push(query(name, &text).with_context(|| format!("read {}", path.display()))?);
    }
    queries.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<&str> = queries.iter().map(|q| q.name.as_str()).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
        anyhow::bail!("there is no query {unknown}; there are {}", names.join(", "));
    }
    queries.retain(|q| only.is_empty() || only.contains(&q.name));
    Ok(queries)
}

fn query(name: &str, text: &str) -> Result<BenchQuery> {
    let (about, sql) = text.split_once('\n').context("it has one line only")?;
    let about = about.strip_prefix("-- ").context("its first line must be a comment: -- ...")?;
    let (wattlake, duckdb) = sql.split_once(DUCKDB_MARK).unwrap_or((sql, sql));
    let cleaned = |sql: &str| sql.trim().trim_end_matches(';').to_owned();
    ensure!(!wattlake.trim().is_empty() && !duckdb.trim().is_empty(), "it has no query");
    Ok(BenchQuery {
        name: name.to_owned(),
        about: about.to_owned(),
        wattlake: cleaned(wattlake),
        duckdb: cleaned(duckdb),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_for_both_or_one_each() {
        let same = query("a", "-- Why.\nSELECT 1;\n").unwrap();
        assert_eq!(
            (same.about.as_str(), same.wattlake.as_str(), same.duckdb.as_str()),
            ("Why.", "SELECT 1", "SELECT 1")
        );
        let two = query("a", "-- Why.\nSELECT last(x, t)\n-- duckdb\nSELECT arg_max(x, t)\n").unwrap();
        assert_eq!((two.wattlake.as_str(), two.duckdb.as_str()), ("SELECT last(x, t)", "SELECT arg_max(x, t)"));
        assert!(query("a", "SELECT 1\n").is_err());
        assert!(query("a", "-- Why.\n\n-- duckdb\nSELECT 1").is_err());
    }
}
