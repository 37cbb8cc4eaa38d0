//! The example's forecast flow: a partner's flows and weather are collected, the forecaster is trained on what was known,
//! served, asked every morning, and judged by what came.

mod judged;
#[cfg(feature = "failpoints")]
mod killed;
mod results;

use std::fs;
use std::path::Path;

use chrono::{DateTime, Days, NaiveDate, Utc};
use platform::partner::{HydroPartner, Partner, PartnerAnswer, PartnerRequest};
use serde_json::{Value, json};

use crate::models::libraries;
use crate::world::{EXAMPLE, Warehouse, interpreter};

/// The example's files of the forecast flow, by their paths.
const FOLDERS: [&str; 7] =
    ["collects", "layouts/forecast", "marts/forecast", "trainings", "endpoints", "predictions", "controls/forecast"];

/// A warehouse with the forecast flow for one station, three horizons and a short history, so that training is quick.
pub struct ForecastWorld {
    pub partner: Partner,
    pub warehouse: Warehouse,
}

/// The partner's answer, with the clock at `now`.
pub fn partner_at(now: DateTime<Utc>) -> impl Fn(&PartnerRequest) -> PartnerAnswer + Send + Sync + 'static {
    let partner = HydroPartner::demo(now);
    move |request| partner.answer(request)
}

impl ForecastWorld {
    pub fn new(now: DateTime<Utc>) -> ForecastWorld {
        let partner = Partner::start(0, partner_at(now)).unwrap();
        let warehouse = Warehouse::new(&[
            ("wattlake.toml", "lake.url = 'lake'\nserve.timezone = 'Europe/Paris'\nserve.models = '127.0.0.1:0'\n"),
            (
                "layers/python.toml",
                &format!(
                    "language = 'python'\npackages = ['numpy', 'scipy', 'lightgbm']\nlibraries = ['{}']\n",
                    libraries()
                ),
            ),
            ("controls/forecast.toml", &fs::read_to_string(Path::new(EXAMPLE).join("controls/forecast.toml")).unwrap()),
        ]);
        for folder in FOLDERS.into_iter().chain(["containers/forecaster"]) {
            for entry in fs::read_dir(Path::new(EXAMPLE).join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    let name = path.strip_prefix(EXAMPLE).unwrap().to_str().unwrap().to_owned();
                    warehouse.write(&name, &smaller(&fs::read_to_string(&path).unwrap()));
                }
            }
        }
        let url = partner.url();
        let warehouse = warehouse.with_env("HUBEAU_URL", &url).with_env("WEATHER_URL", &url);
        ForecastWorld { partner, warehouse }
    }

    /// The forecasts of an issue, as the command prints them.
    pub fn forecasts(&self, where_: &str) -> String {
        let query = format!(
            "select site, issued_at, at, horizon, mean, q10, q50, q90, method from forecast.predictions {where_} order by site, issued_at, at"
        );
        self.warehouse.ok(&["sql", "--format", "csv", &query]).out
    }
}

/// The example with one station, three horizons and less history.
pub fn smaller(text: &str) -> String {
    text.replace("station = [\"V1020010\", \"W3050020\"]", "station = [\"V1020010\"]")
        .replace("horizons = \"1-7\"", "horizons = \"1,3,7\"\nfolds = 3")
        .replace("since = \"2018-01-01\"", "since = \"2022-01-01\"")
        .replace("backtest-from = \"2025-06-01T00:00:00Z\"", "backtest-from = \"2026-06-01T00:00:00Z\"")
}

/// Answers with seven times the flow and the rain.
fn corrupted(
    answer: impl Fn(&PartnerRequest) -> PartnerAnswer + Send + Sync + 'static,
) -> impl Fn(&PartnerRequest) -> PartnerAnswer + Send + Sync + 'static {
    move |request| {
        let mut answer = answer(request);
        let mut body: Value = serde_json::from_str(&answer.body).unwrap();
        for row in body["data"].as_array_mut().into_iter().flatten() {
            row["resultat_obs_elab"] = json!(row["resultat_obs_elab"].as_f64().unwrap() * 7.0);
        }
        for rain in body["daily"]["precipitation_sum"].as_array_mut().into_iter().flatten() {
            *rain = json!(rain.as_f64().unwrap() * 7.0);
        }
        answer.body = body.to_string();
        answer
    }
}

