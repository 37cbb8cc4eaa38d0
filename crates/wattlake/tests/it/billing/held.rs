//! The example's controls: each fault holds back the producer whom it concerns, and nobody else.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::example::copy;
use crate::world::{EXAMPLE, Warehouse};

const MONTH: &str = "2024-04";
const CONTRACT_HEADER: &str = "contract_id,producer_id,producer,siret,site_id,site,technology,prm,perimeter,pmax_kw,kind,\
    valid_from,valid_to,price_eur_mwh,fee_eur_mwh,fee_eur_mw_month,management_premium_eur_mwh,nbcapa_mw,imbalance_share,\
    go_eur_mwh,negative_premium,vat,vat_rate_pct,known_at\n";
const FILE_HEADER: &str = "schema_version;producteur_id;contrat_id;site_id;prm;mois;horodate_debut;pas;\
    energie_injectee_kwh;energie_soutiree_auxiliaires_kwh;disponibilite_pct;code_evenement;source;statut;commentaire\n";

fn prm(number: u32) -> String {
    format!("300000000000{number:02}")
}

fn contract(number: u32, kind: &str, days: &str) -> String {
    let (price, fee) = if kind == "FIXED_PPA" { ("60", "") } else { ("", "1.5") };
    format!(
        "CTR-{number},PRD000{number},Producteur {number},,S-{number},Site,wind,{},17X,12000,{kind},{days},{price},{fee},,,,,,,\
         reverse_charge,,2024-01-01T00:00:00Z\n",
        prm(number)
    )
}

/// A file of a producer for the days of a month, at an energy for each hour.
fn production(producer: u32, point: u32, days: std::ops::RangeInclusive<u32>, kwh: &str) -> String {
    let hours = days.flat_map(|day| (0..24).map(move |hour| (day, hour)));
    let line = |(day, hour): (u32, u32)| {
        let (month, day) = if day > 30 { (5, day - 30) } else { (4, day) };
        format!(
            "1;PRD000{producer};CTR-{point};S-{point};{};{MONTH};2024-{month:02}-{day:02}T{hour:02}:00:00+02:00;PT60M;{kwh};0;\
             100,0;;COMPTEUR;DEFINITIF;\n",
            prm(point)
        )
    };
    let lines: Vec<String> = hours.map(line).collect();
    let sum: u32 = kwh.parse::<u32>().unwrap_or_default() * lines.len() as u32;
    format!("{FILE_HEADER}{}#TOTAL;{};{sum}\n", lines.concat(), lines.len())
}

struct World {
    warehouse: Warehouse,
}

impl World {
    fn new() -> World {
        let warehouse = Warehouse::new(&[]);
        copy(Path::new(EXAMPLE), warehouse.path());
        World { warehouse: warehouse.with_env("PLATFORM_URL", "postgresql://nobody@127.0.0.1:1/none") }
    }

    fn comes(&self, name: &str, text: &str) {
        self.warehouse.write(&format!("inbox/{name}"), text);
        // An ingest skips a file that was written just now.
        let minutes_ago = SystemTime::now() - Duration::from_secs(300);
        let path = self.warehouse.path().join("inbox").join(name);
        fs::File::options().write(true).open(path).unwrap().set_modified(minutes_ago).unwrap();
    }

    fn load(&self, all: &[(&str, &str)]) {
        for (ingest, load) in all {
            self.warehouse.ok(&["run", &format!("ingest:{ingest}")]);
            self.warehouse.ok(&["run", &format!("load:{load}")]);
        }
    }

    /// Whom each control holds back, of those that fail.
    fn held(&self) -> BTreeMap<String, Value> {
        let verdicts = self.warehouse.run(&["run", "control:billing", "--for", MONTH, "--json"]).objects();
        assert!(verdicts.iter().all(|verdict| verdict["state"] != "broken"), "{verdicts:?}");
        let failed = verdicts.into_iter().filter(|verdict| verdict["state"] == "failed");
        failed.map(|verdict| (verdict["control"].as_str().unwrap().to_owned(), verdict["held"].clone())).collect()
    }
}

