//! E-invoices beside statements: valid by the rules that others wrote, refused where somebody is not identified, and one
//! that replaces another names it.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::world::{Warehouse, python};

const VALIDATE: &str = include_str!("invoices.py");
const ISSUE: [&str; 4] = ["run", "statement:producers", "--for", "2026-03"];

/// Energy with reverse charge, at a price and at each step's own, fees with a VAT of their own, and a complement of
/// remuneration that is owed.
const STATEMENTS: &str = r#"
template = "templates/statement.html"
pdf = "templates/statement.typ"
labels = "templates/fr.toml"
lines = """
SELECT 'PRD1' AS producer_id, 'Éoliennes & Cie' AS producer, 'SIRET' AS siret, '1 rue du Vent' AS address,
       '48000' AS postcode, 'Mende' AS city, 'FR7630006000011234567890189' AS iban, 'CTR-1' AS contract_id,
       '2021-01-01' AS valid_from, 'EOL-1' AS site_id, '30000000000001' AS prm, kind, rule, quantity, unit, price, price_unit,
       amount, vat, vat_rate_pct, '0.00' AS vat_amount, 'measured' AS quality
FROM (VALUES
  ('SPOT_PASSTHROUGH', 'spot', 743000123, 'Wh', NULL, NULL, '37150.01', 'reverse_charge', '0'),
  ('SPOT_PASSTHROUGH', 'imbalance', -29720000, 'Wh', NULL, NULL, '-891.60', 'reverse_charge', '0'),
  ('SPOT_PASSTHROUGH', 'guarantee_of_origin', 743000123, 'Wh', '0.3500', 'EUR/MWh', '260.05', 'reverse_charge', '0'),
  ('SPOT_PASSTHROUGH', 'fee', 743000123, 'Wh', '-2.3700', 'EUR/MWh', '-1760.91', 'FEE_VAT', 'FEE_RATE'),
  ('SPOT_PASSTHROUGH', 'fee_power', 12000000, 'W', '-100.0000', 'EUR/MW/month', '-1200.00', 'FEE_VAT', 'FEE_RATE'),
  ('CR', 'cr', 666900000, 'Wh', '-5.3000', 'EUR/MWh', '-3534.57', 'none', '0'),
  ('CR', 'cr_capacity', 1200000, 'W', '-31210.0000', 'EUR/MW/year', '-3180.85', 'none', '0'),
  ('CR', 'cr_negative_price', 1800000, 'Wh', '0.0000', 'EUR/MWh', '0.00', 'none', '0')
) AS v (kind, rule, quantity, unit, price, price_unit, amount, vat, vat_rate_pct)
WHERE '{period}' = '2026-03'
"""
[invoice.company]
name = "Agrégateur SA"
siren = "COMPANY"
address = "2 place du Marché"
postcode = "75001"
city = "Paris"
legal = "SA au capital de 1 000 000 €, RCS Paris 552 081 317"
"#;

struct Invoices {
    warehouse: Warehouse,
}

impl Invoices {
    fn new() -> Invoices {
        let warehouse = Warehouse::new(&[
            ("wattlake.toml", "lake.url = 'lake'\nserve.timezone = 'Europe/Paris'\n"),
            ("templates/statement.html", include_str!("../../../../../warehouse/templates/statement.html")),
            ("templates/statement.typ", include_str!("../../../../../warehouse/templates/statement.typ")),
            ("templates/format.typ", include_str!("../../../../../warehouse/templates/format.typ")),
            ("templates/fr.toml", include_str!("../../../../../warehouse/templates/fr.toml")),
        ]);
        let it = Invoices { warehouse };
        it.with(&[]);
        it
    }

    /// Writes the statement's file, with some of its texts replaced.
    fn with(&self, replaced: &[(&str, &str)]) {
        let usual =
            [("SIRET", "73282932000074"), ("COMPANY", "552081317"), ("FEE_VAT", "standard"), ("FEE_RATE", "20.0000")];
        let text = replaced.iter().chain(&usual).fold(STATEMENTS.to_owned(), |text, (a, b)| text.replace(a, b));
        self.warehouse.write("statements/producers.toml", &text);
    }

    fn folder(&self) -> PathBuf {
        self.warehouse.path().join("outbox/statements/2026-03")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The names of all e-invoices, after the rules of others have found no fault in them.
    fn valid(&self) -> Vec<String> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "xml"));
        files.sort();
        let found = python(VALIDATE, &json!(files));
        for (file, faults) in found.as_object().unwrap() {
            assert_eq!(faults, &json!([]), "{file}");
        }
        files.iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }
}

