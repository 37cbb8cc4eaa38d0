//! The flow killed at its commits, and run again: no half model is promoted, and there is one forecast an issue time.

use chrono::{Days, Utc};

use super::{ForecastWorld, instant};

#[test]
fn a_flow_that_is_killed_is_run_again() {
    let day = Utc::now().date_naive().checked_sub_days(Days::new(1)).unwrap();
    let world = ForecastWorld::new(instant(day, 12));
    let warehouse = &world.warehouse;
    let killed = |arguments: &[&str], point: &str| {
        let output = warehouse.command(arguments).env("FAILPOINTS", format!("{point}=panic")).output().unwrap();
        assert!(!output.status.success(), "{arguments:?} {point}");
    };
    killed(&["run", "collect:flows"], "collect-before-commit");
    killed(&["run", "collect:weather"], "collect-after-commit");
    warehouse.ok(&["run", "collect:flows"]);
    warehouse.ok(&["run", "collect:weather"]);
    for table in ["forecast.flows", "forecast.weather"] {
        let twice = format!(
            "select count(*) as n from (select station, starts_at from {table} group by 1, 2 having count(*) > 1) as d"
        );
        assert_eq!(warehouse.number(&twice), 0);
        assert_eq!(
            warehouse.count(table),
            u64::try_from((day - chrono::NaiveDate::from_ymd_opt(2021, 12, 31).unwrap()).num_days()).unwrap()
        );
    }
    warehouse.ok(&["layer", "build", "python"]);
    killed(&["model", "train", "hydro"], "training-before-version");
    assert!(warehouse.sql("select * from system.model_versions").is_empty());
    let refused = warehouse.run(&["model", "promote", "hydro", "1"]);
    assert_ne!(refused.code, 0);
    warehouse.ok(&["model", "train", "hydro"]).has("version 1 of model hydro");
    warehouse.ok(&["model", "promote", "hydro", "1"]);
    warehouse.ok(&["endpoint", "apply"]);
    let as_of = instant(day, 9).to_rfc3339();
    killed(&["run", "prediction:hydro", "--as-of", &as_of], "prediction-before-commit");
    warehouse.ok(&["run", "prediction:hydro", "--as-of", &as_of]).has("3 rows issued");
    warehouse.ok(&["run", "prediction:hydro", "--as-of", &as_of]).has("are there already");
    assert_eq!(warehouse.count("forecast.predictions"), 3);
}
