//! Workbooks, written by another library.

use arrow::array::AsArray;
use arrow::datatypes::{Date32Type, Decimal128Type, Float64Type};
use rust_xlsxwriter::{ExcelDateTime, Format, Formula, Workbook};

use super::{layout, read_changed_files, reading};
use crate::read::FaultKind;

const LAYOUT: &str = r##"
format = "xlsx"
sheet = "Relevés"
skip_lines = 1
decimal = ","
thousands = " "
zone = "Europe/Paris"
[columns.prm]
type = "text"
pattern = '^\d{14}$'
[columns.jour]
type = "date"
[columns.debut]
type = "timestamp"
[columns.energie]
type = "decimal(12,3)"
[columns.definitif]
type = "boolean"
yes = ["oui"]
no = ["non"]
[columns.duree]
type = "duration"
[[trailers]]
starts_with = "Total"
count = 2
sums = [{ field = 4, column = "energie" }]
"##;

fn workbook(change: impl Fn(&mut rust_xlsxwriter::Worksheet)) -> Vec<u8> {
    let mut book = Workbook::new();
    book.add_worksheet().set_name("Lisez-moi").unwrap().write(0, 0, "rien ici").unwrap();
    let sheet = book.add_worksheet().set_name("Relevés").unwrap();
    sheet.write(0, 0, "Relevés de septembre").unwrap();
    for (at, name) in ["prm", "jour", "debut", "energie", "definitif", "duree"].into_iter().enumerate() {
        sheet.write(1, at as u16, name).unwrap();
    }
    let day = Format::new().set_num_format("dd/mm/yyyy");
    let time = Format::new().set_num_format("dd/mm/yyyy hh:mm");
    let length = Format::new().set_num_format("[h]:mm");
    let at = |hour| ExcelDateTime::from_ymd(2026, 9, 1).unwrap().and_hms(hour, 15, 0).unwrap();
    sheet.write(2, 0, "30000000000042").unwrap();
    sheet.write_with_format(2, 1, ExcelDateTime::from_ymd(2026, 9, 1).unwrap(), &day).unwrap();
    sheet.write_with_format(2, 2, at(1), &time).unwrap();
    sheet.write(2, 3, 1234.5).unwrap();
    sheet.write(2, 4, true).unwrap();
    sheet.write_with_format(2, 5, 1.0 / 96.0, &length).unwrap();
    // Numbers as texts, and a number where a text is meant.
    sheet.write(4, 0, 30_000_000_000_042_i64).unwrap();
    sheet.write(4, 1, "2026-09-01").unwrap();
    sheet.write(4, 2, "2026-09-01 01:30").unwrap();
    sheet.write(4, 3, "1\u{a0}234,5").unwrap();
    sheet.write(4, 4, "Non").unwrap();
    sheet.write(4, 5, "PT15M").unwrap();
    sheet.write(5, 3, Formula::new("=0.1+0.2").set_result("0.30000000000000004")).unwrap();
    sheet.write(6, 0, "Total").unwrap();
    sheet.write(6, 1, 3).unwrap();
    sheet.write(6, 3, 2469.3).unwrap();
    change(sheet);
    book.save_to_buffer().unwrap()
}

#[test]
fn dates_numbers_and_texts_of_a_sheet() {
    let read = reading(&layout(LAYOUT), &workbook(|_| {}));
    assert!(read.is_accepted(), "{:#?}", read.report);
    assert_eq!(read.lines, [3, 5, 6]);
    assert_eq!(read.texts("prm"), [Some("30000000000042"), Some("30000000000042"), None]);
    let energies: Vec<i128> = read.rows["energie"].as_primitive::<Decimal128Type>().values().to_vec();
    assert_eq!(energies, [1_234_500, 1_234_500, 300], "0.1 + 0.2 is what the sheet shows");
    assert_eq!(read.instants("debut")[..2], ["31T23:15Z", "31T23:30Z"]);
    let days = read.rows["jour"].as_primitive::<Date32Type>();
    assert_eq!(days.value(0), days.value(1));
    assert_eq!(read.whole("duree")[..2], [Some(900), Some(900)]);
    let definite: Vec<_> = read.rows["definitif"].as_boolean().iter().collect();
    assert_eq!(definite, [Some(true), Some(false), None]);
}

