//! Containers: programs that keep SageMaker's contract, in sandboxes, started by the first request.

use std::sync::{Arc, Barrier};
use std::thread;

use super::{ModelServer, libraries};

/// The layer with this machine's Python.
const LAYER: &str = "language = 'python'\nlibraries = ['@LIBRARY@']\n";
const CONTAINER: &str =
    "images = ['*/sagemaker-scikit-learn:*']\nlayers = ['python']\nconcurrency = 4\nidle_max = '1s'\n";
const ENDPOINT: &str = "[variants.main]\nimage = '000000000000.dkr.ecr.eu-west-3.amazonaws.com/sagemaker-scikit-learn:1'\n\
data = 'artifacts/model.txt'\n[variants.main.environment]\nSCALE = '2'\n";
/// A script as users have it for SageMaker's script mode.
const SCRIPT: &str = "
import json, os, time

def model_fn(model_dir):
    time.sleep(float(os.environ.get('SLOW', '0')))
    return float(open(os.path.join(model_dir, 'model.txt')).read())

def input_fn(body, content_type):
    if content_type == 'text/plain':
        raise ValueError('no text')
    return json.loads(body)

def predict_fn(data, model):
    if data == 'exit':
        os._exit(3)
    if data == 'write':
        open('/opt/ml/model/model.txt', 'w')
    if data == 'memory':
        return len('x' * (1 << 31))
    if data == 'environment':
        return sorted(os.environ)
    return [model * int(os.environ['SCALE']) + value for value in data]
";

const HEADERS: &str = "Content-Type: application/json\r\n";

fn python_server(files: &[(&str, &str)]) -> ModelServer {
    let layer = LAYER.replace("@LIBRARY@", &libraries());
    let mut all = vec![
        ("layers/python.toml", layer.as_str()),
        ("containers/scikit/container.toml", CONTAINER),
        ("containers/scikit/inference.py", SCRIPT),
        ("endpoints/hydro.toml", ENDPOINT),
        ("artifacts/model.txt", "20"),
    ];
    all.extend(files);
    let server = ModelServer::new("", &all);
    server.warehouse.ok(&["layer", "build"]);
    server
}

fn invoke(server: &ModelServer, body: &str) -> (u16, String) {
    let (status, _, body) = server.post("/endpoints/hydro/invocations", HEADERS, body);
    (status, body)
}

