//! Training jobs: scripts of SageMaker's script mode over queries on the lake, the registry, and an endpoint that serves
//! what was trained.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{ModelServer, libraries};
use crate::world::Warehouse;

/// A script as SageMaker's own examples have it: arguments, SM_* variables, metrics in its output.
const LIGHTGBM: &str = "
import argparse, os
import lightgbm, numpy

parser = argparse.ArgumentParser()
parser.add_argument('--num-leaves', type=int, default=31)
parser.add_argument('--rounds', type=int, default=10)
parser.add_argument('--model-dir', default=os.environ['SM_MODEL_DIR'])
parser.add_argument('--train', default=os.environ['SM_CHANNEL_TRAIN'])
arguments = parser.parse_args()

rows = numpy.genfromtxt(os.path.join(arguments.train, 'data.csv'), delimiter=',', skip_header=1)
data = lightgbm.Dataset(rows[:, :2], rows[:, 2], feature_name=['flow', 'rain'])
settings = {'num_leaves': arguments.num_leaves, 'verbosity': -1, 'num_threads': 1, 'min_data_in_leaf': 5}
model = lightgbm.train(settings, data, num_boost_round=arguments.rounds)
error = numpy.sqrt(numpy.mean((model.predict(rows[:, :2]) - rows[:, 2]) ** 2))
print(f'train rmse={error:.6f};')
model.save_model(os.path.join(arguments.model_dir, 'model.txt'))
";
/// Trains and serves by scikit-learn, with one script.
const SCIKIT: &str = "
import json, os
import joblib

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, 'model.joblib'))

if __name__ == '__main__':
    import numpy
    from sklearn.linear_model import LinearRegression
    rows = numpy.genfromtxt(os.environ['SM_CHANNEL_TRAIN'] + '/data.csv', delimiter=',', skip_header=1)
    model = LinearRegression().fit(rows[:, :2], rows[:, 2])
    joblib.dump(model, os.environ['SM_MODEL_DIR'] + '/model.joblib')
    print('hyperparameters', os.environ['SM_HPS'])
";
const QUERY: &str =
    "select n * 1.0 as flow, n % 7 as rain, 3.0 * n + n % 7 as power from generate_series(1, 200) as g(n)";

fn warehouse_files(layer: &str) -> Vec<(String, String)> {
    let hydro = format!(
        "image = 'gbm'\nserve_image = 'wattlake/lightgbm'\n[hyperparameters]\nnum-leaves = 7\nrounds = 20\n\
[metrics]\nrmse = 'rmse=([0-9.]+);'\n[channels.train]\nquery = '''{QUERY}'''\n"
    );
    let scikit = format!("image = 'scikit'\napprove = true\n[channels.train]\nquery = '''{QUERY}'''\n");
    let served = "[variants.main]\ndata = 'model://hydro/champion'\n";
    let by_script = "[variants.main]\nimage = 'scikit'\ndata = 'model://scikit/1'\n";
    [
        ("layers/python.toml", layer),
        ("containers/gbm/container.toml", "layers = ['python']\n"),
        ("containers/gbm/train.py", LIGHTGBM),
        ("containers/scikit/container.toml", "layers = ['python']\n[environment]\nSAGEMAKER_PROGRAM = 'script.py'\n"),
        ("containers/scikit/script.py", SCIKIT),
        ("trainings/hydro.toml", &hydro),
        ("trainings/scikit.toml", &scikit),
        ("endpoints/hydro.toml", served),
        ("endpoints/scikit.toml", by_script),
    ]
    .map(|(name, text)| (name.to_owned(), text.to_owned()))
    .to_vec()
}

