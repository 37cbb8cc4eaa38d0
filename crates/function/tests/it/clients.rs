//! The Invoke API with boto3 and the AWS command line.

use std::process::Command;

use libtest_mimic::{Failed, Trial};

use crate::conformance::interpreter;
use crate::served::{Functions, Process};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("boto3_invokes", boto3_invokes),
        trial("boto3_looks", boto3_looks),
        trial("aws_command_line", command_line),
    ]
}

fn trial(name: &str, test: fn(&Process, &std::path::Path)) -> Trial {
    Trial::test(format!("clients::{name}"), move || -> Result<(), Failed> {
        let functions = Functions::new();
        let toml =
            "handler = \"h\"\ntimeout = \"5min\"\ndescription = \"month end\"\n[environment]\nPRICES = \"${PATH}\"";
        functions.native("bill", toml);
        functions.native("late", "handler = \"h\"\ntimeout = \"2s\"");
        functions.native("none", "handler = \"h\"\nconcurrency = 0");
        functions.native("streams", "handler = \"stream\"");
        functions.layer("r", &[("x", b"x")]);
        let server = Process::start(functions.folder.path());
        test(&server, functions.folder.path());
        Ok(())
    })
}

const BEGIN: &str = r#"
import base64, boto3, json, sys, time
from botocore.config import Config
from botocore.exceptions import ClientError
client = boto3.client("lambda", endpoint_url=sys.argv[1], region_name="eu-west-3", aws_access_key_id="a",
    aws_secret_access_key="b", config=Config(retries={"total_max_attempts": 1}, read_timeout=300))

def refused(code, **arguments):
    try:
        client.invoke(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error.response
        assert error.response["Error"]["Message"], error.response
        return error.response
    raise AssertionError("not refused: %s" % arguments)
"#;

const INVOKES: &str = r#"
answer = client.invoke(FunctionName="bill", Payload=json.dumps({"do": "ok"}), LogType="Tail")
assert answer["StatusCode"] == 200 and answer["ExecutedVersion"] == "$LATEST" and "FunctionError" not in answer, answer
assert json.load(answer["Payload"]) == {"you": {"do": "ok"}}
assert b"REPORT RequestId: " in base64.b64decode(answer["LogResult"])

answer = client.invoke(FunctionName="bill")
assert json.load(answer["Payload"]) == {"you": {}}

answer = client.invoke(FunctionName="arn:aws:lambda:eu-west-3:000000000000:function:bill:1", Payload=b"{}")
assert answer["ExecutedVersion"] == "1", answer

answer = client.invoke(FunctionName="bill", Qualifier="1", Payload=b'{"do": "error"}')
assert answer["FunctionError"] == "Unhandled" and json.load(answer["Payload"])["errorMessage"] == "by intent"

answer = client.invoke(FunctionName="late", Payload=b'{"do": "sleep"}')
assert json.load(answer["Payload"])["errorMessage"].endswith("Task timed out after 2.00 seconds")

application = {key: "" for key in ["installationId", "appTitle", "appVersionName", "appVersionCode", "appPackageName"]}
context = base64.b64encode(json.dumps({"custom": {"a": "b"}, "client": application, "env": {}}).encode()).decode()
answer = client.invoke(FunctionName="bill", Payload=b'{"do": "context"}', ClientContext=context)
context = json.load(answer["Payload"])
assert context["client"] == {"a": "b"}, context
assert context["request_id"] == answer["ResponseMetadata"]["RequestId"]

assert client.invoke(FunctionName="bill", InvocationType="DryRun")["StatusCode"] == 204
assert client.invoke(FunctionName="bill", InvocationType="Event", Payload=b"{}")["StatusCode"] == 202

large = b'"' + b"x" * ((6 << 20) - 2) + b'"'
answer = client.invoke(FunctionName="bill", Payload=large)
assert "FunctionError" not in answer and len(answer["Payload"].read()) == (6 << 20) + 8, "6 MB in, and 100 bytes more out"
answer = client.invoke(FunctionName="bill", Payload=b'{"do": "large"}')
assert answer["FunctionError"] == "Unhandled" and json.load(answer["Payload"])["errorType"] == "Function.ResponseSizeTooLarge"
refused("RequestTooLargeException", FunctionName="bill", Payload=large + b" ")
refused("RequestTooLargeException", FunctionName="bill", InvocationType="Event", Payload=b'"' + b"x" * (1 << 20) + b'"')
refused("ResourceNotFoundException", FunctionName="nobody")
refused("ResourceNotFoundException", FunctionName="bill", Qualifier="9")
refused("ResourceNotFoundException", FunctionName="nobody", InvocationType="Event", Payload=b"{}")
refused("InvalidRequestContentException", FunctionName="bill", Payload=b"{no json")
refused("InvalidRequestContentException", FunctionName="bill", ClientContext="no base64!")
refused("InvalidParameterValueException", FunctionName="bill:1", Qualifier="2")
busy = refused("TooManyRequestsException", FunctionName="none")
assert busy["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded", busy
assert busy["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"

def streamed(**arguments):
    answer = client.invoke_with_response_stream(**arguments)
    assert answer["StatusCode"] == 200 and answer["ExecutedVersion"] == "$LATEST", answer
    pieces, complete, times = [], None, []
    for event in answer["EventStream"]:
        if "PayloadChunk" in event:
            pieces.append(event["PayloadChunk"]["Payload"])
            times.append(time.time())
        else:
            complete = event["InvokeComplete"]
    return b"".join(pieces), complete, times

# On a busy machine this program may see the pieces only when all are there: then with longer pauses.
for pause_ms in [50, 500, 5000]:
    event = json.dumps({"pieces": 4, "pause_ms": pause_ms})
    payload, complete, times = streamed(FunctionName="streams", Payload=event, LogType="Tail")
    assert payload.endswith(b"piece 0;piece 1;piece 2;piece 3;"), payload
    if times[-1] - times[0] > pause_ms / 500:
        break
else:
    raise AssertionError("not piece by piece")
assert "ErrorCode" not in complete and b"END RequestId" in base64.b64decode(complete["LogResult"]), complete
payload, complete, times = streamed(FunctionName="bill", Payload=b'{"n": 1}')
assert json.loads(payload) == {"you": {"n": 1}} and complete == {}, (payload, complete)
payload, complete, times = streamed(FunctionName="bill", Payload=b'{"do": "exit"}')
assert payload == b"" and complete["ErrorCode"] == "Runtime.ExitError" and "exit status 3" in complete["ErrorDetails"]
try:
    client.invoke_with_response_stream(FunctionName="nobody")
    raise AssertionError("not refused")
except ClientError as error:
    assert error.response["Error"]["Code"] == "ResourceNotFoundException"
print("done")
"#;

const LOOKS: &str = r#"
functions = [f["FunctionName"] for page in client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2})
    for f in page["Functions"]]
assert functions == ["bill", "late", "none", "streams"], functions
found = client.get_function(FunctionName="bill")
configuration = found["Configuration"]
assert configuration["Handler"] == "h" and configuration["Timeout"] == 300 and configuration["MemorySize"] == 128
assert configuration["Environment"]["Variables"] == {"PRICES": "${PATH}"}, "variables are not shown filled in"
assert configuration["Description"] == "month end" and configuration["State"] == "Active"
assert len(base64.b64decode(configuration["CodeSha256"])) == 32
assert client.get_function_configuration(FunctionName="bill", Qualifier="1")["Version"] == "1"
versions = client.list_versions_by_function(FunctionName="bill")["Versions"]
assert [v["Version"] for v in versions] == ["$LATEST", "1"], versions
assert client.list_aliases(FunctionName="bill")["Aliases"] == []
assert client.get_function_concurrency(FunctionName="none")["ReservedConcurrentExecutions"] == 0
assert [l["LayerName"] for l in client.list_layers()["Layers"]] == ["r"]
assert client.list_layer_versions(LayerName="r")["LayerVersions"][0]["Version"] == 1
client.get_waiter("function_active_v2").wait(FunctionName="bill")
for code, call in [
    ("ResourceNotFoundException", lambda: client.get_function(FunctionName="nobody")),
    ("ResourceNotFoundException", lambda: client.get_alias(FunctionName="bill", Name="prod")),
    ("UnknownOperationException", lambda: client.delete_function(FunctionName="bill")),
]:
    try:
        call()
        raise AssertionError("not refused")
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error.response
print("done")
"#;

fn python(server: &Process, script: &str) {
    let script = format!("{BEGIN}{script}");
    let output = Command::new(interpreter()).args(["-c", &script, &format!("http://{}", server.address)]).output();
    let output = output.expect("a Python");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && output.stdout.ends_with(b"done\n"), "{said}");
}

