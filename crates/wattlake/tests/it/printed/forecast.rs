//! The commands of docs/forecast.md, with a partner on this machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use chrono::Utc;
use platform::partner::Partner;

use super::environment::PageEnvironment;
use super::text::{Block, blocks};
use super::{of_language, prepare};
use crate::forecast::{partner_at, smaller};
use crate::models::libraries;
use crate::world::{EXAMPLE, Source};

/// Copies the packages that the layer needs to where an ordinary user can read them.
fn copy_of_packages(outside: &Path) -> String {
    const NEEDED: [&str; 8] = [
        "numpy",
        "scipy",
        "lightgbm",
        "awslambdaric",
        "narwhals",
        "simplejson",
        "snapshot_restore_py",
        "runtime_client",
    ];
    let folder = outside.join("packages");
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir(libraries()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if NEEDED.iter().any(|needed| name.starts_with(needed)) {
            let copied = Command::new("cp").arg("-r").arg(entry.path()).arg(folder.join(name)).status().unwrap();
            assert!(copied.success());
        }
    }
    folder.display().to_string()
}

#[test]
fn forecasts_work_as_printed() {
    let (source, mut environment) = (Source::empty(), PageEnvironment::new(true));
    let toml = prepare(&environment, &source);
    environment.write("warehouse/wattlake.toml", &toml);
    let said = environment.run("wattlake init other --forecast");
    assert_eq!(said.code, 0, "{}", said.text());
    assert!(environment.outside().join("other/predictions/hydro.toml").exists());
    let page = blocks("docs/forecast.md");
    // Its collect and its training are such as the configuration takes.
    let [collect, training] = of_language(&page, "toml")[..] else {
        panic!("docs/forecast.md has other blocks than this test expects")
    };
    environment.write("warehouse/collects/of-page.toml", &collect.text);
    environment.write("warehouse/trainings/wind.toml", &training.text);
    // What is installed for the tests, one station, and less to compute.
    let readable = copy_of_packages(environment.outside());
    let layer = format!("language = 'python'\npackages = ['numpy', 'scipy', 'lightgbm']\nlibraries = ['{readable}']\n");
    environment.write("warehouse/layers/python.toml", &layer);
    for file in ["collects/flows.toml", "collects/weather.toml", "trainings/hydro.toml"] {
        let text = fs::read_to_string(Path::new(EXAMPLE).join(file)).unwrap();
        environment.write(&format!("warehouse/{file}"), &smaller(&text));
    }
    let partner = Partner::start(0, partner_at(Utc::now())).unwrap();
    let exports = format!("export HUBEAU_URL={0}\nexport WEATHER_URL={0}\n", partner.url());
    environment.run_block(&Block { place: "exports".to_owned(), language: "sh".to_owned(), text: exports });
    let mut printed = String::new();
    for block in of_language(&page, "sh") {
        environment.run_block(block).iter().for_each(|said| printed += &said.out);
    }
    for expected in ["version 1 of model hydro", "by variant champion", "passed  forecasts_missing"] {
        assert!(printed.contains(expected), "{expected} is not in:\n{printed}");
    }
}
