//! JSON, JSON with one object per line, and Parquet.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Decimal128Array, DictionaryArray, Float64Array, Int32Array, ListArray, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use arrow::datatypes::{Decimal128Type, Float64Type, Int32Type};
use parquet::arrow::ArrowWriter;

use super::{layout, read_changed_files, reading};
use crate::read::FaultKind;

const COLUMNS: &str = "
[columns.prm]
type = 'text'
required = true
[columns.at]
type = 'timestamp'
[columns.amount]
type = 'decimal(30,2)'
[columns.ratio]
type = 'double'
";

fn of(format: &str) -> crate::layout::Layout {
    layout(&format!("format = '{format}'\n{COLUMNS}"))
}

const TWO: &str = r#"[
  {"prm": "A", "at": "2026-09-01T00:00:00Z", "amount": 1234567890123456789012345678.91, "ratio": 1e-3},

  {"ratio": null,
   "prm": "B\u00e9", "amount": "12.5"}
]"#;

#[test]
fn a_format_of_days_means_their_beginning() {
    let text = "format = 'csv'\nzone = 'Europe/Paris'\n[columns.at]\ntype = 'timestamp'\nformat = '%d/%m/%Y'\n";
    let read = reading(&layout(text), b"at\n25/10/2026\n26/10/2026\n");
    assert_eq!(read.instants("at"), ["24T22:00Z", "25T23:00Z"]);
}

#[test]
fn an_array_keeps_all_digits() {
    let read = reading(&of("json"), TWO.as_bytes());
    assert!(read.is_accepted(), "{:?}", read.report);
    let amounts = read.rows["amount"].as_primitive::<Decimal128Type>();
    assert_eq!(amounts.values()[..], [123_456_789_012_345_678_901_234_567_891, 1250]);
    assert_eq!(read.rows["ratio"].as_primitive::<Float64Type>().iter().collect::<Vec<_>>(), [Some(0.001), None]);
    assert_eq!(read.texts("prm"), [Some("A"), Some("Bé")]);
    assert_eq!(read.lines, [2, 4]);
}

#[test]
fn what_is_wrong_in_json() {
    let read = reading(
        &of("json"),
        br#"[{"prm": "A", "amuont": 1},
{"prm": {"id": "B"}}, 7,
{"prm": "C", "prm": "D"}, {"amount": 1.234, "prm": "E"}, {"prm": "F"}"#,
    );
    let faults = read.faults();
    let expected = [
        (1, FaultKind::Fields),
        (2, FaultKind::Form),
        (2, FaultKind::Fields),
        (4, FaultKind::Fields),
        (4, FaultKind::Digits),
        (4, FaultKind::Unreadable),
    ];
    assert_eq!(
        faults.iter().map(|(_, what)| *what).collect::<Vec<_>>(),
        expected.map(|(_, what)| what),
        "{:#?}",
        read.report
    );
    assert!(read.report.faults[0].to_string().contains("nearest: \"amount\""));
    assert!(read.report.faults[1].to_string().contains("expected one value, found several"));
    assert!(read.report.faults[5].hint.contains("was the file truncated?"));
    assert_eq!(read.texts("prm"), [Some("F")]);
}

#[test]
fn one_object_per_line() {
    let read = reading(
        &of("ndjson"),
        b"\xef\xbb\xbf{\"prm\":\"A\",\"amount\":1}\r\n\n{\"prm\":\"B\"\n{\"prm\":\"C\",\"at\":1}\n{\"prm\":\"D\"}",
    );
    assert_eq!(read.faults(), [(3, FaultKind::Fields), (4, FaultKind::Form)]);
    assert_eq!((read.lines.as_slice(), read.texts("prm")), ([1, 5].as_slice(), vec![Some("A"), Some("D")]));
    let endless = format!("{{\"prm\":\"{}\"}}", "x".repeat(5 << 20));
    assert_eq!(reading(&of("ndjson"), endless.as_bytes()).report.counts[&FaultKind::Unreadable], 1);
    assert_eq!(reading(&of("json"), format!("[{endless}]").as_bytes()).report.counts[&FaultKind::Unreadable], 1);
}

fn parquet_of(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn columns() -> Vec<(&'static str, ArrayRef)> {
    let prm: DictionaryArray<Int32Type> = [Some("A"), Some("B")].into_iter().collect();
    let amounts = Decimal128Array::from(vec![12_500_i128, 7]).with_precision_and_scale(20, 3).unwrap();
    vec![
        ("prm", Arc::new(prm)),
        (
            "at",
            Arc::new(TimestampMillisecondArray::from(vec![1_788_220_800_000, 1_788_220_801_000]).with_timezone("UTC")),
        ),
        ("amount", Arc::new(amounts)),
        ("ratio", Arc::new(Float64Array::from(vec![Some(0.1), None]))),
    ]
}

#[test]
fn parquet_is_read_by_its_values() {
    let read = reading(&of("parquet"), &parquet_of(columns()));
    assert_eq!(read.faults(), [(2, FaultKind::Digits)], "0.007 has no cents");
    assert_eq!(read.rows["amount"].as_primitive::<Decimal128Type>().value(0), 1250);
    assert_eq!(read.instants("at"), ["01T00:00Z"]);
    let mut plain = columns();
    plain[1].1 = Arc::new(TimestampMillisecondArray::from(vec![0, 1]));
    let faults = reading(&of("parquet"), &parquet_of(plain)).report.faults;
    assert!(faults[0].hint.contains("set the column's `zone`"), "{faults:?}");
    let mut nested = columns();
    nested[0].1 = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)]), Some([Some(2)])]));
    let fault = reading(&of("parquet"), &parquet_of(nested)).only_fault();
    assert!(fault.contains("column \"prm\"") && fault.contains("expected a column of Utf8"), "{fault}");
    let mut numbers = columns();
    numbers[0].1 = Arc::new(Int32Array::from(vec![1, 2]));
    numbers[3].1 = Arc::new(StringArray::from(vec!["0.5", "x"]));
    let read = reading(&of("parquet"), &parquet_of(numbers));
    assert_eq!(read.texts("prm"), [Some("1")]);
    let whole = parquet_of(columns());
    assert!(reading(&of("parquet"), &whole[..whole.len() - 9]).only_fault().contains("a Parquet file"));
}

#[test]
fn random_documents_have_a_verdict() {
    read_changed_files(&of("json"), TWO.as_bytes());
}
