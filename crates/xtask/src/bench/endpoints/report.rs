//! Writes the results of `bench endpoints`: endpoints.json, and endpoints.md with medians.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use super::super::report::{Spread, keep};

/// Writes both files into a folder.
pub fn write(folder: &Path, result: &Value) -> Result<()> {
    keep(folder, "endpoints", result, &markdown(result))
}

fn markdown(result: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let machine = &result["machine"];
    let mut page = format!("# Endpoints, {}\n\n", text(&result["date"]));
    // Writing to a String can't fail.
    let _ = writeln!(
        page,
        "{} cores, {}, {} GiB, {}. Commit {}, profile `{}`. Medians of {} rounds; {} requests by one connection, then by \
{} connections. One LightGBM model of 200 trees and 40 columns, one row a request.\n",
        machine["cores"],
        text(&machine["cpu"]),
        machine["memory_gib"],
        text(&machine["os"]),
        text(&result["commit"]),
        text(&result["profile"]),
        result["rounds"],
        result["requests"],
        result["connections"],
    );
    let versions = result["versions"].as_object().into_iter().flatten();
    let versions: Vec<String> = versions.map(|(name, version)| format!("{name} {}", text(version))).collect();
    let _ = writeln!(page, "{}.\n", versions.join(", "));
    page.push_str(
        "| contender | p50 ms | p99 ms | requests/s | start with first answer ms | MiB before | MiB after |\n",
    );
    page.push_str("|---|---:|---:|---:|---:|---:|---:|\n");
    let runs = result["runs"].as_array().map_or(&[][..], Vec::as_slice);
    let mut names: Vec<String> = runs.iter().map(|run| text(&run["contender"])).collect();
    names.dedup();
    names.truncate(
        result["runs"].as_array().map_or(0, Vec::len) / result["rounds"].as_u64().unwrap_or(1).max(1) as usize,
    );
    for name in names {
        let own: Vec<&Value> = runs.iter().filter(|run| run["contender"] == name).collect();
        let median =
            |key: &str| Spread::of(own.iter().filter_map(|run| run[key].as_f64())).map_or(0.0, |all| all.median);
        let _ = writeln!(
            page,
            "| {name} | {:.3} | {:.3} | {:.0} | {:.0} | {:.0} | {:.0} |",
            median("p50_ms"),
            median("p99_ms"),
            median("requests_per_s"),
            median("start_ms"),
            median("idle_mib"),
            median("memory_mib"),
        );
    }
    page.push_str(&sleeping(result, runs));
    page
}

/// The table of endpoints that sleep.
fn sleeping(result: &Value, runs: &[Value]) -> String {
    let mut page = String::new();
    let sleeping = &result["sleeping"];
    let median = |key: &str| {
        let all = sleeping[key].as_array().into_iter().flatten().filter_map(Value::as_f64);
        Spread::of(all).map_or(0.0, |all| all.median)
    };
    let first: Vec<f64> =
        runs.iter().filter(|run| run["contender"] == "wattlake").filter_map(|run| run["first_ms"].as_f64()).collect();
    let _ = writeln!(page, "\n| endpoints that sleep | |\n|---|---:|");
    let mut row = |what: &str, value: String| {
        let _ = writeln!(page, "| {what} | {value} |");
    };
    row("first answer of a LightGBM model", format!("{:.1} ms", Spread::of(first).map_or(0.0, |all| all.median)));
    row("first answer of a program in a sandbox", format!("{:.0} ms", median("first_ms")));
    row("the same program alone, until it listens", format!("{:.0} ms", median("program_alone_ms")));
    row(
        &format!("{} requests at once to one that sleeps: failed", sleeping["at_once"]),
        sleeping["at_once_failed"].to_string(),
    );
    let (one, many) = (sleeping["one_endpoint_mib"].as_f64(), sleeping["idle_endpoints_mib"].as_f64());
    row("memory of the server with one idle endpoint", format!("{:.1} MiB", one.unwrap_or_default()));
    row(
        &format!("with {} idle endpoints", sleeping["idle_endpoints"]),
        format!("{:.1} MiB, {} process", many.unwrap_or_default(), sleeping["processes"]),
    );
    page
}