#[test]
fn a_script_for_sagemaker_answers_unchanged() {
    let mut server = python_server(&[("endpoints/hydro.toml", &marked("idle"))]);
    server.warehouse.ok(&["endpoint", "apply"]).has("endpoint hydro is in service");
    assert_eq!(invoke(&server, "[1, 2]"), (200, "[41.0, 42.0]".to_owned()));
    // What the script raises is the model's error, with the status of the program.
    let (status, head, body) = server.post("/endpoints/hydro/invocations", "Content-Type: text/plain\r\n", "a");
    assert_eq!(status, 424, "{body}");
    assert!(head.contains("x-amzn-errortype: ModelError") && body.contains("ValueError: no text"), "{head} {body}");
    // The model is not the program's to change, and secrets of the server are not in its variables.
    assert!(invoke(&server, "\"write\"").1.contains("Read-only file system"));
    let (_, variables) = invoke(&server, "\"environment\"");
    assert!(variables.contains("SM_MODEL_DIR") && !variables.contains("DISPATCH_SECRET"), "{variables}");
    // A program that ends, or needs too much memory, is started again by the next request.
    let (status, body) = invoke(&server, "\"exit\"");
    assert!(status == 424 && body.contains("exited with status 3"), "{status} {body}");
    assert_eq!(invoke(&server, "[1]").0, 200);
    let (status, body) = invoke(&server, "\"memory\"");
    assert!(status == 424 && (body.contains("memory") || body.contains("Memory")), "{status} {body}");
    assert_eq!(invoke(&server, "[1]"), (200, "[41.0]".to_owned()));
    // After a second without requests there is no process.
    wait_for_processes(&mark("idle"), 0);
    // Fifty requests at once to an endpoint that sleeps: all are answered, by one process.
    let barrier = Arc::new(Barrier::new(50));
    let answered: Vec<(u16, String)> = thread::scope(|scope| {
        let one = |number: usize| {
            let (server, barrier) = (&server, Arc::clone(&barrier));
            scope.spawn(move || {
                barrier.wait();
                invoke(server, &format!("[{number}]"))
            })
        };
        let all: Vec<_> = (0..50).map(one).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (number, answer) in answered.iter().enumerate() {
        assert_eq!(*answer, (200, format!("[{}.0]", 40 + number)));
    }
    server.start_again();
    assert_eq!(invoke(&server, "[1]").0, 200);
    server.warehouse.ok(&["endpoint", "logs", "hydro"]).has("ValueError: no text");
}

/// The endpoint with a variable that shows its processes.
fn marked(name: &str) -> String {
    ENDPOINT.replace("SCALE = '2'", &format!("SCALE = '2'\nMARK = '{}-{name}'", std::process::id()))
}

fn mark(name: &str) -> String {
    format!("MARK={}-{name}", std::process::id())
}

/// How many processes have a variable of this value.
fn processes_with(variable: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let environments = processes.filter_map(|process| std::fs::read(process.path().join("environ")).ok());
    environments.filter(|all| all.split(|byte| *byte == 0).any(|one| one == variable.as_bytes())).count()
}

fn wait_for_processes(variable: &str, expected: usize) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while processes_with(variable) != expected {
        let found = processes_with(variable);
        assert!(std::time::Instant::now() < until, "{found} processes with {variable}, expected {expected}");
        thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn programs_of_replaced_and_deleted_endpoints_end() {
    let container = CONTAINER.replace("idle_max = '1s'", "idle_max = '1h'");
    let server =
        python_server(&[("containers/scikit/container.toml", &container), ("endpoints/hydro.toml", &marked("a"))]);
    server.warehouse.ok(&["endpoint", "apply"]);
    wait_for_processes(&mark("a"), 1);
    server.warehouse.write("endpoints/hydro.toml", &marked("b"));
    server.warehouse.ok(&["endpoint", "apply"]);
    wait_for_processes(&mark("b"), 1);
    wait_for_processes(&mark("a"), 0);
    server.warehouse.ok(&["endpoint", "delete", "hydro"]);
    wait_for_processes(&mark("b"), 0);
    // One whose second variant does not start leaves no program of the first.
    let second = "[variants.second]\nimage = '000000000000.dkr.ecr.eu-west-3.amazonaws.com/sagemaker-scikit-learn:1'\n";
    server.warehouse.write("endpoints/hydro.toml", &format!("{}{second}", marked("c")));
    assert_eq!(server.warehouse.run(&["endpoint", "apply"]).code, 1);
    wait_for_processes(&mark("c"), 0);
}

#[test]
fn a_start_goes_on_where_its_request_is_given_up() {
    let slow = ENDPOINT.replace("SCALE = '2'", "SCALE = '2'\nSLOW = '3'");
    let container = CONTAINER.replace("idle_max = '1s'", "idle_max = '2s'");
    let server = python_server(&[("containers/scikit/container.toml", &container), ("endpoints/hydro.toml", &slow)]);
    server.warehouse.ok(&["endpoint", "apply"]);
    thread::sleep(std::time::Duration::from_secs(4));
    // Each of these ends its connection before the program has started, which takes longer than it is idle for.
    for _ in 0..3 {
        use std::io::Write as _;
        let address = server.url().replace("http://", "");
        let mut connection = std::net::TcpStream::connect(address).unwrap();
        let head =
            format!("POST /endpoints/hydro/invocations HTTP/1.1\r\nHost: localhost\r\n{HEADERS}Content-Length: 3\r\n");
        connection.write_all(format!("{head}\r\n[1]").as_bytes()).unwrap();
        thread::sleep(std::time::Duration::from_millis(1100));
    }
    let began = std::time::Instant::now();
    assert_eq!(invoke(&server, "[1]").0, 200);
    assert!(began.elapsed() < std::time::Duration::from_secs(3), "it was started by the first request");
}

#[test]
fn a_program_that_can_not_serve_is_named_with_its_output() {
    let hangs = "[variants.main]\nimage = 'hangs'\n";
    let ends = "[variants.main]\nimage = 'ends'\n";
    let none = "[variants.main]\nimage = 'none'\n";
    let server = python_server(&[
        ("containers/hangs/container.toml", "layers = ['python']\nstart_max = '1s'\n"),
        (
            "containers/hangs/inference.py",
            "import time\nprint('it begins')\ndef model_fn(folder):\n    time.sleep(600)\n",
        ),
        ("containers/ends/inference.py", "raise SystemExit('no such river')\n"),
        ("containers/ends/container.toml", "layers = ['python']\n"),
        ("containers/none/readme.txt", ""),
        ("endpoints/hangs.toml", hangs),
        ("endpoints/ends.toml", ends),
        ("endpoints/none.toml", none),
    ]);
    let failed = |name: &str, expected: &[&str]| {
        let applied = server.warehouse.run(&["endpoint", "apply", name]);
        assert_eq!(applied.code, 1, "{}", applied.text());
        for words in expected {
            applied.has(words);
        }
    };
    failed("hangs", &["did not answer /ping with 200 within 1 s", "it begins"]);
    failed("ends", &["exited with status 1 before it answered /ping", "no such river"]);
    failed("none", &["none of /var/task/serve, ", "exists and is executable"]);
}
