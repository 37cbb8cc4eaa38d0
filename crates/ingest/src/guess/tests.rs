//! Proposals are layouts that accept the files which they were made from.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{Seek, Write};

use super::{Proposal, propose};
use crate::layout::Layout;
use crate::read::tests::{Reading, reading_of};

fn proposal(name: &str, bytes: &[u8]) -> Proposal {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    propose(file, name).unwrap()
}

/// What the proposed layout reads, without faults.
fn read(name: &str, bytes: &[u8]) -> (Proposal, Reading) {
    let proposal = proposal(name, bytes);
    let layout =
        Layout::parse(&proposal.layout).unwrap_or_else(|problems| panic!("{}\n{problems:#?}", proposal.layout));
    let read = reading_of(name, &layout, bytes);
    assert!(read.report.faults.is_empty(), "{}\n{:#?}", proposal.layout, read.report.faults);
    (proposal, read)
}

fn has(proposal: &Proposal, lines: &[&str]) {
    for line in lines {
        assert!(
            proposal.layout.lines().any(|one| one.split("  # ?").next() == Some(line)),
            "{line} is not in\n{}",
            proposal.layout
        );
    }
}

#[test]
fn a_french_file_with_a_total() {
    let file = "prm;Horodate début;Énergie (kWh);code\n30000000000001;2026-04-01T08:00:00+02:00;1216,5;\n\
                30000000000001;2026-04-01T08:15:00+02:00;0,25;INDISPO\n#TOTAL;2;1216,75\n";
    let (proposal, read) = read("a.csv", file.as_bytes());
    has(
        &proposal,
        &[
            "separator = \";\"",
            "decimal = \",\"",
            "key = [\"prm\", \"starts_at\"]",
            "[columns.starts_at]",
            "header = \"Horodate début\"",
            "[columns.energie_kwh]",
            "type = \"decimal(18,2)\"",
            "pattern = '^\\d{14}$'",
        ],
    );
    assert_eq!(read.rows.num_rows(), 2);
    assert!(proposal.doubts.iter().any(|doubt| doubt.contains("kWh")), "{:?}", proposal.doubts);
    assert!(!proposal.layout.contains("zone"), "the times have offsets");
}

#[test]
fn ends_of_steps_and_lines_before_the_header() {
    let mut file = "sep=;\nIdentifiant PRM : 30000000000001\n\nHorodate;Puissance (kW);\n[date];[kW];\n".to_owned();
    for half in 1..=48 {
        let (day, hour, minute) = (1 + half / 48, half % 48 / 2, half % 2 * 30);
        file.push_str(&format!("{day:02}/07/2026 {hour:02}:{minute:02};{half},5;\n"));
    }
    let (proposal, read) = read("courbe.csv", file.as_bytes());
    has(
        &proposal,
        &[
            "skip_to = \"Horodate\"",
            "skip_after_header = 1",
            "stamp = \"end\"",
            "step = \"PT30M\"",
            "format = \"%d/%m/%Y %H:%M\"",
            "zone = \"Europe/Paris\"",
        ],
    );
    assert_eq!((read.rows.num_rows(), read.instants("starts_at")[0].as_str()), (48, "30T22:00Z"));
    assert!(proposal.doubts.iter().any(|doubt| doubt.contains("the day that comes first")), "{:?}", proposal.doubts);
}

#[test]
fn a_field_for_each_hour_and_a_date_beside_a_time() {
    let hours = (1..=24).map(|hour| format!("H{hour}")).collect::<Vec<_>>().join(";");
    let values = (1..=24).map(|hour| hour.to_string()).collect::<Vec<_>>().join(";");
    let file = format!("Jour;{hours}\n01/07/2026;{values}\n13/07/2026;{values}\n");
    let (proposal, wide) = read("PRM_30000000000001.csv", file.as_bytes());
    has(
        &proposal,
        &["[wide]", "shows = \"position\"", "step = \"PT60M\"", "day = \"%d/%m/%Y\"", "source = \"file-name\""],
    );
    assert_eq!((wide.rows.num_rows(), wide.texts("prm")[0]), (48, Some("30000000000001")));

    let (proposal, apart) = read("a.csv", b"Date\tHeures\tMW\n2026-07-01\t00:00\t5\n2026-07-01\t00:30\tND\n");
    has(&proposal, &["separator = \"\\t\"", "time_header = \"Heures\"", "empty = [\"\", \"ND\"]"]);
    assert_eq!(apart.instants("starts_at"), ["30T22:00Z", "30T22:30Z"]);
}

#[test]
fn documents_of_json_and_xml() {
    let json = r#"{"header": {"flux": "R63"}, "mesures": [{"idPrm": "30000000000001", "points": [
        {"v": "12", "d": "2026-07-01 00:30:00", "p": "PT30M"}, {"v": "13", "d": "2026-07-01 01:00:00", "p": "PT30M"}]}]}"#;
    let (proposal, rows) = read("a.json", json.as_bytes());
    has(&proposal, &["rows = \"mesures/points\"", "header = \"../idPrm\"", "type = \"duration\""]);
    assert_eq!((rows.whole("v"), rows.texts("idprm")[0]), (vec![Some(12), Some(13)], Some("30000000000001")));

    let xml = "<Flux><Courbe id=\"7\"><Point><H>2026-07-01T00:10:00Z</H><V>1.5</V></Point>\
               <Point><H>2026-07-01T00:20:00Z</H><V>2</V></Point></Courbe></Flux>";
    let (proposal, rows) = read("a.xml", xml.as_bytes());
    has(&proposal, &["rows = \"Flux/Courbe/Point\"", "type = \"decimal(18,1)\"", "header = \"../@id\""]);
    assert_eq!(rows.rows.num_rows(), 2);

    let (proposal, rows) = read("a.ndjson", b"{\"a\": 1, \"b\": \"x\"}\n{\"a\": 2, \"b\": \"y\"}\n");
    has(&proposal, &["format = \"ndjson\""]);
    assert_eq!(rows.whole("a"), [Some(1), Some(2)]);
}

#[test]
fn nothing_is_guessed_of_what_has_no_rows() {
    for text in ["", "{}", "<a/>", "\n\n"] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        if let Ok(proposal) = propose(file, "a") {
            // An empty object is a row without values.
            assert!(text == "{}" && Layout::parse(&proposal.layout).is_err(), "{text:?}: {}", proposal.layout);
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_has_a_proposal_that_can_be_parsed(text in "[a-zA-Z0-9é;,.:/ \"'\\[{<>#\\t\\n-]{0,400}") {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        if let Ok(proposal) = propose(file, "a.csv") {
            let parsed = Layout::parse(&proposal.layout);
            proptest::prop_assert!(parsed.is_ok(), "{}\n{:?}", proposal.layout, parsed.unwrap_err());
        }
    }
}
