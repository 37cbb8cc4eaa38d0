//! What was measured: NAME.json has every run, NAME.md the medians and their ratios.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Asking, Times, described};
use crate::bench::report::Spread;

pub fn line(asking: &Asking) -> String {
    let (ours, theirs) = (median(&asking.wattlake), median(&asking.duckdb));
    format!("{:<16} {ours:>8.3} s  duckdb {theirs:>8.3} s  ratio {:.2}", asking.question.name, ours / theirs)
}

pub fn write(folder: &Path, name: &str, mut result: Value, all: &[Asking]) -> Result<()> {
    let text = markdown(&result, all);
    result["queries"] = all.iter().map(query).collect();
    result["ratio_geometric_mean"] = json!(mean_ratio(all));
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
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

fn query(asking: &Asking) -> Value {
    let times =
        |times: &Times| json!({"seconds": times.seconds, "median_s": median(times), "peak_mib": times.peak_mib});
    json!({
        "name": asking.question.name, "about": asking.question.about, "ratio": ratio(asking),
        "wattlake": times(&asking.wattlake), "duckdb": times(&asking.duckdb),
    })
}

fn markdown(result: &Value, all: &[Asking]) -> String {
    let date = result["date"].as_str().unwrap_or("-");
    let mut page = format!("# {}, {date}\n\n{}\n\n", title(result), described(result));
    page.push_str("| query | wattlake ms | duckdb ms | ratio | wattlake peak MiB | duckdb peak MiB |\n");
    page.push_str("|---|---:|---:|---:|---:|---:|\n");
    for asking in all {
        let (ours, theirs) = (median(&asking.wattlake) * 1e3, median(&asking.duckdb) * 1e3);
        // Writing to a String can't fail.
        let _ = writeln!(
            page,
            "| {} | {ours:.1} | {theirs:.1} | {:.2} | {:.0} | {:.0} |",
            asking.question.name,
            ratio(asking),
            asking.wattlake.peak_mib,
            asking.duckdb.peak_mib
        );
    }
    let _ = writeln!(page, "\nGeometric mean of the ratios: {:.2}.", mean_ratio(all));
    page
}

/// 0 of none, which no program that ran can show.
fn median(times: &Times) -> f64 {
    Spread::of(times.seconds.iter().copied()).map_or(0.0, |spread| spread.median)
}

fn ratio(asking: &Asking) -> f64 {
    median(&asking.wattlake) / median(&asking.duckdb)
}

fn mean_ratio(all: &[Asking]) -> f64 {
    (all.iter().map(|asking| ratio(asking).ln()).sum::<f64>() / all.len().max(1) as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::super::questions::Question;
    use super::*;

    fn asking(name: &str, ours: [f64; 3], theirs: [f64; 3]) -> Asking {
        let sql = String::new();
        let question = Question { name: name.into(), about: sql.clone(), wattlake: sql.clone(), duckdb: sql };
        let times = |seconds: [f64; 3]| Times { seconds: seconds.into(), peak_mib: 64.0 };
        Asking { question, wattlake: times(ours), duckdb: times(theirs) }
    }

    #[test]
    fn ratios_are_of_medians_and_their_mean_is_geometric() {
        let all = [asking("a", [0.1, 9.0, 0.2], [0.1, 0.1, 0.1]), asking("b", [0.1; 3], [0.2; 3])];
        assert!((mean_ratio(&all) - 1.0).abs() < 1e-12);
        let page = markdown(&json!({"date": "2026-01-02", "rows": 7}), &all);
        assert!(page.contains("| a | 200.0 | 100.0 | 2.00 | 64 | 64 |"), "{page}");
        assert!(page.contains("Geometric mean of the ratios: 1.00."), "{page}");
    }
}
