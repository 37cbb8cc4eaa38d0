//! The files of a warehouse: `init`, the problems that `check` reports, and unset variables.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::world::{CommandResult, Source, Warehouse};

const PASSWORD: &str = "not-to-be-shown";

#[test]
fn billing_is_added_to_a_warehouse_and_passes_its_check() {
    let warehouse = Warehouse::new(&[("wattlake.toml", "lake.url = 'lake'\nserve.timezone = 'Europe/Paris'\n")]);
    let dir = warehouse.path().to_str().unwrap().to_owned();
    warehouse
        .ok(&["init", &dir, "--billing"])
        .has("statements/producers.toml")
        .has("functions/billing-extract/rules.R");
    assert!(!warehouse.path().join("transfers").exists());
    let said = warehouse.run(&["check"]);
    said.has("billing.contracts, billing.days, billing.declared").has("run the jobs that fill these tables");
    said.has("no layer r is published").has("no errors found");
    assert!(warehouse.run(&["init", &dir, "--billing"]).code != 0, "existing files are kept");
}

#[test]
fn a_new_warehouse_needs_its_password_variable() {
    let warehouse = Warehouse::new(&[]);
    let dir = warehouse.path().join("new");
    let dir = dir.to_str().unwrap();
    warehouse.ok(&["init", dir]).has("wattlake.toml").has("platform.toml").has("export PLATFORM_PASSWORD=");
    let written = fs::read_to_string(warehouse.path().join("new/wattlake.toml")).unwrap();
    let line = 1 + written.lines().position(|line| line.contains("${PLATFORM_PASSWORD}")).unwrap();

    let said = warehouse.run(&["-C", dir, "check"]);
    assert_eq!(said.code, 4, "{said:?}");
    said.has(&format!("wattlake.toml:{line}:")).has("PLATFORM_PASSWORD is not set").has("export PLATFORM_PASSWORD=");

    // A second `init` must not overwrite the user's changes.
    fs::write(warehouse.path().join("new/wattlake.toml"), "# mine").unwrap();
    assert_ne!(warehouse.run(&["init", dir]).code, 0);
    assert_eq!(fs::read_to_string(warehouse.path().join("new/wattlake.toml")).unwrap(), "# mine");
}

#[test]
fn every_problem_of_every_file_is_reported_with_its_place() {
    let warehouse = Warehouse::new(&[
        ("wattlake.toml", "[lake]\nurl = 'lake'\n[connections.source]\nhost = 'db'\nprot = 5432\n"),
        ("transfers/a.toml", "source = 'sourec'\nmode = 'initial'\n"),
        ("transfers/b.toml", "source = 'source'\nmode = 'incremental'\nstreams = 'two'\n\noverlap = '10 years'\n"),
        ("transfers/c.toml", "source = 'source'\nmode = 'initial'\nvia = 'rds'\n"),
    ]);
    let said = warehouse.run(&["check"]);
    assert_eq!(said.code, 4, "{said:?}");
    said.has("wattlake.toml:5:1: unknown key \"prot\"").has("port");
    said.has("transfers/a.toml:1:10: unknown connection \"sourec\"").has("\"source\"");
    said.has("transfers/b.toml:3:11: \"streams\": expected an integer, found a string");
    said.has("transfers/b.toml:5:11: \"10 years\" is not a duration");
    said.has("transfers/c.toml:3:7: via \"rds\" is not implemented yet");
    assert_eq!(warehouse.run(&["runs"]).code, 4, "every command refuses wrong files");
}

#[test]
fn a_folder_without_a_warehouse_is_reported() {
    let said = Warehouse::new(&[]).run(&["runs"]);
    assert_eq!(said.code, 4, "{said:?}");
    said.has("there is no such file").has("wattlake init DIR");
}

