//! Documents of nested values: where their rows are, values beside them, points of periods.

use arrow::array::AsArray;
use arrow::datatypes::Decimal128Type;

use super::{layout, reading};
use crate::layout::Layout;
use crate::read::FaultKind;

const PRICES: &str = r#"
format = "json"
rows = "france_power_exchanges/values"
key = ["starts_at"]
[columns.starts_at]
header = "start_date"
type = "timestamp"
[columns.updated_at]
header = "../updated_date"
type = "timestamp"
[columns.price]
type = "decimal(10,2)"
required = true
"#;

#[test]
fn rows_are_below_lists_with_values_beside_them() {
    let text = r#"{"france_power_exchanges": [
        {"updated_date": "2026-10-24T12:50:00+02:00", "note": {"a": []}, "values": [
            {"start_date": "2026-10-25T00:00:00+02:00", "value": 1, "price": 41.17},
            {"start_date": "2026-10-25T00:15:00+02:00", "price": -0.10}]},
        {"updated_date": "2026-10-25T12:51:00+01:00", "values": [{"start_date": "2026-10-26T00:00:00+01:00", "price": 3000}]},
        {"updated_date": "2026-10-25T12:51:00+01:00", "values": []}
    ]}"#;
    let read = reading(&layout(PRICES), text.as_bytes());
    assert!(read.is_accepted(), "{:?}", read.report);
    assert_eq!(read.instants("starts_at"), ["24T22:00Z", "24T22:15Z", "25T23:00Z"]);
    assert_eq!(read.instants("updated_at"), ["24T10:50Z", "24T10:50Z", "25T11:51Z"]);
    assert_eq!(read.rows["price"].as_primitive::<Decimal128Type>().values(), &[4117, -10, 300_000]);
    assert_eq!(read.lines, [1, 2, 3]);
}

#[test]
fn a_document_without_its_rows_has_a_fault() {
    let fault = |text: &str| reading(&layout(PRICES), text.as_bytes()).only_fault();
    assert_eq!(
        fault(r#"{"error": "quota", "code": 7}"#),
        "expected \"france_power_exchanges\" on the way to the rows; it has \"error\", \"code\""
    );
    assert!(
        fault("<html><body>maintenance</body></html>")
            .contains("\"<html><body>maintenance</body></html>\": expected JSON")
    );
    assert!(fault(r#"{"france_power_exchanges": [{"values": [{"#).contains("truncated"));
    assert!(fault(&format!("{}{}", "[".repeat(100), "]".repeat(100))).contains("at most 64 values"));
    assert_eq!(
        fault(
            r#"{"france_power_exchanges": [{"values": [{"start_date": "2026-10-25T00:00:00+02:00", "price": "n/a"}]}]}"#
        ),
        "line 1: column \"price\": \"n/a\": expected a number of at most 8 digits before the decimal mark and 2 after it"
    );
}

const WEATHER: &str = r#"
format = "json"
rows = "hourly"
shape = "columns"
zone = "UTC"
key = ["latitude", "starts_at"]
[columns.latitude]
header = "../latitude"
type = "double"
[columns.starts_at]
header = "time"
type = "timestamp"
[columns.temperature_c]
header = "temperature_2m"
type = "double"
min = -60
max = 60
"#;

#[test]
fn rows_may_be_lists_side_by_side() {
    let text = r#"{"latitude": 44.1, "hourly": {"time": ["2026-10-25T00:00", "2026-10-25T01:00"],
        "temperature_2m": [3.5, null], "unasked": [1]}}"#;
    let read = reading(&layout(WEATHER), text.as_bytes());
    assert!(read.is_accepted(), "{:?}", read.report);
    assert_eq!(read.instants("starts_at"), ["25T00:00Z", "25T01:00Z"]);
    let uneven = r#"{"latitude": 44.1, "hourly": {"time": ["2026-10-25T00:00"], "temperature_2m": []}}"#;
    assert!(reading(&layout(WEATHER), uneven.as_bytes()).only_fault().contains("lists of the same length, found 0, 1"));
    let none = r#"{"latitude": 44.1, "hourly": {}}"#;
    assert!(reading(&layout(WEATHER), none.as_bytes()).only_fault().contains("a list for each column"));
}

const MARKET: &str = r#"
format = "xml"
rows = "Publication_MarketDocument/TimeSeries/Period/Point"
key = ["starts_at"]
[columns.area]
header = "../../in_Domain.mRID"
type = "text"
[columns.starts_at]
type = "timestamp"
[columns.resolution_s]
header = "../resolution"
type = "duration"
[columns.price]
header = "price.amount"
type = "decimal(10,2)"
required = true
[points]
time = "starts_at"
position = "position"
start = "../timeInterval/start"
end = "../timeInterval/end"
resolution = "../resolution"
curve = "../../curveType"
"#;

fn market(curve: &str, points: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<Publication_MarketDocument xmlns=\"urn:iec62325.351:tc57wg16:451-3:publicationdocument:7:3\">
  <type>A44</type>
  <TimeSeries>
    <in_Domain.mRID codingScheme=\"A01\">10YFR-RTE------C</in_Domain.mRID>
    <curveType>{curve}</curveType>
    <Period>
      <timeInterval><start>2026-10-24T22:00Z</start><end>2026-10-24T23:30Z</end></timeInterval>
      <resolution>PT15M</resolution>
      {points}
    </Period>
  </TimeSeries>
</Publication_MarketDocument>"
    )
}