#[test]
fn e_invoices_meet_the_rules_and_name_what_they_replace() {
    let it = Invoices::new();
    it.warehouse.ok(&ISSUE).has("1 statement issued");
    let first = ["2026-03-PRD1-1-CR", "2026-03-PRD1-1-F", "2026-03-PRD1-1"];
    let names = |numbers: &[&str]| -> Vec<String> {
        let mut names: Vec<String> =
            numbers.iter().flat_map(|number| [format!("{number}.cii.xml"), format!("{number}.ubl.xml")]).collect();
        names.sort();
        names
    };
    assert_eq!(it.valid(), names(&first));
    let energy = it.read("2026-03-PRD1-1.cii.xml");
    for part in [
        "<ram:TypeCode>389</ram:TypeCode>",
        "<ram:GrandTotalAmount>36518.46</ram:GrandTotalAmount>",
        "Éoliennes &amp; Cie",
        "FR44732829320",
        "Autofacturation",
        "<ram:BilledQuantity unitCode=\"KWH\">743000.123</ram:BilledQuantity>",
    ] {
        assert!(energy.contains(part), "{part} is not in {energy}");
    }
    let complement = it.read("2026-03-PRD1-1-CR.cii.xml");
    assert!(!complement.contains("FR44732829320") && complement.contains("-6715.42"), "{complement}");
    let fees = it.read("2026-03-PRD1-1-F.ubl.xml");
    assert!(fees.contains(">380<") && fees.contains("3553.09"), "{fees}");
    // The VAT of the page is that of the invoices.
    let page = it.read("2026-03-PRD1-1.html").replace(['\u{a0}', '\u{202f}'], " ");
    assert!(page.contains("-592,18 €") || page.contains("−592,18 €"), "{page}");

    // A correction is another invoice, which names the one that it replaces.
    it.with(&[("'0.3500'", "'0.4500'"), ("'260.05'", "'334.35'")]);
    it.warehouse.ok(&ISSUE).has("1 of them in place of an earlier one");
    let second = ["2026-03-PRD1-2-CR", "2026-03-PRD1-2-F", "2026-03-PRD1-2"];
    assert_eq!(it.valid(), names(&[&first[..], &second[..]].concat()));
    let energy = it.read("2026-03-PRD1-2.cii.xml");
    assert!(energy.contains(">471<") && energy.contains(">2026-03-PRD1-1<"), "{energy}");
    let register = it.warehouse.sql("select invoices from billing.statements order by number");
    let files: Vec<Value> = serde_json::from_str(register[0]["invoices"].as_str().unwrap()).unwrap();
    assert_eq!(files.len(), 9, "six e-invoices and three PDFs");
    // A file that was removed is written again.
    fs::remove_file(it.folder().join("2026-03-PRD1-2.ubl.xml")).unwrap();
    it.warehouse.ok(&ISSUE).has("1 unchanged");
    assert_eq!(it.valid().len(), 12);
}

/// What is in a PDF, as another program reads it.
const READ_PDF: &str = r#"
import io, json, sys
import facturx, pypdf
found = {}
for path in json.load(sys.stdin):
    content = open(path, "rb").read()
    reader = pypdf.PdfReader(io.BytesIO(content))
    text = " ".join(page.extract_text() for page in reader.pages)
    name, xml = facturx.get_xml_from_pdf(content, check_xsd=True) if reader.attachments else (None, b"")
    level = facturx.get_level(__import__("lxml.etree").etree.fromstring(xml)) if xml else None
    found[path] = {"pages": len(reader.pages), "text": text, "name": name, "xml": xml.decode(), "level": level}
print(json.dumps(found))
"#;

