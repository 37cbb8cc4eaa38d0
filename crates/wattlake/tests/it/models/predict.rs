//! `predict` in SQL, and requests by CSV, beside LightGBM itself.

use std::process::Command;

use serde_json::Value;

use super::{HYDRO, ModelServer};
use crate::world::interpreter;

/// Trains on categories of pandas; prints rows and what LightGBM predicts for them.
const TRAIN: &str = r#"
import json, sys
import lightgbm, numpy, pandas
random = numpy.random.default_rng(1)
frame = pandas.DataFrame({"flow": random.normal(size=300), "site": numpy.ones(300)})
frame["river"] = pandas.Categorical(random.choice(["Isère", "Drac", "Arc"], 300))
frame["turbines"] = pandas.Categorical(random.choice([10, 20, 40], 300))
label = frame["flow"] + frame["river"].cat.codes * 3 + frame["turbines"].cat.codes * 10
settings = {"verbosity": -1, "min_data_in_leaf": 5, "min_data_per_group": 5, "num_threads": 1}
model = lightgbm.train(settings, lightgbm.Dataset(frame, label), 20)
model.save_model(sys.argv[1])
rows = frame[:20].astype(object).values.tolist()
print(json.dumps({"rows": rows, "predicted": model.predict(frame[:20]).tolist()}))
"#;

#[test]
fn categories_are_predicted_as_by_lightgbm() {
    let server = ModelServer::new("", &[("endpoints/hydro.toml", HYDRO)]);
    let file = server.warehouse.path().join("artifacts/model.txt");
    let trained = Command::new(interpreter()).args(["-c", TRAIN]).arg(file).output().unwrap();
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    let written: Value = serde_json::from_slice(&trained.stdout).unwrap();
    server.warehouse.ok(&["endpoint", "apply"]);
    let rows: Vec<&Vec<Value>> =
        written["rows"].as_array().unwrap().iter().map(|row| row.as_array().unwrap()).collect();
    let expected: Vec<f64> = written["predicted"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
    let values = |(at, row): (usize, &&Vec<Value>)| {
        format!("({at}, {}, {}, '{}', {})", row[0], row[1], row[2].as_str().unwrap(), row[3])
    };
    let values: Vec<String> = rows.iter().enumerate().map(values).collect();
    let query = format!(
        "select predict('hydro', flow, site, river, turbines) as power
         from (values {}) as v(n, flow, site, river, turbines) order by n",
        values.join(", ")
    );
    let found: Vec<f64> = server.warehouse.sql(&query).iter().filter_map(|row| row["power"].as_f64()).collect();
    compare(&found, &expected);
    let body: String =
        rows.iter().map(|row| format!("{},{},{},{}\n", row[0], row[1], row[2].as_str().unwrap(), row[3])).collect();
    let (status, _, answer) = server.post("/endpoints/hydro/invocations", "Content-Type: text/csv\r\n", &body);
    assert_eq!(status, 200, "{answer}");
    compare(&answer.lines().filter_map(|line| line.parse().ok()).collect::<Vec<f64>>(), &expected);
    // A column that is named twice hides another.
    let twice = "flow,site,river,river\n1,1,Arc,Arc\n";
    let (status, _, answer) = server.post("/endpoints/hydro/invocations", "Content-Type: text/csv\r\n", twice);
    assert!(status == 424 && answer.contains("is named twice"), "{status} {answer}");
}

fn compare(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-9, "{found} for {expected}");
    }
}
