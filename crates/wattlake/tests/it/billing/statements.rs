//! Statements are issued once no control blocks them, once each, and again where their content changed.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::Billing;

const STATEMENTS: &str = r#"
template = "templates/page.html"
labels = "templates/fr.toml"
controls = "billing"
lines = """
SELECT l.producer AS producer_id, 'Société ' || l.producer AS producer, 'CTR-1' AS contract_id, '2021-01-01' AS valid_from,
       'EOL-1' AS site_id, '30000000000001' AS prm, 'FIXED_PPA' AS kind, 'ppa' AS rule, 1500000 AS quantity, 'Wh' AS unit,
       '7.0000' AS price, 'EUR/MWh' AS price_unit, l.amount, 'reverse_charge' AS vat, '0' AS vat_rate_pct,
       '0.00' AS vat_amount, 'measured' AS quality
FROM billing.lines l LEFT JOIN billing.lines r ON r.document = l.document AND r.reverses = l.entry
WHERE l.period = '{period}' AND l.reverses IS NULL AND r.entry IS NULL
ORDER BY l.producer, l.line
"""
days = "SELECT 'A' AS producer_id, '2026-03-01' AS day, 1000 AS energy_wh UNION ALL SELECT 'Z', '2026-03-01', 1000"
"#;

const PAGE: &str = "{{ number }} of {{ producer.name }}: {{ due_cents|euros }}\n\
    {% if is_draft %}{{ texts.draft }}{% endif %}{% if replaces %}in place of {{ replaces.number }}{% endif %}\n\
    {% for contract in contracts %}{% for line in contract.lines %}{{ line.rule|label('rule') }}\n{% endfor %}{% endfor %}";

const ISSUE: [&str; 4] = ["run", "statement:producers", "--for", "2026-03"];

pub fn add(it: &Billing) {
    it.warehouse.write("statements/producers.toml", STATEMENTS);
    it.warehouse.write("templates/page.html", PAGE);
    it.warehouse.write("templates/fr.toml", include_str!("../../../../../warehouse/templates/fr.toml"));
}

fn with_statements() -> Billing {
    let it = Billing::new();
    add(&it);
    it.files_in();
    it.answers(&[("A", 1, "10.50"), ("A", 2, "-2.25"), ("B", 1, "7.00")]);
    it.bill();
    it
}

impl Billing {
    fn page(&self, number: &str) -> PathBuf {
        self.warehouse.path().join(format!("outbox/statements/2026-03/{number}.html"))
    }

    fn read(&self, number: &str) -> String {
        fs::read_to_string(self.page(number)).unwrap().replace(['\u{a0}', '\u{202f}'], " ")
    }

