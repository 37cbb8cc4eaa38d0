//! Writes the results of `bench copy`: copy.json with every run, copy.md with medians. Also finds the date, commit and
//! machine for the results of all benchmarks.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::measure::Run;
use crate::project::{Project, output};

/// The pairs of contenders whose wall times are compared.
const PAIRS: [(&str, &str); 8] = [
    ("wattlake", "floor-1"),
    ("wattlake", "floor-2"),
    ("wattlake", "duckdb"),
    ("wattlake", "duckdb-default"),
    ("wattlake", "connectorx"),
    ("duckdb", "floor-1"),
    ("wattlake-pg", "native"),
    ("wattlake-pg", "pgcopydb"),
];

struct Summary {
    table: &'static str,
    contender: &'static str,
    wall: Spread,
    cpu_s: Option<f64>,
    rss_max_mib: Option<f64>,
    inside_s: Option<f64>,
    bytes: Option<f64>,
}

/// The median and the range of some values.
#[derive(Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// None where there are no values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Self { median, min, max })
    }
}

/// Writes copy.json and copy.md into a folder.
pub fn write(folder: &Path, result: &Value, runs: &[Run]) -> Result<()> {
    let summaries = summaries(runs);
    let text = markdown(result, &summaries);
    let mut result = result.clone();
    result["medians"] = summaries.iter().map(summary_json).collect();
    result["ratios"] = ratios(&summaries)
        .into_iter()
        .map(|(table, one, other, ratio)| json!({"table": table, "of": one, "to": other, "wall": ratio}))
        .collect();
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let mut exact = serde_json::to_string_pretty(&result).context("write the result as JSON")?;
    exact.push('\n');
    for (name, content) in [("copy.json", &exact), ("copy.md", &text)] {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    println!("{text}");
    eprintln!("written to {}", folder.display());
    Ok(())
}

/// Summaries by table, then in the order of the first runs.
fn summaries(runs: &[Run]) -> Vec<Summary> {
    let mut keys: Vec<(&'static str, &'static str)> = Vec::new();
    for run in runs {
        if !keys.contains(&(run.table, run.contender)) {
            keys.push((run.table, run.contender));
        }
    }
    let place = |table: &str| ["measures", "wide", "both"].iter().position(|t| *t == table);
    keys.sort_by_key(|(table, _)| place(table));
    let summary = |(table, contender)| {
        let mine: Vec<&Run> = runs.iter().filter(|r| (r.table, r.contender) == (table, contender)).collect();
        let median =
            |value: fn(&Run) -> Option<f64>| Spread::of(mine.iter().filter_map(|r| value(r))).map(|s| s.median);
        Some(Summary {
            table,
            contender,
            wall: Spread::of(mine.iter().map(|r| r.wall_s))?,
            cpu_s: median(|r| r.cpu_s),
            // Of memory, the worst round counts.
            rss_max_mib: Spread::of(mine.iter().filter_map(|r| r.rss_max_mib)).map(|s| s.max),
            inside_s: median(|r| r.inside_s),
            bytes: median(|r| r.bytes.map(|b| b as f64)),
        })
    };
    keys.into_iter().filter_map(summary).collect()
}

fn summary_json(summary: &Summary) -> Value {
    let Summary { table, contender, wall, cpu_s, rss_max_mib, inside_s, bytes } = summary;
    json!({
        "table": table, "contender": contender, "wall_s": wall.median, "wall_s_min": wall.min, "wall_s_max": wall.max,
        "cpu_s": cpu_s, "rss_max_mib": rss_max_mib, "inside_s": inside_s, "bytes": bytes,
    })
}

/// Ratios of median times within a table; 0.5 means half the time.
fn ratios(summaries: &[Summary]) -> Vec<(&'static str, &'static str, &'static str, f64)> {
    let mut all = Vec::new();
    for (one, other) in PAIRS {
        for first in summaries.iter().filter(|s| s.contender == one) {
            let second = summaries.iter().find(|s| s.contender == other && s.table == first.table);
            all.extend(second.map(|second| (first.table, one, other, first.wall.median / second.wall.median)));
        }
    }
    all
}

fn markdown(result: &Value, summaries: &[Summary]) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut page = format!("# Copy, {}\n\n", text(&result["date"]));
    let machine = &result["machine"];
    // Writing to a String can't fail.
    let _ = writeln!(
        page,
        "{} cores, {}, {} GiB, {}. Commit {}, profile `{}`.\n",
        machine["cores"],
        text(&machine["cpu"]),
        machine["memory_gib"],
        text(&machine["os"]),
        text(&result["commit"]),
        text(&result["profile"]),
    );
    let versions = result["versions"].as_object().into_iter().flatten();
    let _ =
        writeln!(page, "{}.", versions.map(|(name, v)| format!("{name} {}", text(v))).collect::<Vec<_>>().join(", "));
    for (table, title) in
        [("measures", "bench.measures"), ("wide", "bench.wide"), ("both", "Both tables into PostgreSQL")]
    {
        let rows: Vec<&Summary> = summaries.iter().filter(|s| s.table == table).collect();
        if rows.is_empty() {
            continue;
        }
        let _ = writeln!(page, "\n## {title}\n");
        if let Some(size) = result["tables"].get(table) {
            let megabytes = size["bytes"].as_f64().unwrap_or_default() / 1e6;
            let _ = writeln!(page, "{} rows, {} columns, {megabytes:.0} MB.\n", size["rows"], size["columns"]);
        }
        page.push_str("| contender | wall s | min | max | inside s | client CPU-s | peak MiB | MB written |\n");
        page.push_str("|---|---:|---:|---:|---:|---:|---:|---:|\n");
        for Summary { contender, wall: Spread { median, min, max }, cpu_s, rss_max_mib, inside_s, bytes, .. } in rows {
            let (inside, cpu) = (cell(*inside_s, 2), cell(*cpu_s, 2));
            let (memory, written) = (cell(*rss_max_mib, 0), cell(bytes.map(|b| b / 1e6), 1));
            let _ = writeln!(
                page,
                "| {contender} | {median:.2} | {min:.2} | {max:.2} | {inside} | {cpu} | {memory} | {written} |"
            );
        }
    }
    let ratios = ratios(summaries);
    if !ratios.is_empty() {
        page.push_str("\n## Ratios of wall time\n\n| table | of | to | ratio |\n|---|---|---|---:|\n");
        for (table, one, other, ratio) in ratios {
            let _ = writeln!(page, "| {table} | {one} | {other} | {ratio:.2} |");
        }
    }
    page
}

fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"))
}

/// Writes a benchmark's result and its page, `NAME.json` and `NAME.md`, into a folder, and prints the page.
pub fn keep(folder: &Path, name: &str, result: &Value, page: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    for (file, content) in [(format!("{name}.json"), format!("{result:#}\n")), (format!("{name}.md"), page.to_owned())]
    {
        let path = folder.join(file);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    println!("{page}");
    eprintln!("written to {}", folder.display());
    Ok(())
}

/// Adds to a result which benchmark it is of, when it was run, on which machine and of which commit.
pub fn describe(project: &Project, benchmark: &str, result: &mut Value) -> Result<()> {
    result["benchmark"] = json!(benchmark);
    (result["date"], result["commit"]) = (json!(today(project)?), commit(project)?);
    result["machine"] = json!(machine()?);
    Ok(())
}

/// The date in UTC, as `2026-01-31`.
pub fn today(project: &Project) -> Result<String> {
    Ok(output(project.command("date").args(["-u", "+%F"]))?.trim().to_owned())
}

/// The commit's short hash, with "+" where files have changed since; null before the first commit.
pub fn commit(project: &Project) -> Result<Value> {
    let Ok(head) = output(project.command("git").args(["rev-parse", "--short", "HEAD"])) else {
        return Ok(Value::Null);
    };
    let changed = output(project.command("git").args(["status", "--porcelain"]))?;
    Ok(format!("{}{}", head.trim(), if changed.is_empty() { "" } else { "+" }).into())
}

/// The properties of the machine that matter to measurements, and none that identifies it.
pub fn machine() -> Result<Value> {
    let cores = std::thread::available_parallelism().context("count the cores")?.get();
    let value = |path: &str, key: &str| -> Option<String> {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find(|l| l.starts_with(key))?;
        Some(line.split_once([':', '='])?.1.trim().trim_matches('"').to_owned())
    };
    let memory_kib: f64 = value("/proc/meminfo", "MemTotal")
        .and_then(|v| v.split_whitespace().next()?.parse().ok())
        .context("read the size of the memory")?;
    Ok(json!({
        "cores": cores,
        "cpu": value("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        "memory_gib": (memory_kib / 1024.0 / 1024.0).round() as u64,
        "os": value("/etc/os-release", "PRETTY_NAME").unwrap_or_else(|| std::env::consts::OS.to_owned()),
    }))
}

/// The folder to keep the results of a full run in, by date and machine.
pub fn results_folder(project: &Project, result: &Value) -> Result<PathBuf> {
    let date = result["date"].as_str().context("a result has no date")?;
    let machine = machine_slug(&result["machine"]);
    Ok(project.root.join("bench/runs").join(format!("{date}-{machine}")))
}

/// "2-cores-amd-epyc"
fn machine_slug(machine: &Value) -> String {
    let text = format!("{} cores {}", machine["cores"], machine["cpu"].as_str().unwrap_or_default()).to_lowercase();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
    words.take(6).collect::<Vec<_>>().join("-")
}
