//! The jobs of billing, each by itself and one after another: files are ingested and loaded, a function
//! of a few lines of shell answers, its answer becomes entries, controls are evaluated.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::world::Warehouse;

mod attacked;
pub mod example;
mod files;
mod held;
mod invoices;
#[cfg(feature = "failpoints")]
mod killed;
mod property;
mod served;
mod statements;

/// Answers each event with the file `answer.json` beside it, in which EVENT stands for the event.
const BOOTSTRAP: &str = r#"#!/bin/bash
set -euo pipefail
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
while true; do
  event=$(curl -sS -D /tmp/head "$api/invocation/next")
  id=$(tr -d '\r' < /tmp/head | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //p')
  echo "an event of ${#event} characters"
  answer=$(< /var/task/answer.json)
  if [ -e /var/task/lines.csv ]; then cp /var/task/lines.csv /results/; fi
  if [ "$answer" = fail ]; then
    echo '{"errorType": "Function.Wrong", "errorMessage": "no price at noon"}' > /tmp/error
    curl -sS -o /dev/null -X POST --data-binary @/tmp/error "$api/invocation/$id/error"
  else
    printf '%s' "${answer/EVENT/$event}" > /tmp/answer
    curl -sS -o /dev/null -X POST --data-binary @/tmp/answer "$api/invocation/$id/response"
  fi
done
"#;

const PRODUCTION: &str = r##"
format = "csv"
separator = ";"
decimal = ","
key = ["prm", "starts_at"]
[columns.prm]
type = "text"
required = true
pattern = '^\d{14}$'
[columns.starts_at]
header = "horodate_debut"
type = "timestamp"
required = true
[columns.energy_wh]
header = "energie_kwh"
type = "integer"
factor = 1000
required = true
[[trailers]]
starts_with = "#TOTAL"
required = true
count = 2
sums = [{ field = 3, column = "energy_wh" }]
"##;

const LINES: &str = r#"
format = "json"
key = ["producer", "line"]
[columns.period]
type = "text"
required = true
[columns.producer]
type = "text"
required = true
[columns.line]
type = "integer"
required = true
[columns.amount]
type = "decimal(12,2)"
required = true
"#;

const LOAD_LINES: &str = "from = 'function:bill'\nat = 'lines'\nlayout = 'layouts/lines.toml'\ntable = 'billing.lines'\n\
    document = ['period', 'producer']\nkey = ['line']\namounts = ['amount']\n";

const ONE: &str = "prm;horodate_debut;energie_kwh\r\n\
    30000000000001;2026-03-29T00:00:00+01:00;216,5\r\n30000000000001;2026-03-29T01:00:00+01:00;0,25\r\n#TOTAL;2;216,75\r\n";

pub struct Billing {
    pub warehouse: Warehouse,
}

impl Billing {
    pub fn new() -> Billing {
        let toml = "lake.url = 'lake'\nserve.timezone = 'Europe/Paris'\n";
        let warehouse = Warehouse::new(&[
            ("wattlake.toml", toml),
            ("layouts/production.toml", PRODUCTION),
            ("layouts/lines.toml", LINES),
            (
                "ingests/production.toml",
                "layout = 'layouts/production.toml'\n[source]\nfolder = 'inbox'\nsettle = '0s'\n",
            ),
            ("loads/declared.toml", "from = 'ingest:production'\ntable = 'billing.declared'\n"),
            ("loads/lines.toml", LOAD_LINES),
            ("functions/bill/function.toml", "handler = 'bill'\nmemory_mb = 256\ntimeout = '5min'\n"),
            ("functions/bill/job.toml", JOB),
            ("functions/bill/bootstrap", BOOTSTRAP),
            ("controls/billing/quarantined.sql", QUARANTINED),
            ("controls/billing/large.sql", LARGE),
            ("controls/billing.toml", "[[triggers]]\nafter = 'load:lines'\n"),
        ]);
        let bootstrap = warehouse.path().join("functions/bill/bootstrap");
        fs::set_permissions(bootstrap, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(warehouse.path().join("inbox")).unwrap();
        let billing = Billing { warehouse };
        billing.answers(&[("A", 1, "10.50"), ("A", 2, "-2.25"), ("B", 1, "7.00")]);
        billing
    }

    pub fn answers(&self, lines: &[(&str, u32, &str)]) {
        let lines: Vec<Value> = lines
            .iter()
            .map(|(producer, line, amount)| json!({"period": "2026-03", "producer": producer, "line": line, "amount": amount}))
            .collect();
        self.warehouse.write("functions/bill/answer.json", &json!({"lines": lines}).to_string());
    }

    pub fn comes(&self, name: &str, bytes: &[u8]) {
        fs::write(self.warehouse.path().join("inbox").join(name), bytes).unwrap();
    }

    pub fn files_in(&self) {
        self.comes("PRD0001_2026-03.csv", ONE.as_bytes());
        self.warehouse.ok(&["run", "ingest:production"]);
        self.warehouse.ok(&["run", "load:declared"]);
    }

    pub fn bill(&self) -> Vec<Value> {
        self.warehouse.ok(&["run", "function:bill", "--for", "2026-03"]);
        self.warehouse.json(&["run", "load:lines", "--for", "2026-03", "--json"])
    }

    /// Document, entry, reversed entry, amount.
    pub fn entries(&self) -> Vec<String> {
        let query =
            "select document, entry, reverses, amount::text as amount from billing.lines order by document, entry";
        let text = |row: &Value| {
            let reverses = row["reverses"].as_i64().map(|entry| format!(" reverses {entry}")).unwrap_or_default();
            format!(
                "{} {}{reverses} {}",
                row["document"].as_str().unwrap(),
                row["entry"],
                row["amount"].as_str().unwrap()
            )
        };
        self.warehouse.sql(query).iter().map(text).collect()
    }
}

const JOB: &str = r#"
[parameters]
month = "{period}"
[inputs]
declared = "SELECT prm, starts_at, energy_wh, recorded_at <= '{as_of}' AS known FROM billing.declared WHERE starts_at >= '{from}' AND starts_at < '{to}' ORDER BY starts_at"
"#;

const QUARANTINED: &str = "--| severity = \"block\"\n--| text = \"a file was quarantined\"\n\
    SELECT name, reason FROM ingest.files f WHERE verdict = 'quarantined' AND NOT EXISTS
      (SELECT 1 FROM ingest.files l WHERE l.name = f.name AND l.verdict = 'accepted' AND l.version >= f.version)\n";

const LARGE: &str = "--| severity = \"block\"\n--| tolerance = 10\n--| text = \"a bill is large\"\n\
    SELECT producer, sum(amount) AS amount FROM billing.lines WHERE period = '{period}' GROUP BY producer \
    HAVING sum(amount) > {tolerance} ORDER BY producer\n";

#[test]
fn files_are_accepted_once_quarantined_with_reasons_and_corrected() {
    let it = Billing::new();
    it.comes("PRD0001_2026-03.csv", ONE.as_bytes());
    it.comes("copie.csv", ONE.as_bytes());
    it.comes("PRD0002_2026-03.csv", ONE.replace("216,5", "216.5").as_bytes());
    it.comes("PRD0003_2026-03.csv", ONE.replace("216,75", "216,76").as_bytes());
    let said = it.warehouse.ok(&["run", "ingest:production"]);
    said.has("accepted    PRD0001_2026-03.csv")
        .has("duplicate   copie.csv")
        .has("the same bytes as PRD0001_2026-03.csv");
    said.has("quarantined PRD0002_2026-03.csv").has("line 2").has("energie_kwh").has("216.5");
    said.has("quarantined PRD0003_2026-03.csv").has("4 files arrived: 1 accepted, 2 quarantined, 1 duplicates");
    it.warehouse.ok(&["run", "ingest:production"]).has("0 files arrived");
    it.warehouse.ok(&["run", "load:declared"]).has("2 rows of 1 files");
    it.warehouse.ok(&["run", "load:declared"]).has("0 rows of 0 files");
    let rows = it.warehouse.sql("select energy_wh, file_name, file_row from billing.declared order by starts_at");
    assert_eq!(rows[0], json!({"energy_wh": 216_500, "file_name": "PRD0001_2026-03.csv", "file_row": 2}));
    let faults = it.warehouse.sql("select what, line, text from ingest.faults where name like 'PRD0002%'");
    assert_eq!(faults[0]["what"], "decimal mark");
    assert_eq!((&faults[0]["line"], &faults[0]["text"]), (&json!(2), &json!("216.5")));

    // Other bytes under the name are its next version, which is loaded too.
    it.comes("PRD0001_2026-03.csv", ONE.replace("216,5\r", "216,6\r").replace("216,75", "216,85").as_bytes());
    it.warehouse.ok(&["run", "ingest:production"]).has("accepted    PRD0001_2026-03.csv");
    it.warehouse.ok(&["run", "load:declared"]).has("2 rows of 1 files");
    assert_eq!(it.warehouse.number("select max(file_version) as n from billing.declared"), 2);

    // With another layout the quarantined files are checked again.
    it.warehouse
        .write("layouts/production.toml", &PRODUCTION.replace("sums = [{ field = 3, column = \"energy_wh\" }]", ""));
    it.warehouse.ok(&["run", "ingest:production"]).has("accepted    PRD0003_2026-03.csv");
    let events = it.warehouse.json(&["events", "file.quarantined", "--json"]);
    assert_eq!(events.len(), 3, "one of them by both layouts: {events:?}");
}

#[test]
fn answers_become_entries_and_corrections_reversals() {
    let it = Billing::new();
    it.files_in();
    let loaded = it.bill();
    assert_eq!((&loaded[0]["documents"], &loaded[0]["new"]), (&json!(2), &json!(3)));
    assert_eq!(it.entries(), ["2026-03/A 1 10.50", "2026-03/A 2 -2.25", "2026-03/B 1 7.00"]);
    let again = it.bill();
    assert_eq!((&again[0]["rows"], &again[0]["new"]), (&json!(0), &json!(0)), "nothing is billed twice");

    it.answers(&[("A", 1, "10.75"), ("A", 2, "-2.25"), ("B", 1, "7.00")]);
    let corrected = it.bill();
    assert_eq!((&corrected[0]["changed"], &corrected[0]["same"]), (&json!(1), &json!(2)));
    let entries = it.entries();
    assert_eq!(entries[2..4], ["2026-03/A 3 reverses 1 -10.50", "2026-03/A 4 10.75"]);
    assert_eq!(it.warehouse.sql("select sum(amount)::text as n from billing.lines")[0]["n"], "15.50");

    it.answers(&[("A", 1, "10.75"), ("A", 2, "-2.25")]);
    assert_eq!(it.bill()[0]["withdrawn"], 1, "B is no longer in the answer");
    assert_eq!(it.entries()[5], "2026-03/B 2 reverses 1 -7.00");

    it.answers(&[("A", 1, "1.005")]);
    it.warehouse.ok(&["run", "function:bill", "--for", "2026-03"]);
    let said = it.warehouse.run(&["run", "load:lines", "--for", "2026-03"]);
    assert_eq!(said.code, 3, "{}", said.text());
    said.has("1.005").has("amount");
    let said = it.warehouse.run(&["run", "load:lines", "--for", "2026-02"]);
    assert_eq!(said.code, 1, "{}", said.text());
    said.has("no run of function:bill for 2026-02 has succeeded");
}

#[test]
fn a_rerun_as_of_the_same_instant_gives_the_same_bytes() {
    let it = Billing::new();
    it.warehouse.write("functions/bill/answer.json", "EVENT");
    it.files_in();
    let as_of = "2026-04-01T04:00:00Z";
    let run = || {
        let run = it.warehouse.json(&["run", "function:bill", "--for", "2026-03", "--as-of", as_of, "--json"]);
        (run[0]["result"].as_str().unwrap().to_owned(), it.warehouse.ok(&["function", "answer", "bill"]).out)
    };
    let (first, answer) = run();
    assert_eq!(run(), (first.clone(), answer.clone()));
    let event: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((&event["period"], &event["as_of"]), (&json!("2026-03"), &json!(as_of)));
    assert_eq!(event["parameters"]["month"], "2026-03");
    let columns = &event["inputs"]["declared"]["columns"];
    assert_eq!(columns["energy_wh"], json!([216_500, 250]));
    assert_eq!(columns["starts_at"], json!(["2026-03-28T23:00:00Z", "2026-03-29T00:00:00Z"]));
    let runs = it.warehouse.json(&["runs", "function:bill", "--json"]);
    assert!(runs.iter().all(|run| run["inputs"]["event"] == runs[0]["inputs"]["event"]));
    assert!(runs[0]["inputs"]["code"].as_str().unwrap().len() == 64, "{}", runs[0]["inputs"]);
    it.warehouse.write("functions/bill/answer.json", "EVENT ");
    assert_ne!(run().0, first, "another version of the function gives another answer");
}

#[test]
fn a_control_blocks_is_waived_and_has_a_history() {
    let it = Billing::new();
    it.files_in();
    it.answers(&[("A", 1, "10.50"), ("B", 1, "7.00")]);
    it.bill();
    let said = it.warehouse.run(&["run", "control:billing", "--for", "2026-03"]);
    assert_eq!(said.code, 1, "{}", said.text());
    said.has("failed  large (block): a bill is large: 1 row")
        .has("producer A, amount 10.50")
        .has("passed  quarantined");
    let waive =
        ["control", "waive", "billing/large", "--where", "producer=A", "--who", "back office", "--why", "agreed"];
    let id = it.warehouse.ok(&[&waive[..], &["--until", "2999-01-01"]].concat()).out.trim().to_owned();
    it.warehouse.ok(&["run", "control:billing", "--for", "2026-03"]).has("waived  large").has("1 of them waived");
    let over = it.warehouse.run(&[&waive[..], &["--until", "2020-01-01"]].concat());
    assert_ne!(over.code, 0);
    over.has("is over already");
    it.warehouse.ok(&["control", "revoke", &id, "--who", "back office", "--why", "by mistake"]);
    assert_eq!(it.warehouse.run(&["run", "control:billing", "--for", "2026-03"]).code, 1);
    let results = it.warehouse.sql("select state from controls.results where control = 'large' order by recorded_at");
    let states: Vec<&str> = results.iter().map(|row| row["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["failed", "waived", "failed"]);
    let found = it.warehouse.sql("select finding, waiver from controls.findings order by recorded_at");
    assert_eq!(
        (&found[0]["finding"], &found[1]["waiver"]),
        (&json!(r#"{"producer":"A","amount":"10.50"}"#), &json!(id))
    );

    it.warehouse
        .write("controls/billing/broken.sql", "--| severity = \"warn\"\n--| text = \"t\"\nSELECT * FROM nowhere\n");
    let said = it.warehouse.run(&["run", "control:billing", "--for", "2026-03"]);
    assert_eq!(said.code, 1);
    said.has("broken  broken").has("nowhere");
    it.warehouse.write("controls/billing/broken.sql", "--| severity = \"warn\"\n--| text = \"t\"\nSELECT '{perod}'\n");
    it.warehouse.run(&["check"]).has("unknown placeholder {perod}").has("period");
}

#[test]
fn rows_are_loaded_from_a_file_of_the_function() {
    let it = Billing::new();
    it.files_in();
    it.warehouse
        .write("functions/bill/lines.csv", "period,producer,line,amount\n2026-03,A,1,10.50\n2026-03,B,1,7.00\n");
    it.warehouse.write("layouts/lines.toml", &LINES.replace("\"json\"", "\"csv\""));
    it.warehouse.write("loads/lines.toml", &LOAD_LINES.replace("at = 'lines'", "file = 'lines.csv'"));
    it.warehouse.run(&["check"]).has("loads/lines.toml:2:").has("the function bill can't write files").has("[files]");
    let toml = "handler = 'bill'\nmemory_mb = 256\ntimeout = '5min'\n[files]\nresults_mb = 16\n";
    it.warehouse.write("functions/bill/function.toml", toml);
    assert_eq!(it.bill()[0]["new"], 2);
    assert_eq!(it.entries(), ["2026-03/A 1 10.50", "2026-03/B 1 7.00"]);
    let said = it.warehouse.ok(&["function", "answer", "bill", "--for", "2026-03", "--file", "lines.csv"]);
    assert!(said.out.starts_with("period,producer"), "{}", said.out);
    let said = it.warehouse.run(&["function", "answer", "bill", "--file", "other.csv"]);
    assert_ne!(said.code, 0);
    said.has("no file \"other.csv\" in /results; there are: lines.csv");
    let runs = it.warehouse.json(&["runs", "function:bill", "--json"]);
    let first = runs[0]["figures"]["output"].clone();
    it.warehouse.write("functions/bill/lines.csv", "period,producer,line,amount\n2026-03,A,1,10.75\n");
    assert_eq!(it.bill()[0]["changed"], 1);
    let runs = it.warehouse.json(&["runs", "function:bill", "--json"]);
    assert_eq!(runs[0]["figures"]["result"], runs[1]["figures"]["result"], "the answer itself is the same");
    assert_ne!(runs[0]["figures"]["output"], first, "the hash of the output is another");
    assert_eq!(fs::read_dir(it.warehouse.path().join(".wattlake/events")).unwrap().count(), 0);
}

#[test]
fn functions_are_deployed_invoked_and_logged() {
    let it = Billing::new();
    let said = it.warehouse.run(&["function", "invoke", "bill"]);
    assert_eq!(said.code, 3);
    said.has("not deployed yet");
    it.warehouse.ok(&["function", "deploy", "bill", "--alias", "prod"]).has("bill: version 1 deployed");
    it.warehouse.ok(&["function", "deploy"]).has("version 1 is unchanged");
    let said = it.warehouse.ok(&["function", "invoke", "bill", "--event", "{\"a\": 1}", "--qualifier", "prod"]);
    assert!(said.out.contains("\"lines\""), "{}", said.out);
    said.has("an event of 8 characters").has("REPORT RequestId");
    it.warehouse.ok(&["function", "logs", "bill"]).has("an event of 8 characters");
    it.warehouse.write("functions/bill/answer.json", "fail");
    it.warehouse.ok(&["function", "deploy", "bill"]).has("version 2 deployed");
    let said = it.warehouse.run(&["function", "invoke", "bill"]);
    assert_eq!(said.code, 1);
    said.has("bill (version 2) failed: Function.Wrong: no price at noon");
    let listed = it.warehouse.json(&["function", "list", "bill", "--json"]);
    assert_eq!((&listed[0]["aliases"], &listed[1]["version"]), (&json!(["prod"]), &json!(2)));
    it.files_in();
    let said = it.warehouse.run(&["run", "function:bill", "--for", "2026-03"]);
    assert_eq!(said.code, 1);
    said.has("no price at noon");
    it.warehouse.ok(&["logs", "function:bill"]).has("an event of");
    let said = it.warehouse.run(&["run", "function:bill"]);
    assert_eq!(said.code, 3);
    said.has("--for 2026-09");
}

#[test]
fn problems_are_reported_with_their_place() {
    let it = Billing::new();
    it.warehouse.write("loads/lines.toml", &LOAD_LINES.replace("'amount'", "'amont'").replace("'line'", "'producer'"));
    it.warehouse.write(
        "ingests/production.toml",
        "layout = 'layouts/productin.toml'\n[source]\nfolder = 'a'\nsftp = 'sftp://b'\n",
    );
    it.warehouse.write("functions/bill/job.toml", "[inputs]\na = \"SELEC 1\"\n");
    it.warehouse.write("controls/alone.sql", "SELECT 1");
    let said = it.warehouse.run(&["check"]);
    assert_ne!(said.code, 0);
    said.has("loads/lines.toml:7:")
        .has("amount")
        .has("ingests/production.toml:1:")
        .has("there is no file layouts/productin.toml");
    said.has("a source can't have both \"folder\" and \"sftp\"")
        .has("functions/bill/job.toml:2:")
        .has("this control is in no set");
}

#[test]
fn check_reports_what_a_run_would_fail_on() {
    let it = Billing::new();
    let said = it.warehouse.ok(&["check"]);
    said.has("note: queries: 3 not checked yet: they read tables that are not in the lake yet: ")
        .has("billing.declared, billing.lines, ingest.files");
    it.files_in();
    it.warehouse.write(
        "controls/billing/wrong.sql",
        "--| severity = \"warn\"\n--| text = \"t\"\nSELECT energie FROM billing.declared\n",
    );
    it.warehouse.write(
        "functions/bill/function.toml",
        "handler = 'bill'\nlayers = ['nowhere']\n[environment]\nA = '${NOT_SET}'\n",
    );
    let said = it.warehouse.run(&["check"]);
    assert_eq!(said.code, 4, "{}", said.text());
    said.has("control billing/wrong: query").has("energie").has("no layer nowhere is published");
    said.has("needs the environment variable NOT_SET");
}
