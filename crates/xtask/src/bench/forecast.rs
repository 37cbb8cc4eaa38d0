//! `bench forecast`: the example's forecaster on eleven French catchments and on a wind farm, beside plain references
//! that are fitted in the same run. Writes forecast.json with all rows, and forecast.md.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use super::programs::python;
use super::report::{describe, keep, results_folder};
use crate::project::{Project, run as run_command};

/// The options of `bench forecast`.
#[derive(Args)]
pub struct Options {
    /// The folder with hydro_daily/ and wind_10min/: bench/README.md says what is in them
    #[arg(long, default_value = "../shared/data")]
    data: PathBuf,
    /// One catchment only, to test the benchmark; the results are not kept
    #[arg(long)]
    quick: bool,
}

/// The horizons of the table, in days.
const SHOWN: [u64; 4] = [1, 3, 5, 7];
/// The catchment of a quick run.
const QUICK: &str = "H010002001";

/// Runs the benchmark and writes its results.
pub fn run(project: &Project, options: &Options) -> Result<()> {
    let data = project.root.join(&options.data);
    ensure!(data.join("hydro_daily").is_dir(), "{} has no hydro_daily/: see bench/README.md", data.display());
    let work = project.root.join("bench/work/forecast");
    fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    let forecaster = project.root.join("warehouse/containers/forecaster");
    let python = python(project, &forecaster, &work.join("venv"))?;
    let path = work.join("result.json");
    let mut measure = Command::new(python);
    measure.arg(project.root.join("bench/forecast/measure.py")).arg(&data).arg(&forecaster).arg(&path);
    measure.args(options.quick.then_some(QUICK));
    run_command(&mut measure)?;
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut result: Value = serde_json::from_str(&text).context("read the result")?;
    describe(project, "forecast", &mut result)?;
    let folder = if options.quick { project.root.join("bench/work/quick") } else { results_folder(project, &result)? };
    keep(&folder, "forecast", &result, &markdown(&result))
}

fn markdown(result: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let machine = &result["machine"];
    // Writing to a String can't fail.
    let mut page = format!("# Forecasts, {}\n\n", text(&result["date"]));
    let _ = writeln!(
        page,
        "{} cores, {}, {} GiB, {}. Commit {}. Daily flows of French catchments (CAMELS-FR): fitted to 2009, issued each day of \
         2010 to 2012 from observations alone, 1 to 7 days ahead.\n",
        machine["cores"],
        text(&machine["cpu"]),
        machine["memory_gib"],
        text(&machine["os"]),
        text(&result["commit"]),
    );
    page.push_str("| goal | reached | |\n|---|---|---|\n");
    for goal in result["goals"].as_array().into_iter().flatten() {
        let reached = goal["reached"].as_array().into_iter().flatten().filter_map(Value::as_f64);
        let reached: Vec<String> = reached.map(|number| format!("{number:.3}")).collect();
        let verdict = if goal["holds"] == true { "holds" } else { "does not hold" };
        let _ = writeln!(page, "| {} | {} | {verdict} |", text(&goal["goal"]), reached.join(" "));
    }
    let columns: [(&str, &str); 5] = [
        ("median NSE", "nse_median"),
        ("mean skill", "skill_mean"),
        ("least skill", "skill_least"),
        ("coverage", "coverage"),
        ("pinball, mm", "pinball_mean"),
    ];
    table(&mut page, result["summary"].as_array(), "method", &columns);
    let columns = [("NSE", "nse"), ("skill", "skill"), ("pinball, mm", "pinball")];
    let rows = result["catchments"].as_array().into_iter().flatten().filter(|row| row["method"] == "forecaster");
    let rows: Vec<Value> = rows.cloned().collect();
    table(&mut page, Some(&rows), "site", &columns);
    let training = &result["training"];
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let _ = writeln!(
        page,
        "\nTraining with a backtest of one catchment, all horizons and quantiles, one thread: {:.1} s, {:.0} MiB.",
        number(&training["seconds"]),
        number(&training["memory_mib"])
    );
    let steps = result["wind"]["steps"].as_array().map_or(&[][..], Vec::as_slice);
    if !steps.is_empty() {
        page.push_str("\nWind (La Haute Borne, 10 minutes), fitted on 2014, tested on 2015:\n\n");
        page.push_str("| step | skill | coverage |\n|---:|---:|---:|\n");
        for step in
            steps.iter().filter(|step| [1, 2, 3, 6, 12, 18, 24, 30, 36].iter().any(|shown| step["step"] == *shown))
        {
            let _ = writeln!(
                page,
                "| {} | {:.3} | {:.3} |",
                step["step"],
                number(&step["skill"]),
                number(&step["coverage"])
            );
        }
    }
    page
}

/// A table of values at the shown horizons, a row for each name.
fn table(page: &mut String, rows: Option<&Vec<Value>>, name: &str, columns: &[(&str, &str)]) {
    let rows = rows.map_or(&[][..], Vec::as_slice);
    let titles: Vec<String> = columns.iter().map(|(title, _)| format!("{title} at 1/3/5/7 days")).collect();
    let _ = writeln!(page, "\n| {name} | {} |\n|---|{}", titles.join(" | "), "---|".repeat(columns.len()));
    let mut names: Vec<&Value> = Vec::new();
    for row in rows.iter().filter(|row| SHOWN.iter().any(|horizon| row["horizon"] == *horizon)) {
        if !names.contains(&&row[name]) {
            names.push(&row[name]);
        }
    }
    for one in names {
        let value = |column: &str| {
            let at = |horizon: &u64| rows.iter().find(|row| row[name] == *one && row["horizon"] == *horizon);
            let found: Vec<String> =
                SHOWN.iter().filter_map(|horizon| Some(format!("{:.3}", at(horizon)?[column].as_f64()?))).collect();
            if found.is_empty() { "-".to_owned() } else { found.join(" / ") }
        };
        let values: Vec<String> = columns.iter().map(|(_, column)| value(column)).collect();
        let _ = writeln!(page, "| {} | {} |", one.as_str().unwrap_or("-"), values.join(" | "));
    }
}
