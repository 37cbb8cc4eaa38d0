//! A warehouse's files, from `init` to what is wrong in them: where, what, and the mend.

use std::fs;

use serde_json::Value;

use crate::world::{Source, Warehouse};

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
    said.has("no layer r is published").has("nothing stands in the way");
    assert!(warehouse.run(&["init", &dir, "--billing"]).code != 0, "what is there is left as it is");
}

#[test]
fn a_new_warehouse_asks_for_its_password_first() {
    let warehouse = Warehouse::new(&[]);
    let dir = warehouse.path().join("new");
    let dir = dir.to_str().unwrap();
    warehouse.ok(&["init", dir]).has("wattlake.toml").has("platform.toml").has("next:");
    let written = fs::read_to_string(warehouse.path().join("new/wattlake.toml")).unwrap();
    let line = 1 + written.lines().position(|line| line.contains("${PLATFORM_PASSWORD}")).unwrap();

    let said = warehouse.run(&["-C", dir, "check"]);
    assert_eq!(said.code, 4, "{said:?}");
    said.has(&format!("wattlake.toml:{line}:")).has("PLATFORM_PASSWORD is not set").has("export PLATFORM_PASSWORD=");

    // A second start would write over what the user has changed since.
    fs::write(warehouse.path().join("new/wattlake.toml"), "# mine").unwrap();
    assert_ne!(warehouse.run(&["init", dir]).code, 0);
    assert_eq!(fs::read_to_string(warehouse.path().join("new/wattlake.toml")).unwrap(), "# mine");
}

#[test]
fn every_problem_of_every_file_is_told_with_its_place() {
    let warehouse = Warehouse::new(&[
        ("wattlake.toml", "[lake]\nurl = 'lake'\n[connections.source]\nhost = 'db'\nprot = 5432\n"),
        ("transfers/a.toml", "source = 'sourec'\nmode = 'initial'\n"),
        ("transfers/b.toml", "source = 'source'\nmode = 'incremental'\nstreams = 'two'\n\noverlap = '10 years'\n"),
        ("transfers/c.toml", "source = 'source'\nmode = 'changes'\n"),
    ]);
    let said = warehouse.run(&["check"]);
    assert_eq!(said.code, 4, "{said:?}");
    said.has("wattlake.toml:5:1: unknown key \"prot\"").has("port");
    said.has("transfers/a.toml:1:10: unknown connection \"sourec\"").has("\"source\"");
    said.has("transfers/b.toml:3:11: \"streams\": expected an integer, found a string");
    said.has("transfers/b.toml:5:11: \"10 years\" is not a duration");
    said.has("transfers/c.toml:2:8: mode \"changes\" is not built yet");
    assert_eq!(warehouse.run(&["runs"]).code, 4, "no command works on files that are wrong");
}

#[test]
fn a_folder_that_is_no_warehouse_is_said_so() {
    let said = Warehouse::new(&[]).run(&["runs"]);
    assert_eq!(said.code, 4, "{said:?}");
    said.has("there is no such file").has("wattlake init DIR");
}

#[test]
fn a_wrong_password_and_a_server_that_is_not_there_are_told_and_no_secret_is_shown() {
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