#[test]
fn what_is_wrong_in_a_sheet() {
    let read = reading(
        &layout(LAYOUT),
        &workbook(|sheet| {
            sheet.write(4, 1, "01/09/2026").unwrap();
            sheet.write(5, 3, 0.1234).unwrap();
            sheet.write(5, 4, Formula::new("=1/0").set_result("#DIV/0!")).unwrap();
            sheet.write(2, 8, "à côté").unwrap();
        }),
    );
    let counts: Vec<FaultKind> = read.report.counts.keys().copied().collect();
    assert_eq!(
        counts,
        [FaultKind::Fields, FaultKind::Form, FaultKind::Digits, FaultKind::Total],
        "{:#?}",
        read.report.faults
    );
    let said: Vec<String> = read.report.faults.iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|one| one.starts_with("line 5: column \"jour\": \"01/09/2026\": expected a date such as")));
    assert!(said.iter().any(|one| one.contains("line 6: column \"definitif\": \"#DIV/0!\"")), "{said:#?}");
}

#[test]
fn a_date_with_an_hour_is_no_date() {
    let read = reading(
        &layout(LAYOUT),
        &workbook(|sheet| {
            let at = ExcelDateTime::from_ymd(2026, 9, 1).unwrap().and_hms(10, 0, 0).unwrap();
            sheet.write_with_format(2, 1, &at, &Format::new().set_num_format("dd/mm/yyyy")).unwrap();
        }),
    );
    assert!(read.only_fault().contains("line 3: column \"jour\": \"2026-09-01 10:00:00\": expected a date"));
}

#[test]
fn no_such_sheet_and_no_workbook() {
    let other = layout(&LAYOUT.replace("Relevés", "Releves"));
    let fault = reading(&other, &workbook(|_| {})).only_fault();
    assert_eq!(fault, "expected a sheet \"Releves\"; the workbook has \"Lisez-moi\", \"Relevés\"");
    assert!(reading(&layout(LAYOUT), b"prm;jour\n").only_fault().contains("expected a workbook (.xlsx)"));
    let whole = workbook(|_| {});
    assert!(!reading(&layout(LAYOUT), &whole[..whole.len() / 2]).is_accepted(), "cut off");
}

#[test]
fn long_numbers_keep_their_digits_or_are_refused() {
    let layout = layout("format='xlsx'\n[columns.id]\ntype='text'\n[columns.ratio]\ntype='double'");
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    for (row, id) in [(1, 8_234_567_890_123_456.0), (2, 12_345_678_901_234_567_890.0)] {
        sheet.write(row, 0, id).unwrap();
    }
    sheet.write(0, 0, "id").unwrap().write(0, 1, "ratio").unwrap();
    sheet.write(1, 1, 0.1 + 0.2).unwrap();
    let read = reading(&layout, &book.save_to_buffer().unwrap());
    assert_eq!(read.texts("id"), [Some("8234567890123456")]);
    assert_eq!(read.rows["ratio"].as_primitive::<Float64Type>().value(0), 0.1 + 0.2, "a double stays one");
    assert!(read.only_fault().starts_with("line 3: column \"id\": \"12345678901234567000\": expected a text"));
}

#[test]
fn random_workbooks_have_a_verdict() {
    read_changed_files(&layout(LAYOUT), &workbook(|_| {}));
}

/// Title lines, the metering point above the header, and times of quarter hours.
const CURVE: &str = "format = \"xls\"\nskip_to = \"Horodate\"\nzone = \"Europe/Paris\"\n
    [columns.prm]\nsource = \"preamble\"\nextract = 'PRM : (\\d{14})'\ntype = \"text\"\n
    [columns.at]\nheader = \"Horodate\"\ntype = \"timestamp\"\n
    [columns.wh]\nheader = \"kWh\"\ntype = \"integer\"\nfactor = 1000\n[series]\ntime = \"at\"\nstep = \"PT15M\"\ncovers = \"days\"";

