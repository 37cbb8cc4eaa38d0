//! The queries: one file each under bench/queries, named by what it asks.
//!
//! A file begins with a comment that says what a user wants to know. Where DuckDB needs other words
//! for the same question, they follow a line `-- duckdb`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const OTHER: &str = "\n-- duckdb\n";

pub struct Question {
    pub name: String,
    /// What it asks, in one line.
    pub about: String,
    pub wattlake: String,
    pub duckdb: String,
}

/// All, or those named, by their names' order.
pub fn read(folder: &Path, only: &[String]) -> Result<Vec<Question>> {
    let mut questions = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.context("list the queries")?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()?.strip_suffix(".sql")) else { continue };
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        questions.push(question(name, &text).with_context(|| format!("read {}", path.display()))?);
    }
    questions.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<&str> = questions.iter().map(|q| q.name.as_str()).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
        anyhow::bail!("there is no query {unknown}; there are {}", names.join(", "));
    }
    questions.retain(|q| only.is_empty() || only.contains(&q.name));
    Ok(questions)
}

fn question(name: &str, text: &str) -> Result<Question> {
    let (about, sql) = text.split_once('\n').context("it has one line only")?;
    let about = about.strip_prefix("-- ").context("its first line must say what it asks: -- ...")?;
    let (wattlake, duckdb) = sql.split_once(OTHER).unwrap_or((sql, sql));
    let cleaned = |sql: &str| sql.trim().trim_end_matches(';').to_owned();
    ensure!(!wattlake.trim().is_empty() && !duckdb.trim().is_empty(), "it has no query");
    Ok(Question {
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
        let same = question("a", "-- Why.\nSELECT 1;\n").unwrap();
        assert_eq!(
            (same.about.as_str(), same.wattlake.as_str(), same.duckdb.as_str()),
            ("Why.", "SELECT 1", "SELECT 1")
        );
        let two = question("a", "-- Why.\nSELECT last(x, t)\n-- duckdb\nSELECT arg_max(x, t)\n").unwrap();
        assert_eq!((two.wattlake.as_str(), two.duckdb.as_str()), ("SELECT last(x, t)", "SELECT arg_max(x, t)"));
        assert!(question("a", "SELECT 1\n").is_err());
        assert!(question("a", "-- Why.\n\n-- duckdb\nSELECT 1").is_err());
    }
}