#[test]
fn each_fault_holds_back_whom_it_concerns() {
    let it = World::new();
    let whole = "2024-01-01,";
    let contracts = [
        contract(1, "FIXED_PPA", whole),
        contract(2, "FIXED_PPA", whole),
        contract(3, "FIXED_PPA", "2024-01-01,2024-04-11"),
        contract(3, "FIXED_PPA", "2024-04-16,"),
        contract(4, "FIXED_PPA", whole),
        contract(5, "FIXED_PPA", whole),
        contract(6, "FIXED_PPA", whole),
        // Entered by mistake, and withdrawn.
        contract(6, "FIXED_PPA", "2024-04-16,2024-04-16"),
        contract(7, "SPOT_PASSTHROUGH", "2024-04-10,"),
        contract(8, "FIXED_PPA", whole),
        contract(8, "FIXED_PPA", "2024-04-20,2024-04-10"),
    ];
    it.comes("reference/contracts.csv", &format!("{CONTRACT_HEADER}{}", contracts.concat()));
    let price = |price: &str| {
        format!(
            "series,starts_at,step,price,known_at\nDAY_AHEAD_FR,2024-04-10T10:00:00Z,PT60M,{price},2024-04-09T10:00:00Z\n"
        )
    };
    it.comes("reference/prices-a.csv", &price("50"));
    it.comes("reference/prices-b.csv", &price("500"));
    for producer in [1, 2, 3, 6, 8] {
        it.comes(&format!("production/PRD000{producer}.csv"), &production(producer, producer, 1..=30, "1000"));
    }
    it.comes("production/PRD0001-other.csv", &production(1, 2, 1..=30, "9000"));
    it.comes("production/PRD0004.csv", &production(4, 4, 1..=31, "1000"));
    it.comes("production/PRD0005.csv", &production(5, 5, 1..=30, "1000").replace(";1000;0;", ";1000.5;0;"));
    // From the day on which the contract begins.
    it.comes("production/PRD0007.csv", &production(7, 7, 10..=30, "1000"));
    it.load(&[("contracts", "contracts"), ("prices", "prices"), ("production", "declared")]);

    let held = it.held();
    let of = |control: &str| held.get(control).cloned().unwrap_or_else(|| panic!("{control} passed: {held:?}"));
    assert_eq!(of("file_of_another_producer"), json!(["PRD0002"]));
    assert_eq!(of("contract_gaps"), json!(["PRD0003"]));
    assert_eq!(of("hours_of_another_month"), json!(["PRD0004"]));
    assert_eq!(of("files_quarantined"), json!(["PRD0005"]));
    assert_eq!(of("known_twice"), json!(["PRD0007"]), "nobody else needs the price");
    assert_eq!(of("contract_terms"), json!(["PRD0008"]));
    assert_eq!(of("prices_complete"), json!("all"));
    for passed in ["steps_complete", "one_contract_a_point", "reference_quarantined", "reference_not_loaded"] {
        assert!(!held.contains_key(passed), "{passed}: {held:?}");
    }

    // Under whatever name, of whatever time: the good file, and a later price.
    it.comes("production/releve.csv", &production(5, 5, 1..=30, "1000"));
    it.comes("reference/prices-c.csv", &price("51").replace("2024-04-09", "2024-04-12"));
    it.comes(
        "reference/contracts.csv",
        &format!("{CONTRACT_HEADER}{}", contracts.concat()).replace("reverse_charge", "revers"),
    );
    it.comes("reference/prices-d.csv", &price("52").replace("2024-04-09", "2024-04-13"));
    it.load(&[("contracts", "contracts"), ("production", "declared")]);
    it.warehouse.ok(&["run", "ingest:prices"]);
    let held = it.held();
    assert!(!held.contains_key("files_quarantined"), "{held:?}");
    assert_eq!(held["reference_quarantined"], json!("all"));
    assert_eq!(held["reference_not_loaded"], json!("all"));
    it.load(&[("prices", "prices")]);
    let held = it.held();
    assert!(!held.contains_key("known_twice") && !held.contains_key("reference_not_loaded"), "{held:?}");
}
