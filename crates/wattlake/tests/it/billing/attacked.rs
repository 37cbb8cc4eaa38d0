//! The example's controls against what would send wrong money without a word: what is judged is what is billed, of the
//! company whose contract it is, by rows that count, in the order in which caps are used.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::BOOTSTRAP;
use super::example::copy;
use crate::world::{EXAMPLE, Warehouse};

const MONTH: &str = "2024-04";
const KNOWN: &str = "2024-01-01T00:00:00Z";
const IBAN: &str = "FR7630006000011234567890189";
const OTHER_IBAN: &str = "FR14 2004 1010 0505 0001 3M02 606";
const CONTRACT_HEADER: &str = "contract_id,producer_id,producer,siret,iban,site_id,site,technology,prm,perimeter,pmax_kw,kind,\
    valid_from,valid_to,price_eur_mwh,fee_eur_mwh,fee_eur_mw_month,management_premium_eur_mwh,nbcapa_mw,imbalance_share,\
    go_eur_mwh,negative_premium,cap_mwh_year,vat,vat_rate_pct,known_at\n";
const FILE_HEADER: &str = "schema_version;producteur_id;contrat_id;site_id;prm;mois;horodate_debut;pas;\
    energie_injectee_kwh;energie_soutiree_auxiliaires_kwh;disponibilite_pct;code_evenement;source;statut;commentaire\n";
const PRICE_HEADER: &str = "series,starts_at,step,price,known_at\n";

fn prm(number: u32) -> String {
    format!("300000000000{number:02}")
}

/// A version of a contract. Each producer has a contract and a point of its number.
#[derive(Clone)]
struct Contract {
    number: u32,
    producer: u32,
    point: u32,
    siret: &'static str,
    iban: &'static str,
    kind: &'static str,
    valid_from: &'static str,
    valid_to: &'static str,
    cap: &'static str,
    known_at: &'static str,
}

impl Contract {
    fn new(number: u32) -> Contract {
        Contract {
            number,
            producer: number,
            point: number,
            siret: "73282932000074",
            iban: IBAN,
            kind: "FIXED_PPA",
            valid_from: "2023-01-01",
            valid_to: "",
            cap: "",
            known_at: KNOWN,
        }
    }

    fn text(&self) -> String {
        let Contract { number, producer, siret, iban, kind, valid_from, valid_to, cap, known_at, .. } = self;
        let (technology, premium, vat) =
            if *kind == "CR" { ("hydro", "1", "none") } else { ("wind", "", "reverse_charge") };
        let point = prm(self.point);
        format!(
            "CTR-{number},PRD{producer:04},Producteur {producer},{siret},{iban},S-{number},Site,{technology},{point},17X,12000,\
             {kind},{valid_from},{valid_to},60,,,{premium},,,,,{cap},{vat},,{known_at}\n"
        )
    }
}

fn contracts_of(all: &[Contract]) -> String {
    let rows: Vec<String> = all.iter().map(Contract::text).collect();
    format!("{CONTRACT_HEADER}{}", rows.concat())
}

/// A file of a producer for a contract's point, with an energy for each hour of the days of a month of summer time.
fn production(
    producer: u32,
    contract: u32,
    point: u32,
    month: &str,
    days: impl Iterator<Item = u32>,
    kwh: impl Fn(u32) -> u32,
) -> String {
    let (mut lines, mut count, mut sum) = (String::new(), 0, 0);
    for day in days {
        for hour in 0..24 {
            lines.push_str(&format!(
                "1;PRD{producer:04};CTR-{contract};S-{contract};{};{month};{month}-{day:02}T{hour:02}:00:00+02:00;PT60M;{};0;\
                 100,0;;COMPTEUR;DEFINITIF;\n",
                prm(point),
                kwh(day)
            ));
            (count, sum) = (count + 1, sum + kwh(day));
        }
    }
    format!("{FILE_HEADER}{lines}#TOTAL;{count};{sum}\n")
}

struct World {
    warehouse: Warehouse,
    /// Files are written one second after another, so that the one that comes last arrives last.
    written: Cell<u64>,
}

impl World {
    fn new() -> World {
        let warehouse = Warehouse::new(&[]);
        copy(Path::new(EXAMPLE), warehouse.path());
        let warehouse = warehouse.with_env("PLATFORM_URL", "postgresql://nobody@127.0.0.1:1/none");
        World { warehouse, written: Cell::new(0) }
    }