fn point(position: &str, price: &str) -> String {
    format!("<Point><position>{position}</position><price.amount>{price}</price.amount></Point>")
}

#[test]
fn positions_that_a_curve_leaves_out_have_the_value_before_them() {
    let points = [point("1", "41.17"), point("4", "40"), point("5", "-1.5")].concat();
    let read = reading(&layout(MARKET), market("A03", &points).as_bytes());
    assert!(read.is_accepted(), "{:?}", read.report);
    let times = ["24T22:00Z", "24T22:15Z", "24T22:30Z", "24T22:45Z", "24T23:00Z", "24T23:15Z"];
    assert_eq!(read.instants("starts_at"), times);
    assert_eq!(read.rows["price"].as_primitive::<Decimal128Type>().values(), &[4117, 4117, 4117, 4000, -150, -150]);
    assert_eq!(read.texts("area")[0], Some("10YFR-RTE------C"));
    assert_eq!(read.whole("resolution_s")[0], Some(900));
    assert_eq!(read.lines, [1, 1, 1, 2, 3, 3]);
}

#[test]
fn positions_are_left_out_by_no_other_curve_and_rise() {
    let read = |curve: &str, points: &[(&str, &str)]| {
        let points: String = points.iter().map(|(position, price)| point(position, price)).collect();
        reading(&layout(MARKET), market(curve, &points).as_bytes())
    };
    let all = [("1", "1"), ("2", "2"), ("3", "3"), ("4", "4"), ("5", "5"), ("6", "6")];
    assert!(read("A01", &all).is_accepted());
    assert!(read("A01", &all[..5]).only_fault().contains("expected positions 6 to 6 too; only a curve of type A03"));
    assert!(read("A03", &all[1..]).only_fault().contains("expected positions 1 to 1 too; the first position"));
    assert_eq!(read("A03", &[("1", "1"), ("1", "2")]).faults(), [(2, FaultKind::Form)]);
    assert_eq!(read("A03", &[("1", "1"), ("7", "2")]).faults(), [(2, FaultKind::Form)]);
    let wrong = market("A03", &point("1", "1")).replace("PT15M", "PT50M");
    assert!(
        reading(&layout(MARKET), wrong.as_bytes()).only_fault().contains("a whole number of steps after the start")
    );
}

#[test]
fn xml_with_entities_or_another_root_is_refused() {
    let bomb = "<!DOCTYPE a [<!ENTITY b \"bbbb\">]><a>&b;</a>";
    assert!(reading(&layout(MARKET), bomb.as_bytes()).only_fault().contains("DTD"));
    let page = "<!DOCTYPE html><html><body>maintenance</body></html>";
    assert!(reading(&layout(MARKET), page.as_bytes()).only_fault().contains("is it a page of HTML?"));
    assert!(reading(&layout(MARKET), &[0x1f, 0x8b, 8, 0]).only_fault().contains("compressed by gzip"));
    let acknowledgement =
        "<Acknowledgement_MarketDocument><Reason><code>999</code></Reason></Acknowledgement_MarketDocument>";
    assert_eq!(
        reading(&layout(MARKET), acknowledgement.as_bytes()).only_fault(),
        "expected \"Publication_MarketDocument\" on the way to the rows; it has \"Acknowledgement_MarketDocument\""
    );
}

#[test]
fn keys_of_documents_are_for_documents() {
    let problems = |text: &str| {
        let problems = Layout::parse(text).expect_err("a problem");
        problems.iter().map(|problem| problem.what.clone()).collect::<Vec<_>>()
    };
    let columns = "[columns.a]\ntype = \"text\"\n";
    assert_eq!(
        problems(&format!("format = \"csv\"\nrows = \"a\"\n{columns}")),
        ["\"rows\" is for documents: format = \"json\" or \"xml\""]
    );
    assert_eq!(
        problems(&format!("format = \"xml\"\n{columns}")),
        ["\"rows\": expected the path of the elements that are rows"]
    );
    let points = format!("format = \"xml\"\nrows = \"a/b\"\n{columns}[points]\ntime = \"a\"\n");
    assert!(problems(&points).contains(&"[points] has no \"position\"".to_owned()));
}
