//! Messages as a task of AWS DMS writes them, from a publisher in Python: their traps, and what can't be read.

use serde_json::{Value, json};

use crate::world::{Python, Warehouse, python};

/// Puts messages into a stream of Kinesis, each with its partition key.
const PUT: &str = "
import json, sys, boto3
given = json.load(sys.stdin)
kinesis = boto3.client('kinesis', endpoint_url=given['url'], region_name='eu-west-3',
                       aws_access_key_id='test', aws_secret_access_key='test')
if given.get('create'):
    kinesis.create_stream(StreamName='dms', ShardCount=given['create'])
for key, message in given['messages']:
    data = message if isinstance(message, str) else json.dumps(message)
    kinesis.put_record(StreamName='dms', PartitionKey=key, Data=data.encode())
print('{}')
";

fn put(url: &str, create: u32, messages: &[Value]) {
    let messages: Vec<Value> = messages.iter().map(|message| json!(["one", message])).collect();
    python(PUT, &json!({"url": url, "create": create, "messages": messages}));
}

fn message(operation: &str, data: Value) -> Value {
    json!({"data": data, "metadata": {"timestamp": "2026-11-30T08:00:00.000001Z", "record-type": "data",
        "operation": operation, "partition-key-type": "primary-key", "schema-name": "public", "table-name": "measure"}})
}

fn control(operation: &str, columns: Value) -> Value {
    json!({"control": {"table-def": {"columns": columns, "primary-key": ["id"]}}, "metadata": {
        "timestamp": "2026-11-30T07:59:59.000000Z", "record-type": "control", "operation": operation,
        "partition-key-type": "task-id", "schema-name": "public", "table-name": "measure"}})
}

fn warehouse(url: &str, more: &str) -> Warehouse {
    let stream = format!("kinesis://dms?region=eu-west-3&endpoint={url}");
    let warehouse = Warehouse::new(&[
        ("wattlake.toml", "lake.url = 'lake'\n"),
        ("transfers/t.toml", &format!("mode = 'changes'\nstream = '{stream}'\n{more}")),
    ]);
    warehouse.with_env("AWS_ACCESS_KEY_ID", "test").with_env("AWS_SECRET_ACCESS_KEY", "test")
}

#[test]
fn messages_mean_what_dms_means() {
    let (_moto, url) = Python::s3();
    let columns = json!({
        "id": {"type": "INT8", "nullable": false},
        "kwh": {"type": "NUMERIC", "precision": 20, "scale": 2, "nullable": true},
        "note": {"type": "WSTRING", "length": 512, "nullable": true},
        "at": {"type": "DATETIME", "nullable": true},
    });
    put(
        &url,
        1,
        &[
            control("create-table", columns.clone()),
            // A load has no transaction; a large number is in scientific notation.
            json!(
                "{\"data\":{\"id\":9.324410911751E+12,\"kwh\":1.5E+3,\"note\":\"a\",\"at\":\"2026-11-30T07:00:00Z\"},\"metadata\":{\"timestamp\":\"2026-11-30T08:00:00Z\",\"record-type\":\"data\",\"operation\":\"load\",\"partition-key-type\":\"primary-key\",\"schema-name\":\"public\",\"table-name\":\"measure\"}}"
            ),
            message("insert", json!({"id": 1, "note": "b"})),
            message("insert", json!({"id": 2, "kwh": 2, "note": "c"})),
            // A column that is left out is NULL.
            message("update", json!({"id": 2, "kwh": 3})),
            message("insert", json!({"id": 3})),
            message("delete", json!({"id": 3})),
            // The same message again changes nothing.
            message("insert", json!({"id": 1, "note": "b"})),
        ],
    );
    let warehouse = warehouse(&url, "");
    warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
    let rows = warehouse.sql("select id, kwh::text as kwh, note from measure order by id");
    let expected = json!([
        {"id": 1, "kwh": null, "note": "b"},
        {"id": 2, "kwh": "3.00", "note": null},
        {"id": 9_324_410_911_751_i64, "kwh": "1500.00", "note": "a"},
    ]);
    assert_eq!(json!(rows), expected);
    // More columns, defined by a control message, and one that none has defined.
    let mut wider = columns;
    wider["ok"] = json!({"type": "BOOLEAN", "nullable": true});
    put(
        &url,
        0,
        &[
            control("add-column", wider),
            message("insert", json!({"id": 4, "ok": "true"})),
            message("insert", json!({"id": 5, "source": "scada"})),
        ],
    );
    warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
    let rows = warehouse.sql("select id, ok, source from measure where id in (4, 5) order by id");
    assert_eq!(json!(rows), json!([{"id": 4, "ok": true, "source": null}, {"id": 5, "ok": null, "source": "scada"}]));
}