    /// With a function that answers with the file `answer.json` in place of the one in R.
    fn with_answers() -> World {
        let it = World::new();
        let toml = "handler = 'bill'\nmemory_mb = 256\ntimeout = '5min'\n";
        it.warehouse.write("functions/billing-extract/function.toml", toml);
        it.warehouse.write("functions/billing-extract/bootstrap", BOOTSTRAP);
        let bootstrap = it.warehouse.path().join("functions/billing-extract/bootstrap");
        fs::set_permissions(bootstrap, fs::Permissions::from_mode(0o755)).unwrap();
        it
    }

    fn comes(&self, name: &str, text: &str) {
        self.warehouse.write(&format!("inbox/{name}"), text);
        self.written.set(self.written.get() + 1);
        let at = SystemTime::now() - Duration::from_secs(3_600) + Duration::from_secs(self.written.get());
        let path = self.warehouse.path().join("inbox").join(name);
        fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    }

    fn load(&self, all: &[(&str, &str)]) {
        for (ingest, load) in all {
            self.warehouse.ok(&["run", &format!("ingest:{ingest}")]);
            self.warehouse.ok(&["run", &format!("load:{load}")]);
        }
    }

    /// Loads the lines of an answer for a month.
    fn bill(&self, month: &str, lines: &[Value]) {
        let answer = json!({"lines": lines, "days": []}).to_string();
        self.warehouse.write("functions/billing-extract/answer.json", &answer);
        for job in ["function:billing-extract", "load:days", "load:lines"] {
            self.warehouse.ok(&["run", job, "--for", month]);
        }
    }

    /// The controls of a month that fail, each with its verdict.
    fn failed(&self, month: &str) -> BTreeMap<String, Value> {
        let verdicts = self.warehouse.run(&["run", "control:billing", "--for", month, "--json"]).objects();
        assert!(verdicts.iter().all(|verdict| verdict["state"] != "broken"), "{verdicts:?}");
        let failed = verdicts.into_iter().filter(|verdict| verdict["state"] == "failed");
        failed.map(|verdict| (verdict["control"].as_str().unwrap().to_owned(), verdict)).collect()
    }
}

/// Whom a control holds back.
fn held(failed: &BTreeMap<String, Value>, control: &str) -> Value {
    failed.get(control).unwrap_or_else(|| panic!("{control} passed: {failed:?}"))["held"].clone()
}

/// A column of a control's findings.
fn found(failed: &BTreeMap<String, Value>, control: &str, column: &str) -> Vec<String> {
    let findings = failed.get(control).map(|verdict| verdict["findings"].as_array().unwrap().clone());
    let text = |finding: &Value| finding["row"][column].as_str().unwrap_or_default().to_owned();
    findings.unwrap_or_default().iter().map(text).collect()
}

fn line(contract: &Contract, month: &str, rule: &str, mwh: i64, price: &str, amount: &str) -> Value {
    json!({
        "period": month, "producer_id": format!("PRD{:04}", contract.producer),
        "producer": format!("Producteur {}", contract.producer), "contract_id": format!("CTR-{}", contract.number),
        "valid_from": contract.valid_from, "site_id": format!("S-{}", contract.number), "prm": prm(contract.point),
        "kind": contract.kind, "line": 1, "rule": rule, "quantity": mwh * 1_000_000, "unit": "Wh", "price": price,
        "price_unit": "EUR/MWh", "amount": amount, "vat": if contract.kind == "CR" { "none" } else { "reverse_charge" },
        "vat_rate_pct": "0", "vat_amount": "0.00", "quality": "measured", "sources": "PRODUCER_DECLARED:720", "steps": 720,
    })
}