#[test]
fn scripts_for_sagemaker_train_and_their_models_are_served() {
    let library = libraries();
    let layer = format!("language = 'python'\npackages = ['lightgbm', 'scikit-learn']\nlibraries = ['{library}']\n");
    let files = warehouse_files(&layer);
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let server = ModelServer::new("", &files);
    let warehouse = &server.warehouse;
    warehouse.ok(&["layer", "build"]);
    // A version that nobody has approved can't be served.
    warehouse.ok(&["model", "train", "hydro"]).has("version 1 of model hydro after").has("pending approval: rmse ");
    let refused = warehouse.run(&["endpoint", "apply", "hydro"]);
    assert_ne!(refused.code, 0);
    refused.has("the registry has no version \"champion\" of model \"hydro\"");
    warehouse
        .ok(&["model", "promote", "hydro", "1"])
        .has("endpoint hydro serves it after: wattlake endpoint apply hydro");
    warehouse.ok(&["endpoint", "apply", "hydro"]).has("endpoint hydro is in service");
    let invoke = |endpoint: &str, body: &str| {
        let path = format!("/endpoints/{endpoint}/invocations");
        let (status, _, body) = server.post(&path, "Content-Type: application/json\r\n", body);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()
    };
    let first = invoke("hydro", "{\"instances\": [{\"flow\": 100, \"rain\": 2}]}")["predictions"][0].as_f64().unwrap();
    assert!((first - 302.0).abs() < 60.0, "{first}");
    // Another hyperparameter, another version; the comparison shows both.
    let more = fs::read_to_string(warehouse.path().join("trainings/hydro.toml"))
        .unwrap()
        .replace("rounds = 20", "rounds = 200");
    warehouse.write("trainings/hydro.toml", &more);
    let figures = &warehouse.json(&["model", "train", "hydro", "--json"])[0];
    assert_eq!(figures["version"], 2);
    let compared = warehouse.ok(&["model", "compare", "hydro", "champion", "2"]);
    compared.has("metric rmse").has("hyperparameter rounds");
    warehouse.ok(&["model", "promote", "hydro", "2"]);
    warehouse.ok(&["endpoint", "apply", "hydro"]).has("update endpoint hydro");
    let second = invoke("hydro", "{\"instances\": [{\"flow\": 100, \"rain\": 2}]}")["predictions"][0].as_f64().unwrap();
    assert!((second - 302.0).abs() < (first - 302.0).abs(), "{first} {second}");
    // The version says what it was trained from.
    warehouse.ok(&["model", "show", "hydro", "champion"]).has("hyperparameter rounds = 200").has("200 rows");
    // One script trains and serves.
    warehouse.ok(&["run", "training:scikit"]).has("version 1 of model scikit").has("approved");
    warehouse.ok(&["endpoint", "apply", "scikit"]).has("endpoint scikit is in service");
    let answer = invoke("scikit", "[[100, 2]]");
    assert!((answer[0].as_f64().unwrap() - 302.0).abs() < 1e-6, "{answer}");
    let jobs = warehouse.sql("select state, metrics from system.training_jobs order by created_at");
    assert_eq!(jobs.len(), 3, "{jobs:?}");
    assert!(jobs.iter().all(|job| job["state"] == "Completed"), "{jobs:?}");
    // Equal inputs make an equal artifact.
    warehouse.ok(&["model", "train", "hydro"]);
    let versions = warehouse.json(&["model", "list", "hydro", "--json"]);
    assert_eq!(versions[1]["artifact"], versions[2]["artifact"]);
    assert_ne!(versions[0]["artifact"], versions[1]["artifact"]);
    warehouse.ok(&["run", "upkeep:lake"]);
    warehouse.ok(&["model", "promote", "hydro", "1"]);
    warehouse.ok(&["endpoint", "apply", "hydro"]).has("is in service");
}

const BATTERY: &str = "
import os, subprocess, sys, time
what = os.environ['SM_HP_WHAT']
model = os.environ['SM_MODEL_DIR']
print('it is', what)
if what == 'raise':
    raise ValueError('no such river')
if what == 'exit':
    sys.exit(7)
if what == 'hang':
    time.sleep(600)
if what == 'fork':
    [subprocess.Popen(['sleep', '600']) for _ in range(50)]
    open(model + '/model.txt', 'w').write('1')
if what == 'much':
    with open(model + '/model.txt', 'w') as file:
        for _ in range(1000):
            file.write('x' * 1000000)
            file.flush()
            time.sleep(0.002)
    time.sleep(600)
if what == 'link':
    os.symlink('/etc/passwd', model + '/model.txt')
if what == 'channel':
    open(os.environ['SM_CHANNEL_TRAIN'] + '/data.csv', 'w')
if what == 'stop':
    import signal
    def save(*_):
        open(model + '/model.txt', 'w').write('saved')
        sys.exit(0)
    signal.signal(signal.SIGTERM, save)
    print('begun')
    time.sleep(600)
";

/// A warehouse with the battery's container.
fn battery() -> Warehouse {
    let library = libraries();
    let layer = format!("language = 'python'\nlibraries = ['{library}']\n");
    let warehouse = Warehouse::new(&[
        ("wattlake.toml", "lake.url = 'lake'\n"),
        ("layers/python.toml", &layer),
        ("containers/battery/container.toml", "layers = ['python']\n"),
        ("containers/battery/train.py", BATTERY),
    ]);
    warehouse.ok(&["layer", "build"]);
    warehouse
}

