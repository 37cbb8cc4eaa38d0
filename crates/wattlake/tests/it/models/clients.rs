//! Clients other than boto3: Java with a request signed by hand, the AWS command line, and curl with a token.

use std::fs;
use std::process::Command;

use super::{HYDRO, KEYS, ModelServer, SECRET, TOKEN, constant};
use crate::world::{CommandResult, interpreter};

#[test]
fn java_the_command_line_and_curl_reach_an_endpoint() {
    let model = constant(7.0);
    let server = ModelServer::new(KEYS, &[("endpoints/hydro.toml", HYDRO), ("artifacts/model.txt", &model)]);
    server.warehouse.ok(&["endpoint", "apply"]);
    let signed = |command: &mut Command| {
        command.env("AWS_ACCESS_KEY_ID", "dispatch").env("AWS_SECRET_ACCESS_KEY", SECRET);
        CommandResult::of(command.output().unwrap())
    };
    let source = fs::canonicalize("tests/it/models/Invoke.java").unwrap();
    let java = signed(Command::new("java").arg(&source).args([&server.url(), "hydro", "1.5"]));
    assert_eq!((java.code, java.out.as_str()), (0, "200 7.0\n"), "{}", java.text());
    let unknown = signed(Command::new("java").arg(&source).args([&server.url(), "wind", "1.5"]));
    assert!(unknown.out.starts_with("400 ") && unknown.out.contains("Endpoint wind of account"), "{}", unknown.text());
    let (body, answer) = (server.warehouse.path().join("body.csv"), server.warehouse.path().join("answer.csv"));
    fs::write(&body, "1.5\n2.5\n").unwrap();
    let mut aws = Command::new(interpreter().with_file_name("aws"));
    aws.args(["--endpoint-url", &server.url(), "--region", "eu-west-3", "sagemaker-runtime", "invoke-endpoint"]);
    aws.args(["--endpoint-name", "hydro", "--content-type", "text/csv", "--body"])
        .arg(format!("fileb://{}", body.display()));
    let ran = signed(aws.arg(&answer));
    assert_eq!(ran.code, 0, "{}", ran.text());
    ran.has("\"InvokedProductionVariant\": \"main\"");
    assert_eq!(fs::read_to_string(&answer).unwrap(), "7.0\n7.0\n");
    let mut curl = Command::new("curl");
    curl.args(["-s", "-d", "1.5", "-H", "content-type: text/csv", "-H"]).arg(format!("authorization: Bearer {TOKEN}"));
    let ran = CommandResult::of(curl.arg(format!("{}/endpoints/hydro/invocations", server.url())).output().unwrap());
    assert_eq!(ran.out, "7.0\n", "{}", ran.text());
}