#[test]
fn what_is_billed_is_judged_whoever_else_declares_it_later() {
    let it = World::new();
    // The point of contract 3 is sold in the middle of the month, to producer 4.
    let contracts = [
        Contract::new(1),
        Contract::new(2),
        Contract { valid_to: "2024-04-16", ..Contract::new(3) },
        Contract { point: 3, valid_from: "2024-04-16", ..Contract::new(4) },
    ];
    it.comes("reference/contracts.csv", &contracts_of(&contracts));
    it.comes("production/PRD0001.csv", &production(1, 1, 1, MONTH, 1..=30, |_| 50_000));
    it.comes("production/PRD0002.csv", &production(2, 2, 2, MONTH, 1..=29, |_| 1_000));
    it.comes("production/PRD0003.csv", &production(3, 3, 3, MONTH, 1..=15, |_| 50_000));
    // Zeros of the same points and hours, which arrive last.
    it.comes("production/PRD0002-stray.csv", &production(2, 1, 1, MONTH, 1..=30, |_| 0));
    it.comes("production/PRD0001-stray.csv", &production(1, 2, 2, MONTH, 1..=30, |_| 0));
    it.comes("production/PRD0004.csv", &production(4, 4, 3, MONTH, 1..=30, |day| if day < 16 { 0 } else { 1_000 }));
    it.load(&[("contracts", "contracts"), ("production", "declared")]);
    let failed = it.failed(MONTH);
    assert_eq!(held(&failed, "within_pmax"), json!(["PRD0001", "PRD0003"]));
    assert_eq!(held(&failed, "steps_complete"), json!(["PRD0002"]));
    assert!(!failed.contains_key("file_of_another_producer"), "zeros are no declaration: {failed:?}");
}

#[test]
fn a_document_has_one_recipient_that_of_the_billed_contract() {
    let it = World::with_answers();
    let contracts = [
        Contract::new(1),
        // Ended before the month, and began after the one that is billed.
        Contract {
            producer: 1,
            siret: "55210055400013",
            iban: OTHER_IBAN,
            valid_from: "2024-02-01",
            valid_to: "2024-03-01",
            ..Contract::new(11)
        },
        Contract::new(2),
        Contract { producer: 2, siret: "55210055400013", iban: OTHER_IBAN, ..Contract::new(12) },
        Contract { iban: "FR7630006000011234567890188", ..Contract::new(3) },
    ];
    it.comes("reference/contracts.csv", &contracts_of(&contracts));
    it.load(&[("contracts", "contracts")]);
    let billed = [&contracts[0], &contracts[2], &contracts[3], &contracts[4]];
    it.bill(MONTH, &billed.map(|contract| line(contract, MONTH, "ppa", 10, "60.0000", "600.00")));
    let failed = it.failed(MONTH);
    assert_eq!(held(&failed, "one_recipient"), json!(["PRD0002"]));
    assert_eq!(found(&failed, "one_recipient", "what"), ["IBAN", "SIREN"]);
    assert_eq!(found(&failed, "one_recipient", "one")[1], "552100554 (CTR-12)");
    assert_eq!(held(&failed, "iban_right"), json!(["PRD0003"]));
    let draft = ["statement", "draft", "producers", "--for", MONTH, "--producer", "PRD0001"];
    let files = it.warehouse.ok(&draft).out;
    let page = files.lines().find(|path| path.ends_with(".html")).unwrap();
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("73282932000074") && !page.contains("55210055400013"), "{page}");
}