#[test]
fn failed_connections_are_reported_without_secrets() {
    let source = Source::empty();
    source.execute("create role locked login password 'right'");
    let toml = format!(
        "lake.url = 'lake'\nconnections.source.url = '{}'\nconnections.nowhere.url = 'postgresql://eva:${{PASSWORD}}@127.0.0.1:1/x'\n",
        source.url_as("locked:${PASSWORD}")
    );
    let warehouse = Warehouse::new(&[
        ("wattlake.toml", &toml),
        ("transfers/locked.toml", "source = 'source'\nmode = 'initial'\n"),
        ("transfers/nowhere.toml", "source = 'nowhere'\nmode = 'initial'\n"),
    ])
    .with_env("PASSWORD", PASSWORD);

    let said = warehouse.run(&["check", "--json"]);
    assert_eq!(said.code, 4, "{said:?}");
    let findings = said.objects();
    let what = |transfer: &str| -> &str {
        let of = |finding: &&Value| finding["transfer"] == transfer && finding["severity"] == "error";
        findings.iter().find(of).unwrap_or_else(|| panic!("{findings:?}"))["what"].as_str().unwrap()
    };
    assert!(what("locked").contains("password authentication failed for user \"locked\""), "{findings:?}");
    assert!(what("nowhere").contains("127.0.0.1:1/x"), "{findings:?}");

    let run = warehouse.run(&["transfer", "run", "locked"]);
    assert_eq!(run.code, 4, "{run:?}");
    let runs = warehouse.ok(&["runs", "--json"]);
    assert_eq!(runs.objects()[0]["state"], "failed");
    for text in [said.text(), run.text(), runs.text()] {
        assert!(!text.contains(PASSWORD), "{text}");
    }
}

const THREE: &str = "--| kind = 'table'\nSELECT * FROM (VALUES (1), (2), (3)) AS v(n)\n";

/// Runs the binary in a folder, with exactly these arguments.
fn run_in(warehouse: &Warehouse, folder: &Path, arguments: &[&str]) -> CommandResult {
    CommandResult::of(
        warehouse.command(arguments).env_remove("WATTLAKE_WAREHOUSE").current_dir(folder).output().unwrap(),
    )
}

#[test]
fn a_relative_folder_is_the_same_warehouse_from_everywhere() {
    let outer = Warehouse::new(&[("w/wattlake.toml", "lake.url = 'lake'\n"), ("w/marts/three.sql", THREE)]);
    let (outside, inside) = (outer.path().to_owned(), outer.path().join("w"));
    assert_eq!(run_in(&outer, &outside, &["-C", "w", "run", "mart:three"]).code, 0);
    assert!(inside.join("lake/marts/three/_delta_log").is_dir() && !inside.join("w").exists());
    let query = ["sql", "--format", "csv", "SELECT count(*) AS n FROM marts.three"];
    let absolute = inside.to_str().unwrap();
    for (folder, given) in [(&outside, "w"), (&outside, "./w/../w"), (&inside, "."), (&outside, absolute)] {
        let said = run_in(&outer, folder, &[&["-C", given], &query[..]].concat());
        assert_eq!(said.out, "n\n3\n", "from {}: {given}: {said:?}", folder.display());
    }
    let by_variable = outer.command(&query).env("WATTLAKE_WAREHOUSE", "w").current_dir(&outside).output().unwrap();
    assert_eq!(CommandResult::of(by_variable).out, "n\n3\n");
    assert!(!run_in(&outer, &outside, &["-C", "w", "check"]).text().contains("earlier build"));
}

#[test]
fn days_of_sql_are_those_of_the_servers_time_zone() {
    let toml = |zone: &str| format!("lake.url = 'lake'\n{zone}");
    let day = ["sql", "--format", "csv", "SELECT (timestamptz '2026-06-30 22:30:00+00')::date AS day"];
    for (zone, expected) in [("", "day\n2026-06-30\n"), ("serve.timezone = 'Europe/Paris'\n", "day\n2026-07-01\n")] {
        let warehouse = Warehouse::new(&[("wattlake.toml", &toml(zone))]);
        let said = run_in(&warehouse, warehouse.path(), &day);
        assert_eq!(said.out, expected, "{said:?}");
    }
}

