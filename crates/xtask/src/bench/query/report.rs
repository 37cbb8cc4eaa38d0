//! Writes results of queries: NAME.json with every run, NAME.md with the medians and their ratios.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{QueryComparison, Times, description};
use crate::bench::report::Spread;

/// A line with both medians and their ratio.
pub fn line(comparison: &QueryComparison) -> String {
    let (ours, theirs) = (median(&comparison.wattlake), median(&comparison.duckdb));
    format!("{:<16} {ours:>8.3} s  duckdb {theirs:>8.3} s  ratio {:.2}", comparison.query.name, ours / theirs)
}

/// Writes the results as NAME.json and NAME.md.
pub fn write(folder: &Path, name: &str, mut result: Value, all: &[QueryComparison]) -> Result<()> {
    let text = markdown(&result, all);
    result["queries"] = all.iter().map(query).collect();
    result["ratio_geometric_mean"] = json!(mean_ratio(all));
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let mut exact = serde_json::to_string_pretty(&result).context("write the result as JSON")?;
    exact.push('\n');
    for (ending, content) in [("json", &exact), ("md", &text)] {
        let path = folder.join(format!("{name}.{ending}"));
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    println!("{text}");
    eprintln!("written to {}", folder.display());
    Ok(())
}

fn title(result: &Value) -> &str {
    if result["benchmark"] == "tpch" { "TPC-H" } else { "Queries" }
}

fn query(comparison: &QueryComparison) -> Value {
    let times =
        |times: &Times| json!({"seconds": times.seconds, "median_s": median(times), "peak_mib": times.peak_mib});
    json!({
        "name": comparison.query.name, "about": comparison.query.about, "ratio": ratio(comparison),
        "wattlake": times(&comparison.wattlake), "duckdb": times(&comparison.duckdb),
    })
}

fn markdown(result: &Value, all: &[QueryComparison]) -> String {
    let date = result["date"].as_str().unwrap_or("-");
    let mut page = format!("# {}, {date}\n\n{}\n\n", title(result), description(result));
    page.push_str("| query | wattlake ms | duckdb ms | ratio | wattlake peak MiB | duckdb peak MiB |\n");
    page.push_str("|---|---:|---:|---:|---:|---:|\n");
    for comparison in all {
        let (ours, theirs) = (median(&comparison.wattlake) * 1e3, median(&comparison.duckdb) * 1e3);
        // Writing to a String can't fail.
        let _ = writeln!(
            page,
            "| {} | {ours:.1} | {theirs:.1} | {:.2} | {:.0} | {:.0} |",
            comparison.query.name,
            ratio(comparison),
            comparison.wattlake.peak_mib,
            comparison.duckdb.peak_mib
        );
    }
    let _ = writeln!(page, "\nGeometric mean of the ratios: {:.2}.", mean_ratio(all));
    page
}

/// The median; 0 of none, which can't happen after a run.
fn median(times: &Times) -> f64 {
    Spread::of(times.seconds.iter().copied()).map_or(0.0, |spread| spread.median)
}

fn ratio(comparison: &QueryComparison) -> f64 {
    median(&comparison.wattlake) / median(&comparison.duckdb)
}

fn mean_ratio(all: &[QueryComparison]) -> f64 {
    (all.iter().map(|comparison| ratio(comparison).ln()).sum::<f64>() / all.len().max(1) as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::super::queries::BenchQuery;
    use super::*;

    fn comparison(name: &str, ours: [f64; 3], theirs: [f64; 3]) -> QueryComparison {
        let sql = String::new();
        let query = BenchQuery { name: name.into(), about: sql.clone(), wattlake: sql.clone(), duckdb: sql };
        let times = |seconds: [f64; 3]| Times { seconds: seconds.into(), peak_mib: 64.0 };
        QueryComparison { query, wattlake: times(ours), duckdb: times(theirs) }
    }

    #[test]
    fn ratios_are_of_medians_and_their_mean_is_geometric() {
        let all = [comparison("a", [0.1, 9.0, 0.2], [0.1, 0.1, 0.1]), comparison("b", [0.1; 3], [0.2; 3])];
        assert!((mean_ratio(&all) - 1.0).abs() < 1e-12);
        let page = markdown(&json!({"date": "2026-01-02", "rows": 7}), &all);
        assert!(page.contains("| a | 200.0 | 100.0 | 2.00 | 64 | 64 |"), "{page}");
        assert!(page.contains("Geometric mean of the ratios: 1.00."), "{page}");
    }
}