#[test]
fn ranks_and_rows_that_do_not_count_are_told() {
    let it = World::new();
    let ranks = |sources: &[&str]| {
        let row = |(at, source): (usize, &&str)| format!("*,{source},{},2020-01-01,,{KNOWN}\n", at + 1);
        let rows: Vec<String> = sources.iter().enumerate().map(row).collect();
        format!("kind,source,rank,valid_from,valid_to,known_at\n{}", rows.concat())
    };
    let second = Contract { known_at: "2024-03-01T00:00:00Z", ..Contract::new(2) };
    it.comes("reference/contracts.csv", &contracts_of(&[Contract::new(1), second.clone(), Contract::new(3)]));
    it.comes("reference/precedence.csv", &ranks(&["DSO_RAW", "PRODUCER_DECLARED", "SCADA"]));
    let meter = |source: &str| format!("{},{source},2024-04-10T10:00:00Z,PT60M,1000,0,measured,{KNOWN}\n", prm(1));
    it.comes(
        "reference/meters-a.csv",
        &format!(
            "prm,source,starts_at,step,energy_wh,withdrawal_wh,quality,known_at\n{}{}",
            meter("DSO_RAW"),
            meter("DSO_CORRECTED")
        ),
    );
    it.load(&[("contracts", "contracts"), ("precedence", "precedence"), ("meters", "meters")]);
    let failed = it.failed(MONTH);
    assert_eq!(held(&failed, "operator_without_rank"), json!(["PRD0001"]));
    assert_eq!(found(&failed, "operator_without_rank", "source"), ["DSO_CORRECTED"]);
    assert!(!failed.contains_key("known_in_the_future") && !failed.contains_key("known_before_what_is_billed"));

    // A misspelt source is refused; an account from the future does not count; nor does what was known before.
    it.comes("reference/precedence.csv", &ranks(&["DSO_CORECTED", "DSO_RAW", "PRODUCER_DECLARED", "SCADA"]));
    let changed = [
        Contract { iban: OTHER_IBAN, known_at: "2999-01-01T00:00:00Z", ..Contract::new(1) },
        Contract { known_at: "2024-02-01T00:00:00Z", iban: OTHER_IBAN, ..second },
        Contract::new(3),
    ];
    it.comes("reference/contracts.csv", &contracts_of(&changed));
    it.warehouse.ok(&["run", "ingest:precedence"]).has("quarantined precedence.csv").has("DSO_CORRECTED");
    it.load(&[("contracts", "contracts")]);
    let failed = it.failed(MONTH);
    assert_eq!(held(&failed, "reference_quarantined"), json!("all"));
    assert_eq!(held(&failed, "known_in_the_future"), json!(["PRD0001"]));
    assert_eq!(held(&failed, "known_before_what_is_billed"), json!(["PRD0002"]));
    let accounts = it.warehouse.sql("select distinct iban from billing.contracts_now");
    assert_eq!(accounts, [json!({"iban": IBAN})]);

    // Entered again, with the instants at which they became known.
    let right = changed.map(|contract| Contract { known_at: "2024-04-01T00:00:00Z", ..contract });
    it.comes("reference/contracts.csv", &contracts_of(&right));
    it.load(&[("contracts", "contracts")]);
    let failed = it.failed(MONTH);
    assert!(!failed.contains_key("known_in_the_future") && !failed.contains_key("known_before_what_is_billed"));
}

#[test]
fn a_newer_version_that_is_not_billed_holds_its_producer_back() {
    let it = World::new();
    let all: Vec<Contract> = (1..=4).map(Contract::new).collect();
    it.comes("reference/contracts.csv", &contracts_of(&all));
    let name = |number: u32| format!("production/PRD000{number}-{MONTH}.csv");
    for number in 1..=4 {
        it.comes(&name(number), &production(number, number, number, MONTH, 1..=30, |_| 1_000));
    }
    it.load(&[("contracts", "contracts"), ("production", "declared")]);
    let failed = it.failed(MONTH);
    assert!(!failed.contains_key("files_quarantined") && !failed.contains_key("older_version_billed"), "{failed:?}");

    // Corrections that can't be read, and one that is about another month.
    let second = production(1, 1, 1, MONTH, 1..=30, |_| 2_000);
    it.comes(&name(1), &second.replace(FILE_HEADER, &FILE_HEADER.to_uppercase()));
    it.comes(&name(2), "");
    it.comes(&name(3), &production(3, 3, 3, "2024-05", 1..=31, |_| 2_000));
    it.load(&[("production", "declared")]);
    let failed = it.failed(MONTH);
    assert_eq!(held(&failed, "files_quarantined"), json!(["PRD0001", "PRD0002"]));
    assert_eq!(held(&failed, "older_version_billed"), json!(["PRD0003"]));

    // Under whatever name; and the first version under its own again.
    it.comes("production/corrections.csv", &second);
    it.comes(&name(2), &production(2, 2, 2, MONTH, 1..=30, |_| 2_000));
    it.comes(&name(3), &production(3, 3, 3, MONTH, 1..=30, |_| 1_000));
    it.load(&[("production", "declared")]);
    let failed = it.failed(MONTH);
    assert!(!failed.contains_key("files_quarantined") && !failed.contains_key("older_version_billed"), "{failed:?}");
}