#[test]
fn a_misplaced_lake_is_found_and_moved_by_the_printed_command() {
    let outer = Warehouse::new(&[("data/w/wattlake.toml", "lake.url = 'lake'\n"), ("data/w/marts/three.sql", THREE)]);
    let root = outer.path().join("data/w");
    assert_eq!(run_in(&outer, &root, &["run", "mart:three"]).code, 0);
    // As an earlier build did with `-C data/w`, with another warehouse beside it, whose lake is its own.
    fs::create_dir_all(root.join("data/w")).unwrap();
    fs::rename(root.join("lake"), root.join("data/w/lake")).unwrap();
    outer.write("data/w/demo/wattlake.toml", "lake.url = 'lake'\n");
    fs::create_dir_all(root.join("demo/lake/marts/other/_delta_log")).unwrap();

    let said = run_in(&outer, &root, &["check"]);
    let misplaced = root.join("data/w/lake");
    said.has(&format!("wrote a lake to {}", misplaced.display()));
    assert!(!said.text().contains("demo"), "{said:?}");
    let hint = said.out.lines().find_map(|line| line.trim().strip_prefix("mv ")).unwrap_or_else(|| panic!("{said:?}"));
    assert!(Command::new("sh").args(["-c", &format!("mv {hint}")]).status().unwrap().success());
    assert!(!run_in(&outer, &root, &["check"]).text().contains("earlier build"));
    assert_eq!(run_in(&outer, &root, &["sql", "--format", "csv", "SELECT count(*) AS n FROM three"]).out, "n\n3\n");
}

const WITH_SECRETS: &str = "lake.url = 'lake'
connections.source.url = 'postgresql://eva:${SOURCE_PASSWORD}@127.0.0.1:1/x'
connections.other.url = 'postgresql://eva:${OTHER_PASSWORD}@127.0.0.1:1/x'
roles.analyst.password = '${ANALYST_PASSWORD}'
hooks.page.webhook = '${PAGE_URL}'
";

#[test]
fn queries_of_the_lake_need_no_password_of_a_source() {
    let warehouse = Warehouse::new(&[
        ("wattlake.toml", WITH_SECRETS),
        ("transfers/t.toml", "source = 'source'\nmode = 'initial'\n"),
        ("transfers/u.toml", "source = 'other'\nmode = 'initial'\n"),
        ("marts/three.sql", THREE),
    ]);
    warehouse.ok(&["run", "mart:three"]);
    assert_eq!(warehouse.count("marts.three"), 3);
    let commands: [&[&str]; 9] = [
        &["lake", "list"],
        &["transfer", "list"],
        &["mart", "list"],
        &["runs"],
        &["events"],
        &["queue"],
        &["schedules"],
        &["layer", "build"],
        &["function", "list"],
    ];
    for command in commands {
        warehouse.ok(command);
    }
    let run = warehouse.run(&["transfer", "run", "t"]);
    assert_eq!(run.code, 4, "{run:?}");
    run.has("wattlake.toml:2:44: the environment variable SOURCE_PASSWORD is not set").has("export SOURCE_PASSWORD=");
    assert!(!run.text().contains("OTHER_PASSWORD"), "{run:?}");
    assert_eq!(warehouse.json(&["runs", "transfer:t", "--json"])[0]["state"], "failed");

    let said = warehouse.run(&["check", "--json"]);
    assert_eq!(said.code, 4, "{said:?}");
    let told: Vec<String> = said
        .objects()
        .iter()
        .map(|finding| format!("{} {} {}", finding["transfer"], finding["subject"], finding["what"]).replace('"', ""))
        .collect();
    let unset = |part: &str, place: &str, name: &str| {
        format!("{part} wattlake.toml:{place} the environment variable {name} is not set")
    };
    assert_eq!(
        told,
        [
            unset("connection other", "3:43", "OTHER_PASSWORD"),
            unset("connection source", "2:44", "SOURCE_PASSWORD"),
            unset("role analyst", "4:27", "ANALYST_PASSWORD"),
            unset("hook page", "5:23", "PAGE_URL"),
        ]
    );
}