#[test]
fn a_training_job_that_fails_says_why() {
    let warehouse = battery();
    let train = |what: &str, more: &str| {
        let text = format!(
            "image = 'battery'\n{more}\n[hyperparameters]\nwhat = '{what}'\n[channels.train]\nquery = 'select 1 as flow'\n"
        );
        warehouse.write(&format!("trainings/{what}.toml"), &text);
        warehouse.run(&["model", "train", what])
    };
    for (what, more, expected) in [
        ("raise", "", "ValueError: no such river"),
        ("exit", "", "the script exited with 7"),
        ("hang", "time_max = '2s'", "it did not end within 2 s"),
        ("nothing", "", "wrote nothing to /opt/ml/model"),
        ("much", "written_max = '20MB'", "it wrote more than 20 MB"),
        ("link", "", "/opt/ml/model/model.txt is a link or a device"),
        ("channel", "", "Read-only file system"),
    ] {
        let failed = train(what, more);
        assert_eq!(failed.code, 3, "{what}: {}", failed.text());
        failed.has("failed: ").has(expected);
    }
    let forked = train("fork", "approve = true");
    assert_eq!(forked.code, 0, "{}", forked.text());
    let sleeping = Command::new("pgrep").args(["-f", "-c", "^sleep 600$"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&sleeping.stdout).trim(), "0");
}

#[test]
fn a_training_job_is_stopped_or_killed() {
    let warehouse = battery();
    // One that is stopped has time to save its model.
    let text = "image = 'battery'\n[hyperparameters]\nwhat = 'stop'\n[channels.train]\nquery = 'select 1 as flow'\n";
    warehouse.write("trainings/stop.toml", text);
    let mut stop = warehouse.command(&["model", "train", "stop"]);
    let child = stop.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let job = loop {
        let jobs = warehouse.json(&["model", "jobs", "--json"]);
        let stop = jobs
            .iter()
            .find(|job| job["name"].as_str().unwrap().starts_with("stop-") && job["started_at"] != Value::Null);
        let begun = warehouse.ok(&["logs", "training:stop"]).out.contains("begun");
        if let (Some(job), true) = (stop, begun) {
            break job["name"].as_str().unwrap().to_owned();
        }
        assert!(std::time::Instant::now() < until, "{jobs:?}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    };
    warehouse.ok(&["model", "stop", &job]).has("is stopping");
    let ended = child.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(printed.contains("begun\n") && printed.contains("was stopped"), "{printed}");
    let row = &warehouse.sql(&format!("select state, artifact from system.training_jobs where name = '{job}'"))[0];
    assert!(row["state"] == "Stopped" && row["artifact"].is_string(), "{row}");
    // One whose run is killed has failed.
    let text = text.replace("what = 'stop'", "what = 'hang'");
    warehouse.write("trainings/killed.toml", &text);
    let mut killed = warehouse.command(&["model", "train", "killed"]);
    let mut child = killed.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !warehouse
        .json(&["model", "jobs", "--json"])
        .iter()
        .any(|job| job["name"].as_str().unwrap().starts_with("killed-") && job["started_at"] != Value::Null)
    {
        assert!(std::time::Instant::now() < until + std::time::Duration::from_secs(60));
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let killed = "select state, failure from system.training_jobs where name like 'killed-%'";
    warehouse.ok(&["model", "jobs"]).has("was killed");
    assert_eq!(warehouse.sql(killed)[0]["state"], "Failed");
}

/// The script of an archive, as SageMaker's SDK sends it, for training and serving.
const SUBMITTED: &str = "
import argparse, json, os, time

def model_fn(model_dir):
    return float(open(os.path.join(model_dir, 'model.txt')).read())

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(data, model):
    return [model + value for value in data]

if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--scale', type=float, default=1)
    parser.add_argument('--fails', default='')
    parser.add_argument('--waits', default='')
    arguments = parser.parse_args()
    if arguments.fails:
        raise ValueError('as asked')
    if arguments.waits:
        time.sleep(600)
    rows = open(os.environ['SM_CHANNEL_TRAIN'] + '/rows.txt').read().split()
    print(f'rows={len(rows)}')
    folder = os.environ['SM_MODEL_DIR']
    open(folder + '/model.txt', 'w').write(str(32 if arguments.scale == 3 else 0))
    os.makedirs(folder + '/code')
    open(folder + '/code/inference.py', 'w').write(open(__file__).read())
";

#[test]
fn boto3_trains_deploys_and_asks_a_model() {
    let layer = format!("language = 'python'\nlibraries = ['{}']\n", libraries());
    let server = ModelServer::new(
        "[models.data]\n's3://code/' = 'artifacts'\n",
        &[
            ("layers/python.toml", &layer),
            ("containers/scikit/container.toml", "images = ['*/sagemaker-scikit-learn:*']\nlayers = ['python']\n"),
            ("artifacts/script/script.py", SUBMITTED),
            ("artifacts/rows/rows.txt", "1 2"),
        ],
    );
    let folder = server.warehouse.path().join("artifacts");
    let packed = Command::new("tar").args(["-czf", "script.tar.gz", "-C", "script", "."]).current_dir(&folder).status();
    assert!(packed.unwrap().success());
    server.warehouse.ok(&["layer", "build"]);
    let script = super::script("train_by_boto3.py");
    let ran = Command::new(super::interpreter()).arg(script).arg(server.url()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ran.status.success(), "{}{}\n{}", text(&ran.stdout), text(&ran.stderr), server.log());
}
