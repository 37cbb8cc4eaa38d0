//! Predictions beside LightGBM's own, for models of all kinds; damaged and hostile files.

use std::path::{Path, PathBuf};
use std::process::Command;

use lightgbm::{EarlyStop, Model, Options};
use serde_json::Value;

/// How far a prediction may be from LightGBM's, relative to its size.
const TOLERANCE: f64 = 1e-12;
/// Kinds of models that the script trains.
const KINDS: usize = 36;

fn python() -> PathBuf {
    let given = std::env::var_os("WATTLAKE_TEST_PYTHON").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    given.unwrap_or_else(|| home.join(".cache/wattlake/test-venv/bin/python"))
}

/// Trains the models of the script.
fn train(folder: &Path, seed: u64) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models.py");
    let trained = Command::new(python()).arg(script).arg(folder).arg(seed.to_string()).output().expect("start Python");
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
}

fn models(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("list the models");
    let mut all: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    all.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    all.sort();
    all
}

fn options(written: &Value) -> Options {
    let iterations_max = written["num_iteration"].as_u64().map(|most| most as usize);
    let early_stop = written["pred_early_stop"].as_bool().is_some_and(|stops| stops).then(|| EarlyStop {
        period: written["pred_early_stop_freq"].as_u64().expect("a period") as usize,
        margin: written["pred_early_stop_margin"].as_f64().expect("a margin"),
    });
    Options { is_raw: false, iterations_max, early_stop }
}

fn value(model: &Model, column: usize, written: &Value) -> f64 {
    match written {
        Value::Null => f64::NAN,
        Value::String(text) => model.columns().value(column, text).expect("a value"),
        // As a row in CSV has them.
        Value::Bool(true) => model.columns().value(column, "True").expect("a value"),
        // Python's own numbers of a column with categories are categories, too.
        number => match model.columns().value(column, &number.to_string()) {
            Ok(value) => value,
            Err(error) => panic!("{}", error.chain()),
        },
    }
}

fn compare(path: &Path) {
    let text = std::fs::read_to_string(path).expect("read a model");
    let model = Model::parse(&text).unwrap_or_else(|error| panic!("{}: {}", path.display(), error.chain()));
    let written = std::fs::read_to_string(path.with_extension("json")).expect("read the predictions");
    let written: Value = serde_json::from_str(&written).expect("the predictions");
    let rows = written["rows"].as_array().expect("rows");
    let mut found = vec![0.0; model.outputs()];
    for (is_raw, key) in [(false, "predicted"), (true, "raw")] {
        let options = Options { is_raw, ..options(&written["options"]) };
        for (row, expected) in rows.iter().zip(written[key].as_array().expect("predictions")) {
            let row = row.as_array().expect("a row");
            let values: Vec<f64> = row.iter().enumerate().map(|(at, written)| value(&model, at, written)).collect();
            model.predict(&values, options, &mut found);
            let expected: Vec<f64> = expected.as_array().expect("outputs").iter().filter_map(Value::as_f64).collect();
            assert_eq!(expected.len(), found.len(), "{}", path.display());
            for (found, expected) in found.iter().zip(&expected) {
                let far = (found - expected).abs() / expected.abs().max(1.0);
                assert!(far <= TOLERANCE, "{} {key}: {found} for {expected}, row {row:?}", path.display());
            }
        }
    }
}

#[test]
fn predictions_are_those_of_lightgbm() {
    let seed = testkit::first_seed();
    let folder = tempfile::tempdir().expect("a folder");
    train(folder.path(), seed);
    let all = models(folder.path());
    assert_eq!(all.len(), KINDS, "WATTLAKE_SEED={seed}");
    all.iter().for_each(|path| compare(path));
    damaged(&all);
}

/// Each model with random changes is refused or predicts: it never panics or goes on for ever.
fn damaged(all: &[PathBuf]) {
    let texts: Vec<Vec<u8>> = all.iter().map(|path| std::fs::read(path).expect("read a model")).collect();
    let valid: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    testkit::read_changed_bytes(&valid, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(model) = Model::parse(&text) {
            let mut into = vec![0.0; model.outputs()];
            model.predict(&vec![1.0; model.columns().len()], Options::default(), &mut into);
        }
    });
}

const SMALL: &str = "tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=1
objective=regression
feature_names=flow rain
feature_infos=[0:9] [0:9]
tree_sizes=1

Tree=0
num_leaves=3
num_cat=0
split_feature=0 1
threshold=1.5 2.5
decision_type=2 2
left_child=1 -1
right_child=-2 -3
leaf_value=10 20 30
is_linear=0
shrinkage=1


end of trees
";

fn refused(from: &str, to: &str) -> String {
    assert!(SMALL.contains(from), "{from}");
    let error = Model::parse(&SMALL.replacen(from, to, 1)).expect_err("a damaged model");
    assert_eq!(error.kind, base::Kind::FixInput);
    error.chain()
}

#[test]
fn a_file_that_is_no_tree_is_refused() {
    let model = Model::parse(SMALL).expect("a model");
    let mut into = [0.0];
    for (row, expected) in [([1.0, 2.0], 10.0), ([1.0, 3.0], 30.0), ([2.0, 0.0], 20.0)] {
        model.predict(&row, Options::default(), &mut into);
        assert_eq!(into, [expected]);
    }
    assert!(refused("left_child=1 -1", "left_child=0 -1").contains("reached twice"));
    assert!(refused("left_child=1 -1", "left_child=1 -2").contains("reached twice"));
    assert!(refused("left_child=1 -1", "left_child=7 -1").contains("it has no Split(7)"));
    assert!(refused("split_feature=0 1", "split_feature=0 2").contains("column 2"));
    assert!(refused("leaf_value=10 20 30", "leaf_value=10 20").contains("leaf_value has 2 numbers, expected 3"));
    assert!(refused("leaf_value=10 20 30", "leaf_value=10 x 30").contains("\"x\""));
    assert!(refused("end of trees", "").contains("cut off"));
    assert!(refused("tree_sizes=1", "tree_sizes=1 2").contains("it has 1 trees, expected 2"));
    assert!(refused("objective=regression", "objective=other").contains("\"other\""));
    assert!(refused("max_feature_idx=1", "max_feature_idx=18446744073709551615").contains("not those of a model"));
    assert!(refused("num_cat=0", "num_cat=9999999999999").contains("num_cat"));
    assert!(refused("decision_type=2 2", "decision_type=1 2").contains("no set of categories"));
    assert!(Model::parse("PK\u{3}").expect_err("no model").chain().contains("no model of LightGBM"));
}

#[test]
fn fields_are_numbers_or_missing() {
    let model = Model::parse(SMALL).expect("a model");
    let columns = model.columns();
    assert_eq!(columns.value(0, " 1.5 ").expect("a number"), 1.5);
    for missing in ["", "NA", "nan", "null"] {
        assert!(columns.value(0, missing).expect("a missing value").is_nan(), "{missing:?}");
    }
    assert!(columns.value(0, "1,5").expect_err("no number").chain().contains("column \"flow\""));
    assert_eq!(columns.position("rain").expect("a column"), 1);
    assert_eq!(columns.position("rian").expect_err("no column").hint.as_deref(), Some("nearest column: \"rain\""));
}
