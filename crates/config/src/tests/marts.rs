//! Marts: their heads, their order, and what is wrong with them.

use super::*;

fn mart_problems(files: &[(&str, &str)]) -> Vec<String> {
    let all: Vec<(&str, &str)> = [("wattlake.toml", BASE)].iter().chain(files).copied().collect();
    problems(&all)
}

#[test]
fn marts_are_read_with_their_heads() {
    let dir = folder(&[
        ("wattlake.toml", BASE),
        ("transfers/x.toml", "source = 'platform'\nmode = 'initial'\n"),
        (
            "marts/daily.sql",
            "--| kind = 'table'\n--| since = 'day'\n--| order = ['site', 'day']\n\nSELECT 1 AS day FROM good",
        ),
        ("marts/good.sql", "-- plain comment\nselect * from platform.readings"),
        ("marts/finance/bills.sql", "--| description = 'é'\nselect * from marts.daily"),
    ]);
    let warehouse = Warehouse::load(dir.path(), &env).unwrap();
    let names: Vec<&str> = warehouse.marts_in_order().iter().map(|mart| mart.name.as_str()).collect();
    assert_eq!(names, ["good", "daily", "finance.bills"]);
    let daily = &warehouse.marts["daily"];
    assert_eq!((daily.kind, daily.since.as_deref()), (MartKind::Table, Some("day")));
    assert_eq!(daily.order, ["site", "day"]);
    assert_eq!(warehouse.marts["finance.bills"].kind, MartKind::View);
    assert_eq!(warehouse.jobs_before(daily).into_iter().collect::<Vec<_>>(), ["transfer:x"]);
    let bills = warehouse.jobs_before(&warehouse.marts["finance.bills"]);
    assert_eq!(bills.into_iter().collect::<Vec<_>>(), ["mart:daily"]);
}

#[test]
fn problems_of_marts_have_their_place() {
    let cases: [(&[(&str, &str)], &str); 9] = [
        (
            &[("marts/a.sql", "--| knd = 'table'\nSELECT 1")],
            "marts/a.sql:1:5: unknown key \"knd\"; nearest known key: \"kind\"",
        ),
        (&[("marts/a.sql", "\n--| kind = 'tabel'\nSELECT 1")], "marts/a.sql:2:12: unknown kind 'tabel'"),
        (&[("marts/a.sql", "--| since = 'day'\nSELECT 1")], "\"since\" is not for views"),
        (&[("marts/a.sql", "SELECT 1\n--| kind = 'table'\n")], "marts/a.sql:2:1: a line that begins with --| below"),
        (&[("marts/a.sql", "--| kind = 'view'\nSELEC 1")], "marts/a.sql:2:1: read the query"),
        (&[("marts/a.sql", "DROP TABLE x")], "marts/a.sql:1:1: run DROP TABLE"),
        (&[("marts/A b.sql", "SELECT 1")], "\"A b\" is not a valid name for a mart"),
        (&[("marts/system/a.sql", "SELECT 1")], "the schema \"system\" is reserved"),
        (
            &[("marts/a.sql", "SELECT * FROM b"), ("marts/b.sql", "SELECT * FROM marts.a")],
            "depends on itself: a -> b -> a",
        ),
    ];
    for (files, expected) in cases {
        let problems = mart_problems(files);
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{files:?}: {problems:?}");
    }
}