#[test]
fn each_document_is_a_pdf_with_its_e_invoice() {
    let it = Invoices::new();
    it.warehouse.ok(&ISSUE).has("1 statement issued");
    let numbers = ["2026-03-PRD1-1", "2026-03-PRD1-1-CR", "2026-03-PRD1-1-F"];
    let paths: Vec<PathBuf> = numbers.iter().map(|number| it.folder().join(format!("{number}.pdf"))).collect();
    let found = python(READ_PDF, &json!(paths));
    let text = |at: usize| {
        let text = found[paths[at].to_str().unwrap()]["text"].as_str().unwrap();
        text.replace(['\u{a0}', '\u{202f}'], " ")
    };
    for (number, path) in numbers.iter().zip(&paths) {
        let one = &found[path.to_str().unwrap()];
        assert_eq!((&one["name"], &one["level"]), (&json!("factur-x.xml"), &json!("en16931")), "{number}");
        assert_eq!(one["xml"].as_str().unwrap(), it.read(&format!("{number}.cii.xml")), "{number}");
    }
    for says in [
        "36 518,46 €",
        "Éoliennes & Cie",
        "Agrégateur SA",
        "Page 1",
        "FR44732829320",
        "Autofacturation",
        "livraison de biens et",
    ] {
        assert!(text(0).contains(says), "{says} is not in {}", text(0));
    }
    assert!(text(1).contains("6 715,42 €") && text(1).contains("hors champ"), "{}", text(1));
    // Of fees the company is the seller: amounts and prices have the other sign.
    assert!(text(2).contains("3 553,09 €") && text(2).contains("prestation de services"), "{}", text(2));
    assert!(!text(2).contains("Autofacturation") && !text(2).contains('\u{2212}'), "{}", text(2));

    // The same content is the same file, and a template with an error is named with its line.
    let first = fs::read(&paths[0]).unwrap();
    fs::remove_file(&paths[0]).unwrap();
    it.warehouse.ok(&ISSUE).has("1 unchanged");
    assert!(fs::read(&paths[0]).unwrap() == first);
    it.warehouse.write("templates/statement.typ", "#let s = json(\"data.json\")\n\n#s.nope");
    let failed = it.warehouse.run(&["statement", "draft", "producers", "--for", "2026-03"]);
    failed.has("statement.typ:3: dictionary does not contain key \"nope\"");
}

#[test]
fn nobody_is_invoiced_who_is_not_identified() {
    let it = Invoices::new();
    it.with(&[("siren = \"COMPANY\"", "siren = \"\"")]);
    let refused = it.warehouse.run(&ISSUE);
    assert_eq!(refused.code, 1, "{}", refused.text());
    refused
        .has("an invoice that charges VAT names who issues it")
        .has("fill in name and siren of [invoice.company] in statements/producers.toml")
        .has("0 statements issued, 1 refused");
    assert_eq!(it.warehouse.json(&["statement", "list", "--json"]).len(), 0);
    let drafts = it.warehouse.path().join("outbox/statements/drafts");
    assert_eq!(fs::read_dir(drafts).unwrap().count(), 9, "a page, a PDF, a workbook and six e-invoices");

    it.with(&[("SIRET", "73282932100074")]);
    it.warehouse.run(&ISSUE).has("\"73282932100074\" is not a SIRET number").has("1 refused");
    it.with(&[("COMPANY", "552081318")]);
    it.warehouse.run(&["check"]).has("statements/producers.toml:").has("\"552081318\" is not a SIREN number");

    // Without VAT a statement is issued, and people are told that it has no e-invoices.
    it.with(&[("siren = \"COMPANY\"", "siren = \"\""), ("FEE_VAT", "reverse_charge"), ("FEE_RATE", "0")]);
    it.warehouse.ok(&ISSUE).has("note: no e-invoices are written").has("1 statement issued");
    assert_eq!(it.valid().len(), 0);
    // With the company filled in, the same content is issued again, with e-invoices that replace none.
    it.with(&[("FEE_VAT", "reverse_charge"), ("FEE_RATE", "0")]);
    it.warehouse.ok(&ISSUE).has("1 statement issued, 1 of them in place of an earlier one");
    assert_eq!(it.valid().len(), 4);
    let energy = it.read("2026-03-PRD1-2.cii.xml");
    assert!(energy.contains(">389<") && !energy.contains("2026-03-PRD1-1<"), "{energy}");
    it.warehouse.ok(&ISSUE).has("1 unchanged");
    // A producer who has no lines any more gets a statement of zero, and invoices that cancel the earlier ones.
    it.with(&[("FEE_VAT", "reverse_charge"), ("FEE_RATE", "0"), ("= '2026-03'", "= '1999-01'")]);
    it.warehouse.ok(&ISSUE).has("2026-03-PRD1-3").has("1 statement issued");
    assert_eq!(it.valid().len(), 8);
    // A cancellation is a PDF, too, and nothing else is.
    let pdfs: Vec<PathBuf> =
        ["", "-CR"].iter().map(|part| it.folder().join(format!("2026-03-PRD1-3{part}.pdf"))).collect();
    let found = python(READ_PDF, &json!(pdfs));
    for pdf in &pdfs {
        let one = &found[pdf.to_str().unwrap()];
        assert!(one["name"] == "factur-x.xml" && one["text"].as_str().unwrap().contains("Annulation"), "{one}");
    }
    let complement = it.read("2026-03-PRD1-3-CR.ubl.xml");
    assert!(complement.contains(">471<") && complement.contains(">2026-03-PRD1-2-CR<"), "{complement}");
}