fn boto3_invokes(server: &Process, _: &std::path::Path) {
    python(server, INVOKES);
}

fn boto3_looks(server: &Process, _: &std::path::Path) {
    python(server, LOOKS);
}

fn command_line(server: &Process, folder: &std::path::Path) {
    let out = folder.join("out.json");
    let aws = interpreter().with_file_name("aws");
    assert!(aws.exists(), "there is no AWS command line at {}: run ./test, which installs it", aws.display());
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&aws);
        command.args(["--endpoint-url", &format!("http://{}", server.address), "--region", "eu-west-3", "lambda"]);
        command.args(arguments).env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b").env("AWS_PAGER", "");
        let output = command.output().expect("aws");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let into = out.to_str().expect("a path");
    let (ok, said, error) =
        run(&["invoke", "--function-name", "bill", "--payload", "{\"do\":\"ok\"}", "--log-type", "Tail", into]);
    assert!(ok && said.contains("\"StatusCode\": 200") && said.contains("LogResult"), "{said} {error}");
    assert_eq!(std::fs::read_to_string(&out).expect("an answer"), "{\"you\":{\"do\":\"ok\"}}");
    let (ok, said, error) = run(&["invoke", "--function-name", "bill:1", "--payload", "{\"do\":\"error\"}", into]);
    assert!(
        ok && said.contains("\"FunctionError\": \"Unhandled\"") && said.contains("\"ExecutedVersion\": \"1\""),
        "{said} {error}"
    );
    let (ok, said, error) = run(&["invoke", "--function-name", "bill", "--invocation-type", "Event", into]);
    assert!(ok && said.contains("\"StatusCode\": 202"), "{said} {error}");
    let (ok, said, error) = run(&["list-functions", "--query", "Functions[].FunctionName", "--output", "text"]);
    assert!(ok && said.trim() == "bill\tlate\tnone\tstreams", "{said} {error}");
    let (ok, _, error) = run(&["get-function", "--function-name", "nobody"]);
    assert!(!ok && error.contains("ResourceNotFoundException") && error.contains("Function not found"), "{error}");
}
