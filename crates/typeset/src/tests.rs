//! Pages from templates: the same bytes each time, objects where the file says they are, errors with their place.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;

use serde_json::json;

use super::{Fonts, Input, Pdf, pdf};

const INVOICE: &str = "<rsm:CrossIndustryInvoice/>";
const TEMPLATE: &str =
    "#set document(title: \"A\")\n#let s = json(\"data.json\")\n= #s.title\n#table(columns: 2, [A], [1], [B], [2])";

fn made(name: &str, template: &str, invoice: Option<&str>) -> Result<Pdf, String> {
    let data = json!({"title": "Relevé"});
    let issued = chrono::NaiveDate::from_ymd_opt(2026, 4, 2).unwrap();
    let folder = Some(Path::new(env!("CARGO_MANIFEST_DIR")));
    let input = Input { name, template, folder, data: &data, invoice: invoice.map(str::as_bytes), issued };
    pdf(&Fonts::new([]), &input).map_err(|error| error.to_string())
}

#[test]
fn the_same_input_is_the_same_file() {
    let first = made("mine.typ", TEMPLATE, Some(INVOICE)).unwrap();
    assert_eq!((first.pages, &first.warnings), (1, &Vec::new()));
    let again = made("mine.typ", TEMPLATE, Some(INVOICE)).unwrap();
    assert!(first.bytes == again.bytes);
    let plain = made("mine.typ", TEMPLATE, None).unwrap();
    assert!(!String::from_utf8_lossy(&plain.bytes).contains("factur-x"));
}

#[test]
fn each_object_is_where_the_table_says() {
    let bytes = made("mine.typ", TEMPLATE, Some(INVOICE)).unwrap().bytes;
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("<fx:ConformanceLevel>EN 16931</fx:ConformanceLevel>"));
    let start = bytes.windows(9).rposition(|window| window == b"startxref").unwrap();
    let at: usize = std::str::from_utf8(&bytes[start + 9..]).unwrap().lines().nth(1).unwrap().parse().unwrap();
    let table = std::str::from_utf8(&bytes[at..start]).unwrap();
    let entries = table.lines().skip(2).take_while(|line| *line != "trailer");
    let mut checked = 0;
    for (number, entry) in entries.enumerate().skip(1) {
        let offset: usize = entry[..10].parse().unwrap();
        assert!(bytes[offset..].starts_with(format!("{number} 0 obj").as_bytes()), "{number}: {entry}");
        checked += 1;
    }
    assert!(checked > 20, "{checked}");
}

#[test]
fn errors_have_their_place() {
    for (template, says) in [
        ("= A\n\n#json(\"data.json\").nope", "mine.typ:3: dictionary does not contain key \"nope\""),
        ("\n#let x = (1, 2\n", "mine.typ:2: unclosed delimiter"),
        ("#import \"@preview/cetz:0.3.0\": *", "is a package, and none can be loaded"),
        ("#read(\"../Cargo.toml\")", "would escape"),
        ("#read(\"/etc/passwd\")", "file not found"),
        ("A 漢", "mine.typ:1: PDF/A-3b error: the text"),
        ("#set text(font: \"Arial\")\nA", "mine.typ:1: unknown font family: arial"),
    ] {
        let error = made("mine.typ", template, None).unwrap_err();
        assert!(error.contains(says), "{says} is not in {error}");
    }
}