#[test]
fn an_older_workbook_is_read_by_its_content() {
    let curve = CURVE.split("[series]").next().unwrap();
    let read = reading(&layout(curve), include_bytes!("../../../tests/files/curve.xls"));
    assert!(read.report.faults.is_empty(), "{:#?}", read.report.faults);
    assert_eq!(read.instants("at"), ["30T22:00Z", "30T22:15Z", "30T22:30Z", "30T22:45Z"]);
    assert_eq!(read.whole("wh"), [Some(0), Some(250), Some(500), Some(750)]);
    assert_eq!((read.texts("prm")[0], read.lines[0]), (Some("30000000000001"), 4));
}

#[test]
fn an_open_document_is_read_by_its_content() {
    use std::io::{Cursor, Write};
    let row = |cells: &[String]| format!("<table:table-row>{}</table:table-row>", cells.concat());
    let text = |text: &str| {
        format!("<table:table-cell office:value-type=\"string\"><text:p>{text}</text:p></table:table-cell>")
    };
    let time = |at: &str| {
        format!(
            "<table:table-cell office:value-type=\"date\" office:date-value=\"{at}\"><text:p>{at}</text:p></table:table-cell>"
        )
    };
    let number = |value: &str| {
        format!(
            "<table:table-cell office:value-type=\"float\" office:value=\"{value}\"><text:p>{value}</text:p></table:table-cell>"
        )
    };
    let rows = [
        row(&[text("PRM : 30000000000001")]),
        row(&[text("Horodate"), text("kWh")]),
        row(&[time("2026-07-01T00:00:00"), number("0.25")]),
        row(&[time("2026-07-01T00:15:00"), number("0.5")]),
    ];
    let content = format!(
        "<?xml version=\"1.0\"?><office:document-content xmlns:office=\"urn:oasis:names:tc:opendocument:xmlns:office:1.0\" \
         xmlns:table=\"urn:oasis:names:tc:opendocument:xmlns:table:1.0\" xmlns:text=\"urn:oasis:names:tc:opendocument:xmlns:text:1.0\">\
         <office:body><office:spreadsheet><table:table table:name=\"Courbe\">{}</table:table></office:spreadsheet></office:body>\
         </office:document-content>",
        rows.concat()
    );
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let manifest = "<?xml version=\"1.0\"?><manifest:manifest xmlns:manifest=\"urn:oasis:names:tc:opendocument:xmlns:manifest:1.0\"/>";
    for (name, text) in [
        ("mimetype", "application/vnd.oasis.opendocument.spreadsheet"),
        ("META-INF/manifest.xml", manifest),
        ("content.xml", content.as_str()),
    ] {
        archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    let bytes = archive.finish().unwrap().into_inner();
    let curve = CURVE.split("[series]").next().unwrap();
    let read = reading(&layout(curve), &bytes);
    assert!(read.report.faults.is_empty(), "{:#?}", read.report.faults);
    assert_eq!(
        (read.instants("at"), read.whole("wh")),
        (vec!["30T22:00Z".to_owned(), "30T22:15Z".to_owned()], vec![Some(250), Some(500)])
    );
}

#[test]
fn times_that_drift_in_a_sheet_are_whole_seconds() {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    let time = Format::new().set_num_format("dd/mm/yyyy hh:mm");
    sheet.write(0, 0, "Horodate").unwrap();
    sheet.write(0, 1, "kWh").unwrap();
    // Each row adds a step to the one before it, as a formula does.
    let mut at = ExcelDateTime::from_ymd(2026, 7, 1).unwrap().to_excel();
    for quarter in 0..96 {
        sheet.write_with_format(1 + quarter, 0, at, &time).unwrap();
        sheet.write(1 + quarter, 1, 1).unwrap();
        at += 1.0 / 96.0 - 1e-9;
    }
    let curve = CURVE
        .replace("skip_to = \"Horodate\"\n", "")
        .replace("source = \"preamble\"\nextract = 'PRM : (\\d{14})'\n", "optional = true\n");
    let read = reading(&layout(&curve), &book.save_to_buffer().unwrap());
    assert!(read.report.faults.is_empty(), "{:#?}", read.report.faults);
    assert_eq!(read.instants("at")[95], "01T21:45Z");
}
