//! Models and endpoints from outside: boto3, curl, the command line, and programs in sandboxes.

mod clients;
mod containers;
mod predict;
mod training;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::world::Warehouse;
use crate::world::interpreter;

const SECRET: &str = "dispatchdispatchdispatchdispatchdispatch";
const READER: &str = "readerreaderreaderreaderreaderreaderread";
const TOKEN: &str = "a token of twenty characters";
const KEYS: &str = "
[serve.keys.dispatch]
secret = '${DISPATCH_SECRET}'
token = '${DISPATCH_TOKEN}'
invoke = ['*']
change = ['*']
[serve.keys.reader]
secret = '${READER_SECRET}'
invoke = ['endpoint:other']
[models.data]
's3://models/' = 'artifacts'
";

/// A server with models.
struct ModelServer {
    warehouse: Warehouse,
    child: Child,
    port: u16,
}

impl ModelServer {
    fn new(more: &str, files: &[(&str, &str)]) -> ModelServer {
        ModelServer::with_http("'off'", more, files)
    }

    fn with_http(http: &str, more: &str, files: &[(&str, &str)]) -> ModelServer {
        let warehouse = Warehouse::new(files)
            .with_env("DISPATCH_SECRET", SECRET)
            .with_env("DISPATCH_TOKEN", TOKEN)
            .with_env("READER_SECRET", READER);
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let serve = format!("[serve]\nsql = 'off'\nhttp = {http}\nfunctions = 'off'\nmodels = '127.0.0.1:{port}'\n");
        warehouse.write("wattlake.toml", &format!("lake.url = 'lake'\n{serve}{more}"));
        fs::create_dir_all(warehouse.path().join("artifacts")).unwrap();
        let child = start(&warehouse);
        let mut server = ModelServer { warehouse, child, port };
        server.wait();
        server
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(180);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            assert!(Instant::now() < deadline, "it does not listen:\n{}", self.log());
            assert!(self.child.try_wait().unwrap().is_none(), "it has ended:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.warehouse.path().join("serve.log")).unwrap()
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Status, head and body of an answer.
    fn post(&self, path: &str, headers: &str, body: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        let length = body.len();
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n");
        write!(stream, "{head}{headers}\r\n{body}").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (status, head.to_owned(), body.to_owned())
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn start_again(&mut self) {
        self.stop();
        self.child = start(&self.warehouse);
        self.wait();
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn start(warehouse: &Warehouse) -> Child {
    let log = fs::File::create(warehouse.path().join("serve.log")).unwrap();
    warehouse.command(&["serve"]).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// The folder of Python's packages for the tests.
pub fn libraries() -> String {
    let asked = Command::new(interpreter())
        .args(["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
        .output()
        .unwrap();
    String::from_utf8(asked.stdout).unwrap().trim().to_owned()
}

fn script(name: &str) -> PathBuf {
    Path::new("tests/it/models").join(name)
}

#[test]
fn the_whole_life_of_a_model_by_boto3() {
    let server = ModelServer::new(KEYS, &[]);
    let mut program = Command::new(interpreter());
    program.arg(script("by_boto3.py")).arg(server.url()).arg(server.warehouse.path().join("artifacts"));
    program.env("AWS_ACCESS_KEY_ID", "dispatch").env("AWS_SECRET_ACCESS_KEY", SECRET).env("READER_SECRET", READER);
    let ran = program.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ran.status.success(), "{}{}\n{}", text(&ran.stdout), text(&ran.stderr), server.log());
    assert!(text(&ran.stdout).contains("requests during two updates"));
}

/// A model of one leaf, which predicts a number.
pub fn constant(number: f64) -> String {
    format!(
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=0\n\
objective=regression\nfeature_names=flow\nfeature_infos=[0:9]\ntree_sizes=1\n\nTree=0\nnum_leaves=1\nnum_cat=0\n\
leaf_value={number}\nis_linear=0\nshrinkage=1\n\n\nend of trees\n"
    )
}

const HYDRO: &str = "[variants.main]\nimage = 'wattlake/lightgbm'\ndata = 'artifacts/model.txt'\n";

#[test]
fn an_endpoint_is_applied_updated_and_served_again_after_a_kill() {
    let mut server =
        ModelServer::new(KEYS, &[("endpoints/hydro.toml", HYDRO), ("artifacts/model.txt", &constant(7.0))]);
    let token = format!("Authorization: Bearer {TOKEN}\r\nContent-Type: text/csv\r\n");
    let invoke = |server: &ModelServer| server.post("/endpoints/hydro/invocations", &token, "1.5");
    server.warehouse.ok(&["endpoint", "apply", "--dry-run"]).has("create endpoint hydro with hydro-");
    assert_eq!(invoke(&server).0, 400);
    server.warehouse.ok(&["endpoint", "apply"]).has("endpoint hydro is in service after");
    assert_eq!((invoke(&server).0, invoke(&server).2.as_str()), (200, "7.0\n"));
    server.warehouse.ok(&["endpoint", "apply", "hydro"]).has("endpoint hydro is unchanged");
    server.warehouse.write("artifacts/model.txt", &constant(8.0));
    server.warehouse.ok(&["endpoint", "apply"]).has("update endpoint hydro from hydro-");
    assert_eq!(invoke(&server).2, "8.0\n");
    // A model that can't be served leaves the endpoint as it is.
    server.warehouse.write("artifacts/model.txt", "tree\n");
    let failed = server.warehouse.run(&["endpoint", "apply"]);
    assert_eq!(failed.code, 1, "{}", failed.text());
    failed.has("endpoint hydro was not updated, and serves hydro-").has("cut off");
    assert_eq!(invoke(&server).2, "8.0\n");
    server.start_again();
    assert_eq!(invoke(&server).2, "8.0\n");
    let listed = server.warehouse.sql("select state, failure from system.endpoints");
    assert_eq!(listed[0]["state"], "InService");
    server.warehouse.ok(&["endpoint", "delete", "hydro"]).has("endpoint hydro is deleted");
    assert_eq!(invoke(&server).0, 400);
    // Artifacts and code that models use stay.
    server.warehouse.ok(&["run", "upkeep:lake"]);
    assert_eq!(fs::read_dir(server.warehouse.path().join(".wattlake/models/artifacts")).unwrap().count(), 4);
}

#[test]
fn requests_without_a_key_are_refused_and_mistakes_are_named() {
    let server = ModelServer::new(KEYS, &[]);
    let (status, head, body) = server.post("/endpoints/hydro/invocations", "", "1");
    assert_eq!(status, 403, "{body}");
    assert!(head.contains("x-amzn-errortype: MissingAuthenticationTokenException"), "{head}");
    let (status, _, _) = server.post("/endpoints/hydro/invocations", "Authorization: Bearer wrong\r\n", "1");
    assert_eq!(status, 403);
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    // Requests are recorded by key and resource; those without a key have no resource.
    let until = Instant::now() + Duration::from_secs(60);
    let recorded = loop {
        let query = "select key, resource, status, sum(requests)::bigint as requests from system.requests
                     group by key, resource, status order by key, status";
        let rows = server.warehouse.sql(query);
        if rows.first().is_some_and(|row| row["requests"] == 2) || Instant::now() > until {
            break rows;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(recorded[0], serde_json::json!({"key": "", "resource": "", "status": 403, "requests": 2}));
    let target = |name: &str| format!("{token}X-Amz-Target: SageMaker.{name}\r\n");
    let answer: Value = serde_json::from_str(&server.post("/", &target("ListEndpoints"), "{}").2).unwrap();
    assert_eq!(answer["Endpoints"], serde_json::json!([]));
    for (name, body, expected) in [
        ("CreateHyperParameterTuningJob", "{}", "no operation of SageMaker's that is supported here"),
        ("CreateModel", "{", "the request is no JSON"),
        ("CreateModel", "{}", "ModelName is missing"),
        ("CreateModel", "{\"ModelName\": \"a_b\"}", "must satisfy"),
        ("CreateModel", "{\"ModelName\": \"a\", \"Containers\": 1}", "Containers: expected a list"),
        ("CreateModel", "{\"ModelName\": \"a\", \"Other\": 1}", "Other is not supported here"),
        (
            "CreateEndpoint",
            "{\"EndpointName\": \"a\", \"EndpointConfigName\": \"b\"}",
            "Could not find endpoint configuration",
        ),
    ] {
        let (status, _, text) = server.post("/", &target(name), body);
        assert!((400..405).contains(&status) && text.contains(expected), "{name} {body}: {status} {text}");
    }
    let lines = [
        ("serve.models = '0.0.0.0:1'\n", "without a key"),
        ("serve.keys.a = {}\n", "has no secret and no token"),
        ("serve.keys.a.secret = 'short'\n", "the secret of key \"a\" has 5 characters"),
        ("serve.keys.a = { token = 'twenty characters at least', invoke = ['hydro'] }\n", "matches nothing"),
        ("models.data.'s3:' = 'a'\n", "not the beginning of a URL"),
    ];
    for (line, expected) in lines {
        let warehouse = Warehouse::new(&[("wattlake.toml", &format!("lake.url = 'lake'\n{line}"))]);
        let checked = warehouse.run(&["check"]);
        assert_ne!(checked.code, 0, "{line}: {}", checked.text());
        checked.has(expected);
    }
}

/// A template of users, for AWS.
pub const TEMPLATE: &str = "
Parameters:
  Bucket: { Type: String }
Resources:
  Model:
    Type: AWS::SageMaker::Model
    Properties:
      ExecutionRoleArn: arn:aws:iam::000000000000:role/hydro
      PrimaryContainer:
        Image: wattlake/lightgbm
        ModelDataUrl: !Sub 's3://${Bucket}/model.txt'
  Config:
    Type: AWS::SageMaker::EndpointConfig
    Properties:
      ProductionVariants:
        - { VariantName: main, ModelName: !GetAtt Model.ModelName, InitialInstanceCount: 1, InstanceType: ml.t2.medium, InitialVariantWeight: 1 }
  Endpoint:
    Type: AWS::SageMaker::Endpoint
    Properties: { EndpointName: hydro, EndpointConfigName: !GetAtt Config.EndpointConfigName }
";

#[test]
fn a_template_for_aws_is_applied_unchanged() {
    let files = [("templates/hydro.yaml", TEMPLATE), ("artifacts/model.txt", &constant(5.0))];
    let server = ModelServer::new("[models.data]\n's3://models/' = 'artifacts'\n", &files);
    let path = server.warehouse.path().join("templates/hydro.yaml");
    let file = path.to_str().unwrap();
    let missing = server.warehouse.run(&["endpoint", "apply", "--template", file]);
    assert_eq!(missing.code, 3, "{}", missing.text());
    missing.has("hydro.yaml:3:1: the parameter Bucket has no value; write --parameter Bucket=VALUE");
    let apply = ["endpoint", "apply", "--template", file, "--parameter", "Bucket=models"];
    server.warehouse.ok(&apply).has("endpoint hydro is in service");
    let headers = "Content-Type: text/csv\r\n";
    assert_eq!(server.post("/endpoints/hydro/invocations", headers, "1").2, "5.0\n");
    server.warehouse.ok(&apply).has("endpoint hydro is unchanged");
    // In SQL, too, with and without a server.
    let query = "select sum(predict('hydro', n)) as total, min(predict('hydro', null::int)) as missing
                 from generate_series(1, 1000) as g(n)";
    assert_eq!(server.warehouse.sql(query)[0], serde_json::json!({"total": 5000.0, "missing": 5.0}));
    for (query, expected) in [
        ("select predict('wind', 1)", "there is no endpoint \"wind\" in service"),
        ("select predict('hydro', 1, 2)", "has 1 columns, and predict has 2 values; the columns are flow"),
        ("select predict('hydro', '1,5')", "the value \"1,5\" of column \"flow\" is not a number"),
        ("select predict('hydro', date '2026-01-01')", "must be a number or a text"),
        ("select predict('hydro')", "predict takes the name of an endpoint"),
    ] {
        let refused = server.warehouse.run(&["sql", query]);
        assert_ne!(refused.code, 0, "{query}");
        refused.has(expected);
    }
}

#[test]
fn the_dashboard_asks_for_metrics_and_tables_that_there_are() {
    let http = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let model = constant(7.0);
    let files = [("endpoints/hydro.toml", HYDRO), ("artifacts/model.txt", &model)];
    let server = ModelServer::with_http(&format!("'127.0.0.1:{http}'"), "", &files);
    server.warehouse.ok(&["endpoint", "apply"]);
    assert_eq!(server.post("/endpoints/hydro/invocations", "Content-Type: text/csv\r\n", "1").0, 200);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, http)).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).unwrap();
    assert!(
        metrics.contains("wattlake_endpoint_invocations_total{endpoint=\"hydro\",variant=\"main\"} 1"),
        "{metrics}"
    );
    // Most families are there only where there is something to count: so each is looked up where the server defines it.
    let defined: String = fs::read_dir("../server/src")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .collect();
    let text = fs::read_to_string("../../packaging/grafana-dashboard.json").unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut asked = 0;
    for target in dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap())
    {
        if let Some(query) = target["rawSql"].as_str() {
            server.warehouse.sql(query);
            continue;
        }
        let expression = target["expr"].as_str().unwrap();
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in words.filter(|word| word.starts_with("wattlake_")) {
            let base = ["_total", "_seconds", "_bytes"]
                .iter()
                .fold(&name["wattlake_".len()..], |base, end| base.trim_end_matches(end));
            assert!(defined.contains(&format!("\"{base}\"")), "{name} is not defined as {base:?}");
            asked += 1;
        }
    }
    assert!(asked > 10, "{asked}");
}
