//! Queries of trainings and predictions don't read marts that forgot from when values were known.

use super::*;

const COLLECT: &str =
    "layout = 'layouts/l.toml'\ntable = 'forecast.flows'\nsince = '1d'\n[request]\nurl = 'http://a/'\n";
const LAYOUT: &str =
    "format = 'json'\nkey = ['at']\n[columns.at]\ntype = 'timestamp'\n[columns.value]\ntype = 'double'\n";

fn problems_of(query: &str) -> Vec<String> {
    let training = format!("image = 'a'\n[channels.train]\nquery = \"{query}\"\n");
    let dir = folder(&[
        ("wattlake.toml", "lake.url = 'lake'"),
        ("layouts/l.toml", LAYOUT),
        ("collects/flows.toml", COLLECT),
        (
            "marts/forecast/now.sql",
            "--| kind = \"table\"\nSELECT at, last_value(value ORDER BY known_at) AS value FROM forecast.flows GROUP BY at",
        ),
        ("marts/forecast/seen.sql", "SELECT at, known_at, value FROM forecast.flows"),
        ("marts/forecast/over.sql", "SELECT * FROM forecast.now"),
        ("trainings/hydro.toml", &training),
    ]);
    Warehouse::load(dir.path(), &env).err().iter().flatten().map(Problem::to_string).collect()
}

#[test]
fn marts_that_are_kept_as_tables_are_refused() {
    assert_eq!(problems_of("SELECT * FROM forecast.flows, forecast.seen"), Vec::<String>::new());
    for query in [
        "SELECT * FROM forecast.now",
        "SELECT * FROM forecast.over",
        "WITH a AS (SELECT * FROM forecast.now) SELECT * FROM a",
    ] {
        let found = problems_of(query);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with(
                "trainings/hydro.toml:1:1: the query reads the mart forecast.now, which is kept as a table"
            ),
            "{found:?}"
        );
    }
}