#[test]
fn what_cannot_be_applied_is_quarantined_and_sent_again() {
    let (_moto, url) = Python::s3();
    let columns = json!({"id": {"type": "INT4", "nullable": false}, "kwh": {"type": "REAL8", "nullable": true}});
    put(
        &url,
        1,
        &[
            control("create-table", columns),
            message("insert", json!({"id": 1, "kwh": 1})),
            json!("no message at all"),
            message("insert", json!({"id": "one"})),
            message("insert", json!({"kwh": 5})),
            message("upsert", json!({"id": 1})),
            message("insert", json!({"id": 2, "kwh": 2})),
        ],
    );
    let warehouse = warehouse(&url, "");
    warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
    assert_eq!(warehouse.count("measure"), 2);
    let listed = warehouse.run(&["transfer", "quarantine", "list", "t", "--json"]).objects();
    let reasons: Vec<&str> = listed.iter().map(|message| message["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons.len(), 4, "{reasons:?}");
    assert!(reasons[0].contains("it is no message of DMS"), "{reasons:?}");
    assert_eq!(reasons[1], "column \"id\": expected an integer of 4 bytes, found \"one\"");
    assert_eq!(reasons[2], "the key's column \"id\" is missing");
    assert_eq!(reasons[3], "the operation \"upsert\" is not known");
    let id = |at: usize| listed[at]["id"].as_str().unwrap();
    warehouse.ok(&["transfer", "quarantine", "remove", "t", "--message", id(0), "--message", id(3)]);
    let wrong = warehouse.run(&["transfer", "quarantine", "resend", "t", "--message", "nothing"]);
    wrong.has("no quarantined message nothing");
    // What was wrong is still wrong, and is quarantined again.
    warehouse.ok(&["transfer", "quarantine", "resend", "t", "--all"]).has("2 messages");
    warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
    assert_eq!(warehouse.run(&["transfer", "quarantine", "list", "t", "--json"]).objects().len(), 2);
    assert_eq!(warehouse.count("measure"), 2);
}

#[test]
fn one_message_spoils_no_table() {
    let (_moto, url) = Python::s3();
    let in_words = |text: &str| json!(message("insert", json!({"id": 1})).to_string().replace("{\"id\":1}", text));
    put(
        &url,
        1,
        &[
            // Of DMS's own tables; the rows tell the columns.
            json!({"metadata": {"timestamp": "2026-11-30T07:59:59.000000Z", "record-type": "control", "operation": "create-table",
                "partition-key-type": "task-id", "schema-name": "", "table-name": "awsdms_apply_exceptions"}}),
            message("insert", json!({"id": 1, "large": 1})),
            message("insert", json!({"ID": 2})),
            message("insert", json!({})),
            in_words("{\"id\":3,\"counted\":12345678901234567890}"),
            message("delete", json!({"id": 1})),
            message("update", json!({"id": 1, "large": 2})),
            message("insert", json!({"id": 4, "large": 4})),
        ],
    );
    let warehouse = warehouse(&url, "");
    warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
    let rows = warehouse.sql("select id, large, counted from measure order by id");
    let expected = json!([
        {"id": 1, "large": 1, "counted": null},
        {"id": 3, "large": null, "counted": "12345678901234567890"},
        {"id": 4, "large": 4, "counted": null},
    ]);
    assert_eq!(json!(rows), expected);
    let listed = warehouse.run(&["transfer", "quarantine", "list", "t", "--json"]).objects();
    let reasons: Vec<&str> = listed.iter().map(|message| message["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons.len(), 4, "{reasons:?}");
    assert_eq!(reasons[0], "column \"ID\" differs from another one by upper case only");
    assert_eq!(reasons[1], "its row has no columns");
    assert!(
        reasons[2..].iter().all(|reason| reason.starts_with("the key of public.measure is not known")),
        "{reasons:?}"
    );
}

#[test]
fn a_before_image_moves_a_row_whose_columns_are_all_its_key() {
    let (_moto, url) = Python::s3();
    let mut table = control("create-table", json!({"id": {"type": "INT4"}, "b": {"type": "INT4"}}));
    table["control"]["table-def"]["primary-key"] = json!(["id", "b"]);
    let mut update = message("update", json!({"id": 1, "b": 2}));
    update["before-image"] = json!({"id": 1, "b": 1});
    put(&url, 1, &[table, message("insert", json!({"id": 1, "b": 1})), update]);
    let warehouse = warehouse(&url, "");
    warehouse.ok(&["transfer", "run", "t", "--until-caught-up"]);
    assert_eq!(warehouse.sql("select id, b from measure"), [json!({"id": 1, "b": 2})]);
}

#[test]
fn without_control_messages_the_key_is_given() {
    let (_moto, url) = Python::s3();
    put(
        &url,
        1,
        &[
            message("insert", json!({"id": 1, "kwh": 1.5, "note": "a"})),
            message("update", json!({"id": 1, "kwh": 2.5})),
        ],
    );
    let without = warehouse(&url, "");
    without.ok(&["transfer", "run", "t", "--until-caught-up"]);
    without.run(&["transfer", "quarantine", "list", "t"]).has("the key of public.measure is not known");
    let with = warehouse(&url, "left_out = 'unchanged'\n[tables.'public.measure']\nkey = ['id']\n");
    with.ok(&["transfer", "run", "t", "--until-caught-up"]);
    assert_eq!(with.sql("select id, kwh, note from measure"), [json!({"id": 1, "kwh": 2.5, "note": "a"})]);
}
