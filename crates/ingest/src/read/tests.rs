//! Files as producers deliver them, valid and faulty.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, in shared code of tests too")]

mod calendar;
mod documents;
mod kinds;
mod shapes;
mod workbook;

use std::io::{Seek, Write};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Decimal128Type, Int64Type, TimestampMicrosecondType, UInt64Type};
use proptest::prelude::*;

use super::{FaultKind, ReadReport, Verdict, read};
use crate::layout::Layout;

pub fn layout(text: &str) -> Layout {
    Layout::parse(text).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

pub struct Reading {
    pub rows: RecordBatch,
    pub lines: Vec<u64>,
    pub report: ReadReport,
}

pub fn reading(layout: &Layout, bytes: &[u8]) -> Reading {
    reading_of("", layout, bytes)
}

/// Of a file of this name.
pub fn reading_of(name: &str, layout: &Layout, bytes: &[u8]) -> Reading {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    let (mut batches, mut lines) = (Vec::new(), Vec::new());
    let report = read(file, name, layout, &mut |rows| {
        assert_eq!(rows.batch.num_rows(), rows.lines.len());
        lines.extend(rows.lines.iter().flatten());
        batches.push(rows.batch);
        Ok(())
    });
    Reading { rows: concat_batches(&layout.schema(), &batches).unwrap(), lines, report: report.unwrap() }
}

impl Reading {
    pub fn whole(&self, column: &str) -> Vec<Option<i64>> {
        self.rows[column].as_primitive::<Int64Type>().iter().collect()
    }

    pub fn texts(&self, column: &str) -> Vec<Option<&str>> {
        self.rows[column].as_string::<i32>().iter().collect()
    }

    pub fn instants(&self, column: &str) -> Vec<String> {
        let at = |micros| chrono::DateTime::from_timestamp_micros(micros).unwrap().format("%dT%H:%MZ").to_string();
        self.rows[column].as_primitive::<TimestampMicrosecondType>().values().iter().map(|micros| at(*micros)).collect()
    }

    /// The line and the kind of each fault.
    pub fn faults(&self) -> Vec<(u64, FaultKind)> {
        self.report.faults.iter().map(|fault| (fault.line, fault.kind)).collect()
    }

    pub fn only_fault(&self) -> String {
        assert_eq!(self.report.faults.len(), 1, "{:#?}", self.report.faults);
        assert!(matches!(self.report.verdict, Verdict::Quarantine { .. }));
        self.report.faults[0].to_string()
    }

    pub fn is_accepted(&self) -> bool {
        self.report.verdict == Verdict::Accept
    }
}

/// The layout of producers' bills.
pub const BILLS: &str = r##"
format = "csv"
separator = ";"
decimal = ","
comment = "//"
key = ["prm", "debut"]
[columns.schema_version]
type = "integer"
[columns.producteur_id]
type = "text"
required = true
[columns.prm]
type = "text"
required = true
pattern = '^\d{14}$'
[columns.debut]
header = "horodate_debut"
type = "timestamp"
[columns.pas]
type = "duration"
required = true
[columns.energie_wh]
header = "energie_injectee_kwh"
type = "integer"
factor = 1000
min = 0
thousands = " "
[columns.disponibilite_pct]
type = "decimal(4,1)"
min = 0
max = 100
[columns.statut]
type = "enum"
values = ["DEFINITIF", "PROVISOIRE"]
[columns.commentaire]
type = "text"
[[trailers]]
starts_with = "#TOTAL"
count = 2
sums = [{ field = 3, column = "energie_wh" }]
[series]
time = "debut"
step = "pas"
by = ["prm"]
zone = "Europe/Paris"
covers = "days"
"##;

const HEADER: &str =
    "schema_version;producteur_id;prm;horodate_debut;pas;energie_injectee_kwh;disponibilite_pct;statut;commentaire\r\n";

/// A day of hours, each of 216,5 kWh except the first; `change` may replace each line, which are numbered from 0.
fn bill(change: impl Fn(usize, String) -> String) -> String {
    let row = |hour: usize| {
        let energy = if hour == 0 { "1 234,5" } else { "216,5" };
        let line = format!("1;PRD0042;30000000000042;2024-04-01T{hour:02}:00:00+02:00;PT60M;{energy};100,0;DEFINITIF;");
        change(hour, line) + "\r\n"
    };
    let rows: String = (0..24).map(row).collect();
    format!("{HEADER}{rows}#TOTAL;24;6 214,0\r\n")
}

fn bills(text: &str) -> Reading {
    reading(&layout(BILLS), text.as_bytes())
}

#[test]
fn a_bill_is_read_exactly() {
    let read =
        bills(&bill(|hour, line| if hour == 3 { line + "\"arrêt ; puis\r\nreprise \"\"normale\"\"\"" } else { line }));
    assert!(read.is_accepted(), "{:?}", read.report);
    assert_eq!((read.report.rows, read.report.rows_quarantined), (24, 0));
    assert_eq!(read.whole("energie_wh")[..2], [Some(1_234_500), Some(216_500)]);
    assert_eq!(read.whole("pas")[0], Some(3600));
    assert_eq!(read.rows["disponibilite_pct"].as_primitive::<Decimal128Type>().value(0), 1000);
    assert_eq!(read.texts("commentaire")[2..5], [None, Some("arrêt ; puis\r\nreprise \"normale\""), None]);
    assert_eq!(read.instants("debut")[0], "31T22:00Z");
    assert_eq!(read.lines[..6], [2, 3, 4, 5, 7, 8], "a text of two lines takes two");
}

#[test]
fn the_same_in_every_encoding() {
    let text = bill(|_, line| line + "été € œuvre");
    let expected = bills(&text);
    assert!(expected.is_accepted());
    let (windows, _, _) = encoding_rs::WINDOWS_1252.encode(&text);
    let utf16: Vec<u8> = [0xfe_ff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let marked = [b"\xef\xbb\xbf", text.as_bytes()].concat();
    for (name, bytes) in [("windows-1252", windows.as_ref()), ("UTF-16", &utf16), ("UTF-8 with its mark", &marked)] {
        let read = reading(&layout(BILLS), bytes);
        assert!(read.is_accepted(), "{name}: {:?}", read.report);
        assert_eq!(read.rows, expected.rows, "{name}");
        assert_eq!(read.lines, expected.lines, "{name}");
    }
    let said = reading(&layout(&format!("encoding = \"latin-1\"\n{BILLS}")), &windows);
    assert_eq!(said.rows, expected.rows);
}

#[test]
fn a_damaged_file_of_utf8_is_not_taken_for_another_encoding() {
    let mut bytes = bill(|hour, line| if hour == 2 { line + "été" } else { line }).into_bytes();
    let at = bytes.windows(2).position(|two| two == "é".as_bytes()).unwrap();
    bytes[at] = 0xff;
    let read = reading(&layout(BILLS), &bytes);
    assert_eq!(read.faults(), [(4, FaultKind::Encoding)]);
}

#[test]
fn each_kind_of_fault_is_distinguished() {
    let faulty = |from: &'static str, to: &'static str| {
        bills(&bill(move |hour, line| if hour == 4 { line.replace(from, to) } else { line }))
    };
    let cases = [
        (
            "216,5",
            "216.5",
            FaultKind::DecimalMark,
            "line 6: column \"energie_injectee_kwh\": \"216.5\": expected a number with ',' as its decimal mark and spaces between thousands; found '.'; if the whole file is written so, set `decimal` or `thousands` in the layout",
        ),
        ("216,5", "21 65", FaultKind::DecimalMark, "check `decimal` and `thousands`"),
        (
            "216,5",
            "216,0005",
            FaultKind::Digits,
            "expected a whole number of 64 bits after multiplication by 1000; numbers are not rounded",
        ),
        ("216,5", "-1", FaultKind::Range, "expected at least 0 in the column's unit"),
        ("216,5", "n/a", FaultKind::Form, "\"n/a\": expected a whole number"),
        ("100,0", "100,05", FaultKind::Digits, "at most 3 digits before the decimal mark and 1 after it"),
        ("100,0", "101", FaultKind::Range, "expected 0 to 100"),
        ("PRD0042", "", FaultKind::Missing, "the column is required"),
        ("30000000000042", "3000000000004", FaultKind::Pattern, r#"a text of the pattern "^\\d{14}$""#),
        (
            "DEFINITIF",
            "DEFINITIV",
            FaultKind::Word,
            "expected one of \"DEFINITIF\", \"PROVISOIRE\"; nearest: \"DEFINITIF\"",
        ),
        ("PT60M", "60", FaultKind::Form, "a duration in hours, minutes and seconds"),
        ("PT60M", "P1D", FaultKind::Form, "a duration in hours, minutes and seconds"),
        ("T04:00:00+02:00", " 4h", FaultKind::Form, "a time such as 2026-09-30T00:00:00+02:00"),
        ("+02:00", "", FaultKind::Form, "write the offset, or set the column's `zone`"),
        ("DEFINITIF;", "DEFINITIF;;", FaultKind::Fields, "expected 9 fields, found 10; does a text"),
        ("DEFINITIF;", "DEFINITIF", FaultKind::Fields, "expected 9 fields, found 8"),
    ];
    for (from, to, what, says) in cases {
        let read = faulty(from, to);
        let fault = read.report.faults.iter().find(|fault| fault.kind == what);
        let fault = fault.unwrap_or_else(|| panic!("{from} -> {to}: {:#?}", read.report.faults));
        assert_eq!(fault.line, 6, "{from} -> {to}");
        assert!(fault.to_string().contains(says), "{from} -> {to}: {fault}");
        assert!(!read.is_accepted());
        assert_eq!(read.report.rows_quarantined, 1, "{from} -> {to}: {:#?}", read.report.faults);
        assert_eq!(read.rows.num_rows(), 23, "the others are read");
    }
}

#[test]
fn duplicate_rows_and_duplicate_keys() {
    let again = bill(|hour, line| if hour == 4 { format!("{line}\r\n{line}") } else { line });
    let read = bills(&again);
    assert_eq!(read.report.counts.keys().copied().collect::<Vec<_>>(), [FaultKind::DoubledRow, FaultKind::Total]);
    assert_eq!(
        read.report.faults[0].to_string(),
        "line 7: expected each row once; this one is the same as line 6; remove one of them"
    );
    let other = bill(|hour, line| if hour == 4 { format!("{line}\r\n{}", line.replace("216,5", "217")) } else { line });
    let fault = bills(&other).report.faults[0].to_string();
    assert!(fault.contains("line 7: expected other values of prm, horodate_debut than on line 6"), "{fault}");
}

#[test]
fn totals_are_compared_with_the_rows() {
    let wrong = bill(|_, line| line).replace("6 214,0", "6 213,9");
    let fault = bills(&wrong).only_fault();
    assert!(
        fault.starts_with("line 26: column \"energie_injectee_kwh\": \"6213900\": expected 6214000, the sum"),
        "{fault}"
    );
    let miscounted = bill(|_, line| line).replace("#TOTAL;24", "#TOTAL;25");
    assert!(bills(&miscounted).only_fault().contains("\"25\": expected 24 rows"), "{miscounted}");
    let without = bill(|_, line| line).replace("#TOTAL", "//TOTAL");
    assert!(
        bills(&without).only_fault().contains("expected a line that begins with \"#TOTAL\"; was the file truncated?")
    );
    let twice = bill(|_, line| line) + "#TOTAL;24;6 214,0\r\n";
    assert_eq!(bills(&twice).faults(), [(27, FaultKind::Trailer)]);
    // Where a row can't be read, the sum is not compared.
    let unread = bill(|hour, line| if hour == 4 { line.replace("216,5", "216.5") } else { line });
    let report = bills(&unread).report;
    assert!(report.faults[1].to_string().contains("1 rows have no valid value"), "{:#?}", report.faults);
}

#[test]
fn a_header_names_all_columns_once() {
    let renamed = bill(|_, line| line).replacen("statut", "status", 1);
    let faults = bills(&renamed).report.faults;
    assert_eq!(faults.len(), 2, "{faults:#?}");
    assert!(faults[0].to_string().ends_with("expected a column \"statut\"; nearest: \"status\""), "{}", faults[0]);
    let commas = bill(|_, line| line).replace(';', ",");
    assert!(bills(&commas).report.faults[0].hint.contains("one field with ',' in it: set `separator` to it"));
    let twice = bill(|_, line| line).replacen("commentaire", "prm", 1);
    assert!(bills(&twice).report.counts[&FaultKind::Header] >= 2);
    assert!(bills("").only_fault().contains("the file is empty"));
    let extra = layout("format='csv'\nextra_columns='ignore'\n[columns.a]\ntype='integer'");
    assert_eq!(reading(&extra, b"b,a\n7,1\n").whole("a"), [Some(1)]);
}

#[test]
fn rows_with_faults_are_quarantined_up_to_a_share() {
    let quarantining = |share: &str| {
        let text =
            format!("format='csv'\nkey='a'\n[faults]\npolicy='aside'\nshare_max={share}\n[columns.a]\ntype='integer'");
        reading(&layout(&text), b"a\n1\nx\n3\n4\n")
    };
    let read = quarantining("0.25");
    assert!(read.is_accepted());
    assert_eq!(read.whole("a"), [Some(1), Some(3), Some(4)]);
    assert_eq!((read.report.rows, read.report.rows_quarantined), (4, 1));
    let Verdict::Quarantine { reason } = quarantining("0.24").report.verdict else { panic!() };
    assert_eq!(
        reason,
        "form 1 (at most 24 % of the rows may be quarantined); line 3: column \"a\": \"x\": expected a whole number of 64 bits"
    );
}

#[test]
fn an_unclosed_quote_is_a_fault() {
    for text in ["\"", "\"\"\"\"\""] {
        let read = bills(&bill(|hour, line| if hour == 4 { line + text } else { line }));
        let expected = "line 6: expected a closing quote for the one opened on this line; the file ends without it; does a text of this line";
        assert!(read.only_fault().starts_with(expected), "{:?}", read.report.faults);
        assert_eq!(read.rows.num_rows(), 4);
    }
    let closed = reading(&layout("format='csv'\n[columns.a]\ntype='text'"), b"a\n\"x\ny\"");
    assert_eq!((closed.is_accepted(), closed.texts("a")), (true, vec![Some("x\ny")]));
    let long = format!("a\n\"{}", "x\n".repeat(3 << 20));
    let read = reading(&layout("format='csv'\n[columns.a]\ntype='text'"), long.as_bytes());
    assert!(read.only_fault().contains("line 2: expected a line of less than 4 MiB; does a text of this line"));
}

#[test]
fn a_thousand_faults_are_kept_and_all_are_counted() {
    let text = format!("a\n{}", "x\n".repeat(5000));
    let read = reading(&layout("format='csv'\n[columns.a]\ntype='integer'"), text.as_bytes());
    assert_eq!((read.report.faults.len(), read.report.counts[&FaultKind::Form]), (super::FAULTS_KEPT_MAX, 5000));
    let batch = super::faults_to_batch(&read.report.faults).unwrap();
    assert_eq!(batch["line"].as_primitive::<UInt64Type>().value(999), 1001);
}

#[test]
fn lines_before_the_header_and_every_end_of_line() {
    let text = "skip me\rand \"me\r// a comment with \"a quote\ra;b\r1;x\r\r2;y";
    for end in ["\r", "\n", "\r\n"] {
        let all = "format='csv'\nseparator=';'\nskip_lines=2\ncomment='//'\n[columns.a]\ntype='integer'\n[columns.b]\ntype='text'";
        let read = reading(&layout(all), text.replace('\r', end).as_bytes());
        assert_eq!(read.whole("a"), [Some(1), Some(2)], "{end:?}: {:?}", read.report);
        assert_eq!(read.lines, [5, 7], "{end:?}");
    }
}

#[test]
fn many_rows_come_in_batches() {
    let text: String = std::iter::once("a\n".to_owned()).chain((0..20_000).map(|n| format!("{n}\n"))).collect();
    let mut sizes = Vec::new();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    read(file, "", &layout("format='csv'\n[columns.a]\ntype='integer'"), &mut |rows| {
        sizes.push(rows.batch.num_rows());
        Ok(())
    })
    .unwrap();
    assert_eq!(sizes, [8192, 8192, 3616]);
}

proptest! {
    /// Every digit of a number is kept.
    #[test]
    fn decimals_go_through_unchanged(mantissa in -(10_i128.pow(17))..10_i128.pow(17), groups in any::<bool>()) {
        let layout = layout("format='csv'\nseparator=';'\ndecimal=','\nthousands=' '\n[columns.a]\ntype='decimal(18,4)'");
        let digits = format!("{:0>5}", mantissa.unsigned_abs());
        let (before, after) = digits.split_at(digits.len() - 4);
        let mut whole = String::new();
        for (at, digit) in before.chars().enumerate() {
            if groups && at > 0 && (before.len() - at) % 3 == 0 {
                whole.push('\u{202f}');
            }
            whole.push(digit);
        }
        let sign = if mantissa < 0 { "-" } else { "" };
        let read = reading(&layout, format!("a\n{sign}{whole},{after}\n").as_bytes());
        prop_assert!(read.is_accepted(), "{:?}", read.report);
        prop_assert_eq!(read.rows["a"].as_primitive::<Decimal128Type>().value(0), mantissa);
    }

    /// No bytes make it fail, and every line that is not a row is a fault.
    #[test]
    fn any_bytes_are_read_or_reported(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let layout = layout("format='csv'\nseparator=';'\nkey='a'\n[columns.a]\ntype='integer'\n[columns.b]\ntype='text'");
        let read = reading(&layout, &[b"a;b\n", bytes.as_slice()].concat());
        prop_assert_eq!(read.report.rows - read.report.rows_quarantined, read.rows.num_rows() as u64);
        prop_assert_eq!(read.report.counts.is_empty(), read.is_accepted());
    }
}

/// Reads changed copies of a file: whatever is in it, the answer is a verdict or an error.
pub fn read_changed_files(layout: &Layout, valid: &[u8]) {
    testkit::read_changed_bytes(&[valid], |bytes| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        if let Ok(report) = read(file, "", layout, &mut |_| Ok(())) {
            assert!(report.rows_quarantined <= report.rows);
        }
    });
}

#[test]
fn random_bills_have_a_verdict() {
    read_changed_files(&layout(BILLS), bill(|_, line| line).as_bytes());
}

#[test]
fn random_layouts_are_parsed_or_refused() {
    testkit::read_changed_bytes(&[BILLS.as_bytes()], |bytes| {
        let _ = Layout::parse(&String::from_utf8_lossy(bytes));
    });
}
