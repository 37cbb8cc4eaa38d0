//! Forecasts and versions judged: a model whose errors have grown, one that a challenger beats, and forecasts that come
//! late, by the example's marts and controls.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::collects::World;
use crate::models::libraries;
use crate::world::EXAMPLE;

/// Leaves a backtest whose forecasts are all wrong by the same, of the days from a first one on.
const TRAIN: &str = "
import os
error, first = float(os.environ['SM_HP_ERROR']), int(os.environ['SM_HP_FIRST'])
data = '/opt/ml/output/data'
with open(data + '/backtest.csv', 'w') as file:
    file.write('site,issued_at,at,horizon,observed,mean,q10,q50,q90,persistence,damped,climatology,method\\n')
    for day in range(first, 200):
        at = f'2026-{1 + day // 28:02d}-{1 + day % 28:02d}T00:00:00Z'
        mean = 100 + error
        file.write(f'V1,{at},{at},1,100,{mean},{mean - 5},{mean},{mean + 5},104,,,blend\\n')
with open(data + '/scores.csv', 'w') as file:
    file.write('site,horizon,method,n,nse,kge,rmse,mae,pinball,crps,coverage,skill_persistence,skill_climatology\\n')
    file.write(f'V1,1,forecast,200,0.9,0.9,{error},{error},1,1,0.8,0.5,0.5\\n')
open(os.environ['SM_MODEL_DIR'] + '/model.txt', 'w').write(str(error))
";

/// Answers with what it is sent.
const ECHO: &str = "
def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    return body

def predict_fn(body, model):
    return body

def output_fn(body, accept):
    return body, 'text/csv'
";

fn training(error: u32, first: u32) -> String {
    let table = |name: &str, file: &str| {
        format!(
            "[tables.{name}]\nfile = '{file}.csv'\nlayout = 'layouts/forecast/{file}.toml'\ntable = 'forecast.{name}'\n"
        )
    };
    format!(
        "image = 'scores'\n[hyperparameters]\nerror = {error}\nfirst = {first}\n\
         [channels.train]\nquery = 'select 1 as flow'\n{}{}",
        table("scores", "scores"),
        table("backtests", "backtest")
    )
}

/// A prediction of what was measured, wrong by `error`.
fn prediction(error: u32) -> String {
    format!(
        "endpoint = 'echo'\nevery = '15min'\nlayout = 'layouts/forecast/forecasts.toml'\ntable = 'forecast.predictions'\n\
         input = \"\"\"select '{{issued_at}}' as issued_at, station as site, starts_at as at, 1 as horizon, \
         flow_ls + {error} as mean, flow_ls + {error} - 20 as q10, flow_ls + {error} as q50, flow_ls + {error} + 20 as q90, \
         'echo' as method from forecast.flows\"\"\"\n"
    )
}

/// A warehouse with flows of two stations, two predictions of them, and the example's marts and controls.
fn world() -> World {
    let world = World::new("history_known_after = '1h'", "");
    world.set_hours(1..70, |hour| 100.0 + ((hour * 37) % 23) as f64);
    let warehouse = &world.warehouse;
    for folder in ["layouts/forecast", "marts/forecast", "controls/forecast"] {
        for entry in fs::read_dir(Path::new(EXAMPLE).join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(EXAMPLE).unwrap().to_str().unwrap().to_owned();
            // There is no weather.
            if !name.ends_with("inputs.sql") {
                warehouse.write(&name, &fs::read_to_string(&path).unwrap());
            }
        }
    }
    for (name, text) in [
        ("controls/forecast.toml", String::new()),
        ("layers/python.toml", format!("language = 'python'\nlibraries = ['{}']\n", libraries())),
        ("containers/scores/container.toml", "layers = ['python']\n".to_owned()),
        ("containers/scores/train.py", TRAIN.to_owned()),
        ("containers/echo/container.toml", "layers = ['python']\n".to_owned()),
        ("containers/echo/inference.py", ECHO.to_owned()),
        ("artifacts/model.txt", "1".to_owned()),
        ("endpoints/echo.toml", "[variants.main]\nimage = 'echo'\ndata = 'artifacts/model.txt'\n".to_owned()),
        ("trainings/hydro.toml", training(4, 0)),
        ("predictions/hydro.toml", prediction(30)),
        ("predictions/challenger.toml", prediction(1)),
    ] {
        warehouse.write(name, &text);
    }
    warehouse.ok(&["layer", "build"]);
    world
}

#[test]
fn forecasts_that_have_become_worse_are_found() {
    let world = world();
    let warehouse = &world.warehouse;
    world.collect();
    warehouse.ok(&["model", "train", "hydro"]);
    warehouse.ok(&["model", "promote", "hydro", "1"]);
    warehouse.ok(&["endpoint", "apply"]);
    warehouse.ok(&["run", "prediction:hydro"]);
    warehouse.ok(&["run", "prediction:challenger"]);
    // Of both, by what came.
    let live = warehouse.sql(
        "select prediction, site, rmse, rmse_backtest, rmse_ratio from forecast.live where site = 'V1' order by prediction",
    );
    assert_eq!(
        live,
        [
            json!({"prediction": "challenger", "site": "V1", "rmse": 1.0, "rmse_backtest": 4.0, "rmse_ratio": 0.25}),
            json!({"prediction": "hydro", "site": "V1", "rmse": 30.0, "rmse_backtest": 4.0, "rmse_ratio": 7.5}),
        ]
    );
    let better = "select count(*) as n from forecast.rivals where prediction = 'challenger' and rival = 'hydro' and skill > 0.99";
    assert_eq!(warehouse.number(better), 2);
    let said = warehouse.ok(&["run", "control:forecast"]);
    said.has("failed  drift").has("prediction hydro, site V1, horizon 1, rmse 30.0, rmse_backtest 4.0");
    said.has("failed  skill_degraded").has("failed  intervals_off");
    assert!(!said.text().contains("prediction challenger"), "{}", said.text());
}

#[test]
fn a_version_that_beats_the_champion_on_the_same_dates_is_found() {
    let world = world();
    let warehouse = &world.warehouse;
    world.collect();
    warehouse.ok(&["model", "train", "hydro"]);
    warehouse.ok(&["model", "promote", "hydro", "1"]);
    assert_eq!(warehouse.count("forecast.versions"), 0);
    // Tested on the last 140 of the champion's 200 days.
    warehouse.write("trainings/hydro.toml", &training(2, 60));
    warehouse.ok(&["model", "train", "hydro"]);
    let compared = warehouse.sql(
        "select version, champion, forecasts, rmse, rmse_champion, skill, skill_persistence from forecast.versions",
    );
    assert_eq!(
        compared,
        [json!({"version": 2, "champion": 1, "forecasts": 140, "rmse": 2.0, "rmse_champion": 4.0, "skill": 0.75,
            "skill_persistence": 0.75})]
    );
    let said = warehouse.run(&["run", "control:forecast"]);
    said.has("failed  champion_beaten").has("model hydro, version 2, champion 1, forecasts 140, skill 0.75");
    warehouse.ok(&["model", "promote", "hydro", "2"]);
    warehouse.run(&["run", "control:forecast"]).has("passed  champion_beaten");
}
