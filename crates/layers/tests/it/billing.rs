//! The example's billing algorithm in the sandbox, with three layers and nothing else of the machine. Its own tests
//! in R run there too, one event each.

use std::fs;
use std::path::{Path, PathBuf};

use function::host::Answer;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::world::{Host, LAYERS, Root, trial};

/// Runs one of the tests in R.
const CHECK: &str = r#"check <- function(event) { source(file.path("tests", event$test)); "passed" }"#;
/// Shared by the tests, and not a test itself.
const SHARED: &str = "month.R";

fn folder() -> PathBuf {
    Path::new("../../warehouse/functions/billing-extract").to_path_buf()
}

/// The names of R files, sorted.
fn r_files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".R")).collect();
    names.sort();
    names
}

pub fn trials() -> Vec<Trial> {
    let tests = r_files(&folder().join("tests")).into_iter().filter(|name| name != SHARED);
    let mut trials: Vec<Trial> = tests
        .map(|test| {
            let name = format!("billing::{}", test.trim_end_matches(".R"));
            trial(&name, async move || {
                assert_eq!(host("check.check").value(&json!({"test": test}).to_string()).await, json!("passed"));
            })
        })
        .collect();
    trials.push(trial("billing::the_same_event_gives_the_same_bytes", same_bytes));
    trials
}

fn host(handler: &str) -> Host {
    let folder = folder();
    let tests = folder.join("tests");
    let read = |path: PathBuf| fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut files: Vec<(String, String)> = vec![("check.R".to_owned(), CHECK.to_owned())];
    files.extend(r_files(&folder).into_iter().map(|name| (name.clone(), read(folder.join(&name)))));
    files.extend(r_files(&tests).into_iter().map(|name| (format!("tests/{name}"), read(tests.join(&name)))));
    let files: Vec<(&str, u32, &str)> =
        files.iter().map(|(name, text)| (name.as_str(), 0o100_644, text.as_str())).collect();
    Host::of(&files, handler, LAYERS.three(), Root::Bare)
}

/// March 2026 in Paris, by its quarters of an hour.
fn event() -> Value {
    let (from, quarters) = (1_772_319_600_i64, 743 * 4);
    let starts: Vec<i64> = (0..quarters).map(|at| from + at * 900).collect();
    let each = |value: Value| vec![value; starts.len()];
    let prices: Vec<String> = (0..quarters).map(|at| format!("{}.{:02}", at % 120 - 7, at % 100)).collect();
    let energies: Vec<i64> = (0..quarters).map(|at| 1_000_000 + at * 31).collect();
    json!({
        "period": "2026-03", "as_of": "2026-04-02T04:00:00Z", "parameters": {"zone": "Europe/Paris"}, "inputs": {
            "contracts": {"columns": {
                "contract_id": ["CTR-1"], "producer_id": ["PRD0001"], "producer": ["Éoliennes \"du Cœur\""],
                "site_id": ["EOL-1"], "site": ["Là-haut"], "technology": ["wind"], "prm": ["30000000000001"],
                "pmax_kw": ["12000.000"], "kind": ["SPOT_PASSTHROUGH"], "valid_from": ["2020-01-01"],
                "valid_to": [null], "begins_on": ["2020-01-01"], "ends_on": [null], "price_eur_mwh": [null], "fee_eur_mwh": ["1.50"], "fee_eur_mw_month": [null],
                "management_premium_eur_mwh": [null], "nbcapa_mw": [null], "imbalance_share": [null],
                "go_eur_mwh": [null], "negative_premium": [null], "cap_mwh_year": [null], "cap_mwh_life": [null],
                "vat": ["reverse_charge"], "vat_rate_pct": [null], "fee_vat": [null], "fee_vat_rate_pct": [null],
            }},
            "declared": {"columns": {}},
            "meters": {"columns": {
                "prm": each(json!("30000000000001")), "source": each(json!("DSO_RAW")), "start": starts,
                "step_s": each(json!(900)), "energy_wh": energies, "withdrawal_wh": each(json!(0)),
                "quality": each(json!("measured")),
            }},
            "prices": {"columns": {
                "series": each(json!("DAY_AHEAD_FR")), "start": starts, "step": each(json!("PT15M")), "price": prices,
            }},
            "precedence": {"columns": {
                "kind": ["*"], "source": ["DSO_RAW"], "rank": [1], "valid_from": ["2000-01-01"], "valid_to": [null],
            }},
            "rules": {"columns": {
                "rule": ["settlement_step_s", "day_ahead_step_s"], "kind": ["*", "*"], "technology": ["*", "*"],
                "valid_from": ["1990-01-01", "1990-01-01"], "value": ["900", "900"],
            }},
            "hours_before": {"columns": {}},
            "billed_before": {"columns": {}},
        },
    })
}

async fn same_bytes() {
    let event = event().to_string();
    let (first, second) = (host("billing.extract"), host("billing.extract"));
    let mut answers = Vec::new();
    for host in [&first, &first, &second] {
        match host.ask(&event).await.answer {
            Answer::Response(body) => answers.push(body),
            Answer::Error(failure) => panic!("{}\n{}", String::from_utf8_lossy(&failure.body), host.log()),
        }
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "warm or cold, the bytes are the same");
    let answer: Value = serde_json::from_slice(&answers[0]).expect("JSON");
    let energy_wh: i64 = (0..743 * 4).map(|at| 1_000_000 + at * 31).sum();
    // In 1e-8 EUR: Wh x hundredths of EUR/MWh.
    let hundredths =
        |at: i64| if at % 120 < 7 { (at % 120 - 7) * 100 - at % 100 } else { (at % 120 - 7) * 100 + at % 100 };
    let revenue: i64 = (0..743 * 4).map(|at| (1_000_000 + at * 31) * hundredths(at)).sum();
    let cents = (revenue + 500_000) / 1_000_000;
    let lines = &answer["lines"];
    assert_eq!(lines[0]["rule"], json!("spot"));
    assert_eq!(lines[0]["quantity"], json!(energy_wh));
    assert_eq!(lines[0]["amount"], json!(format!("{}.{:02}", cents / 100, cents % 100)));
    assert_eq!(lines[0]["producer"], json!("Éoliennes \"du Cœur\""));
    assert_eq!(lines[0]["price"], Value::Null);
    assert_eq!(answer["days"].as_array().map(Vec::len), Some(31));
    assert_eq!(answer["incomplete"], json!([]));
}