    pub fn numbers(&self) -> Vec<String> {
        let listed = self.warehouse.json(&["statement", "list", "--for", "2026-03", "--json"]);
        listed.iter().map(|entry| entry["number"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn statements_are_issued_once_and_again_where_their_content_changed() {
    let it = with_statements();
    let issued = it.warehouse.json(&[&ISSUE[..], &["--json"]].concat());
    assert_eq!(issued.len(), 2, "Z has energy and no lines: {issued:?}");
    assert_eq!((&issued[0]["number"], &issued[0]["amount_cents"]), (&json!("2026-03-A-1"), &json!(825)));
    assert_eq!(it.read("2026-03-A-1").lines().next().unwrap(), "2026-03-A-1 of Société A: 8,25 €");
    assert!(it.page("2026-03-A-1").with_extension("xlsx").exists());
    let page = fs::read(it.page("2026-03-A-1")).unwrap();
    fs::remove_file(it.page("2026-03-A-1")).unwrap();
    it.warehouse.ok(&ISSUE).has("0 statements issued; 2 unchanged");
    assert_eq!(fs::read(it.page("2026-03-A-1")).unwrap(), page, "a removed file is written again");

    it.answers(&[("A", 1, "9.50"), ("A", 2, "-2.25")]);
    it.bill();
    it.warehouse.ok(&ISSUE).has("2 statements issued, 2 of them in place of an earlier one; 0 unchanged");
    assert_eq!(it.numbers(), ["2026-03-A-1", "2026-03-B-1", "2026-03-A-2", "2026-03-B-2"]);
    assert!(it.read("2026-03-A-2").contains("7,25 €\nin place of 2026-03-A-1"));
    let gone = it.read("2026-03-B-2");
    assert!(gone.contains("0,00 €\nin place of 2026-03-B-1"), "B has no lines any more: {gone}");
    assert!(it.read("2026-03-A-1").contains("8,25"), "an issued statement never changes");
    it.warehouse.ok(&ISSUE).has("0 statements issued; 2 unchanged");

    let register = "select number, replaces, amount::text as amount, is_credit_note, lines from billing.statements
                    order by recorded_at, number";
    let expected = json!({"number": "2026-03-B-2", "replaces": "2026-03-B-1", "amount": "0.00", "is_credit_note": false, "lines": 0});
    assert_eq!(it.warehouse.sql(register)[3], expected);
    assert_eq!(it.warehouse.json(&["events", "statement.issued", "--json"]).len(), 4);
}

#[test]
fn a_number_is_given_once_over_all_statements() {
    let it = with_statements();
    it.warehouse.ok(&ISSUE);
    it.warehouse.write("statements/second.toml", STATEMENTS);
    it.warehouse.ok(&["run", "statement:second", "--for", "2026-03"]).has("2 statements issued");
    it.answers(&[("A", 1, "9.50"), ("B", 1, "7.00")]);
    it.bill();
    it.warehouse.ok(&ISSUE);
    let mut numbers = it.numbers();
    numbers.sort();
    assert_eq!(numbers, ["2026-03-A-1", "2026-03-A-2", "2026-03-A-3", "2026-03-B-1", "2026-03-B-2"]);
    assert!(it.read("2026-03-A-3").contains("in place of 2026-03-A-1"));
    it.warehouse.ok(&ISSUE).has("0 statements issued; 2 unchanged");
    // By another register, the numbers would begin again.
    it.warehouse.write("statements/second.toml", &format!("table = \"billing.others\"\n{STATEMENTS}"));
    it.warehouse.run(&["check"]).has("writes into the same folder by another register");
    it.warehouse.write("statements/second.toml", &STATEMENTS.replace("WHERE l.period = '{period}' AND", "WHERE"));
    it.warehouse.run(&["check"]).has("the query has the lines of all periods");
    it.warehouse.write("templates/page.html", " \n");
    it.warehouse.run(&["check"]).has("the template is empty");
}

#[test]
fn a_control_blocks_all_statements_and_drafts_can_be_made() {
    let it = with_statements();
    it.answers(&[("A", 1, "10.50"), ("B", 1, "7.00")]);
    it.bill();
    let said = it.warehouse.run(&ISSUE);
    assert_eq!(said.code, 1, "{}", said.text());
    said.has("failed  large (block): a bill is large").has("no statement is issued");
    assert!(it.numbers().is_empty() && !it.warehouse.path().join("outbox").exists());
    let found = it.warehouse.sql("select state from controls.results where control = 'large'");
    assert_eq!(found, [json!({"state": "failed"})]);

    let draft = ["statement", "draft", "producers", "--for", "2026-03"];
    let files = it.warehouse.ok(&[&draft[..], &["--producer", "B"]].concat()).out;
    assert_eq!(files.lines().count(), 2);
    let page = fs::read_to_string(files.lines().next().unwrap()).unwrap();
    assert!(page.contains("PROJET"), "{page}");
    assert!(it.numbers().is_empty(), "a draft has no number of its own");
    let said = it.warehouse.run(&[&draft[..], &["--producer", "C"]].concat());
    assert_ne!(said.code, 0);
    said.has("C has no lines in 2026-03");

    let waive =
        ["control", "waive", "billing/large", "--who", "back office", "--why", "agreed", "--until", "2999-01-01"];
    it.warehouse.ok(&waive);
    it.warehouse.ok(&ISSUE).has("2 statements issued");
    let said = it.warehouse.run(&ISSUE[..2]);
    assert_eq!(said.code, 1);
    said.has("--for 2026-09");
}

#[test]
fn problems_are_reported_with_their_place() {
    let it = with_statements();
    let said = |text: &str| {
        it.warehouse.write("statements/producers.toml", text);
        it.warehouse.run(&["check"])
    };
    said(&STATEMENTS.replace("\"billing\"", "\"biling\"")).has("statements/producers.toml:4:").has("\"billing\"");
    said(&STATEMENTS.replace("page.html", "pag.html")).has("templates/pag.html can't be read");
    said(&STATEMENTS.replace("{period}", "{perod}")).has("unknown placeholder {perod}");
    it.warehouse.write("templates/page.html", "<p>\n{% for line in lines %}");
    said(STATEMENTS).has("statements/producers.toml:2:").has("read templates/page.html, line 2");
    it.warehouse.write("templates/page.html", "{{ numbr }}");
    it.warehouse.ok(&["check"]);
    let wrong = it.warehouse.run(&ISSUE);
    assert_eq!(wrong.code, 3, "{}", wrong.text());
    wrong.has("render 2026-03-A-1: render page.html, line 1");
    it.warehouse.write("templates/page.html", PAGE);
    it.warehouse.write("statements/producers.toml", &STATEMENTS.replace("l.amount,", "'1,5' AS amount,"));
    let wrong = it.warehouse.run(&ISSUE);
    assert_eq!(wrong.code, 3, "{}", wrong.text());
    wrong.has("read amount \"1,5\" of CTR-1, ppa: expected a decimal");
    let other = STATEMENTS.replace("l.producer AS producer_id", "'../' || l.producer AS producer_id");
    let other = other.replace("ORDER BY l.producer, l.line", "ORDER BY 1");
    it.warehouse.write("statements/producers.toml", &other);
    it.warehouse.run(&ISSUE).has("can't be part of a file name");
    let none: Vec<Value> = it.warehouse.json(&["statement", "list", "--json"]);
    assert!(none.is_empty() && !it.warehouse.path().join("outbox").exists());
}