#[test]
fn older_months_are_found_and_caps_are_used_in_their_order() {
    let it = World::with_answers();
    let (capped, fixed) = (Contract { kind: "CR", cap: "700", ..Contract::new(1) }, Contract::new(2));
    it.comes("reference/contracts.csv", &contracts_of(&[capped.clone(), fixed.clone()]));
    it.load(&[("contracts", "contracts")]);
    let lines = |month: &str, paid: i64, beyond: i64| {
        let mut lines = vec![
            line(&capped, month, "cr", paid, "10.0000", &format!("{}.00", paid * 10)),
            line(&capped, month, "cr_management", paid, "1.0000", &format!("{paid}.00")),
            line(&fixed, month, "ppa", 10, "60.0000", "600.00"),
        ];
        if beyond > 0 {
            lines.push(line(&capped, month, "cr_beyond_cap", beyond, "0.0000", "0.00"));
        }
        lines
    };
    // March is billed after April, which used what March leaves nothing of.
    it.bill("2024-02", &lines("2024-02", 300, 0));
    it.bill(MONTH, &lines(MONTH, 300, 0));
    it.bill("2024-03", &lines("2024-03", 300, 0));
    let failed = it.failed("2024-03");
    assert_eq!(held(&failed, "caps_used_out_of_order"), json!(["PRD0001"]));
    assert_eq!(found(&failed, "caps_used_out_of_order", "later_month"), [MONTH]);
    it.bill(MONTH, &lines(MONTH, 100, 200));
    assert!(!it.failed("2024-03").contains_key("caps_used_out_of_order"));
    assert!(!it.failed(MONTH).contains_key("older_months_changed"));

    // M0 of the year, from midnight in UTC, then from the local one; and a contract that never was.
    let price = |start: &str| format!("{PRICE_HEADER}M0_HYDRO,{start},P1Y,70,2024-06-01T00:00:00Z\n");
    it.comes("reference/prices-year.csv", &price("2024-01-01T00:00:00Z"));
    it.load(&[("prices", "prices")]);
    assert_eq!(held(&it.failed(MONTH), "prices_off_their_period"), json!(["PRD0001"]));
    it.comes("reference/prices-year-2.csv", &price("2023-12-31T23:00:00Z"));
    let withdrawn = Contract { valid_to: "2023-01-01", known_at: "2024-06-01T00:00:00Z", ..fixed };
    it.comes("reference/contracts.csv", &contracts_of(&[capped.clone(), withdrawn]));
    it.load(&[("prices", "prices"), ("contracts", "contracts")]);
    let failed = it.failed(MONTH);
    assert!(!failed.contains_key("prices_off_their_period"), "{failed:?}");
    let of = |what: &str| -> Vec<(String, String)> {
        let all = found(&failed, "older_months_changed", "what").into_iter();
        let all = all.zip(found(&failed, "older_months_changed", "producer_id"));
        let months = found(&failed, "older_months_changed", "month");
        all.zip(months)
            .filter(|((found, _), _)| found == what)
            .map(|((_, producer), month)| (producer, month))
            .collect()
    };
    let both = |producer: &str| ["2024-02", "2024-03"].map(|month| (producer.to_owned(), month.to_owned())).to_vec();
    assert_eq!(of("contract"), both("PRD0002"));
    assert_eq!(of("price of the year"), both("PRD0001"));
}

#[test]
fn no_file_of_the_inbox_is_silent() {
    let it = World::new();
    it.comes("reference/CONTRACTS.CSV", &contracts_of(&[Contract::new(1)]));
    it.comes("production/PRD0001-2024-04.CSV", &production(1, 1, 1, MONTH, 1..=30, |_| 1_000));
    for name in ["bordereau.pdf", "PRD0001-2024-04.csv.bak", "LISEZMOI", "PRD0001.docx"] {
        it.comes(&format!("production/{name}"), &production(1, 1, 1, MONTH, 1..=30, |_| 9_000));
    }
    it.load(&[("contracts", "contracts"), ("production", "declared"), ("production-workbook", "declared-workbook")]);
    it.warehouse.ok(&["run", "ingest:production-other"]);
    let rows = it.warehouse.sql("select distinct file_name from billing.declared");
    assert_eq!(rows, [json!({"file_name": "PRD0001-2024-04.CSV"})]);
    assert_eq!(it.warehouse.count("billing.contracts"), 1);
    let told = it.warehouse.sql("select name from ingest.files where verdict <> 'accepted' order by name");
    let told: Vec<&str> = told.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(told, ["LISEZMOI", "PRD0001-2024-04.csv.bak", "PRD0001.docx", "bordereau.pdf"]);
    let failed = it.failed(MONTH);
    // The first one, and those with the same bytes.
    assert_eq!(found(&failed, "files_unreadable", "file"), told);
}
