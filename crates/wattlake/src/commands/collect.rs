use std::process::ExitCode;

use anyhow::Result;
use base::text;
use jobs::flows::collect::{self, ItemReport};
use jobs::runs::RunRequest;
use jobs::warehouse::Warehouse;
use serde_json::json;

/// Runs a collect, and prints what became of each item.
pub async fn run(warehouse: &Warehouse, request: &RunRequest, name: &str, json: bool) -> Result<ExitCode> {
    let collected = collect::run(warehouse, request, name, &mut |item| print_item(item, json)).await?;
    let figures = collected.figures();
    if json {
        println!("{figures}");
    } else {
        let count = |key: &str| figures[key].as_u64().unwrap_or_default();
        if let Some(until) = figures["not_before"].as_str() {
            println!("{:<11} the partner asks not to be asked before {until}", "left");
        }
        println!(
            "collect:{name}: {} asked for: {} new values, {} revised, {} unchanged; {} quarantined, {} failed",
            text::quantity(count("items"), "item"),
            text::count(count("new")),
            text::count(count("revised")),
            text::count(count("unchanged")),
            count("quarantined"),
            count("failed")
        );
    }
    Ok(ExitCode::from(collected.exit_code()))
}

fn print_item(item: &ItemReport, json: bool) {
    if json {
        println!(
            "{}",
            json!({
                "item": item.item, "unchanged": item.unchanged, "new": item.new, "revised": item.revised,
                "quarantined": item.quarantined, "error": item.error,
            })
        );
        return;
    }
    let name = if item.item.is_empty() { "answer" } else { &item.item };
    if let Some(error) = &item.error {
        println!("{:<11} {name}: {error}", "failed");
    }
    for (at, line) in item.quarantined.iter().enumerate() {
        match at {
            0 => println!("{:<11} {name}: {line}", "quarantined"),
            _ => println!("            {line}"),
        }
    }
}