pub fn instant(day: NaiveDate, hour: u32) -> DateTime<Utc> {
    day.and_hms_opt(hour, 30, 0).unwrap().and_utc()
}

#[test]
fn measurements_become_forecasts_that_are_judged() {
    let today = Utc::now().date_naive();
    let before = today.checked_sub_days(Days::new(40)).unwrap();
    let world = ForecastWorld::new(instant(before, 12));
    let warehouse = &world.warehouse;
    warehouse.ok(&["check"]).has("not checked yet: they read tables that are not in the lake yet");
    warehouse.ok(&["run", "collect:flows"]).has("0 quarantined");
    warehouse.ok(&["run", "collect:weather"]).has("0 quarantined");
    warehouse.ok(&["layer", "build", "python"]);
    let trained = &warehouse.json(&["model", "train", "hydro", "--json"])[0];
    assert_eq!(trained["version"], 1);
    assert!(trained["metrics"]["nse_day_1"].as_f64().unwrap() > 0.5, "{trained}");
    assert_eq!(warehouse.number("select count(*) as n from forecast.scores where method = 'forecast'"), 3);
    let pages: Vec<_> = fs::read_dir(warehouse.path().join("outbox/forecasts")).unwrap().collect();
    assert_eq!(pages.len(), 1);
    let refused = warehouse.run(&["run", "prediction:hydro"]);
    assert_eq!(refused.code, 4, "{}", refused.text());
    refused.has("there is no such endpoint in service");
    warehouse.ok(&["model", "promote", "hydro", "1"]);
    warehouse.ok(&["endpoint", "apply"]);
    // As on earlier mornings; each issue once.
    let mornings: Vec<NaiveDate> = (0..3).map(|days| before.checked_sub_days(Days::new(days)).unwrap()).collect();
    for morning in &mornings {
        let as_of = instant(*morning, 9).to_rfc3339();
        warehouse
            .ok(&["run", "prediction:hydro", "--as-of", &as_of])
            .has("3 rows issued at")
            .has("by variant champion");
        warehouse.ok(&["run", "prediction:hydro", "--as-of", &as_of]).has("are there already");
    }
    assert_eq!(warehouse.count("forecast.predictions"), 9);
    let first = world.forecasts("");
    // What comes later changes no earlier forecast to the byte, not even where it corrupts what was known then.
    world.partner.answer_by(corrupted(partner_at(instant(today, 12))));
    warehouse.ok(&["run", "collect:flows"]).has("40 new values, 31 revised");
    warehouse.ok(&["run", "collect:weather"]).has("40 new values");
    let again = fs::read_to_string(warehouse.path().join("predictions/hydro.toml")).unwrap();
    warehouse.write("predictions/again.toml", &again.replace("forecast.predictions", "forecast.again"));
    for morning in &mornings {
        warehouse.ok(&["run", "prediction:again", "--as-of", &instant(*morning, 9).to_rfc3339()]);
    }
    assert_eq!(world.forecasts(""), first);
    let same = "select count(*) as n from forecast.predictions p join forecast.again a on a.site = p.site and a.issued_at = p.issued_at \
                and a.at = p.at where a.mean = p.mean and a.q10 = p.q10 and a.q90 = p.q90 and a.input_sha256 = p.input_sha256";
    assert_eq!(warehouse.number(same), 9);
    // Judged by what came.
    let judged = "select count(*) as n from forecast.judged where observed is not null and persistence is not null";
    assert_eq!(warehouse.number(judged), 9);
    assert_eq!(warehouse.count("forecast.skill"), 3);
    warehouse.run(&["run", "control:forecast"]).has("A station with flows has no forecast of the last morning.");
    let future = warehouse.run(&["run", "prediction:hydro", "--as-of", "2100-01-01T00:00:00Z"]);
    assert_ne!(future.code, 0);
    future.has("is in the future");
}

/// The forecaster's own tests, as a user of its folder runs them.
#[test]
fn the_forecasters_tests_pass() {
    let folder = Path::new(EXAMPLE).join("containers/forecaster");
    let ran = std::process::Command::new(interpreter())
        .arg("tests/run.py")
        .current_dir(folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output();
    let ran = ran.unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{text}");
    assert!(text.matches("ok ").count() >= 20, "{text}");
}
