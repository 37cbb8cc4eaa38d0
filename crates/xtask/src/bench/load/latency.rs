//! Latencies of queries, read from pgbench's logs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// Sorted milliseconds, by the name of the query.
pub type Latencies = BTreeMap<String, Vec<f64>>;

/// Reads all logs in the folder. `scripts` are in the order in which they were passed to pgbench.
pub fn read(folder: &Path, scripts: &[String]) -> Result<Latencies> {
    let mut all = Latencies::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.context("list pgbench's logs")?.path();
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        for line in text.lines() {
            let (script, ms) = parse_line(line).with_context(|| format!("read {}: \"{line}\"", path.display()))?;
            let name = scripts.get(script).with_context(|| format!("there is no script {script}"))?;
            all.entry(name.clone()).or_default().push(ms);
        }
    }
    for times in all.values_mut() {
        times.sort_by(f64::total_cmp);
    }
    ensure!(scripts.iter().all(|name| all.contains_key(name)), "a query never ended: the run was too short");
    Ok(all)
}

/// The script's number and the milliseconds of a line: client, transaction, microseconds, script, ...
fn parse_line(line: &str) -> Result<(usize, f64)> {
    let mut fields = line.split(' ').skip(2);
    let micros: f64 = fields.next().context("no time")?.parse().context("the time is not a number")?;
    let script = fields.next().context("no script")?.parse().context("the script is not a number")?;
    Ok((script, micros / 1e3))
}

/// The percentile of sorted times by the nearest rank; NaN of none.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// Writes the results as load.json and load.md.
pub fn write(folder: &Path, mut result: Value, all: &Latencies) -> Result<()> {
    let text = markdown(&result, all);
    let query = |(name, times): (&String, &Vec<f64>)| {
        json!({"name": name, "count": times.len(), "p50_ms": percentile(times, 50), "p95_ms": percentile(times, 95),
            "max_ms": percentile(times, 100)})
    };
    result["queries"] = all.iter().map(query).collect();
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let mut exact = serde_json::to_string_pretty(&result).context("write the result as JSON")?;
    exact.push('\n');
    for (name, content) in [("load.json", &exact), ("load.md", &text)] {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    println!("{text}");
    eprintln!("written to {}", folder.display());
    Ok(())
}

fn markdown(result: &Value, all: &Latencies) -> String {
    let text = |key: &str| result[key].as_str().unwrap_or("-").to_owned();
    let queries: usize = all.values().map(Vec::len).sum();
    let mut page = format!("# Load, {}\n\n", text("date"));
    // Writing to a String can't fail.
    let _ = writeln!(
        page,
        "{} series, {} connections for {} s, {} protocol; {queries} queries and {} transfers, no error. \
         Peak of the server: {:.0} MiB. {} cores, {}. Commit {}, profile `{}`.\n",
        result["series"],
        result["connections"],
        result["seconds"],
        text("protocol"),
        result["transfers"],
        result["server_peak_mib"].as_f64().unwrap_or_default(),
        result["machine"]["cores"],
        result["machine"]["cpu"].as_str().unwrap_or("-"),
        text("commit"),
        text("profile"),
    );
    page.push_str("| query | count | p50 ms | p95 ms | max ms |\n|---|---:|---:|---:|---:|\n");
    for (name, times) in all {
        let [half, most, max] = [50, 95, 100].map(|percent| percentile(times, percent));
        let _ = writeln!(page, "| {name} | {} | {half:.0} | {most:.0} | {max:.0} |", times.len());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log() {
        assert_eq!(parse_line("0 199 2241 3 1175850568 995598").unwrap(), (3, 2.241));
        assert!(parse_line("0 199 failed 0 1175850568 995598").is_err());
    }

    #[test]
    fn percentiles_of_few_and_of_many() {
        assert_eq!([50, 95, 100].map(|p| percentile(&[7.0], p)), [7.0; 3]);
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([50, 95, 100].map(|p| percentile(&hundred, p)), [50.0, 95.0, 100.0]);
    }
}
