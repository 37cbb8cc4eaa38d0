//! The lake in an object store: S3's protocol, by a server that honours conditional puts.

use serde_json::json;

use crate::world::{CommandResult, Python, Source, Warehouse, python};

/// Lists a bucket by Amazon's own client, or makes it.
const BUCKET: &str = r#"
import json, sys, boto3
asked = json.load(sys.stdin)
client = boto3.client("s3", endpoint_url=asked["url"], region_name="us-east-1",
                      aws_access_key_id="key", aws_secret_access_key="secret")
if asked.get("make"):
    client.create_bucket(Bucket="warehouse")
pages = client.get_paginator("list_objects_v2").paginate(Bucket="warehouse")
json.dump([item["Key"] for page in pages for item in page.get("Contents", [])], sys.stdout)
"#;

fn keys(url: &str) -> Vec<String> {
    serde_json::from_value(python(BUCKET, &json!({"url": url}))).unwrap()
}

fn warehouse(source: &Source, url: &str) -> Warehouse {
    let toml = format!(
        "[lake]\nurl = 's3://warehouse/some/prefix'\n[lake.options]\naws_endpoint = '{url}'\naws_allow_http = 'true'\n\
         aws_region = 'us-east-1'\naws_access_key_id = 'key'\naws_secret_access_key = '${{S3_SECRET}}'\n\
         [connections.source]\nurl = '{}'\n",
        source.url()
    );
    let one = |table: &str, cursor: &str| {
        format!(
            "source = 'source'\nmode = 'incremental'\ninclude = ['platform.{table}']\n[tables.'platform.{table}']\ncursor = '{cursor}'\n"
        )
    };
    Warehouse::new(&[
        ("wattlake.toml", &toml),
        ("transfers/measured.toml", &one("measurements_10min", "updated_at")),
        ("transfers/prices.toml", &one("market_prices", "updated_at")),
    ])
    .with_env("S3_SECRET", "secret")
}

/// Both transfers at once; each commits to its own table.
fn run_both(warehouse: &Warehouse) {
    let start = |name| {
        let mut command = warehouse.command(&["transfer", "run", name]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    for child in [start("measured"), start("prices")] {
        let said = CommandResult::of(child.wait_with_output().unwrap());
        assert_eq!(said.code, 0, "{said:?}");
    }
}

#[test]
fn a_lake_in_s3_is_written_read_and_vacuumed() {
    let source = Source::platform();
    let (_s3, url) = Python::s3();
    python(BUCKET, &json!({"url": url, "make": true}));
    let warehouse = warehouse(&source, &url);
    warehouse.ok(&["check"]).has("no errors found");
    run_both(&warehouse);
    let first = keys(&url);
    for table in ["measurements_10min", "market_prices"] {
        let (name, folder) = (format!("platform.{table}"), format!("some/prefix/platform/{table}/"));
        assert_eq!(warehouse.count(&name), source.count(&name));
        assert!(first.contains(&format!("{folder}_delta_log/00000000000000000000.json")), "{first:?}");
        assert!(first.iter().any(|key| key.starts_with(&folder) && key.ends_with(".parquet")), "{first:?}");
    }

    let before = source.count("platform.measurements_10min");
    let changes = source.simulate_day(0);
    run_both(&warehouse);
    let inserted = changes.of("platform.measurements_10min").inserted;
    assert_eq!(warehouse.count("platform.measurements_10min"), before + inserted, "what was purged stays");
    for table in warehouse.json(&["lake", "list", "--json"]) {
        assert_eq!(table["version"], 1, "{table}");
        assert_eq!(table["rows"].as_u64(), Some(warehouse.count(table["table"].as_str().unwrap())));
    }

    let second = keys(&url);
    assert!(first.iter().all(|key| second.contains(key)), "nothing of the first version is gone");
    assert!(second.iter().any(|key| key.contains("/dv-")), "{second:?}");
    warehouse.ok(&["lake", "vacuum"]);
    assert_eq!(keys(&url), second, "all of it is needed");
    assert!(!warehouse.path().join("lake").exists() && !warehouse.path().join("s3:").exists());
}

#[test]
fn an_error_of_the_store_does_not_show_its_secret() {
    let source = Source::platform();
    let warehouse = warehouse(&source, "http://127.0.0.1:1").with_env("S3_SECRET", "not-to-be-shown");
    let said = warehouse.run(&["lake", "list"]);
    assert_ne!(said.code, 0);
    assert!(!said.text().contains("not-to-be-shown"), "{said:?}");
}

/// A warehouse on an S3 with a fault.
fn warehouse_with(source: &Source, fault: &str) -> (Python, Warehouse) {
    let (s3, url) = Python::s3_with(fault);
    python(BUCKET, &json!({"url": url, "make": true}));
    (s3, warehouse(source, &url))
}

#[test]
fn a_store_that_ignores_conditions_is_refused() {
    let source = Source::platform();
    let (_s3, warehouse) = warehouse_with(&source, "ignores-conditions");
    let said = warehouse.run(&["check"]);
    assert_eq!(said.code, 4, "{said:?}");
    assert!(said.text().contains("If-None-Match"), "{said:?}");
    let said = warehouse.run(&["serve"]);
    assert_eq!(said.code, 4, "{said:?}");
    assert!(said.text().contains("If-None-Match") && said.text().contains("hint"), "{said:?}");
}

#[test]
fn a_store_that_is_too_busy_is_asked_again() {
    let source = Source::platform();
    let (_s3, warehouse) = warehouse_with(&source, "unavailable");
    warehouse.ok(&["transfer", "run", "prices"]);
    assert_eq!(warehouse.count("platform.market_prices"), source.count("platform.market_prices"));
}

#[test]
fn a_commit_whose_answer_is_lost_is_there_once() {
    let source = Source::platform();
    let (_s3, warehouse) = warehouse_with(&source, "loses-answers");
    for day in 0..2 {
        // The commit is there, and the run can't know whose it is: the next one goes on from its position.
        let first = warehouse.run(&["transfer", "run", "prices"]);
        assert!([0, 5].contains(&first.code), "{first:?}");
        let second = warehouse.run(&["transfer", "run", "prices"]);
        assert!([0, 5].contains(&second.code), "{second:?}");
        assert_eq!(warehouse.count("platform.market_prices"), source.count("platform.market_prices"));
        source.simulate_day(day);
    }
}

#[test]
fn a_profile_of_the_shared_files_opens_the_lake() {
    let (_server, url) = Python::s3();
    python(BUCKET, &json!({"url": url, "make": true}));
    let toml = format!(
        "[lake]\nurl = 's3://warehouse/by-profile'\n[lake.options]\naws_endpoint = '{url}'\naws_allow_http = 'true'\n"
    );
    let warehouse = Warehouse::new(&[
        ("wattlake.toml", &toml),
        ("aws/credentials", "[lake]\naws_access_key_id = key\naws_secret_access_key = secret\n"),
        ("aws/config", "[profile lake]\nregion = us-east-1\n"),
    ]);
    let [credentials, config] =
        ["credentials", "config"].map(|name| warehouse.path().join("aws").join(name).to_str().unwrap().to_owned());
    let warehouse = warehouse
        .with_env("AWS_SHARED_CREDENTIALS_FILE", &credentials)
        .with_env("AWS_CONFIG_FILE", &config)
        .with_env("AWS_PROFILE", "lake");
    warehouse.ok(&["check"]).has("no errors found");
    warehouse.with_env("AWS_PROFILE", "other").run(&["check"]).has("the profile \"other\" has no keys");
}
