//! Writes the results of `bench functions`: functions.json with every invocation, functions.md with percentiles.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::measurements::{Measurements, Series};

/// Writes both files into a folder.
pub fn write(folder: &Path, mut result: Value, measured: &Measurements) -> Result<()> {
    let text = markdown(&result, measured);
    result["series"] = measured.all().into_iter().map(Series::json).collect();
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let mut exact = serde_json::to_string(&result).context("write the result as JSON")?;
    exact.push('\n');
    for (name, content) in [("functions.json", &exact), ("functions.md", &text)] {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    println!("{text}");
    eprintln!("written to {}", folder.display());
    Ok(())
}

fn markdown(result: &Value, measured: &Measurements) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut page = format!("# Functions, {}\n\n", text(&result["date"]));
    let machine = &result["machine"];
    // Writing to a String can't fail.
    let _ = writeln!(
        page,
        "{} cores, {}, {} GiB, {}. Commit {}, profile `{}`. {} rounds.\n",
        machine["cores"],
        text(&machine["cpu"]),
        machine["memory_gib"],
        text(&machine["os"]),
        text(&result["commit"]),
        text(&result["profile"]),
        result["rounds"],
    );
    let versions = result["versions"].as_object().into_iter().flatten();
    let versions: Vec<String> = versions.map(|(name, version)| format!("{name} {}", text(version))).collect();
    let _ = writeln!(page, "{}.\n", versions.join(", "));
    page.push_str("| case | function | contender | answered | failed | min ms | p50 ms | p90 ms | p99 ms |\n");
    page.push_str("|---|---|---|---:|---:|---:|---:|---:|---:|\n");
    for series in measured.all() {
        let Series { case, function, contender, times_ms, failed } = series;
        let [min, half, most, nearly] =
            [0, 50, 90, 99].map(|p| series.percentile(p).map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2}")));
        let _ = writeln!(
            page,
            "| {case} | {function} | {contender} | {} | {failed} | {min} | {half} | {most} | {nearly} |",
            times_ms.len()
        );
    }
    page.push_str("\nThe server's memory beside a function that takes all that it can: ");
    let neighbours = result["neighbours"].as_array().into_iter().flatten();
    let more = neighbours
        .map(|one| format!("{} {:+.0} MiB", text(&one["case"]), one["more_mib"].as_f64().unwrap_or_default()));
    let _ = writeln!(page, "{}.", more.collect::<Vec<_>>().join(", "));
    page
}
