//! Variables that are not set: an error of the part that names them, and of no other part.

use super::*;

const WAREHOUSE: &str = "lake.url = 'lake'
lake.options.key = '${LAKE_KEY}'
[postgres]
bin_dir = '${BIN}'
[serve]
sql = '${ADDRESS}'
timezone = 'Europe/Paris'
[connections.platform]
host = '${HOST}'
user = '${USER_NAME}'
password = '${PASSWORD}'
[connections.copy]
host = 'db'
[roles.analyst]
password = '${ANALYST_PASSWORD}'
[roles.producer]
password = 'known'
filters = { 'a.b' = '${FILTER}' }
[roles.open]
password = 'known'
[hooks.page]
webhook = '${PAGE_URL}'
";

const INGEST: &str = "layout = 'layouts/x.toml'
[source]
sftp = 'sftp://u@h/f'
password = '${SFTP_PASSWORD}'
fingerprint = 'SHA256:x'
";

const LAYOUT: &str = "format = 'csv'\n[columns.a]\ntype = 'text'\n";

fn files<'a>(more: &[(&'a str, &'a str)]) -> TempDir {
    let mut files = vec![("wattlake.toml", WAREHOUSE), ("ingests/x.toml", INGEST), ("layouts/x.toml", LAYOUT)];
    files.extend(more);
    folder(&files)
}

#[test]
fn each_part_reports_its_own_variables() {
    let dir = files(&[]);
    let warehouse = Warehouse::load(dir.path(), &|_| None).unwrap();
    let reported: Vec<String> =
        warehouse.unset().iter().map(|(part, unset)| format!("{part}: {unset}").replace("\n  ", " | ")).collect();
    let line = |part: &str, place: &str, name: &str| {
        format!("{part}: {place}: the environment variable {name} is not set; set it: export {name}=...")
    };
    assert_eq!(
        reported,
        [
            line("lake", "wattlake.toml:2:21", "LAKE_KEY"),
            [
                line("connection platform", "wattlake.toml:9:9", "HOST"),
                " | wattlake.toml:10:9: the environment variable USER_NAME is not set; set it: export USER_NAME=..."
                    .to_owned(),
                " | wattlake.toml:11:13: the environment variable PASSWORD is not set; set it: export PASSWORD=..."
                    .to_owned(),
            ]
            .concat(),
            line("postgres", "wattlake.toml:4:12", "BIN"),
            line("serve", "wattlake.toml:6:8", "ADDRESS"),
            line("role analyst", "wattlake.toml:15:13", "ANALYST_PASSWORD"),
            line("role producer", "wattlake.toml:18:22", "FILTER"),
            line("hook page", "wattlake.toml:22:12", "PAGE_URL"),
            line("ingest x", "ingests/x.toml:4:13", "SFTP_PASSWORD"),
        ]
    );
    assert!(warehouse.connections["copy"].url().is_ok() && warehouse.roles["open"].password.is_ok());
    assert_eq!(warehouse.serve.timezone, "Europe/Paris");

    let full = Warehouse::load(dir.path(), &|name| match name {
        "ADDRESS" => Some("off".to_owned()),
        "PAGE_URL" => Some("https://host/path".to_owned()),
        _ => Some("x".to_owned()),
    });
    assert!(full.unwrap().unset().is_empty());
}

#[test]
fn an_unset_variable_of_no_part_is_a_problem_of_the_file() {
    let found = warehouse_problems("lake.url = 'lake'\nserve.timezone = '${ZONE}'\n");
    assert_eq!(found, ["wattlake.toml:2:19: the environment variable ZONE is not set; set it: export ZONE=..."]);
}

#[test]
fn unset_variables_are_reported_with_other_problems_in_the_order_of_the_files() {
    let dir = files(&[("transfers/t.toml", "source = 'platform'\nmode = 'x'\n")]);
    let problems = Warehouse::load(dir.path(), &|_| None).unwrap_err();
    let places: Vec<String> =
        problems.iter().map(|problem| format!("{}:{}", problem.file.display(), problem.line)).collect();
    let in_warehouse = [2, 4, 6, 9, 10, 11, 15, 18, 22].map(|line| format!("wattlake.toml:{line}"));
    let others = ["transfers/t.toml:2".to_owned(), "ingests/x.toml:4".to_owned()];
    assert_eq!(places, [&in_warehouse[..], &others[..]].concat());
}
