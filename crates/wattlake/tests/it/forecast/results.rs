//! What a training leaves, and what an endpoint answers: all of it is taken, or nothing.

use std::fs;

use crate::models::libraries;
use crate::world::Warehouse;

/// Leaves two tables and a page; beside the page a folder and a link whose names end alike.
const TRAIN: &str = "
import os
data = '/opt/ml/output/data'
open(data + '/first.csv', 'w').write('site,score\\nA,1\\nB,2\\n')
open(data + '/second.csv', 'w').write('site,score\\nA,' + os.environ['SM_HP_SCORE'] + '\\n')
open(data + '/page.html', 'w').write('<p>a page</p>')
os.makedirs(data + '/folder.html')
open(data + '/folder.html/inside.html', 'w').write('<p>no page</p>')
os.symlink('/etc/passwd', data + '/link.html')
open(os.environ['SM_MODEL_DIR'] + '/model.txt', 'w').write('1')
";
const SCORES: &str =
    "format = 'csv'\n[columns.site]\ntype = 'text'\n[columns.score]\ntype = 'double'\nrequired = true\n";

fn training(score: &str) -> String {
    let table = |name: &str| {
        format!("[tables.{name}]\nfile = '{name}.csv'\nlayout = 'layouts/scores.toml'\ntable = 'forecast.{name}'\n")
    };
    format!(
        "image = 'scores'\nreports = 'outbox/pages'\n[hyperparameters]\nscore = '{score}'\n\
         [channels.train]\nquery = 'select 1 as flow'\n{}{}",
        table("first"),
        table("second")
    )
}

fn layer() -> String {
    format!("language = 'python'\nlibraries = ['{}']\n", libraries())
}

#[test]
fn a_training_adds_the_rows_of_all_its_files_or_of_none() {
    let warehouse = Warehouse::new(&[
        ("wattlake.toml", "lake.url = 'lake'\n"),
        ("layers/python.toml", &layer()),
        ("containers/scores/container.toml", "layers = ['python']\n"),
        ("containers/scores/train.py", TRAIN),
        ("layouts/scores.toml", SCORES),
        ("trainings/scores.toml", &training("much")),
    ]);
    warehouse.ok(&["layer", "build"]);
    // The first file is right, and the second one is not.
    let failed = warehouse.run(&["model", "train", "scores"]);
    assert_eq!(failed.code, 3, "{}", failed.text());
    failed.has("read second.csv of scores-").has("\"much\": expected a number");
    assert_ne!(warehouse.run(&["sql", "select * from forecast.first"]).code, 0);
    assert!(warehouse.sql("select * from system.model_versions").is_empty());
    assert_eq!(warehouse.sql("select state from system.training_jobs")[0]["state"], "Failed");
    assert!(!warehouse.path().join("outbox/pages").exists());
    // A folder and a link among the pages are no pages.
    warehouse.write("trainings/scores.toml", &training("7"));
    warehouse.ok(&["model", "train", "scores"]).has("version 1 of model scores");
    assert_eq!((warehouse.count("forecast.first"), warehouse.count("forecast.second")), (2, 1));
    let pages = fs::read_dir(warehouse.path().join("outbox/pages")).unwrap();
    let pages: Vec<String> = pages.map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    assert!(pages.len() == 1 && pages[0].ends_with("-page.html"), "{pages:?}");
}

/// Answers with a row, or with none where it is asked for `empty`.
const INFERENCE: &str = "
def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    return str(body)

def predict_fn(text, model):
    return 'site,mean\\n' + ('' if 'empty' in text else 'A,1\\n')

def output_fn(text, accept):
    return text, 'text/csv'
";

#[test]
fn a_prediction_without_rows_is_an_error() {
    let warehouse = Warehouse::new(&[
        ("wattlake.toml", "lake.url = 'lake'\n"),
        ("layers/python.toml", &layer()),
        ("containers/means/container.toml", "layers = ['python']\n"),
        ("containers/means/inference.py", INFERENCE),
        ("artifacts/model.txt", "1"),
        ("endpoints/means.toml", "[variants.main]\nimage = 'means'\ndata = 'artifacts/model.txt'\n"),
        ("layouts/means.toml", "format = 'csv'\n[columns.site]\ntype = 'text'\n[columns.mean]\ntype = 'double'\n"),
    ]);
    for (name, query) in [
        ("nothing", "select '{issued_at}' as issued_at, 'A' as site where false"),
        ("empty", "select '{issued_at}' as issued_at, 'empty' as site"),
        ("one", "select '{issued_at}' as issued_at, 'A' as site"),
    ] {
        let text = format!(
            "endpoint = 'means'\ninput = \"{query}\"\nlayout = 'layouts/means.toml'\ntable = 'forecast.means'\n"
        );
        warehouse.write(&format!("predictions/{name}.toml"), &text);
    }
    warehouse.ok(&["layer", "build"]);
    warehouse.ok(&["endpoint", "apply"]);
    let nothing = warehouse.run(&["run", "prediction:nothing"]);
    assert_eq!(nothing.code, 3, "{}", nothing.text());
    nothing.has("nothing was known at").has("run the collects first");
    let empty = warehouse.run(&["run", "prediction:empty"]);
    assert_eq!(empty.code, 3, "{}", empty.text());
    empty.has("the answer of endpoint means has no rows").has("a forecast of nothing is none");
    let issues = || warehouse.sql("select job from system.runs where job like 'prediction:%' and state = 'succeeded'");
    assert!(issues().is_empty());
    warehouse.ok(&["run", "prediction:one"]).has("1 rows issued at");
    assert_eq!(issues().len(), 1);
    assert_eq!(warehouse.count("forecast.means"), 1);
}
