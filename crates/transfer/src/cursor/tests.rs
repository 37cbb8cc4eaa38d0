use super::*;

fn column(name: &str, kind: CursorKind, type_name: &str) -> CursorColumn {
    CursorColumn {
        column: name.into(),
        name: name.into(),
        kind,
        type_name: type_name.into(),
        nullable: false,
        sequence: None,
    }
}

fn value(texts: &[&str]) -> CursorValue {
    CursorValue(texts.iter().map(|text| (*text).to_owned()).collect())
}

#[test]
fn several_columns_are_compared_as_a_row() {
    let columns = vec![
        column("at", CursorKind::Instant { utc: true }, "timestamp with time zone"),
        column("id", CursorKind::Integer, "integer"),
    ];
    let cursor = Cursor { columns, is_key: false };
    assert_eq!(
        cursor.rows_from(&value(&["2026-01-01", "5"]), false),
        "(\"at\", \"id\") >= (CAST('2026-01-01' AS timestamp with time zone), CAST('5' AS bigint))"
    );
    // With an overlap, only the first column is compared.
    let low = cursor.low_value(vec!["2026-01-01".into(), "5".into()], 1).unwrap();
    assert_eq!(cursor.rows_from(&low, false), "\"at\" >= CAST('2026-01-01' AS timestamp with time zone)");
}

#[test]
fn a_uuid_of_version_7_goes_back_in_time() {
    let cursor = Cursor { columns: vec![column("id", CursorKind::Uuid, "uuid")], is_key: false };
    let low = cursor.low_value(vec!["0191e5a0-0000-7abc-8def-0123456789ab".into()], 5_000).unwrap();
    assert_eq!(low, value(&["0191e59f-fffb-0000-0000-000000000000"]));
    let error = cursor.low_value(vec!["0191e5a0-0000-4abc-8def-0123456789ab".into()], 5_000).unwrap_err();
    assert!(error.context.contains("not of version 7") && error.hint.unwrap().contains("xmin"));
}

#[test]
fn iso_texts_go_back_in_time_and_others_stay() {
    let cursor = Cursor { columns: vec![column("at", CursorKind::Text, "text")], is_key: false };
    let low = |text: &str| cursor.low_value(vec![text.to_owned()], 60_000_000).unwrap().0.remove(0);
    assert_eq!(low("2026-03-01T00:00:30.250Z"), "2026-02-28T23:59:30");
    assert_eq!(low("2026-03-01 00:00:30"), "2026-02-28 23:59:30");
    assert_eq!(low("2026-03-01"), "2026-02-28");
    assert_eq!(low("batch-000123"), "batch-000123");
}

#[test]
fn rows_without_a_cursor_value_are_read_by_each_run() {
    let mut at = column("at", CursorKind::Instant { utc: false }, "timestamp without time zone");
    at.nullable = true;
    let cursor = Cursor { columns: vec![at], is_key: false };
    assert_eq!(cursor.unordered_rows(), ["\"at\" IS NULL", "\"at\" = '-infinity'"]);
}
