//! Messages in the shapes that AWS documents, and those that are written here.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use super::*;

fn text<'a>(values: &'a Values<'_>, name: &str) -> Option<&'a str> {
    values.get(name, 0).map(|value| value.get())
}

#[test]
fn a_load_record_of_dms_has_no_transaction() {
    let message = br#"{"data":{"id":100000161,"name":"val61s","state":"val61s"},"metadata":{"timestamp":
        "2019-10-31T22:53:59.721201Z","record-type":"data","operation":"load","partition-key-type":"primary-key",
        "partition-key-value":"sbtest.sbtest_x.100000161","schema-name":"sbtest","table-name":"sbtest_x"}}"#;
    let message = Message::parse(message).unwrap();
    let Body::Data { operation: Operation::Load, values, before: None } = &message.body else { unreachable!() };
    assert_eq!((text(values, "id"), text(values, "state")), (Some("100000161"), Some("\"val61s\"")));
    assert_eq!(text(values, "missing"), None);
    assert_eq!((message.metadata.schema_name.as_ref(), message.metadata.transaction_id), ("sbtest", None));
}

#[test]
fn an_update_of_dms_with_details_and_a_before_image() {
    let message =
        br#"{"data":{"id":5,"energy":9.324410911751E+12,"a \"b\"":"\u00e9"},"before-image":{"id":4},"metadata":{
        "timestamp":"2020-07-13T20:13:19.508833Z","record-type":"data","operation":"update","partition-key-type":
        "schema-table","schema-name":"public","table-name":"measure","transaction-id":9324410911751,
        "transaction-record-id":1,"prev-transaction-id":9324410911750,"prev-transaction-record-id":10,
        "commit-timestamp":"2020-07-13T20:13:19.000000Z","stream-position":"mysql-bin-changelog.002171:36912271:0"}}"#;
    let message = Message::parse(message).unwrap();
    let Body::Data { operation: Operation::Update, values, before: Some(before) } = &message.body else {
        unreachable!()
    };
    assert_eq!(text(values, "energy"), Some("9.324410911751E+12"));
    assert_eq!((text(values, "a \"b\""), text(before, "id")), (Some("\"\\u00e9\""), Some("4")));
    assert_eq!(message.metadata.transaction_record_id, Some(1));
}

#[test]
fn a_control_record_of_dms_has_the_table() {
    let message = br#"{"control":{"table-def":{"columns":{"id":{"type":"WSTRING","length":512,"nullable":false},
        "price":{"type":"NUMERIC","precision":10,"scale":2,"nullable":true}},"primary-key":["id"]}},"metadata":{"timestamp":
        "2019-11-21T19:14:22.223792Z","record-type":"control","operation":"create-table","partition-key-type":"task-id",
        "schema-name":"testing","table-name":"tab1"}}"#;
    let message = Message::parse(message).unwrap();
    let Body::Control { operation: ControlOperation::CreateTable, table: Some(table) } = &message.body else {
        unreachable!()
    };
    assert_eq!(table.primary_key, ["id"]);
    assert_eq!(table.columns[1].column_type, ColumnType::Numeric(Some((10, 2))));
    assert_eq!(TableDefinition::of(&table.to_json()).as_ref(), Ok(table));
}

#[test]
fn what_is_no_message_says_why() {
    let metadata = |operation: &str| {
        format!(
            r#""metadata":{{"timestamp":"2020-01-01T00:00:00Z","record-type":"data","operation":"{operation}","table-name":"t"}}"#
        )
    };
    for (message, expected) in [
        ("{".to_owned(), "it is no message of DMS"),
        ("{\"data\":{}}".to_owned(), "missing field `metadata`"),
        (format!("{{{}}}", metadata("insert")), "it has no data"),
        (format!("{{\"data\":{{}},{}}}", metadata("upsert")), "the operation \"upsert\" is not known"),
        (format!("{{\"data\":[],{}}}", metadata("insert")), "an object of a row's values"),
    ] {
        let error = Message::parse(message.as_bytes()).unwrap_err();
        assert!(error.contains(expected), "{message}: {error}");
    }
}

#[test]
fn messages_are_written_as_they_are_read() {
    let writer =
        MessageWriter { settings: MessageSettings { include_partition_value: true, ..MessageSettings::default() } };
    let (head, mut out) = (MessageHead::new("public", "me\"asure"), Vec::new());
    let transaction =
        TransactionDetails { id: 741, record: 3, previous: (740, 18_446_744_073_709_551_615), position: "0/16B3748" };
    let details = DataDetails {
        timestamp: &MessageWriter::timestamp(1_572_562_439_721_201),
        transaction: Some(transaction),
        partition_key: "public.me\"asure.7",
        unchanged: &["photo"],
    };
    writer.data(&mut out, &head, Operation::Update, (br#""id":7"#, Some(br#""id":6"#)), &details);
    let read = Message::parse(&out).unwrap();
    assert_eq!(read.metadata.timestamp.timestamp_micros(), 1_572_562_439_721_201);
    assert_eq!((read.metadata.table_name.as_ref(), read.metadata.transaction_id), ("me\"asure", Some(741)));
    assert_eq!(read.metadata.stream_position.as_deref(), Some("0/16B3748"));
    assert_eq!(read.metadata.partition_key_value.as_deref(), Some("public.me\"asure.7"));
    assert_eq!(read.metadata.unchanged, ["photo"]);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains(r#""prev-transaction-record-id":18446744073709551615,"#), "{text}");
}
