//! The example's own billing, in R on its three layers, over files that have typical faults.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use platform::billing::{File, files};
use serde_json::{Value, json};

use crate::world::{EXAMPLE, Warehouse};

const SEED: u64 = 42;

struct Flow {
    warehouse: Warehouse,
    files: Vec<File>,
    /// Names of files that were not brought in yet.
    new_files: Vec<String>,
}

/// With the load, and how the names of its files begin and end.
const INGESTS: [(&str, &str, &str, &str); 7] = [
    ("contracts", "contracts", "reference/contracts", ".csv"),
    ("precedence", "precedence", "reference/precedence", ".csv"),
    ("prices", "prices", "reference/prices", ".csv"),
    ("meters", "meters", "reference/meters", ".csv"),
    ("orders", "orders", "reference/orders", ".csv"),
    ("production", "declared", "production/", ".csv"),
    ("production-workbook", "declared-workbook", "production/", ".xlsx"),
];

/// Copies the example's files, without those that demos made there.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        // The layer of Python needs packages that not every machine has; the tests of forecasts write their own.
        if name == "demo" || name == "python.toml" || name.to_string_lossy().starts_with('.') {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

impl Flow {
    fn new() -> Flow {
        let warehouse = Warehouse::new(&[]);
        copy(Path::new(EXAMPLE), warehouse.path());
        let warehouse = warehouse.with_env("PLATFORM_URL", "postgresql://nobody@127.0.0.1:1/none");
        warehouse.ok(&["layer", "build"]);
        let mut files = files(SEED, DateTime::<Utc>::MAX_UTC).unwrap();
        files.reverse();
        Flow { warehouse, files, new_files: Vec::new() }
    }

    /// Brings in the files that are available by an instant. Returns the quarantined files, each with its reason.
    fn deliver(&mut self, until: &str) -> Vec<(String, String)> {
        let until: DateTime<Utc> = until.parse().unwrap();
        while let Some(file) = self.files.pop_if(|file| file.available_at <= until) {
            let path = self.warehouse.path().join("inbox").join(&file.name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if path.exists() {
                self.ingest_and_load();
            }
            fs::write(&path, &file.bytes).unwrap();
            self.new_files.push(file.name);
            // An ingest skips a file that was written just now.
            let minutes_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(300);
            fs::File::options().write(true).open(path).unwrap().set_modified(minutes_ago).unwrap();
        }
        self.ingest_and_load();
        assert!(self.new_files.is_empty(), "no ingest fetches {:?}", self.new_files);
        let quarantined = "select name, reason from ingest.files where verdict = 'quarantined' order by name";
        let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
        self.warehouse.sql(quarantined).iter().map(|row| (text(row, "name"), text(row, "reason"))).collect()
    }

    fn ingest_and_load(&mut self) {
        for (ingest, load, begins, ends) in INGESTS {
            let came = self.new_files.extract_if(.., |name| name.starts_with(begins) && name.ends_with(ends)).count();
            if came == 0 {
                continue;
            }
            self.warehouse.ok(&["run", &format!("ingest:{ingest}")]);
            self.warehouse.ok(&["run", &format!("load:{load}")]);
        }
    }

    fn extract(&self, month: &str, more: &[&str]) -> Value {
        self.warehouse.json(&[&["run", "function:billing-extract", "--for", month, "--json"], more].concat()).remove(0)
    }

    fn close(&self, month: &str) -> Value {
        self.extract(month, &[]);
        self.warehouse.ok(&["run", "load:days", "--for", month]);
        self.warehouse.json(&["run", "load:lines", "--for", month, "--json"]).remove(0)
    }

    /// The controls that block the month.
    fn blocking_controls(&self, month: &str) -> Vec<String> {
        let said = self.warehouse.run(&["run", "control:billing", "--for", month, "--json"]);
        let verdicts = said.objects();
        assert_eq!(verdicts.len(), 48);
        let broken: Vec<&Value> = verdicts.iter().filter(|verdict| verdict["state"] == "broken").collect();
        assert!(broken.is_empty(), "{broken:?}");
        let stops = |verdict: &&Value| verdict["severity"] == "block" && verdict["state"] == "failed";
        verdicts.iter().filter(stops).map(|verdict| verdict["control"].as_str().unwrap().to_owned()).collect()
    }

    /// Lets the server close a month: it starts each job after the one before it, from the function on.
    fn close_by_server(&self, month: &str) {
        let toml = self.warehouse.path().join("wattlake.toml");
        let text = fs::read_to_string(&toml).unwrap();
        fs::write(&toml, format!("{text}sql = \"off\"\nhttp = \"off\"\nfunctions = \"off\"\n")).unwrap();
        let mut served = self.warehouse.command(&["serve"]).stderr(Stdio::null()).spawn().unwrap();
        self.warehouse.ok(&["run", "--detach", "function:billing-extract", "--for", month]);
        let deadline = Instant::now() + Duration::from_secs(600);
        let ended = loop {
            let runs = self.warehouse.json(&["runs", "statement:producers", "--json"]);
            if let Some(run) = runs.into_iter().find(|run| run["state"] != "running") {
                break run;
            }
            if Instant::now() > deadline {
                served.kill().unwrap();
                panic!("no statement was issued: {}", self.warehouse.ok(&["runs"]).out);
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        served.kill().unwrap();
        served.wait().unwrap();
        fs::write(&toml, text).unwrap();
        assert_eq!((&ended["state"], &ended["for"]), (&json!("succeeded"), &json!(month)), "{ended}");
    }

    /// The numbers of the statements that are issued.
    fn issue(&self, month: &str) -> Vec<String> {
        let said = self.warehouse.json(&["run", "statement:producers", "--for", month, "--json"]);
        said.iter().filter_map(|object| object["number"].as_str().map(str::to_owned)).collect()
    }
}

#[test]
fn months_are_billed_stopped_repaired_and_corrected() {
    let mut it = Flow::new();
    assert!(it.deliver("2026-01-02T05:00:00Z").is_empty());
    it.close_by_server("2025-12");
    assert_eq!(it.warehouse.count("billing.bills"), 21);
    assert!(it.blocking_controls("2025-12").is_empty());
    assert!(it.issue("2025-12").is_empty(), "all are unchanged");
    assert_eq!(it.warehouse.count("billing.statements"), 7);
    let page = it.warehouse.path().join("outbox/statements/2025-12/2025-12-PRD0001-1.html");
    assert_eq!(fs::read_to_string(page).unwrap().matches("<rect ").count(), 31, "the days came before the statement");

    let quarantined = it.deliver("2026-02-02T05:00:00Z");
    assert_eq!(quarantined.len(), 1, "{quarantined:?}");
    assert!(quarantined[0].0 == "PRD0001-2026-01.csv" && quarantined[0].1.contains("decimal mark"), "{quarantined:?}");
    it.close("2026-01");
    assert_eq!(it.blocking_controls("2026-01"), ["files_quarantined"]);
    // Whose file is quarantined waits, and nobody else.
    let held = it.warehouse.run(&["run", "statement:producers", "--for", "2026-01"]);
    assert_eq!(held.code, 1);
    held.has("PRD0001                  held back by files_quarantined").has("6 statements issued, 1 held back");
    it.deliver("2026-02-06T12:00:00Z");
    assert_eq!(it.blocking_controls("2026-01"), ["inputs_changed"]);
    assert_eq!(it.close("2026-01")["changed"], 2, "the late file says more than SCADA did");
    assert!(it.blocking_controls("2026-01").is_empty());
    // The one that was held back, and one whose file was corrected meanwhile.
    assert_eq!(it.issue("2026-01"), ["2026-01-PRD0001-1", "2026-01-PRD0007-2"]);

    // A rerun as of the same instant: the same event, the same bytes, whatever came since.
    it.deliver("2026-03-02T05:00:00Z");
    let first = it.extract("2026-02", &[]);
    it.warehouse.ok(&["run", "load:lines", "--for", "2026-02"]);
    it.warehouse.ok(&["run", "load:days", "--for", "2026-02"]);
    assert!(it.blocking_controls("2026-02").is_empty());
    assert_eq!(it.issue("2026-02").len(), 7);
    it.deliver("2026-03-13T05:00:00Z");
    let again = it.extract("2026-02", &["--as-of", first["as_of"].as_str().unwrap()]);
    assert_eq!(again["result"], first["result"]);

    // A correction after billing: a reversal, a new line, another statement.
    assert_eq!(it.blocking_controls("2026-02"), ["inputs_changed"], "a rerun as of then has not seen the file");
    let corrected = it.close("2026-02");
    assert_eq!((&corrected["changed"], &corrected["new"]), (&json!(2), &json!(0)));
    assert!(it.blocking_controls("2026-02").is_empty());
    let entries = "select rule, reverses is not null as reversal, amount::text as amount from billing.lines
                   where period = '2026-02' and version = 2 order by entry";
    let entries = it.warehouse.sql(entries);
    assert_eq!(entries.len(), 4);
    assert_eq!((&entries[0]["rule"], &entries[0]["reversal"]), (&json!("cr"), &json!(true)));
    assert!(entries[0]["amount"].as_str().unwrap().starts_with('-'));
    assert_eq!(it.issue("2026-02"), ["2026-02-PRD0003-2"]);
    let page = it.warehouse.path().join("outbox/statements/2026-02/2026-02-PRD0003-2.html");
    let page = fs::read_to_string(page).unwrap();
    for words in ["Annule et remplace", "2026-02-PRD0003-1", "Complément de rémunération", "Société hydroélectrique"]
    {
        assert!(page.contains(words), "{words:?} is not in:\n{page}");
    }
    assert_eq!(page.matches("<rect ").count(), 28, "a bar a day");
    let bills = "select sum(l.amount) - (select sum(amount) from billing.bills) as n from billing.lines l";
    assert_eq!(it.warehouse.sql(bills), [json!({"n": 0.0})]);
}
